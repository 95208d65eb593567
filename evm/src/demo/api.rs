//! The REST API, as an app and an operator call it.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

/// Longer than a charger may take to accept a start.
const PATIENCE: Duration = Duration::from_secs(45);

/// Somebody who calls the API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// With a bearer token, or without one for the login.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub(super) fn new(base: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { http, base: base.to_owned(), token: token.map(str::to_owned) })
    }

    /// The same API as somebody else.
    pub(super) fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let call = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body.filter(|body| !body.is_null()) {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| call.clone())?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| call.clone())?;
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        if !status.is_success() {
            let why = ["code", "title", "detail"].map(|field| body[field].as_str().unwrap_or_default());
            bail!("{call}: {} {}", status.as_u16(), why.join(" ").trim());
        }
        Ok(body)
    }
}
