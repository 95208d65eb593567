//! On PostgreSQL each day's frames are a partition of their own: what is too old goes with its table, at once, and leaves no
//! holes to be cleaned up.

use evm_domain::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::Result;
use crate::engine::Db;

const DAY_MS: i64 = 24 * 3_600_000;
/// Days that are made ahead.
const AHEAD: i64 = 14;
/// One node at a time makes or drops days.
const LOCK: i64 = 0x6672_616d_6573;

/// Makes the days to come, where they are not there. SQLite has one table.
pub async fn make(db: &mut Db, now: Timestamp) -> Result<()> {
    let Db::Postgres(handle) = db else { return Ok(()) };
    let conn = handle.get();
    let ends = ends(conn).await?;
    let last = ends.iter().map(|(_, end)| *end).max().unwrap_or_default();
    let today = now.0.div_euclid(DAY_MS);
    let missing: Vec<i64> = (today..=today + AHEAD).filter(|day| day * DAY_MS >= last).collect();
    if missing.is_empty() || !alone(conn).await? {
        return Ok(());
    }
    for day in missing {
        let name = chrono::DateTime::from_timestamp_millis(day * DAY_MS).unwrap_or_default().format("frames_%Y_%m_%d");
        let (from, to) = (day * DAY_MS, (day + 1) * DAY_MS);
        let sql = format!("CREATE TABLE {name} PARTITION OF frames FOR VALUES FROM ({from}) TO ({to})");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Drops the days that were over before a moment.
pub(super) async fn forget(conn: &mut PgConnection, before: Timestamp) -> Result<()> {
    let old: Vec<String> =
        ends(conn).await?.into_iter().filter(|(_, end)| *end <= before.0).map(|(name, _)| name).collect();
    if old.is_empty() || !alone(conn).await? {
        return Ok(());
    }
    for name in old {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}"))).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Each partition, with the moment before which its frames are.
async fn ends(conn: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    let rows: Vec<(String, Option<i64>)> = sqlx::query_as(
        "SELECT c.oid::regclass::text, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''?(-?[0-9]+)')::bigint \
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'frames'::regclass",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(|(name, end)| Some((name, end?))).collect())
}

/// Whether no other node is at it. What writes frames waits while a day is made or dropped, so neither is waited for long.
async fn alone(conn: &mut PgConnection) -> Result<bool> {
    sqlx::query("SET LOCAL lock_timeout = '1s'").execute(&mut *conn).await?;
    let (alone,): (bool,) = sqlx::query_as("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).fetch_one(conn).await?;
    Ok(alone)
}
