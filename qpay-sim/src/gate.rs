//! What every call goes through: it is noted, meets its fault, and must show a token.

use std::future::pending;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use crate::api::refuse;
use crate::control::QpaySim;
use crate::server::Socket;
use crate::state::{Call, Fault};

pub(crate) async fn gate(
    State(sim): State<QpaySim>,
    Extension(socket): Extension<Socket>,
    request: Request,
    next: Next,
) -> Response {
    let Some(call) = call_of(request.method(), request.uri().path()) else { return next.run(request).await };
    let (place, fault, delay) = {
        let mut state = sim.state();
        (state.note(call), state.take_fault(call), state.delay)
    };
    tokio::time::sleep(delay).await;
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    let response = match fault {
        Some(Fault::Status(status)) => refuse(code(status), "SOMETHING_WENT_WRONG", "told to fail"),
        Some(Fault::Keyless(status)) => (code(status), Html("<html><body>No</body></html>")).into_response(),
        Some(Fault::NotJson) => Html("<html><body>Bad Gateway</body></html>").into_response(),
        Some(Fault::TooLarge) => "x".repeat(3_000_000).into_response(),
        Some(Fault::Cut) => cut(&socket).await,
        _ if needs_token(call) && !may(&sim, &request) => {
            refuse(StatusCode::UNAUTHORIZED, "NO_CREDENDIALS", "no token, or one that has expired")
        }
        Some(Fault::LostAnswer) => {
            next.run(request).await;
            cut(&socket).await
        }
        _ => next.run(request).await,
    };
    sim.state().answered(place, response.status().as_u16());
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn cut(socket: &Socket) -> Response {
    socket.0.cancel();
    pending().await
}

fn call_of(method: &Method, path: &str) -> Option<Call> {
    let parts: Vec<&str> = path.strip_prefix("/v2/")?.split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["auth", "token"]) => Some(Call::Token),
        ("POST", ["auth", "refresh"]) => Some(Call::Refresh),
        ("POST", ["invoice"]) => Some(Call::CreateInvoice),
        ("GET", ["invoice", _]) => Some(Call::GetInvoice),
        ("DELETE", ["invoice", _]) => Some(Call::CancelInvoice),
        ("POST", ["payment", "check"]) => Some(Call::Check),
        ("GET", ["payment", _]) => Some(Call::GetPayment),
        ("DELETE", ["payment", "refund", _]) => Some(Call::Refund),
        ("DELETE", ["payment", "cancel", _]) => Some(Call::CancelPayment),
        _ => None,
    }
}

fn needs_token(call: Call) -> bool {
    !matches!(call, Call::Token | Call::Refresh)
}

fn may(sim: &QpaySim, request: &Request) -> bool {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let state = sim.state();
    let expires =
        shown.and_then(|shown| shown.strip_prefix("Bearer ")).and_then(|token| state.access_tokens.get(token));
    !state.refuse_tokens && expires.is_some_and(|expires| Instant::now() < *expires)
}
