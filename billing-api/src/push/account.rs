//! The service account that may push: signs itself in (RFC 7523) and holds one access token at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::outgoing::{self, BadSetting};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long a signed request for a token is good; an hour is the most.
const ASSERTION_S: i64 = 3600;
/// A token is renewed so long before its end.
const EARLY: Duration = Duration::from_secs(60);
/// Where the answer does not say how long a token lives.
const DEFAULT_LIFE_S: u64 = 3600;

/// A Google service account, as its JSON file describes it.
#[derive(Clone)]
pub struct ServiceAccount {
    pub(super) project: String,
    email: String,
    token_url: String,
    key: Arc<RsaKeyPair>,
}

#[derive(Deserialize)]
struct File {
    project_id: String,
    client_email: String,
    private_key: String,
    token_uri: String,
}

impl ServiceAccount {
    /// Reads the account's JSON.
    ///
    /// # Errors
    /// Where it is none, or its key is no RSA key.
    pub fn from_json(json: &str) -> Result<Self, BadSetting> {
        let bad = |what: &str| BadSetting(format!("EVM_FCM_CREDENTIALS: {what}"));
        let file: File = serde_json::from_str(json).map_err(|_| bad("this is not the JSON of a service account"))?;
        let pem = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes());
        let pem = pem.map_err(|_| bad("private_key is no PKCS #8 key in PEM"))?;
        let key = RsaKeyPair::from_pkcs8(pem.secret_pkcs8_der()).map_err(|_| bad("private_key is no RSA key"))?;
        let named = !file.project_id.is_empty()
            && file.project_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:.".contains(&byte));
        if !named {
            return Err(bad("project_id is no name of a project"));
        }
        let token_url = outgoing::base_url("EVM_FCM_CREDENTIALS: token_uri", &file.token_uri)?;
        Ok(Self { project: file.project_id, email: file.client_email, token_url, key: Arc::new(key) })
    }

    /// The signed request for a token: header, claims and signature (RS256).
    fn assertion(&self, now_s: i64) -> Result<String, String> {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_url, "iat": now_s, "exp": now_s + ASSERTION_S,
        });
        let signed = format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the request for a token cannot be signed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("project", &self.project).finish_non_exhaustive()
    }
}

/// The access token of an account: fetched by one caller while the others wait for it.
pub(super) struct Tokens {
    account: ServiceAccount,
    http: reqwest::Client,
    held: Mutex<Option<(Arc<str>, Instant)>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(account: ServiceAccount, http: reqwest::Client) -> Self {
        Self { account, http, held: Mutex::new(None) }
    }

    /// A token that is good for a while yet.
    pub(super) async fn get(&self, now_s: i64) -> Result<Arc<str>, String> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &*held
            && Instant::now() + EARLY < *until
        {
            return Ok(token.clone());
        }
        let asked = Instant::now();
        let granted = self.fetch(now_s).await?;
        let life = Duration::from_secs(granted.expires_in.unwrap_or(DEFAULT_LIFE_S).min(24 * 3600));
        let token: Arc<str> = granted.access_token.into();
        *held = Some((token.clone(), asked + life));
        Ok(token)
    }

    /// Forgets a token that was refused, unless there is another one by now.
    pub(super) async fn forget(&self, refused: &str) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|(token, _)| &**token == refused) {
            *held = None;
        }
    }

    async fn fetch(&self, now_s: i64) -> Result<Granted, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &self.account.assertion(now_s)?)
            .finish();
        let request = self.http.post(&self.account.token_url).body(form);
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let mut response = request.send().await.map_err(outgoing::cause)?;
        let status = response.status();
        let body = outgoing::body(&mut response).await?;
        if !status.is_success() {
            return Err(format!("HTTP {} for the request of a token", status.as_u16()));
        }
        serde_json::from_slice(&body).map_err(|_| "the answer holds no token".into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_account_is_refused_without_showing_it() {
        let file = |key: &str, url: &str| {
            json!({ "project_id": "p", "client_email": "e", "private_key": key, "token_uri": url }).to_string()
        };
        let pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for bad in ["", "{}", &file("secret", "https://x.example"), &file(pem, "https://x.example")] {
            let error = ServiceAccount::from_json(bad).unwrap_err().to_string();
            assert!(error.starts_with("EVM_FCM_CREDENTIALS") && !error.contains("c2Vj"), "{error}");
        }
    }
}
