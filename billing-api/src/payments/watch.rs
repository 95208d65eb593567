//! Looks after invoices until they have ended: after callbacks, a few times by itself, at the expiry; and after refunds.
//!
//! Every node does; who asks about one invoice is settled in the store.

use std::sync::Arc;
use std::time::Duration;

use evm_store::invoices::CALLBACK_GAP_MS;
use evm_store::{StoreError, checks, now, refunds};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ask::ask;
use super::refund;
use crate::App;

/// How often it looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Questions to the gateway at a time.
const AT_A_TIME: usize = 8;

/// Looks until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let looked = tokio::select! {
            looked = look(&app, &turns) => looked,
            () = shutdown.cancelled() => return,
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "invoices wait");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = app.nudge.notified() => {}
        }
    }
}

async fn look(app: &App, turns: &Arc<Semaphore>) -> Result<(), StoreError> {
    let mut db = app.store.read().await?;
    let due = checks::due(&mut db, now()).await?;
    let to_give_back = refunds::due(&mut db, now()).await?;
    drop(db);
    // One that the gateway is slow about holds up no other.
    for invoice in due {
        let Ok(turn) = turns.clone().acquire_owned().await else { return Ok(()) };
        let app = app.clone();
        app.work.clone().spawn(async move {
            if let Err(error) = ask(&app, invoice, CALLBACK_GAP_MS).await {
                tracing::warn!(%invoice, %error, "nothing new of an invoice");
            }
            drop(turn);
        });
    }
    for card in to_give_back {
        let Ok(turn) = turns.clone().acquire_owned().await else { return Ok(()) };
        let app = app.clone();
        app.work.clone().spawn(async move {
            if let Err(error) = refund::give_out(&app, &card).await {
                tracing::warn!(payment = card.payment_id, %error, "a card payment is not given back yet");
            }
            drop(turn);
        });
    }
    Ok(())
}
