use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use evm_domain::Id;
use evm_store::{logins, now};
use serde::Serialize;

use super::logout;
use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::PathId;
use crate::http::problem::{Answer, refusals};
use crate::http::time::Iso;

/// A login that is good.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoginSession {
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    id: String,
    created_at: Iso,
    /// When it was last used, to the hour.
    last_seen: Iso,
    /// Whether it is the one that asks.
    current: bool,
}

/// The customer's logins, newest first.
#[utoipa::path(
    get, path = "/user/sessions", operation_id = "loginSessions", tag = "login",
    responses((status = 200, body = [LoginSession]))
)]
pub(crate) async fn sessions(State(app): State<App>, caller: Caller) -> Answer<Json<Vec<LoginSession>>> {
    let all = logins::of_customer(&mut app.store.read().await?, caller.customer, now()).await?;
    let session = |login: logins::Login| LoginSession {
        current: login.id == caller.login,
        id: login.id,
        created_at: Iso(login.created_at.0),
        last_seen: Iso(login.seen_at.0),
    };
    Ok(Json(all.into_iter().map(session).collect()))
}

refusals!(EndSessionRefusals: NotFound);

/// Ends one of the customer's logins, as a logout there would.
#[utoipa::path(
    delete, path = "/user/sessions/{id}", operation_id = "endLoginSession", tag = "login",
    params(("id" = String, Path, description = "The login's id.", example = "12d76c8bfca2a22c07a6fca1")),
    responses((status = 200, description = "Logged out there."), EndSessionRefusals)
)]
pub(crate) async fn end_session(
    State(app): State<App>,
    caller: Caller,
    PathId(login): PathId<Id>,
) -> Answer<StatusCode> {
    logout::end(&app, caller.customer, &login.to_string()).await?;
    Ok(StatusCode::OK)
}
