use axum::extract::State;
use axum::http::StatusCode;
use evm_domain::CustomerId;
use evm_store::logins;

use crate::App;
use crate::http::auth::Caller;
use crate::http::problem::{Answer, Code};

/// Ends this login: its token, its way to hear events, and the push messages of the phone that gave a token in it.
#[utoipa::path(
    post, path = "/user/logout", operation_id = "logout", tag = "login",
    responses((status = 200, description = "Logged out."))
)]
pub(crate) async fn logout(State(app): State<App>, caller: Caller) -> Answer<StatusCode> {
    match end(&app, caller.customer, &caller.login).await {
        // Another request has ended it meanwhile.
        Err(problem) if problem.code != Code::NotFound => Err(problem),
        _ => Ok(StatusCode::OK),
    }
}

/// Ends a login of a customer and whatever it holds open here. NATS and streams of other nodes notice by themselves.
pub(super) async fn end(app: &App, customer: CustomerId, login: &str) -> Answer<()> {
    let mut db = app.store.begin().await?;
    if !logins::end(&mut db, customer, login).await? {
        return Err(Code::NotFound.into());
    }
    db.commit().await?;
    app.bus.disconnect_user(login);
    app.streams.end(login);
    tracing::info!(%customer, login, "logged out");
    Ok(())
}
