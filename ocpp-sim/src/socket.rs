//! The thin layer of I/O around [`Station`]: one task, one socket, one timer.

use crate::{
    charger::Order,
    config::ChargerConfig,
    state::{ChargerState, SimEvent},
    station::{Input, Now, Output, Station, millis},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::{future::Future, pin::Pin, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_MESSAGE: usize = 1 << 20;
/// What a path segment keeps as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Socket = WebSocketStream<TcpStream>;
type Connecting = Pin<Box<dyn Future<Output = Result<Socket, Failure>> + Send>>;

struct Failure {
    status: Option<u16>,
    reason: String,
}

enum Link {
    Idle,
    Connecting(Connecting),
    Open(Box<Socket>),
}

/// The task of one charger.
pub(crate) struct Task {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) state: watch::Sender<ChargerState>,
    pub(crate) events: broadcast::Sender<SimEvent>,
    pub(crate) station: Station,
    pub(crate) started: Instant,
}

impl Task {
    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        let mut link = Link::Idle;
        loop {
            let deadline = self.station.next_deadline();
            let input = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Local(local, done)) => {
                        self.step(&mut link, Input::Local(local)).await;
                        let _ = done.send(());
                        continue;
                    }
                    Some(Order::Shutdown(done)) => {
                        close(&mut link, true).await;
                        return finish(done);
                    }
                    None => return,
                },
                input = next(&mut link) => input,
                () = sleep_to(self.started, deadline) => Input::Tick,
            };
            self.step(&mut link, input).await;
        }
    }

    /// Applies an input and does what follows, and what follows from that.
    async fn step(&mut self, link: &mut Link, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let now = Now { ms: millis(self.started.elapsed()), wall: Utc::now() };
            for output in self.station.apply(now, input) {
                match output {
                    Output::Event(event) => {
                        tracing::debug!(identity = %self.station.config.identity, "{event}");
                        let _ = self.events.send(event);
                    }
                    Output::Connect => {
                        let password = self.station.password.clone();
                        *link = Link::Connecting(Box::pin(connect(self.station.config.clone(), password)));
                    }
                    Output::Close { clean } => close(link, clean).await,
                    Output::Send(text) => {
                        if let Err(reason) = send(link, text).await {
                            *link = Link::Idle;
                            next = Some(Input::Lost(reason));
                        }
                    }
                }
            }
            let state = self.station.snapshot();
            self.state.send_if_modified(|old| {
                let changed = *old != state;
                *old = state;
                changed
            });
        }
    }
}

fn finish(done: oneshot::Sender<()>) {
    let _ = done.send(());
}

async fn sleep_to(started: Instant, deadline: Option<u64>) {
    match deadline {
        Some(ms) => sleep_until(started + Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// Waits for the link to bring something. Safe to drop and call again.
async fn next(link: &mut Link) -> Input {
    match link {
        Link::Idle => std::future::pending().await,
        Link::Connecting(connecting) => match connecting.as_mut().await {
            Ok(socket) => {
                *link = Link::Open(Box::new(socket));
                Input::Opened
            }
            Err(Failure { status, reason }) => {
                *link = Link::Idle;
                Input::Failed { status, reason }
            }
        },
        Link::Open(socket) => loop {
            let reason = match socket.next().await {
                Some(Ok(Message::Text(text))) => return Input::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => match frame {
                    Some(frame) => format!("closed by the central system: {frame}"),
                    None => "closed by the central system".to_owned(),
                },
                Some(Ok(_)) => continue,
                Some(Err(error)) => error.to_string(),
                None => "connection ended".to_owned(),
            };
            close(link, true).await;
            return Input::Lost(reason);
        },
    }
}

async fn send(link: &mut Link, text: String) -> Result<(), String> {
    let Link::Open(socket) = link else {
        // The socket went away earlier in the same step; the station hears of it next.
        return Ok(());
    };
    match timeout(SEND_TIMEOUT, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the central system does not read".to_owned()),
    }
}

/// Leaves the link idle; a clean close says goodbye first.
async fn close(link: &mut Link, clean: bool) {
    if let Link::Open(mut socket) = std::mem::replace(link, Link::Idle)
        && clean
    {
        let goodbye = async {
            // Through the box: depending on features, a boxed sink has a `close` of its own.
            socket.as_mut().close(None).await?;
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
            Ok::<(), Error>(())
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

async fn connect(config: ChargerConfig, password: Option<Vec<u8>>) -> Result<Socket, Failure> {
    match timeout(CONNECT_TIMEOUT, handshake(&config, password)).await {
        Ok(result) => result,
        Err(_) => Err(failure("no answer to the connection request in time")),
    }
}

fn failure(reason: impl ToString) -> Failure {
    Failure { status: None, reason: reason.to_string() }
}

/// The address of this charger at the central system.
fn address(config: &ChargerConfig) -> String {
    let identity = utf8_percent_encode(&config.identity, SEGMENT);
    format!("{}/{identity}", config.url.trim_end_matches('/'))
}

async fn handshake(config: &ChargerConfig, password: Option<Vec<u8>>) -> Result<Socket, Failure> {
    let mut request = address(config).into_client_request().map_err(failure)?;
    let uri = request.uri();
    if uri.scheme_str() != Some("ws") {
        return Err(failure("only ws:// is supported"));
    }
    let host = uri.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let headers = request.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(config.version.subprotocol()));
    if let Some(password) = password {
        let mut credentials = format!("{}:", config.identity).into_bytes();
        credentials.extend(password);
        let value = format!("Basic {}", STANDARD.encode(credentials));
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value).map_err(failure)?);
    }
    let stream = TcpStream::connect((host, port)).await.map_err(failure)?;
    stream.set_nodelay(true).map_err(failure)?;
    // Small buffers: thousands of chargers share one process.
    let limits = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match client_async_with_config(request, stream, Some(limits)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(Failure {
            status: Some(response.status().as_u16()),
            reason: format!("refused with HTTP {}", response.status()),
        }),
        Err(error) => Err(failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Version;

    #[test]
    fn the_identity_is_one_encoded_path_segment() {
        for url in ["ws://h:1/ocpp", "ws://h:1/ocpp/"] {
            let config = ChargerConfig::new(url, "CP 1/ü~-._%", Version::V16);
            assert_eq!(address(&config), "ws://h:1/ocpp/CP%201%2F%C3%BC~-._%25");
        }
    }
}
