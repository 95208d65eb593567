//! Forgets what has had its time: old phone codes and networks, answered idempotency keys, published events, who was quiet.

use std::time::Duration;

use evm_store::{Result, codes, idempotency, limits, now, outbox};
use tokio_util::sync::CancellationToken;

use crate::App;

const EVERY: Duration = Duration::from_secs(60);
/// The store is swept after so many.
const MINUTES: u32 = 10;
const DAY_MS: i64 = 86_400_000;
/// So long a phone's customer is known in a network that they were last seen in.
const KNOWN_FOR_MS: i64 = 180 * DAY_MS;

/// Sweeps until `shutdown`. Deleting twice does no harm, so every node may.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut minutes = 0;
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        app.rates.forget_quiet();
        minutes += 1;
        if minutes % MINUTES != 0 {
            continue;
        }
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "old rows stay for now");
        }
    }
}

async fn sweep(app: &App) -> Result<()> {
    let mut db = app.store.begin().await?;
    codes::forget(&mut db, now().plus_millis(-DAY_MS), now().plus_millis(-KNOWN_FOR_MS)).await?;
    limits::forget(&mut db, now()).await?;
    idempotency::forget(&mut db, now().plus_millis(-7 * DAY_MS)).await?;
    outbox::forget(&mut db, now().plus_millis(-7 * DAY_MS)).await?;
    db.commit().await
}
