//! The REST calls of customers and operators, as an app and an operator make them.

use std::collections::BTreeSet;
use std::str::FromStr;

use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

/// An HTTP answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body; a string where it is no JSON, null where there is none.
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "expected a success, got {self:?}");
        self.body
    }

    /// Checks that this is the problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.content_type.starts_with("application/problem+json"), "{self:?}");
        self.body
    }

    /// Checks that this is a 400 which names this field.
    #[track_caller]
    pub fn names_field(self, field: &str) {
        let body = self.problem(400, "invalid_request");
        assert_eq!(body["field"], field, "{body}");
    }
}

/// Sends a request and reads the answer; an answer that does not come is `None`.
pub async fn request(
    http: &reqwest::Client,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Option<Answer> {
    let mut request = http.request(method, url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let header = response.headers().get("content-type");
    let content_type = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.text().await.ok()?;
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Some(Answer { status, content_type, body })
}

/// kWh as JSON carries them, in whole watt-hours.
#[track_caller]
pub fn wh(kwh: &Value) -> i64 {
    let wh = decimal(kwh) * Decimal::from(1000);
    assert!(wh.is_integer(), "{kwh} kWh are no whole watt-hours");
    i64::try_from(wh.trunc().mantissa() / 10_i128.pow(wh.trunc().scale())).unwrap()
}

/// A JSON number as an exact decimal.
#[track_caller]
pub fn decimal(number: &Value) -> Decimal {
    match number {
        Value::Number(number) => Decimal::from_str(&number.to_string()).unwrap(),
        other => panic!("{other} is no number"),
    }
}

/// Somebody with the operator's token.
#[derive(Clone)]
pub struct Operator {
    /// Where the REST API listens.
    pub base: String,
    /// The bearer token.
    pub token: String,
    /// The HTTP client.
    pub http: reqwest::Client,
}

impl Operator {
    /// Any call below `/admin/v1`.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}/admin/v1{path}", self.base);
        match request(&self.http, method, &url, Some(&self.token), body).await {
            Some(answer) => answer,
            None => panic!("no answer from {url}"),
        }
    }

    /// A GET below `/admin/v1`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Registers a charger with connectors 1 to `connectors`, each a device; gives the devices' ids.
    pub async fn charger(&self, identity: &str, connectors: u32) -> Vec<String> {
        self.charger_priced(identity, connectors, 1000, 0).await
    }

    /// [`Operator::charger`] with prices in MNT a kWh and MNT a minute of waiting.
    pub async fn charger_priced(&self, identity: &str, connectors: u32, price: u32, waiting: u32) -> Vec<String> {
        let devices: Vec<Value> = (1..=connectors)
            .map(|connector| {
                json!({
                    "deviceNumber": format!("{identity}-{connector}"), "connector": connector,
                    "location": [106.9, 47.9], "price": price, "waitingPrice": waiting,
                })
            })
            .collect();
        let answer =
            self.send(Method::PUT, &format!("/chargers/{identity}"), Some(json!({ "devices": devices }))).await;
        let body = answer.ok();
        let devices = body["devices"].as_array().unwrap();
        devices.iter().map(|device| device["_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends a command to a charger.
    pub async fn command(&self, identity: &str, action: &str, payload: Value) -> Answer {
        self.send(Method::POST, &format!("/chargers/{identity}/commands/{action}"), Some(payload)).await
    }

    /// Gives a customer money.
    pub async fn credit(&self, phone: &str, amount: u32) {
        let body = json!({ "amount": amount, "note": "cash" });
        self.send(Method::POST, &format!("/customers/{phone}/credit"), Some(body)).await.ok();
    }

    /// The whole of a paged list.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        for page in 1.. {
            let sign = if path.contains('?') { '&' } else { '?' };
            let body = self.get(&format!("{path}{sign}page={page}&page-size=200")).await.ok();
            let more = body.as_array().or(body["items"].as_array()).unwrap().clone();
            let total = body["total"].as_u64();
            let last = more.is_empty() || body.is_array();
            items.extend(more);
            if last || total.is_some_and(|total| items.len() as u64 >= total) {
                break;
            }
        }
        items
    }

    /// The messages that are kept of a charger, newest first.
    pub async fn messages(&self, identity: &str) -> Vec<Value> {
        let mut messages: Vec<Value> = Vec::new();
        loop {
            let before = messages.last().map(|last| format!("&before={}", last["id"])).unwrap_or_default();
            let page = self.get(&format!("/chargers/{identity}/messages?limit=200{before}")).await.ok();
            let Value::Array(page) = page else { panic!("no list: {page}") };
            if page.is_empty() {
                return messages;
            }
            messages.extend(page);
        }
    }

    /// The ids of the messages that are kept of a charger.
    pub async fn message_ids(&self, identity: &str) -> BTreeSet<String> {
        let messages = self.messages(identity).await;
        messages.iter().map(|message| message["messageId"].as_str().unwrap().to_owned()).collect()
    }
}

/// A customer who is logged in.
#[derive(Clone)]
pub struct Customer {
    /// Where the REST API listens.
    pub base: String,
    /// The phone number.
    pub phone: String,
    /// The bearer token.
    pub token: String,
    /// The answer to the login.
    pub login: Value,
    /// The HTTP client.
    pub http: reqwest::Client,
}

impl Customer {
    /// Logs in with the development code.
    pub async fn login(base: &str, http: &reqwest::Client, phone: &str) -> Self {
        let url = format!("{base}/api/v1/user/otp-request");
        request(http, Method::POST, &url, None, Some(json!({ "phone": phone }))).await.unwrap().ok();
        let url = format!("{base}/api/v1/user/otp-check");
        let body = json!({ "phone": phone, "code": "0000" });
        let login = request(http, Method::POST, &url, None, Some(body)).await.unwrap().ok();
        let token = login["token"].as_str().unwrap().to_owned();
        Self { base: base.to_owned(), phone: phone.to_owned(), token, login, http: http.clone() }
    }

    /// Any call below `/api/v1`.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}/api/v1{path}", self.base);
        match request(&self.http, method, &url, Some(&self.token), body).await {
            Some(answer) => answer,
            None => panic!("no answer from {url}"),
        }
    }

    /// A GET below `/api/v1`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A POST below `/api/v1`.
    pub async fn post(&self, path: &str, body: Option<Value>) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// Starts a charge at a device.
    pub async fn start(&self, device: &str) -> Answer {
        self.post(&format!("/devices/{device}/start"), None).await
    }

    /// Finishes the charge at a device and gives the purchase's id.
    pub async fn finish(&self, device: &str) -> String {
        let body = self.post(&format!("/devices/{device}/finish"), None).await.ok();
        let id = body["id"].as_str().unwrap();
        assert!(id.len() == 24 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        id.to_owned()
    }

    /// The purchases, newest first.
    pub async fn purchases(&self) -> Vec<Value> {
        self.get("/purchases").await.ok()["items"].as_array().unwrap().clone()
    }

    /// One purchase out of the list.
    pub async fn purchase(&self, id: &str) -> Value {
        let purchases = self.purchases().await;
        match purchases.iter().find(|purchase| purchase["id"] == id) {
            Some(purchase) => purchase.clone(),
            None => panic!("no purchase {id} in {purchases:?}"),
        }
    }

    /// Pays a purchase.
    pub async fn pay(&self, purchase: &str, option: &str) -> Answer {
        self.post(&format!("/purchases/{purchase}/pay"), Some(json!({ "option": option }))).await
    }

    /// The device's state on the map, as this customer sees it.
    pub async fn state(&self, device: &str) -> Option<String> {
        let corners =
            "bottom-left-longitude=106&bottom-left-latitude=47&upper-right-longitude=108&upper-right-latitude=49";
        let body = self.get(&format!("/devices/by-location?{corners}")).await.ok();
        let found = body.as_array().unwrap().iter().find(|one| one["_id"] == device)?;
        found["state"].as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kwh_exactly() {
        for (text, expected) in [("0.007", 7), ("12.5", 12_500), ("3", 3_000), ("0", 0), ("0.100", 100)] {
            assert_eq!(wh(&serde_json::from_str(text).unwrap()), expected);
        }
    }
}
