//! Secrets and marks of the installation.

use evm_domain::Timestamp;

use crate::Result;
use crate::engine::{Db, on};

/// The value of a setting, made by `make` at the first call; two nodes that start at once agree on one.
pub async fn get_or_create(db: &mut Db, name: &str, make: impl FnOnce() -> String) -> Result<String> {
    let made = make();
    let (value,): (String,) = on!(db, conn => {
        sqlx::query_as(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = settings.value \
             RETURNING value",
        )
        .bind(name)
        .bind(&made)
        .fetch_one(conn)
        .await?
    });
    Ok(value)
}

/// Writes something, to see whether the database takes it.
pub async fn probe(db: &mut Db, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("INSERT INTO settings (name, value) VALUES ('probe', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind(now.0.to_string())
            .execute(conn)
            .await?;
    });
    Ok(())
}
