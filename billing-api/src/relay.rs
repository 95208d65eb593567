//! From the outbox to the bus: at least once, in the order of writing, by one node at a time.

use std::time::Duration;

use evm_bus::{BusError, subject};
use evm_store::{StoreError, failpoint, leases, now, outbox};
use tokio_util::sync::CancellationToken;

use crate::App;

/// Events published between two marks.
const BATCH: i64 = 200;
/// How often it looks without a hint.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a node that died keeps others from taking over.
const LEASE_MS: i64 = 10_000;
const LEASE: &str = "outbox-relay";

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Relays until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let node = evm_store::new_id().to_string();
    let mut hints = None;
    loop {
        if hints.is_none() {
            hints = app.bus.subscribe(subject::OUTBOX_HINT).await.ok();
        }
        match relay(&app, &node).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "events wait in the outbox"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            hint = next_hint(&mut hints) => if !hint { hints = None },
        }
    }
    if let Ok(mut db) = app.store.begin().await
        && leases::give_back(&mut db, LEASE, &node).await.is_ok()
    {
        let _ = db.commit().await;
    }
}

/// Waits for a hint; `false`: no more come from this subscription.
pub(crate) async fn next_hint(hints: &mut Option<evm_bus::Subscription>) -> bool {
    match hints {
        Some(hints) => hints.next().await.is_some(),
        None => std::future::pending().await,
    }
}

/// Publishes what waits. A crash before the mark publishes again, under the same id.
async fn relay(app: &App, node: &str) -> Result<(), RelayError> {
    loop {
        if outbox::waiting(&mut app.store.read().await?, 1).await?.is_empty() {
            return Ok(());
        }
        let mut db = app.store.begin().await?;
        let mine = leases::take(&mut db, LEASE, node, LEASE_MS).await?;
        // Read under the lease: what another node has published meanwhile is not published again.
        let waiting = if mine { outbox::waiting(&mut db, BATCH).await? } else { Vec::new() };
        db.commit().await?;
        if waiting.is_empty() {
            return Ok(());
        }
        for event in &waiting {
            let subject = subject::customer(&event.topic, &event.name);
            app.bus.publish(&subject, Some(&event.event_id), event.payload.as_bytes()).await?;
        }
        app.bus.confirm().await?;
        failpoint("relay.published");
        let ids: Vec<_> = waiting.iter().map(|event| event.id).collect();
        let mut db = app.store.begin().await?;
        outbox::published(&mut db, &ids, app.config.fcm.is_none(), now()).await?;
        db.commit().await?;
        if i64::try_from(ids.len()).unwrap_or(BATCH) < BATCH {
            return Ok(());
        }
    }
}
