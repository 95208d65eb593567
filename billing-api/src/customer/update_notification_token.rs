use axum::extract::State;
use axum::http::StatusCode;
use evm_store::customers;
use serde::Deserialize;

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, short};
use crate::http::problem::{Answer, Problem, refusals};

/// Where to push.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct NotificationToken {
    /// The registration token that Firebase gave the app.
    #[serde(rename = "FCMToken")]
    #[schema(min_length = 1, max_length = 4096)]
    fcm_token: String,
}

refusals!(UpdateNotificationTokenRefusals: InvalidRequest);

/// Where this customer's phone gets push messages. A token belongs to its newest customer.
#[utoipa::path(
    post, path = "/customer/update-notification-token", operation_id = "updateNotificationToken", tag = "profile",
    request_body = NotificationToken, responses((status = 200, description = "Kept."), UpdateNotificationTokenRefusals)
)]
pub(crate) async fn update_notification_token(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NotificationToken>,
) -> Answer<StatusCode> {
    short("FCMToken", &body.fcm_token, 4096)?;
    if body.fcm_token.is_empty() {
        return Err(Problem::field("FCMToken", "is empty"));
    }
    let mut db = app.store.begin().await?;
    customers::set_push_token(&mut db, caller.customer, &body.fcm_token).await?;
    db.commit().await?;
    Ok(StatusCode::OK)
}
