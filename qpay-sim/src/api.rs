//! The gateway's calls.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use serde_json::{Value, json};

use crate::control::QpaySim;
use crate::state::{Invoice, Kind};
use crate::{gate, page, rows};

/// Most bytes of a request.
const MAX_BODY: usize = 64 * 1024;

pub(crate) fn router(sim: QpaySim) -> Router {
    Router::new()
        .route("/v2/auth/token", post(token))
        .route("/v2/auth/refresh", post(refresh))
        .route("/v2/invoice", post(create_invoice))
        .route("/v2/invoice/{id}", get(get_invoice).delete(cancel_invoice))
        .route("/v2/payment/check", post(check))
        .route("/v2/payment/{id}", get(get_payment))
        .route("/v2/payment/refund/{id}", delete(refund))
        .route("/v2/payment/cancel/{id}", delete(cancel_payment))
        .layer(middleware::from_fn_with_state(sim.clone(), gate::gate))
        .merge(page::router())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(sim)
}

/// An error as the gateway writes it.
pub(crate) fn refuse(status: StatusCode, key: &str, message: &str) -> Response {
    (status, Json(json!({ "error": key, "message": message }))).into_response()
}

fn bad(key: &str, message: &str) -> Response {
    refuse(StatusCode::BAD_REQUEST, key, message)
}

fn no_invoice() -> Response {
    refuse(StatusCode::UNPROCESSABLE_ENTITY, "INVOICE_NOTFOUND", "no such invoice")
}

fn no_payment() -> Response {
    refuse(StatusCode::UNPROCESSABLE_ENTITY, "PAYMENT_NOTFOUND", "no such payment")
}

fn shown<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)?.strip_prefix(' ')
}

async fn token(State(sim): State<QpaySim>, headers: HeaderMap) -> Response {
    let options = sim.options();
    let right = format!("{}:{}", options.client_id, options.client_secret);
    let given = shown(&headers, "Basic").and_then(|basic| STANDARD.decode(basic).ok());
    if given.as_deref() == Some(right.as_bytes()) { new_tokens(&sim) } else { wrong_login() }
}

async fn refresh(State(sim): State<QpaySim>, headers: HeaderMap) -> Response {
    let given = shown(&headers, "Bearer").and_then(|token| sim.state().refresh_tokens.remove(token));
    if given.is_some_and(|expires| Instant::now() < expires) { new_tokens(&sim) } else { wrong_login() }
}

fn wrong_login() -> Response {
    refuse(StatusCode::UNAUTHORIZED, "AUTHENTICATION_FAILED", "wrong client id, secret or refresh token")
}

fn new_tokens(sim: &QpaySim) -> Response {
    let life = sim.options().token_life;
    let (access, refresh) = (random_hex(32), random_hex(32));
    let now = Instant::now();
    {
        let mut state = sim.state();
        state.access_tokens.retain(|_, expires| now < *expires);
        state.refresh_tokens.retain(|_, expires| now < *expires);
        state.access_tokens.insert(access.clone(), now + life);
        state.refresh_tokens.insert(refresh.clone(), now + life * 2);
    }
    let from = if sim.options().absolute_expiry { unix_seconds() } else { 0 };
    Json(json!({
        "token_type": "bearer",
        "refresh_expires_in": from + life.as_secs() * 2,
        "refresh_token": refresh,
        "access_token": access,
        "expires_in": from + life.as_secs(),
        "scope": "stand-in",
        "not-before-policy": "0",
        "session_state": "stand-in",
    }))
    .into_response()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn random_hex(bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", rand::rng().random::<u8>())).collect()
}

/// A random id in the form of the gateway's.
fn uuid() -> String {
    let hex = random_hex(16);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// Reads and checks the body of `POST /invoice`; on failure the gateway's key and what is wrong.
fn read_invoice(body: &[u8], code: &str) -> Result<Invoice, (&'static str, String)> {
    let body: Value = serde_json::from_slice(body).map_err(|e| ("OBJECT_DATA_ERROR", e.to_string()))?;
    let text = |name: &str, most: usize| match body[name].as_str() {
        Some(text) if !text.is_empty() && text.chars().count() <= most => Ok(text.to_owned()),
        _ => Err(("OBJECT_DATA_ERROR", format!("{name}: a text of 1 to {most} characters"))),
    };
    if text("invoice_code", 45)? != code {
        return Err(("INVOICE_CODE_INVALID", "no such invoice_code".into()));
    }
    let sender_invoice_no = text("sender_invoice_no", 45)?;
    if !sender_invoice_no.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(("OBJECT_DATA_ERROR", "sender_invoice_no: letters, digits and hyphens".into()));
    }
    let amount = body["amount"].as_number().and_then(|mnt| mnt.to_string().parse::<i64>().ok());
    let mongo = amount.filter(|mnt| *mnt > 0).and_then(|mnt| mnt.checked_mul(100));
    Ok(Invoice {
        invoice_id: uuid(),
        sender_invoice_no,
        receiver_code: text("invoice_receiver_code", 45)?,
        description: text("invoice_description", 255)?,
        amount: mongo.ok_or(("INVALID_AMOUNT", "amount: a whole number above 0".to_owned()))?,
        callback_url: text("callback_url", 255)?,
        canceled: false,
        payments: Vec::new(),
        last_callback: None,
    })
}

async fn create_invoice(State(sim): State<QpaySim>, body: Bytes) -> Response {
    let invoice = match read_invoice(&body, &sim.options().invoice_code) {
        Ok(invoice) => invoice,
        Err((key, message)) => return bad(key, &message),
    };
    let (id, amount) = (invoice.invoice_id.clone(), invoice.amount);
    let answer = rows::created(&invoice, &sim.page_url(&id));
    let early = {
        let mut state = sim.state();
        if !state.numbers_used.insert(invoice.sender_invoice_no.clone()) {
            return refuse(StatusCode::CONFLICT, "INVOICE_DUPLICATED", "sender_invoice_no was used before");
        }
        state.order.push(id.clone());
        sim.tell(&invoice);
        state.invoices.insert(id.clone(), invoice);
        let early = state.pay_early > 0;
        state.pay_early = state.pay_early.saturating_sub(1);
        early
    };
    if early {
        let _ = sim.pay(&id, amount, Kind::P2p).await;
    }
    Json(answer).into_response()
}

async fn get_invoice(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    let state = sim.state();
    match state.invoices.get(&id) {
        Some(invoice) => Json(rows::invoice(invoice, state.numbers)).into_response(),
        None => no_invoice(),
    }
}

async fn cancel_invoice(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    match sim.state().invoices.get_mut(&id) {
        None => no_invoice(),
        Some(invoice) if invoice.paid() > 0 => bad("INVOICE_PAID", "the invoice was paid"),
        Some(invoice) if invoice.canceled => bad("INVOICE_ALREADY_CANCELED", "the invoice was canceled before"),
        Some(invoice) => {
            invoice.canceled = true;
            Json(json!({})).into_response()
        }
    }
}

async fn check(State(sim): State<QpaySim>, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return bad("OBJECT_DATA_ERROR", "not JSON") };
    if body["object_type"] != "INVOICE" {
        return bad("INVALID_OBJECT_TYPE", "object_type: INVOICE");
    }
    let whole = |name: &str| body["offset"][name].as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let (Some(page), Some(limit)) = (whole("page_number"), whole("page_limit")) else {
        return bad("OBJECT_DATA_ERROR", "offset: page_number and page_limit from 1");
    };
    let state = sim.state();
    let invoice = body["object_id"].as_str().and_then(|id| state.invoices.get(id));
    match invoice {
        Some(invoice) => {
            Json(rows::check(invoice, page, limit.min(sim.options().page_limit), state.numbers)).into_response()
        }
        None => no_invoice(),
    }
}

async fn get_payment(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    let mut state = sim.state();
    let Some(payment) = state.payment(&id).cloned() else { return no_payment() };
    match state.payment_of.get(&id).and_then(|invoice| state.invoices.get(invoice)) {
        Some(invoice) => Json(rows::payment(invoice, &payment, state.numbers)).into_response(),
        None => no_payment(),
    }
}

async fn refund(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    give_back(&sim, &id, "REFUNDED")
}

async fn cancel_payment(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    give_back(&sim, &id, "CANCELED")
}

fn give_back(sim: &QpaySim, id: &str, status: &str) -> Response {
    match sim.state().payment(id) {
        None => no_payment(),
        Some(payment) if payment.kind != Kind::Card => bad("TRANSACTION_NOT_APPROVED", "card payments only"),
        Some(payment) if matches!(payment.status.as_str(), "REFUNDED" | "CANCELED") => {
            bad("PAYMENT_ALREADY_CANCELED", "the payment was given back before")
        }
        Some(payment) if payment.status != "PAID" => bad("PAYMENT_NOT_PAID", "the payment is not paid"),
        Some(payment) => {
            payment.status = status.to_owned();
            Json(json!({})).into_response()
        }
    }
}
