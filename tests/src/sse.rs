//! A web client of the events: Server-Sent Events, read as the standard says.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::api::Customer;
use crate::poll::eventually;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its id, where it has one.
    pub id: Option<i64>,
    /// Its data.
    pub data: Value,
}

#[derive(Default)]
struct Heard {
    events: Vec<Event>,
    comments: usize,
    ended: bool,
}

/// An open stream; it closes with this value.
pub struct EventStream {
    heard: Arc<Mutex<Heard>>,
    reader: tokio::task::AbortHandle,
}

impl EventStream {
    /// Opens the customer's stream, after this event where one is given.
    pub async fn open(customer: &Customer, last: Option<i64>) -> Self {
        match Self::try_open(customer, last.map(|id| id.to_string()).as_deref()).await {
            Ok(stream) => stream,
            Err(response) => panic!("no stream: {response:?}"),
        }
    }

    /// Opens the customer's stream, or gives the refusal.
    pub async fn try_open(customer: &Customer, last: Option<&str>) -> Result<Self, reqwest::Response> {
        let http = reqwest::Client::new();
        let mut request = http.get(format!("{}/api/v1/events", customer.base)).bearer_auth(&customer.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut response = request.send().await.unwrap();
        if response.status().as_u16() != 200 {
            return Err(response);
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = heard.clone();
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                text.push_str(std::str::from_utf8(&chunk).unwrap());
                while let Some((block, rest)) = text.split_once("\n\n") {
                    shared.lock().unwrap().take(block);
                    text = rest.to_owned();
                }
            }
            shared.lock().unwrap().ended = true;
        });
        Ok(Self { heard, reader: reader.abort_handle() })
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.heard.lock().unwrap().events.clone()
    }

    /// The events so far that have an id.
    pub fn lasting(&self) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.id.is_some()).collect()
    }

    /// Waits for an event that `fits`.
    pub async fn hears(&self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        eventually(&format!("the event {what}"), async || self.events().into_iter().find(|event| fits(event))).await
    }

    /// Comments so far.
    pub fn comments(&self) -> usize {
        self.heard.lock().unwrap().comments
    }

    /// Whether the server has ended the stream.
    pub fn is_ended(&self) -> bool {
        self.heard.lock().unwrap().ended
    }

    /// Waits until the server ends the stream.
    pub async fn ended(&self) {
        eventually("the end of the stream", async || self.heard.lock().unwrap().ended.then_some(())).await;
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Heard {
    fn take(&mut self, block: &str) {
        let (mut name, mut id, mut data) = (None, None, Vec::new());
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => name = Some(value.to_owned()),
                "id" => id = Some(value.parse().unwrap()),
                "data" => data.push(value),
                other => panic!("a field {other:?} in {block:?}"),
            }
        }
        if !data.is_empty() {
            let data = serde_json::from_str(&data.join("\n")).unwrap();
            self.events.push(Event { name: name.unwrap(), id, data });
        }
    }
}
