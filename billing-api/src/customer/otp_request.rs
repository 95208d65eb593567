use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use evm_store::{codes, limits, now};
use serde::Deserialize;

use super::code_limits::{self, Keys};
use super::phone;
use crate::App;
use crate::http::address::Client;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::secrets::hash;

/// How long a code is good.
const LIVES_MS: i64 = 5 * 60_000;

/// Whom to send a code.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OtpRequest {
    /// International form, spaces allowed.
    #[schema(example = "+976 8666 1488")]
    phone: String,
}

refusals!(OtpRequestRefusals: InvalidRequest, TooManyRequests);

/// Sends a code of 6 digits to a phone, good for 5 minutes; an older one that was asked for from the same place is dead
/// then. The answer is the same whether the phone is known or not. Another code may be asked for after a minute, 3 in 15
/// minutes, and 8 a day where the customer was logged in before, else 5. With the bearer token of a login of this phone,
/// wherever that is.
#[utoipa::path(
    post, path = "/user/otp-request", operation_id = "otpRequest", tag = "login", security(()),
    request_body = OtpRequest, responses((status = 200, description = "A code is on its way."), OtpRequestRefusals)
)]
pub(crate) async fn otp_request(
    State(app): State<App>,
    Client(from): Client,
    headers: HeaderMap,
    Body(body): Body<OtpRequest>,
) -> Answer<StatusCode> {
    let phone = phone::parse(&body.phone, &app.config.phone_countries)?;
    if app.config.otp_dev_code.is_some() {
        return Ok(StatusCode::OK);
    }
    let code = format!("{:06}", u32::from_be_bytes(evm_store::random()) % 1_000_000);
    let hashed = hash(&app.config.server_secret, "otp", &format!("{phone}:{code}"));
    let mut db = app.store.begin().await?;
    let requester = code_limits::requester(&app, &mut db, &phone, from, &headers).await?;
    let keys = Keys::of_requests(&phone, &requester, from);
    if let Some(wait_ms) = limits::take(&mut db, &keys.requests(app.config.codes_per_hour), now()).await? {
        return Err(Problem::from(Code::TooManyRequests).retry_after_ms(wait_ms));
    }
    codes::put(&mut db, &phone, &requester, &hashed, now(), LIVES_MS).await?;
    db.commit().await?;
    app.sms.send(&phone, &code);
    Ok(StatusCode::OK)
}
