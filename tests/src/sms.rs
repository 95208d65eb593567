//! An SMS gateway that takes anything, writes it down, and misbehaves as told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;

use crate::poll::eventually;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
}

impl Taken {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of 6 digits in it.
    pub fn code(&self) -> String {
        let text = format!("{} {}", self.uri, self.body).replace("%20", " ");
        let mut words = text.split(|c: char| !c.is_ascii_digit());
        words.rfind(|word| word.len() == 6).unwrap_or_else(|| panic!("no code in {text}")).to_owned()
    }
}

/// What the gateway does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// Answers this status.
    Status(u16),
    /// Answers after this time.
    Slow(Duration),
}

#[derive(Default)]
struct Book {
    taken: Vec<Taken>,
    moods: VecDeque<Mood>,
}

type Shared = Arc<Mutex<Book>>;

/// The gateway; it ends with this value.
pub struct SmsGateway {
    /// Where it listens, without a path.
    pub url: String,
    shared: Shared,
    server: tokio::task::AbortHandle,
}

impl SmsGateway {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared::default();
        let router = Router::new().fallback(take).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { url, shared, server }
    }

    /// How the next requests fare, one after the other; those after them are taken.
    pub fn be(&self, moods: impl IntoIterator<Item = Mood>) {
        self.shared.lock().unwrap().moods.extend(moods);
    }

    /// All requests so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.lock().unwrap().taken.clone()
    }

    /// Waits for the request of this number, from 0.
    pub async fn message(&self, number: usize) -> Taken {
        eventually(&format!("SMS {number}"), async || self.shared.lock().unwrap().taken.get(number).cloned()).await
    }
}

impl Drop for SmsGateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mood = {
        let mut book = shared.lock().unwrap();
        book.taken.push(Taken { method, uri, headers, body: String::from_utf8_lossy(&body).into_owned() });
        book.moods.pop_front()
    };
    let status = match mood {
        Some(Mood::Status(status)) => StatusCode::from_u16(status).unwrap(),
        Some(Mood::Slow(time)) => {
            tokio::time::sleep(time).await;
            StatusCode::OK
        }
        None => StatusCode::OK,
    };
    (status, r#"{"status":"success","message_id":"1"}"#.to_owned())
}
