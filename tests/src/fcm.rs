//! Firebase as its facts say: tokens for a signed request, messages for a token, errors as told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::poll::eventually;

const PROJECT: &str = "evm-test";
const EMAIL: &str = "push@evm-test.example";

/// How Firebase answers one message.
#[derive(Debug, Clone)]
pub struct Says {
    status: u16,
    details: Vec<Value>,
    retry_after: Option<u32>,
}

impl Says {
    /// This status with no further word.
    pub fn status(status: u16) -> Self {
        Self { status, details: Vec::new(), retry_after: None }
    }

    /// An error of Firebase's own.
    pub fn fcm_error(status: u16, code: &str) -> Self {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        Self { details: vec![json!({ "@type": kind, "errorCode": code })], ..Self::status(status) }
    }

    /// With the complaint that the request itself is bad.
    pub fn bad_request(mut self) -> Self {
        let kind = "type.googleapis.com/google.rpc.BadRequest";
        self.details.push(json!({ "@type": kind, "fieldViolations": [{ "field": "message" }] }));
        self
    }

    /// With `Retry-After`.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

#[derive(Default)]
struct Book {
    /// Access tokens that are good.
    good: HashSet<String>,
    sign_ins: usize,
    /// What came for each phone: the message, and how it was answered.
    came: Vec<(Value, u16)>,
    says: HashMap<String, VecDeque<Says>>,
    complaints: Vec<String>,
}

struct Firebase {
    url: String,
    public_key: Vec<u8>,
    book: Mutex<Book>,
}

/// Firebase; it ends with this value.
pub struct Fcm {
    /// Where it listens.
    pub url: String,
    /// The service account's JSON.
    pub credentials: String,
    shared: Arc<Firebase>,
    server: tokio::task::AbortHandle,
}

impl Fcm {
    /// Starts it on a free port, with a new service account.
    pub async fn start() -> Self {
        let pem = private_key();
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let credentials = json!({
            "type": "service_account", "project_id": PROJECT, "client_email": EMAIL, "private_key": pem,
            "token_uri": format!("{url}/token"),
        });
        let public_key = pair.public_key().as_ref().to_vec();
        let shared = Arc::new(Firebase { url: url.clone(), public_key, book: Mutex::default() });
        let router = Router::new()
            .route("/token", post(sign_in))
            .route("/v1/projects/{project}/messages:send", post(send))
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { url, credentials: credentials.to_string(), shared, server }
    }

    /// The program's settings.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("EVM_FCM_URL", &self.url), ("EVM_FCM_CREDENTIALS", &self.credentials)]
    }

    /// How the next messages for this phone are answered, one after the other; those after them are taken.
    pub fn say(&self, token: &str, says: impl IntoIterator<Item = Says>) {
        let mut book = self.shared.book.lock().unwrap();
        book.says.entry(token.to_owned()).or_default().extend(says);
    }

    /// No access token is good any more.
    pub fn forget_tokens(&self) {
        self.shared.book.lock().unwrap().good.clear();
    }

    /// How often an access token was given.
    pub fn sign_ins(&self) -> usize {
        self.shared.book.lock().unwrap().sign_ins
    }

    /// The messages that came for a phone, with the status each was answered.
    pub fn came(&self, token: &str) -> Vec<(Value, u16)> {
        let book = self.shared.book.lock().unwrap();
        assert_eq!(book.complaints, Vec::<String>::new());
        book.came.iter().filter(|(message, _)| message["token"] == token).cloned().collect()
    }

    /// Waits for a message that was taken for this phone and tells of this event; gives the message.
    pub async fn takes(&self, token: &str, event: &str) -> Value {
        eventually(&format!("a push message of {event} for {token}"), async || {
            let came = self.came(token);
            came.into_iter().find(|(message, status)| *status == 200 && message["data"]["event"] == event)
        })
        .await
        .0
    }
}

impl Drop for Fcm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A new RSA key, PKCS #8 in PEM.
fn private_key() -> String {
    let made = Command::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .expect("openssl, which comes with PostgreSQL's packages");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

/// The claims of a signed request, where its signature is right.
fn claims(firebase: &Firebase, assertion: &str) -> Option<Value> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &firebase.public_key);
    key.verify(signed.as_bytes(), &signature).ok()?;
    let (header, claims) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    (header["alg"] == "RS256").then_some(())?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

async fn sign_in(State(firebase): State<Arc<Firebase>>, body: String) -> Response {
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let claims = body.strip_prefix(grant).and_then(|assertion| claims(&firebase, assertion)).unwrap_or_default();
    let now = chrono::Utc::now().timestamp();
    let fine = claims["iss"] == EMAIL
        && claims["aud"] == format!("{}/token", firebase.url)
        && claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        && claims["exp"].as_i64().is_some_and(|exp| exp > now && exp <= now + 3610)
        && claims["iat"].as_i64().is_some_and(|iat| (now - 60..=now + 10).contains(&iat));
    if !fine {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    let mut book = firebase.book.lock().unwrap();
    book.sign_ins += 1;
    let token = format!("access-{}", book.sign_ins);
    book.good.insert(token.clone());
    Json(json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })).into_response()
}

async fn send(
    State(firebase): State<Arc<Firebase>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut book = firebase.book.lock().unwrap();
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !shown.is_some_and(|token| book.good.contains(token)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let message = serde_json::from_slice::<Value>(&body).unwrap_or_default()["message"].take();
    let texts = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let fine = project == PROJECT && body.len() <= 4096 && texts(&message["data"]) && texts(&message["notification"]);
    if !fine {
        book.complaints.push(String::from_utf8_lossy(&body).into_owned());
    }
    let token = message["token"].as_str().unwrap_or_default().to_owned();
    let says = book.says.get_mut(&token).and_then(VecDeque::pop_front).unwrap_or(Says::status(200));
    book.came.push((message, says.status));
    let body = match says.status {
        200 => json!({ "name": format!("projects/{PROJECT}/messages/1") }),
        status => json!({ "error": { "code": status, "message": "as told", "details": says.details } }),
    };
    let mut response = (StatusCode::from_u16(says.status).unwrap(), Json(body)).into_response();
    if let Some(seconds) = says.retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}
