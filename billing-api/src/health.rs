//! Whether the process lives and can work; for load balancers.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use evm_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::App;
use crate::http::problem::{Answer, refusals};

/// The process lives.
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "health", security(()),
    responses((status = 200, description = "It lives.")))]
pub(crate) async fn livez() -> StatusCode {
    StatusCode::OK
}

refusals!(ReadyRefusals: StoreUnavailable, BusUnavailable);

/// How long what was found out is told again: whoever asks often costs no more writes.
const FRESH: Duration = Duration::from_secs(1);

/// Whether the store takes writes, asked by one at a time.
#[derive(Debug, Default)]
pub(crate) struct Writable(Mutex<Option<(Instant, bool)>>);

impl Writable {
    async fn look(&self, store: &Store) -> bool {
        let mut known = self.0.lock().await;
        match *known {
            Some((at, writable)) if at.elapsed() < FRESH => writable,
            _ => {
                let writable = store.can_write().await;
                *known = Some((Instant::now(), writable));
                writable
            }
        }
    }
}

/// The store takes writes and the bus answers.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", security(()),
    responses((status = 200, description = "It can work."), ReadyRefusals))]
pub(crate) async fn readyz(State(app): State<App>) -> Answer<StatusCode> {
    use crate::http::problem::Code;
    if !app.writable.look(&app.store).await {
        return Err(Code::StoreUnavailable.into());
    }
    if !app.bus.healthy() {
        return Err(Code::BusUnavailable.into());
    }
    Ok(StatusCode::OK)
}
