//! Events for web clients: Server-Sent Events, with what was missed read from the outbox.

pub(crate) mod endings;
mod reader;
mod slots;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use evm_bus::Subscription;
use evm_store::{StoreError, customers, logins, now};
use futures_util::stream;
use tokio::time::Instant;

use crate::App;
use crate::http::auth::Caller;
use crate::http::problem::{Answer, Code, Problem, refusals};
use reader::Reader;
pub(crate) use slots::Slots;

/// A comment comes after so long without an event, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it is looked whether the login is still good, and whether an event was written that the bus lost.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon, where the store did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

refusals!(EventsRefusals: InvalidRequest, TooManyRequests, BusUnavailable);

/// The customer's events as they happen, as Server-Sent Events. `event` is `CHARGING`, `PAYMENT` or `REPLENISHMENT`, `data`
/// the same JSON that NATS carries. Events that must not be missed have an `id`: with it in `Last-Event-ID`, those of the
/// last 7 days that came after it are sent first. An event may come twice, with the same `id`. A comment comes every 15 s.
/// The stream ends with the login. A customer may have 4 at a time: a fifth ends the oldest, once that is 10 s old.
#[utoipa::path(
    get, path = "/events", operation_id = "events", tag = "profile",
    params(("Last-Event-ID" = Option<i64>, Header, description = "The last `id` that was received.", minimum = 0)),
    responses((
        status = 200, description = "The stream.", body = String, content_type = "text/event-stream",
        example = "event: PAYMENT\nid: 17\ndata: {\"status\":\"success\",\"amount\":1048.9}\n\n"
    ), EventsRefusals)
)]
pub(crate) async fn events(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Answer<Response> {
    let last = last_event_id(&headers)?;
    let slot = app.streams.take(caller.customer, &caller.login).await;
    let slot = slot.ok_or_else(|| Problem::from(Code::TooManyRequests).retry_after(slots::REPLACED_AFTER.as_secs()))?;
    let mut db = app.store.read().await?;
    // Asked after the place is taken: a logout that did not find the stream is found here.
    if !logins::is_good(&mut db, &caller.login, now()).await? {
        return Err(Code::Unauthorized.into());
    }
    let customer = customers::by_id(&mut db, caller.customer).await?.ok_or(Code::Unauthorized)?;
    drop(db);
    // First the bus, then the store: what is written between the two is in both, and sent once.
    let news = app.bus.subscribe(&format!("{}.>", customer.topic)).await.map_err(|error| {
        tracing::warn!(%error, "no subscription for a stream");
        Problem::from(Code::BusUnavailable).retry_after(5)
    })?;
    let reader = Reader::start(&mut app.store.read().await?, caller.customer, last).await?;
    let topic = customer.topic;
    let live = Live { app, login: caller.login, topic, reader, news, look_at: Instant::now() + LOOK_EVERY, slot };
    let stream = stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that gather answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Answer<Option<i64>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let id = text.parse().ok().filter(|id| *id >= 0);
    id.map(Some).ok_or_else(|| Problem::field("Last-Event-ID", "is no id of an event"))
}

/// One stream.
struct Live {
    app: App,
    login: String,
    topic: String,
    reader: Reader,
    news: Subscription,
    look_at: Instant,
    slot: slots::Slot,
}

impl Live {
    /// The next event; `None` ends the stream, and the client comes again if it may.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(written) = self.reader.next() {
                return Some(event(&written.name, &written.payload).id(written.id.to_string()));
            }
            if self.reader.stale() {
                match self.read().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "a stream waits for the store");
                        self.look_at = self.look_at.min(Instant::now() + LOOK_AGAIN);
                    }
                }
            }
            tokio::select! {
                () = self.app.shutdown.cancelled() => return None,
                () = self.slot.end.cancelled() => return None,
                message = self.news.next() => {
                    let message = message?;
                    if message.id.is_some() {
                        // It is in the outbox, which says its place among the others.
                        self.reader.look();
                    } else if let Some(name) = message.subject.strip_prefix(&self.topic) {
                        return Some(event(name.trim_start_matches('.'), &String::from_utf8_lossy(&message.payload)));
                    }
                }
                () = tokio::time::sleep_until(self.look_at) => {
                    self.look_at = Instant::now() + LOOK_EVERY;
                    if !self.login_is_good().await {
                        return None;
                    }
                    self.reader.look();
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let mut db = self.app.store.read().await?;
        self.reader.read(&mut db, now()).await
    }

    /// A store that is down ends no login.
    async fn login_is_good(&self) -> bool {
        let look = async {
            let mut db = self.app.store.read().await?;
            logins::is_good(&mut db, &self.login, now()).await
        };
        look.await.unwrap_or(true)
    }
}

fn event(name: &str, payload: &str) -> Event {
    // Our own JSON stands on one line; a line break would be split into two `data` and put together by the client.
    Event::default().event(name.replace(['\r', '\n'], "")).data(payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn last_event_ids() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_static(text));
            last_event_id(&headers)
        };
        assert_eq!(last_event_id(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("17").unwrap(), Some(17));
        for bad in ["-1", "x", "1.5", "99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
