//! What all calls of gateways share: the client, what a failure says, and how long to wait after one.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const MOST_ANSWER: usize = 64 * 1024;
/// Nobody waits longer than this, whatever a gateway says.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A gateway's settings cannot be used; says which and why, without the value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSetting(pub(crate) String);

/// A client with bounded times, one TLS provider and the roots of the web built in. It follows no redirects: credentials
/// go where the settings say and nowhere else.
pub(crate) fn client() -> Result<reqwest::Client, BadSetting> {
    let fails = |_| BadSetting("the HTTP client cannot be made".into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|_| BadSetting("no TLS".into()))?.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).redirect(redirect::Policy::none());
    client.connect_timeout(CONNECT).timeout(CALL).build().map_err(fails)
}

/// An `http` or `https` URL without a slash at its end.
pub(crate) fn base_url(name: &str, url: &str) -> Result<String, BadSetting> {
    let parsed = reqwest::Url::parse(url).ok();
    if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Err(BadSetting(format!("{name} is no http:// or https:// URL")));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Reads an answer, as far as it is bounded.
pub(crate) async fn body(response: &mut reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(cause)? {
        if body.len() + chunk.len() > MOST_ANSWER {
            return Err("the answer is too large".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failure in words: without the URL, which may hold keys and phones, but with what lies below it.
pub(crate) fn cause(error: reqwest::Error) -> String {
    use std::error::Error;
    let error = error.without_url();
    let Some(mut deepest) = error.source() else { return error.to_string() };
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    format!("{error}: {deepest}")
}

/// What `Retry-After` says, in seconds or as a date, a second at least.
pub(crate) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
            Duration::from_millis(u64::try_from(at - now_ms).unwrap_or_default())
        }
    };
    Some(wait.clamp(Duration::from_secs(1), LONGEST_WAIT))
}

/// A part of a whole that changes, so that many who wait do not come back in the same moment: from 3/4 to 5/4.
pub(crate) fn jitter(wait: Duration) -> Duration {
    wait * 3 / 4 + wait * u32::from(u8::from_be_bytes(evm_store::random())) / 510
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let says = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, 1_445_412_480_000).map(|wait| wait.as_secs())
        };
        assert_eq!(says("17"), Some(17));
        assert_eq!(says("0"), Some(1));
        assert_eq!(says("99999999999"), Some(86_400));
        assert_eq!(says("Wed, 21 Oct 2015 07:29:00 GMT"), Some(60));
        assert_eq!(says("Wed, 21 Oct 2015 07:00:00 GMT"), Some(1));
        assert_eq!(says("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), 0), None);
    }

    #[test]
    fn urls_of_gateways() {
        assert_eq!(base_url("X", "https://host/v1/").unwrap(), "https://host/v1");
        for bad in ["", "host", "ftp://host", "https://"] {
            assert!(base_url("X", bad).is_err_and(|error| error.to_string().starts_with("X is no")), "{bad}");
        }
    }

    #[test]
    fn jitter_stays_near() {
        for _ in 0..100 {
            let wait = jitter(Duration::from_secs(8));
            assert!((6.0..=10.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
    }
}
