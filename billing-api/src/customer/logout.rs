use axum::extract::State;
use axum::http::StatusCode;
use evm_bus::subject;
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

/// Ends what a login that is over holds open on this node.
pub(crate) fn ended(app: &App, login: &str) {
    app.bus.disconnect_user(login);
    app.streams.end(login);
}

/// Ends a login of a customer and whatever it holds open, here and on other nodes.
pub(super) async fn end(app: &App, customer: CustomerId, login: &str) -> Answer<()> {
    let mut db = app.store.begin().await?;
    if !logins::end(&mut db, customer, login).await? {
        return Err(Code::NotFound.into());
    }
    db.commit().await?;
    ended(app, login);
    // A node that does not hear it notices at its next look.
    if let Err(error) = app.bus.publish(subject::LOGIN_ENDED, None, login.as_bytes()).await {
        tracing::warn!(%error, "other nodes are not told of a logout");
    }
    tracing::info!(%customer, login, "logged out");
    Ok(())
}
