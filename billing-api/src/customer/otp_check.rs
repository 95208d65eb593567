use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use evm_store::{codes, customers, limits, logins, now};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::code_limits::{self, Keys, TRIES};
use super::login::{Login, describe};
use super::phone;
use crate::App;
use crate::http::address::Client;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::secrets::{events_password, hash, known_network, new_token};

/// How long a login lasts.
const LOGIN_MS: i64 = 90 * 24 * 3_600_000;

/// A phone and the code it was sent.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OtpCheck {
    /// As in the request for the code.
    #[schema(example = "+976 8666 1488")]
    phone: String,
    /// The code as it came.
    #[schema(example = "0000")]
    code: String,
}

refusals!(OtpCheckRefusals: InvalidRequest, WrongOtp, TooManyRequests);

/// Logs in with a code, which is used up by that. An unknown phone becomes a new customer. A code may be tried 5 times by
/// who asked for it and where the customer was logged in before, and 3 times by all others together; beside that, 15 wrong
/// ones in 15 minutes and 60 from an address in an hour are too many.
#[utoipa::path(
    post, path = "/user/otp-check", operation_id = "otpCheck", tag = "login", security(()),
    request_body = OtpCheck, responses((status = 200, body = Login), OtpCheckRefusals)
)]
pub(crate) async fn otp_check(
    State(app): State<App>,
    Client(from): Client,
    headers: HeaderMap,
    Body(body): Body<OtpCheck>,
) -> Answer<Json<Login>> {
    let phone = phone::parse(&body.phone, &app.config.phone_countries)?;
    let code = body.code.trim();
    if code.is_empty() || code.len() > 16 {
        return Err(Problem::field("code", "has 1 to 16 characters"));
    }
    let secret = &app.config.server_secret;
    let too_many = |wait_ms| Problem::from(Code::TooManyRequests).retry_after_ms(wait_ms);
    let mut db = app.store.begin().await?;
    let requester = code_limits::requester(&app, &mut db, &phone, from, &headers).await?;
    let keys = Keys::of_tries(&phone, &requester, from);
    let standing = codes::standing(&mut db, &phone, &requester, TRIES, now()).await?;
    let counted = keys.tries(standing.own, app.config.otp_dev_code.is_some() || standing.guessable);
    if let Some(wait_ms) = limits::wait(&mut db, &counted, now()).await? {
        return Err(too_many(wait_ms));
    }
    let by_dev_code =
        app.config.otp_dev_code.as_deref().is_some_and(|dev| bool::from(dev.as_bytes().ct_eq(code.as_bytes())));
    let hashed = hash(secret, "otp", &format!("{phone}:{code}"));
    if !by_dev_code && !codes::use_up(&mut db, &phone, &hashed, &requester, TRIES, now()).await? {
        let refused = limits::take(&mut db, &counted, now()).await?;
        // The counted try must last.
        db.commit().await?;
        return Err(refused.map_or_else(|| Code::WrongOtp.into(), too_many));
    }
    let customer = customers::of_phone(&mut db, &phone, now()).await?;
    limits::reset(&mut db, &code_limits::minute(&requester)).await?;
    codes::remember(&mut db, &phone, &known_network(secret, &phone, from), now()).await?;
    let token = new_token();
    let events = hash(secret, "events", &events_password(secret, &token));
    let login = logins::create(&mut db, customer.id, &hash(secret, "token", &token), &events, now(), LOGIN_MS).await?;
    let described = describe(&app, &mut db, customer.id, &login.id, &token).await?;
    db.commit().await?;
    Ok(Json(described))
}
