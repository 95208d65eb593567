use axum::Json;
use axum::extract::State;

use super::login::{Login, describe};
use crate::App;
use crate::http::auth::Caller;
use crate::http::problem::Answer;

/// The customer's login as it stands: profile, balance, the device they charge at, how to hear events.
#[utoipa::path(post, path = "/user/me", operation_id = "me", tag = "login", responses((status = 200, body = Login)))]
pub(crate) async fn me(State(app): State<App>, caller: Caller) -> Answer<Json<Login>> {
    let mut db = app.store.read().await?;
    describe(&app, &mut db, caller.customer, &caller.login, &caller.token).await.map(Json)
}
