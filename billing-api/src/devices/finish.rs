use std::time::Duration;

use axum::Json;
use axum::extract::State;
use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_domain::{CustomerId, DeviceId, PurchaseId, Session, Status};
use evm_store::{chargers as stations, now, sessions, settle};
use serde::Serialize;
use tokio::time::Instant;

use crate::App;
use crate::chargers;
use crate::http::auth::Caller;
use crate::http::extract::{NoBody, PathId};
use crate::http::problem::{Answer, Code, refusals};

/// How long the charger's own end of the transaction is waited for, so that the purchase can be paid at once.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// The purchase that the charge ends in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Finished {
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    id: String,
}

refusals!(FinishRefusals: NotFound, NotCharging, BusUnavailable);

/// Finishes the customer's charge at a device. Called again, or after the charge ended by itself, it gives the
/// same purchase. Where the charger ends the transaction only when the car is unplugged, the purchase is `pending` until then,
/// and `pay` says `charge_running`. A start that never began leaves no purchase in the list: of its id nothing is to be paid.
#[utoipa::path(
    post, path = "/devices/{id}/finish", operation_id = "finish", tag = "charging",
    params(("id" = String, Path, description = "The device's `_id`.", example = "12d76c8bfca2a22c07a6fca1")),
    responses((status = 200, body = Finished), FinishRefusals)
)]
pub(crate) async fn finish(
    State(app): State<App>,
    caller: Caller,
    PathId(device): PathId<DeviceId>,
    _: NoBody,
) -> Answer<Json<Finished>> {
    let work = tokio::spawn(async move { end(&app, caller.customer, device).await });
    let purchase = work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a finish broke");
        Err(Code::Internal.into())
    })?;
    Ok(Json(Finished { id: purchase.to_string() }))
}

async fn end(app: &App, customer: CustomerId, device: DeviceId) -> Answer<PurchaseId> {
    let mut db = app.store.read().await?;
    let newest = sessions::newest_of(&mut db, customer, device).await?;
    drop(db);
    let Some(session) = newest else { return Err(Code::NotCharging.into()) };
    match (session.status, &session.transaction) {
        (Status::Finished | Status::Failed, _) => {}
        (Status::Active, Some(transaction)) => stop(app, &session, transaction.clone()).await?,
        // Never begun, or begun without a name: nothing that the charger could be asked for.
        (Status::Requested | Status::Active, _) => settle_now(app, &session, "Remote").await?,
    }
    Ok(session.purchase)
}

async fn stop(app: &App, session: &Session, transaction: String) -> Answer<()> {
    let charger = stations::by_id(&mut app.store.read().await?, session.charger).await?.ok_or(Code::NotFound)?;
    let request = ChargerRequest::Stop { transaction };
    let reason = match chargers::ask(app, &charger.identity, charger.epoch, request).await {
        Ok(ChargerReply::Accepted) => {
            if !wait_for_end(app, session).await? {
                let mut db = app.store.begin().await?;
                sessions::note_finish(&mut db, session.id, now()).await?;
                db.commit().await?;
            }
            return Ok(());
        }
        // It agreed before, and will end the transaction when the car is unplugged.
        Ok(_) if sessions::finish_was_agreed(&mut app.store.read().await?, session.id).await? => return Ok(()),
        // The customer leaves now, with the figures so far; what the charger tells later corrects the bill.
        Ok(_) => "stop_refused",
        Err(chargers::Failed::Offline) => "charger_offline",
        Err(chargers::Failed::NoAnswer) => "charger_silent",
        // Another try in a moment stops the charger, too.
        Err(chargers::Failed::BusDown) => return Err(Code::BusUnavailable.into()),
    };
    settle_now(app, session, reason).await
}

async fn settle_now(app: &App, session: &Session, reason: &str) -> Answer<()> {
    let mut db = app.store.begin().await?;
    settle::settle_by_id(&mut db, session.id, reason, now()).await?;
    db.commit().await?;
    app.hint_outbox().await;
    Ok(())
}

/// Whether the charge is over in time.
async fn wait_for_end(app: &App, session: &Session) -> Answer<bool> {
    let deadline = Instant::now() + END_PATIENCE;
    let mut pause = Duration::from_millis(20);
    while Instant::now() < deadline {
        let now = sessions::peek_status(&mut app.store.read().await?, session.id).await?;
        if now != Some(Status::Active) {
            return Ok(true);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(false)
}
