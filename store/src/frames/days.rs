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
/// The code of a lock that did not come in time.
const LOCKED: &str = "55P03";

/// Makes the days to come, where they are not there. SQLite has one table.
pub async fn make(db: &mut Db, now: Timestamp) -> Result<()> {
    let Db::Postgres(handle) = db else { return Ok(()) };
    let conn = handle.get();
    let today = now.0.div_euclid(DAY_MS);
    // Another node may have made them since it was looked.
    if missing(conn, today).await?.is_empty() || !alone(conn).await? {
        return Ok(());
    }
    let missing = missing(conn, today).await?;
    for day in missing {
        let name = chrono::DateTime::from_timestamp_millis(day * DAY_MS).unwrap_or_default().format("frames_%Y_%m_%d");
        let (from, to) = (day * DAY_MS, (day + 1) * DAY_MS);
        let sql = format!("CREATE TABLE {name} PARTITION OF frames FOR VALUES FROM ({from}) TO ({to})");
        match sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await {
            // Somebody reads all of them, a backup perhaps: there is time.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCKED) && day > today => {
                return Ok(());
            }
            done => done?,
        };
    }
    Ok(())
}

/// Drops the days that were over before a moment.
pub(super) async fn forget(conn: &mut PgConnection, before: Timestamp) -> Result<()> {
    let old: Vec<String> = all(conn).await?.into_iter().filter(|day| day.to <= before.0).map(|day| day.name).collect();
    if old.is_empty() || !alone(conn).await? {
        return Ok(());
    }
    for name in old {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}"))).execute(&mut *conn).await?;
    }
    Ok(())
}

/// A partition, with the moments between which its frames are.
struct Day {
    name: String,
    from: i64,
    to: i64,
}

/// The days to come that are not there. A clock that was set ahead for a while has left days behind the gap.
async fn missing(conn: &mut PgConnection, today: i64) -> Result<Vec<i64>> {
    let all = all(conn).await?;
    let is_there = |day: i64| all.iter().any(|one| (one.from..one.to).contains(&(day * DAY_MS)));
    Ok((today..=today + AHEAD).filter(|day| !is_there(*day)).collect())
}

async fn all(conn: &mut PgConnection) -> Result<Vec<Day>> {
    let rows: Vec<(String, Option<i64>, Option<i64>)> = sqlx::query_as(
        "SELECT c.oid::regclass::text, substring(b.text FROM 'FROM \\(''?(-?[0-9]+)')::bigint, \
         substring(b.text FROM 'TO \\(''?(-?[0-9]+)')::bigint FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS text) b WHERE i.inhparent = 'frames'::regclass",
    )
    .fetch_all(conn)
    .await?;
    let day =
        |(name, from, to): (_, Option<i64>, Option<i64>)| Some(Day { name, from: from.unwrap_or(i64::MIN), to: to? });
    Ok(rows.into_iter().filter_map(day).collect())
}

/// Whether no other node is at it. What writes frames waits while a day is made or dropped, so neither is waited for long.
async fn alone(conn: &mut PgConnection) -> Result<bool> {
    sqlx::query("SET LOCAL lock_timeout = '1s'").execute(&mut *conn).await?;
    let (alone,): (bool,) = sqlx::query_as("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).fetch_one(conn).await?;
    Ok(alone)
}
