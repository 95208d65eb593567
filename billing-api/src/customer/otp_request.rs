use axum::extract::State;
use axum::http::StatusCode;
use evm_store::{logins, now};
use serde::Deserialize;

use super::phone;
use crate::App;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::secrets::hash;

/// How long a code is good.
const LIVES_MS: i64 = 5 * 60_000;
/// How long until another one is sent.
const RESEND_MS: i64 = 60_000;

/// Whom to send a code.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OtpRequest {
    /// International form, spaces allowed.
    #[schema(example = "+976 8666 1488")]
    phone: String,
}

refusals!(OtpRequestRefusals: InvalidRequest, TooManyRequests);

/// Sends a code to a phone. The answer is the same whether the phone is known or not.
#[utoipa::path(
    post, path = "/user/otp-request", operation_id = "otpRequest", tag = "login", security(()),
    request_body = OtpRequest, responses((status = 200, description = "A code is on its way."), OtpRequestRefusals)
)]
pub(crate) async fn otp_request(State(app): State<App>, Body(body): Body<OtpRequest>) -> Answer<StatusCode> {
    let phone = phone::parse(&body.phone, &app.config.phone_countries)?;
    if app.config.otp_dev_code.is_some() {
        return Ok(StatusCode::OK);
    }
    let code = format!("{:06}", u32::from_be_bytes(evm_store::random()) % 1_000_000);
    let hashed = hash(&app.config.server_secret, "otp", &format!("{phone}:{code}"));
    let mut db = app.store.begin().await?;
    let fresh = logins::put_code(&mut db, &phone, &hashed, now(), LIVES_MS, RESEND_MS).await?;
    if !fresh {
        return Err(Problem::from(Code::TooManyRequests).retry_after(60));
    }
    db.commit().await?;
    Ok(StatusCode::OK)
}
