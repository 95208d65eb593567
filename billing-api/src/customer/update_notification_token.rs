use axum::extract::State;
use axum::http::StatusCode;
use evm_store::customers;
use serde::Deserialize;

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Problem, refusals};

/// Longest token that is kept; Firebase's have about 200 characters.
const MOST: usize = 2048;

/// Where to push.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct NotificationToken {
    /// The registration token that Firebase gave the app.
    #[serde(rename = "FCMToken")]
    #[schema(min_length = 1, max_length = 2048)]
    fcm_token: String,
}

refusals!(UpdateNotificationTokenRefusals: InvalidRequest);

/// Where this customer's phone gets push messages: a charge ended, a payment, a top-up. A token belongs to its newest
/// customer, and goes with the login that gave it.
#[utoipa::path(
    post, path = "/customer/update-notification-token", operation_id = "updateNotificationToken", tag = "profile",
    request_body = NotificationToken, responses((status = 200, description = "Kept."), UpdateNotificationTokenRefusals)
)]
pub(crate) async fn update_notification_token(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NotificationToken>,
) -> Answer<StatusCode> {
    let token = &body.fcm_token;
    if !(1..=MOST).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::field("FCMToken", format!("has 1 to {MOST} visible ASCII characters")));
    }
    let mut db = app.store.begin().await?;
    customers::set_push_token(&mut db, caller.customer, &caller.login, &body.fcm_token).await?;
    db.commit().await?;
    Ok(StatusCode::OK)
}
