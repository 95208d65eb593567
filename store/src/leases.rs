//! Work that one node does at a time, and which nodes are alive.

use sqlx::AssertSqlSafe;

use crate::clock::AHEAD_MS;
use crate::engine::{Db, on};
use crate::{Result, now};

/// A node that does not renew its lease `node:{id}` for so long is dead, and its chargers are offline.
pub const NODE_TTL_MS: i64 = 20_000;

const DAY_MS: i64 = 24 * 3_600_000;

/// Takes or renews a lease, by the clock that all nodes share. `false`: somebody else holds it. One that ends later than
/// it could if it were taken now was taken by a clock that was ahead, and is nobody's.
pub async fn take(db: &mut Db, name: &str, holder: &str, ttl_ms: i64) -> Result<bool> {
    // Read in the statement itself: it may have waited for another node's.
    let clock = db.clock_sql("$4");
    let sql = format!(
        "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, {clock} + $3) ON CONFLICT (name) DO UPDATE \
         SET holder = excluded.holder, expires_at = {clock} + $3 \
         WHERE leases.holder = excluded.holder OR leases.expires_at NOT BETWEEN {clock} AND {clock} + $3 + {AHEAD_MS}",
    );
    let changed = on!(db, conn => {
        sqlx::query(AssertSqlSafe(sql))
            .bind(name)
            .bind(holder)
            .bind(ttl_ms)
            .bind(now().0)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(changed > 0)
}

/// Whether there is a lease whose name begins with `prefix`, beside this one, that goes on for more than `left_ms`.
pub async fn others(db: &mut Db, prefix: &str, mine: &str, left_ms: i64) -> Result<bool> {
    let clock = db.clock_sql("$3");
    let sql =
        format!("SELECT name FROM leases WHERE name LIKE $1 AND name <> $2 AND expires_at > {clock} + $4 LIMIT 1");
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(format!("{prefix}%"))
            .bind(mine)
            .bind(now().0)
            .bind(left_ms)
            .fetch_optional(conn)
            .await?
    });
    Ok(row.is_some())
}

/// Gives a lease back, so that another node need not wait for its end.
pub async fn give_back(db: &mut Db, name: &str, holder: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2").bind(name).bind(holder).execute(conn).await?;
    });
    Ok(())
}

/// Forgets the leases of nodes that are gone for a day.
pub async fn forget_old(db: &mut Db) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM leases WHERE expires_at < $1").bind(now().plus_millis(-DAY_MS).0).execute(conn).await?;
    });
    Ok(())
}

/// Forgets all leases: where one process has the database to itself, whoever held them before it is gone.
pub async fn forget(db: &mut Db) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM leases").execute(conn).await?;
    });
    Ok(())
}
