//! Forgets what has had its time: old phone codes, answered idempotency keys, published events.

use std::time::Duration;

use evm_store::{Result, idempotency, logins, now, outbox};
use tokio_util::sync::CancellationToken;

use crate::App;

const EVERY: Duration = Duration::from_secs(600);
const DAY_MS: i64 = 86_400_000;

/// Sweeps until `shutdown`. Deleting twice does no harm, so every node may.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "old rows stay for now");
        }
    }
}

async fn sweep(app: &App) -> Result<()> {
    let mut db = app.store.begin().await?;
    logins::forget_codes(&mut db, now().plus_millis(-DAY_MS)).await?;
    idempotency::forget(&mut db, now().plus_millis(-7 * DAY_MS)).await?;
    outbox::forget(&mut db, now().plus_millis(-7 * DAY_MS)).await?;
    db.commit().await
}
