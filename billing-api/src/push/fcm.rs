//! Firebase Cloud Messaging, HTTP v1: one message to one phone.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::account::{ServiceAccount, Tokens};
use crate::outgoing::{self, BadSetting};

const ERROR_OF_FCM: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// Where push messages go, and as whom.
#[derive(Debug, Clone)]
pub struct Fcm {
    url: String,
    account: ServiceAccount,
}

impl Fcm {
    /// Where Firebase listens.
    pub const URL: &'static str = "https://fcm.googleapis.com";

    /// Firebase at this URL, as this account.
    ///
    /// # Errors
    /// Where the URL is none.
    pub fn new(url: &str, account: ServiceAccount) -> Result<Self, BadSetting> {
        Ok(Self { url: outgoing::base_url("EVM_FCM_URL", url)?, account })
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Firebase has it.
    Sent,
    /// No phone stands behind this token any more.
    DeadToken,
    /// It will never go out, for a reason of ours.
    Refused(String),
    /// Another try may help, after this time where Firebase named one.
    Later(String, Option<Duration>),
}

pub(super) struct Client {
    url: String,
    tokens: Tokens,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(fcm: &Fcm) -> Result<Self, BadSetting> {
        let http = outgoing::client()?;
        let url = format!("{}/v1/projects/{}/messages:send", fcm.url, fcm.account.project);
        Ok(Self { url, tokens: Tokens::new(fcm.account.clone(), http.clone()), http })
    }

    /// Makes sure that there is a token, so that a batch does not ask for one many times in vain.
    pub(super) async fn sign_in(&self, now_ms: i64) -> Result<(), String> {
        self.tokens.get(now_ms / 1000).await.map(drop)
    }

    /// Sends one message.
    pub(super) async fn send(&self, body: String, now_ms: i64) -> Outcome {
        match self.send_once(body.clone(), now_ms).await {
            // The token ran out early, or was taken back.
            (401, _) => match self.send_once(body, now_ms).await {
                (401, _) => Outcome::Later("Firebase does not take the service account".into(), None),
                (_, outcome) => outcome,
            },
            (_, outcome) => outcome,
        }
    }

    /// The status, 0 where there is none, and what it means.
    async fn send_once(&self, body: String, now_ms: i64) -> (u16, Outcome) {
        let token = match self.tokens.get(now_ms / 1000).await {
            Ok(token) => token,
            Err(why) => return (0, Outcome::Later(why, None)),
        };
        let request = self.http.post(&self.url).bearer_auth(&token).header(CONTENT_TYPE, "application/json").body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return (0, Outcome::Later(outgoing::cause(error), None)),
        };
        let status = response.status().as_u16();
        let retry_after = outgoing::retry_after(response.headers(), now_ms);
        // The status decides, whether all of the rest came or not.
        let answer = outgoing::body(&mut response).await.unwrap_or_default();
        if status == 401 {
            self.tokens.forget(&token).await;
        }
        (status, outcome(status, &answer, retry_after))
    }
}

/// What an answer means. A token dies by Firebase's own error only: a mistake of ours, or of somebody in between, must
/// not cost customers their push messages.
fn outcome(status: u16, answer: &[u8], retry_after: Option<Duration>) -> Outcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let details = answer["error"]["details"].as_array().map_or(&[][..], Vec::as_slice);
    let of_kind = |kind: &str| details.iter().find(|detail| detail["@type"] == kind);
    let code = of_kind(ERROR_OF_FCM).and_then(|detail| detail["errorCode"].as_str()).unwrap_or_default();
    let why = || format!("HTTP {status} {}", word(code));
    match (status, code) {
        (200..=299, _) => Outcome::Sent,
        (404, "UNREGISTERED") | (403, "SENDER_ID_MISMATCH") => Outcome::DeadToken,
        (400, "INVALID_ARGUMENT") if of_kind(BAD_REQUEST).is_none() => Outcome::DeadToken,
        (408 | 429 | 500..=599, _) => Outcome::Later(why(), retry_after),
        (401 | 403, _) => Outcome::Later(why(), retry_after),
        _ => Outcome::Refused(why()),
    }
}

/// A code as it may stand in a log.
fn word(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_uppercase() || *c == '_').take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(details: &[Value]) -> Vec<u8> {
        json!({ "error": { "code": 400, "message": "m", "details": details } }).to_string().into_bytes()
    }

    fn of_fcm(code: &str) -> Value {
        json!({ "@type": ERROR_OF_FCM, "errorCode": code })
    }

    #[test]
    fn tokens_die_by_firebases_own_error_only() {
        let is = |status, details: &[Value]| outcome(status, &answer(details), None);
        assert_eq!(is(404, &[of_fcm("UNREGISTERED")]), Outcome::DeadToken);
        assert_eq!(is(403, &[of_fcm("SENDER_ID_MISMATCH")]), Outcome::DeadToken);
        assert_eq!(is(400, &[of_fcm("INVALID_ARGUMENT")]), Outcome::DeadToken);
        let bad_request = json!({ "@type": BAD_REQUEST, "fieldViolations": [] });
        for refused in [
            is(400, std::slice::from_ref(&bad_request)),
            is(400, &[of_fcm("INVALID_ARGUMENT"), bad_request]),
            is(404, &[]),
            is(404, &[of_fcm("INVALID_ARGUMENT")]),
            is(400, &[of_fcm("UNREGISTERED")]),
            is(400, &[]),
            outcome(404, b"<html>", None),
            outcome(302, b"", None),
        ] {
            assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_when_told() {
        let wait = Some(Duration::from_secs(7));
        for status in [401, 403, 408, 429, 500, 502, 503] {
            assert!(matches!(outcome(status, b"", wait), Outcome::Later(_, told) if told == wait), "{status}");
        }
        assert_eq!(outcome(200, b"{}", None), Outcome::Sent);
        let why = Outcome::Later("HTTP 429 QUOTA_EXCEEDED".into(), None);
        assert_eq!(outcome(429, &answer(&[of_fcm("QUOTA_EXCEEDED\n<x>")]), None), why);
    }
}
