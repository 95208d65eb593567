//! One exchange with the gateway over HTTP, bounded in size and time, and what its status means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{RequestBuilder, redirect};
use serde_json::Value;
use tokio::time::Instant;

use super::error::QpayError;

/// Most bytes of an answer; the QR code of an invoice takes some ten thousand.
const MAX_ANSWER: usize = 1024 * 1024;
/// Most characters of the gateway's `error` that are kept.
const MAX_KEY: usize = 64;

/// A client of its own TLS settings: one provider, the roots of the web built in, whatever the process installed.
pub(super) fn client(connect_timeout: Duration) -> Result<reqwest::Client, QpayError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| QpayError::Invalid("no TLS"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // The credentials go to the configured gateway only.
        .redirect(redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .build()
        .map_err(|_| QpayError::Invalid("no HTTP client"))
}

/// Sends a request and reads its answer until `deadline`.
pub(super) async fn exchange(request: RequestBuilder, deadline: Instant) -> Result<Value, QpayError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(QpayError::NotSent("no time left".into()));
    }
    let mut response = request.timeout(left).send().await.map_err(failure)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| QpayError::Unknown(cause(e)))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(QpayError::Unknown("the answer is too large".into()));
        }
        body.extend_from_slice(&chunk);
    }
    read(status, &body)
}

/// A request without an answer: only one that could not even be built or connected has surely not arrived.
fn failure(error: reqwest::Error) -> QpayError {
    if error.is_builder() || error.is_connect() {
        QpayError::NotSent(cause(error))
    } else {
        QpayError::Unknown(cause(error))
    }
}

/// The error in words, without the URL, with what lies below it.
fn cause(error: reqwest::Error) -> String {
    use std::error::Error;
    let error = error.without_url();
    let Some(mut deepest) = error.source() else { return error.to_string() };
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    format!("{error}: {deepest}")
}

fn read(status: u16, body: &[u8]) -> Result<Value, QpayError> {
    match status {
        200..=299 if body.trim_ascii().is_empty() => Ok(Value::Null),
        200..=299 => serde_json::from_slice(body).map_err(|_| QpayError::Unknown("the answer is not JSON".into())),
        401 => Err(QpayError::Unauthorised),
        // A proxy gave up waiting: the gateway may have gone on.
        408 => Err(QpayError::Unknown("HTTP 408".into())),
        400..=499 => {
            let key = key(body);
            let missing = key.ends_with("NOTFOUND") || key.ends_with("NOT_FOUND");
            if status == 422 && missing { Err(QpayError::NotFound) } else { Err(QpayError::Refused { status, key }) }
        }
        _ => Err(QpayError::Unknown(format!("HTTP {status}"))),
    }
}

/// The `error` of an answer, cut to what a key is made of: it goes into logs.
fn key(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let key = answer["error"].as_str().unwrap_or_default();
    key.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(MAX_KEY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_refused_missing_and_unknown_apart() {
        let refused = |status, key: &str| Err(QpayError::Refused { status, key: key.into() });
        assert_eq!(read(200, b" \n"), Ok(Value::Null));
        assert_eq!(read(200, br#"{"a":1}"#), Ok(serde_json::json!({ "a": 1 })));
        assert_eq!(read(400, br#"{"error":"INVALID_AMOUNT"}"#), refused(400, "INVALID_AMOUNT"));
        assert_eq!(read(403, br#"{"error":"NO\nWAY <b>"}"#), refused(403, "NOWAYb"));
        assert_eq!(read(404, b"<html>"), refused(404, ""));
        assert_eq!(read(409, br#"{"error":17}"#), refused(409, ""));
        assert_eq!(read(401, b""), Err(QpayError::Unauthorised));
        assert_eq!(read(422, br#"{"error":"INVOICE_NOTFOUND"}"#), Err(QpayError::NotFound));
        assert_eq!(read(422, b"nothing"), refused(422, ""));
        assert_eq!(read(422, br#"{"error":"INVOICE_PAID"}"#), refused(422, "INVOICE_PAID"));
        for unknown in [read(200, b"<html>"), read(302, b""), read(408, b""), read(500, b"{}"), read(503, b"")] {
            assert!(unknown.is_err_and(|e| e.may_have_reached()));
        }
    }

    #[test]
    fn needs_no_provider_that_the_process_installed() {
        assert!(client(Duration::from_secs(1)).is_ok());
    }
}
