//! Whether the process lives and can work; for load balancers.

use axum::extract::State;
use axum::http::StatusCode;

use crate::App;
use crate::http::problem::{Answer, refusals};

/// The process lives.
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "health", security(()),
    responses((status = 200, description = "It lives.")))]
pub(crate) async fn livez() -> StatusCode {
    StatusCode::OK
}

refusals!(ReadyRefusals: StoreUnavailable, BusUnavailable);

/// The store and the bus answer.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", security(()),
    responses((status = 200, description = "It can work."), ReadyRefusals))]
pub(crate) async fn readyz(State(app): State<App>) -> Answer<StatusCode> {
    use crate::http::problem::Code;
    if !app.store.is_up().await {
        return Err(Code::StoreUnavailable.into());
    }
    if !app.bus.healthy() {
        return Err(Code::BusUnavailable.into());
    }
    Ok(StatusCode::OK)
}
