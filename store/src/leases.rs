//! Work that one node does at a time, and which nodes are alive.

use evm_domain::Timestamp;

use crate::Result;
use crate::engine::{Db, on};

/// Takes or renews a lease. `false`: somebody else holds it.
pub async fn take(db: &mut Db, name: &str, holder: &str, ttl_ms: i64, now: Timestamp) -> Result<bool> {
    let changed = on!(db, conn => {
        sqlx::query(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at < $4",
        )
        .bind(name)
        .bind(holder)
        .bind(now.plus_millis(ttl_ms).0)
        .bind(now.0)
        .execute(conn)
        .await?
        .rows_affected()
    });
    Ok(changed > 0)
}

/// Gives a lease back, so that another node need not wait for its end.
pub async fn give_back(db: &mut Db, name: &str, holder: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2").bind(name).bind(holder).execute(conn).await?;
    });
    Ok(())
}
