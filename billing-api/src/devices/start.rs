use axum::extract::State;
use axum::http::StatusCode;
use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_domain::credit::Refusal;
use evm_domain::{CustomerId, DeviceId, SessionId};
use evm_store::devices::{self, Device, DeviceState};
use evm_store::sessions::{self, NewRequest, Requested};
use evm_store::{Db, Rule, StoreError, credit, now, purchases};

use crate::App;
use crate::chargers::{self, Failed};
use crate::http::auth::Caller;
use crate::http::extract::{NoBody, PathId};
use crate::http::problem::{Answer, Code, Problem, refusals};

/// The longest that a customer waits at a device after starts that never became a charge.
const MOST_WAIT_MS: i64 = 3_600_000;
/// Starts before this are forgotten.
const LOOK_BACK_MS: i64 = 24 * 3_600_000;

refusals!(StartRefusals:
    NotFound, DeviceBusy, DeviceOutOfService, DeviceFaulted, ChargerOffline, StartRefused, AlreadyCharging,
    UnpaidPurchase, DebtTooLarge, BalanceTooLow, PlugInFirst, StartTimeout, BusUnavailable,
);

/// Starts a charge. 200 once the charger has accepted; from then on `CHARGING` events come every 2 to 5 s until the
/// end. After `start_timeout` the charger may still begin; `me` and the events tell.
#[utoipa::path(
    post, path = "/devices/{id}/start", operation_id = "start", tag = "charging",
    params(("id" = String, Path, description = "The device's `_id`.", example = "12d76c8bfca2a22c07a6fca1")),
    responses((status = 200, description = "The charger has accepted."), StartRefusals)
)]
pub(crate) async fn start(
    State(app): State<App>,
    caller: Caller,
    PathId(device): PathId<DeviceId>,
    _: NoBody,
) -> Answer<StatusCode> {
    // On a task of its own: a phone that hangs up must not leave the device held by a start that was refused.
    let work = tokio::spawn(async move { begin(&app, caller.customer, device).await });
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a start broke");
        Err(Code::Internal.into())
    })?;
    Ok(StatusCode::OK)
}

async fn begin(app: &App, customer: CustomerId, device: DeviceId) -> Answer<()> {
    let (device, requested) = hold(app, customer, device).await?;
    let request = ChargerRequest::Start {
        connector: device.connector,
        id_tag: requested.id_tag,
        remote_start_id: requested.remote_start_id,
    };
    let (reason, problem) = match chargers::ask(app, &device.identity, device.epoch, request).await {
        Ok(ChargerReply::Accepted) => return Ok(()),
        // It may have heard, and may begin: its own messages decide, and until the limit the device is held.
        Err(Failed::NoAnswer) => return Err(Code::StartTimeout.into()),
        Err(Failed::BusDown) => ("bus_down", Code::BusUnavailable.into()),
        Err(Failed::Offline) => ("offline", Code::ChargerOffline.into()),
        Ok(ChargerReply::Refused(word)) => ("refused", Code::StartRefused.because(format!("the charger said {word}"))),
        Ok(ChargerReply::Error { code, .. }) => {
            ("refused", Code::StartRefused.because(format!("the charger said {code}")))
        }
        Ok(_) => ("refused", Code::StartRefused.into()),
    };
    release(app, requested.id, reason).await?;
    Err(problem)
}

/// Holds the device for the customer, where the rules allow it.
async fn hold(app: &App, customer: CustomerId, device: DeviceId) -> Answer<(Device, Requested)> {
    let mut db = app.store.begin().await?;
    let device = devices::by_id(&mut db, device, false).await?.ok_or(Code::NotFound)?;
    if sessions::live_of_customer(&mut db, customer).await?.is_some() {
        return Err(Code::AlreadyCharging.into());
    }
    match device.state {
        DeviceState::Idle => {}
        DeviceState::Busy => return Err(Code::DeviceBusy.into()),
        DeviceState::Repair => return Err(Code::DeviceOutOfService.into()),
        DeviceState::Faulted => return Err(Code::DeviceFaulted.into()),
        DeviceState::Offline => return Err(Code::ChargerOffline.into()),
    }
    if !device.plugged_in {
        wait_after_never_begun(app, &mut db, customer, device.id).await?;
    }
    let new = NewRequest {
        device: device.id,
        customer,
        charger: device.charger,
        connector: device.connector,
        tariff_id: device.tariff_id.clone(),
        now: now(),
    };
    let requested = sessions::request(&mut db, &new).await.map_err(|error| match error {
        StoreError::Refused(Rule::OneLiveSessionPerDevice) => Code::DeviceBusy.into(),
        StoreError::Refused(Rule::OneLiveSessionPerCustomer) => Code::AlreadyCharging.into(),
        other => Problem::from(other),
    })?;
    // After the request: from here on no charge of this customer can settle unseen.
    may_begin(app, &mut db, customer).await?;
    db.commit().await?;
    Ok((device, requested))
}

/// Starts without a car hold the device from others: each one that never became a charge makes the customer wait twice as long
/// for the next one here.
async fn wait_after_never_begun(app: &App, db: &mut Db, customer: CustomerId, device: DeviceId) -> Answer<()> {
    let first = i64::try_from(app.config.start_again.as_millis()).unwrap_or(MOST_WAIT_MS);
    let now = now();
    let Some((count, over)) =
        sessions::never_begun_in_a_row(db, customer, device, now.plus_millis(-LOOK_BACK_MS)).await?
    else {
        return Ok(());
    };
    let wait = first.saturating_mul(1 << count.saturating_sub(1).min(20)).min(MOST_WAIT_MS);
    // Where the clock went back, nobody waits for a time in the future.
    let left = wait - now.since(over).max(0);
    if left <= 0 { Ok(()) } else { Err(Problem::from(Code::PlugInFirst).retry_after_ms(left)) }
}

async fn may_begin(app: &App, db: &mut Db, customer: CustomerId) -> Answer<()> {
    let standing = credit::standing(db, customer, &app.config.credit).await?.ok_or(Code::Unauthorized)?;
    let Err(refusal) = app.config.credit.check(&standing) else { return Ok(()) };
    Err(match refusal {
        Refusal::UnpaidPurchase => {
            let purchase = purchases::oldest_unpaid(db, customer).await?.unwrap_or_default();
            Code::UnpaidPurchase.because(format!("purchase {purchase} must be paid first"))
        }
        Refusal::DebtTooLarge { most } => {
            Code::DebtTooLarge.because(format!("{} are owed, at most {most} may be", standing.debt))
        }
        Refusal::BalanceTooLow { least } => {
            Code::BalanceTooLow.because(format!("the balance is {}, at least {least} are needed", standing.balance))
        }
    })
}

async fn release(app: &App, session: SessionId, reason: &str) -> Answer<()> {
    let mut db = app.store.begin().await?;
    sessions::fail(&mut db, session, reason, now()).await?;
    db.commit().await?;
    Ok(())
}
