//! One charger's socket: a thin task that waits for what comes first and then acts on it.
//!
//! A CALL is read, stored and answered before the next is read, which keeps the station's order and slows it down
//! when the store is slow. One CALL of ours is under way at a time; crossing CALLs are fine.

mod calls;
mod setup;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evm_bus::charger::ChargerReply;
use evm_bus::{Commands, subject};
use evm_domain::{ChargerEvent, ChargerId, Phase, Timestamp};
use evm_ports::Place;
use evm_store::chargers::Arrival;
use evm_store::frames::NewFrame;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use self::calls::Outstanding;
use self::setup::Setup;
use crate::Node;
use crate::handshake::{self, Refusal};
use crate::ingest::{Then, Told};
use crate::ocpp::frame::{self, BadFrame, ErrorCode, Frame};
use crate::ocpp::{self, Decision, Reach, Version};
use crate::registry::{Held, Why};

/// How long a station may take to read what it is sent.
const SEND_TIME: Duration = Duration::from_secs(30);
/// How long the farewell may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// A silent station is pinged this often, so that a dead line shows.
const PING_EVERY: Duration = Duration::from_secs(60);
/// Silence that ends a connection, in heartbeat intervals. Some stations never send a pong, so any frame counts.
const SILENT_HEARTBEATS: u32 = 3;
/// A running charge without a sample for so long is asked for more, once a connection.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(8);

/// Questions of ours that wait for the station; it makes no sense to pile them up.
const MOST_FOLLOW_UPS: usize = 8;

type Socket = WebSocketStream<TcpStream>;

/// Serves one socket from its first byte to its last.
pub(crate) async fn run(
    mut stream: TcpStream,
    peer: IpAddr,
    place: Place,
    node: &Arc<Node>,
    shutdown: &CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let Some(checked) = Box::pin(handshake::check(&mut stream, peer, place, node)).await else { return };
    let (charger, identity) = (checked.charger, &checked.asked.identity);
    let Some(version) = checked.version else {
        node.door.tell(&checked.asked, Refusal::NoVersion);
        if stream.write_all(checked.welcome.as_bytes()).await.is_ok() {
            let mut socket = websocket(stream, checked.rest, node).await;
            close(&mut socket, CloseCode::Protocol, "no common subprotocol").await;
        }
        return;
    };
    // Noted before it is welcomed: with the store down it is refused, and keeps what it has to say.
    let network = evm_ports::prefix(checked.asked.address).to_string();
    let arrival = Arrival { charger, version: version.as_str(), network, password_used: checked.password_used };
    let Some(connected) = node.ingest.connect(arrival).await else {
        return handshake::refuse(&mut stream, peer, &checked.asked, Refusal::StoreDown, node).await;
    };
    let (epoch, away_since) = (connected.epoch, connected.away_since);
    let held = Held::new(epoch, evm_store::now(), shutdown);
    node.registry.hold(charger, &held);
    match Box::pin(announce(node, identity, charger, epoch)).await {
        None => handshake::refuse(&mut stream, peer, &checked.asked, Refusal::BusDown, node).await,
        Some(commands) => {
            if stream.write_all(checked.welcome.as_bytes()).await.is_ok() {
                tracing::debug!(%identity, epoch, version = version.as_str(), "charger connected");
                let socket = websocket(stream, checked.rest, node).await;
                let connection = Connection {
                    node: node.clone(),
                    socket,
                    charger,
                    epoch,
                    version,
                    held,
                    booted: checked.booted,
                    away: (away_since, evm_store::now()),
                    setup: None,
                    heard_at: Instant::now(),
                    outstanding: None,
                    follow_ups: VecDeque::new(),
                    samples: Samples::Quiet,
                };
                let farewell = Box::pin(connection.serve(commands)).await;
                tracing::debug!(%identity, epoch, farewell, "charger gone");
            }
        }
    }
    node.registry.release(charger, epoch);
    node.ingest.disconnect(charger, epoch).await;
}

async fn websocket(stream: TcpStream, rest: Vec<u8>, node: &Node) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(node.config.max_frame))
        .max_frame_size(Some(node.config.max_frame));
    WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await
}

/// Makes the socket reachable for commands and tells other nodes that older ones are over.
async fn announce(node: &Node, identity: &str, charger: ChargerId, epoch: i64) -> Option<Commands> {
    match node.bus.serve(&subject::command(identity, epoch)).await {
        Ok(commands) => {
            let news = format!("{charger} {epoch}");
            if let Err(error) = node.bus.publish(&subject::charger_control(identity), None, news.as_bytes()).await {
                tracing::warn!(%error, "cannot tell other nodes of a new connection");
            }
            Some(commands)
        }
        Err(error) => {
            tracing::warn!(%error, identity, "charger refused: the bus is down");
            None
        }
    }
}

async fn close(socket: &mut Socket, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    let _ = tokio::time::timeout(CLOSE_TIME, async {
        socket.send(Message::Close(Some(frame))).await?;
        // The station's own close; without reading it the kernel would cut the line and lose ours.
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
        Ok::<_, WsError>(())
    })
    .await;
}

/// Whether the station must be asked for samples.
enum Samples {
    Quiet,
    Watched(Instant),
    Asked,
}

struct Connection {
    node: Arc<Node>,
    socket: Socket,
    charger: ChargerId,
    epoch: i64,
    version: Version,
    held: Arc<Held>,
    booted: bool,
    /// From when to when the station was out of touch before this connection.
    away: (Option<Timestamp>, Timestamp),
    /// What is being set at the station; `None` before its boot.
    setup: Option<Setup>,
    heard_at: Instant,
    outstanding: Option<Outstanding>,
    /// What is to be asked of the station because of what it told.
    follow_ups: VecDeque<Then>,
    samples: Samples,
}

/// Why a connection ends: close code and reason.
type End = (CloseCode, &'static str);

/// What a station is told at an end of ours.
fn farewell(why: Why) -> End {
    match why {
        Why::Replaced => (CloseCode::Policy, "a newer connection took its place"),
        Why::StoreDown => (CloseCode::Again, "try again"),
        Why::Shutdown => (CloseCode::Restart, "the central system restarts"),
    }
}

impl Connection {
    async fn serve(mut self, mut commands: Commands) -> &'static str {
        let held = self.held.clone();
        let mut ended = std::pin::pin!(held.ended.cancelled());
        let mut timer = Box::pin(tokio::time::sleep_until(self.next_deadline()));
        let (code, reason) = loop {
            let done = tokio::select! {
                // The station last: one that never pauses must not keep the others out.
                biased;
                () = &mut ended => Err(farewell(held.why())),
                Some(command) = commands.next(), if self.outstanding.is_none() => Box::pin(self.on_command(command)).await,
                () = &mut timer => Box::pin(self.on_time()).await,
                message = self.socket.next() => self.on_message(message).await,
            };
            if let Err(end) = done {
                break end;
            }
            if self.outstanding.is_none()
                && let Some(then) = self.follow_ups.pop_front()
                && let Err(end) = Box::pin(self.follow_up(then)).await
            {
                break end;
            }
            // What customers and operators ask for goes first.
            if self.wants_setup()
                && let Err(end) = match commands.next().now_or_never() {
                    Some(Some(command)) => Box::pin(self.on_command(command)).await,
                    Some(None) | None => Box::pin(self.set_up()).await,
                }
            {
                break end;
            }
            let deadline = self.next_deadline();
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
        };
        Box::pin(self.give_up(ChargerReply::Disconnected)).await;
        // Those still in the queue were not sent.
        while let Some(Some(command)) = commands.next().now_or_never() {
            Box::pin(calls::respond(command, &ChargerReply::Disconnected)).await;
        }
        Box::pin(close(&mut self.socket, code, reason)).await;
        reason
    }

    fn next_deadline(&self) -> Instant {
        let mut next = Instant::now() + PING_EVERY;
        if let Some(outstanding) = &self.outstanding {
            next = next.min(outstanding.deadline);
        }
        if let Samples::Watched(at) = self.samples {
            next = next.min(at);
        }
        self.next_setup().map_or(next, |at| next.min(at))
    }

    async fn on_message(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), End> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            // Some stations send their text so.
            Some(Ok(Message::Binary(bytes))) => String::from_utf8_lossy(&bytes).into_owned().into(),
            Some(Ok(Message::Close(_))) | None => return Err((CloseCode::Normal, "closed by the charger")),
            Some(Ok(_)) => {
                self.hear();
                return Ok(());
            }
            Some(Err(WsError::Utf8(_))) => return Err((CloseCode::Invalid, "the text is not UTF-8")),
            Some(Err(WsError::Capacity(_))) => return Err((CloseCode::Size, "the frame is too large")),
            Some(Err(_)) => return Err((CloseCode::Protocol, "the connection broke")),
        };
        self.hear();
        match frame::parse(&text) {
            Ok(Frame::Call { id, action, payload }) => self.on_call(id, action, payload.get()).await,
            Ok(Frame::Result { id, payload }) => {
                Box::pin(self.on_answer(&id, Ok(payload))).await;
                Ok(())
            }
            Ok(Frame::Error { id, code, description, details }) => {
                Box::pin(self.on_answer(&id, Err((code, description, details)))).await;
                Ok(())
            }
            Err(_) if text.trim().is_empty() => Ok(()),
            Err(bad) => Box::pin(self.on_bad_frame(&text, bad)).await,
        }
    }

    fn hear(&mut self) {
        self.heard_at = Instant::now();
        self.held.heard(evm_store::now());
    }

    async fn on_call(&mut self, id: String, action: String, payload: &str) -> Result<(), End> {
        let received = evm_store::now();
        if action == "Heartbeat" {
            return self.send(frame::result(&id, &ocpp::heartbeat_answer(received))).await;
        }
        // What cannot be read must not be taken for an empty payload: an empty stop ends a charge.
        let value = frame::value(payload).filter(|value| value.is_object() || value.is_null());
        let Some(value) = value else {
            let why = "the payload is no object that can be read";
            return Box::pin(self.refuse(id, action, payload, ErrorCode::Formation, why)).await;
        };
        let reach = Reach::of(received, self.away, &value);
        let decoded = match ocpp::decode(self.version, &action, &value, &reach) {
            Decision::Heartbeat => return self.send(frame::result(&id, &ocpp::heartbeat_answer(received))).await,
            Decision::Unknown => {
                let why = "no such message from a station";
                return Box::pin(self.refuse(id, action, payload, ErrorCode::NotImplemented, why)).await;
            }
            Decision::Ingest(decoded) => decoded,
        };
        let boots = matches!(decoded.event, ChargerEvent::Booted { .. });
        self.watch_samples(&decoded.event);
        let told = Told {
            charger: self.charger,
            epoch: self.epoch,
            version: self.version,
            received,
            reach,
            message_id: id,
            action,
            payload: payload.to_owned(),
            decoded,
        };
        // No answer, no error: the station keeps what it said and says it again to whoever answers next.
        let Some(answer) = self.node.ingest.tell(told).await else {
            return Err(farewell(Why::StoreDown));
        };
        self.booted |= boots;
        if boots && self.setup.is_none() {
            self.setup = Some(Setup::new(self.version));
        }
        if let Some(then) = answer.then.filter(|_| self.booted && self.follow_ups.len() < MOST_FOLLOW_UPS) {
            self.follow_ups.push_back(then);
        }
        self.send(answer.text).await
    }

    fn watch_samples(&mut self, event: &ChargerEvent) {
        let ChargerEvent::Transaction(update) = event else { return };
        self.samples = match (&self.samples, update.phase) {
            (Samples::Asked, _) => Samples::Asked,
            (_, Phase::Ended) => Samples::Quiet,
            (_, Phase::Started | Phase::Updated) => Samples::Watched(Instant::now() + SAMPLE_PATIENCE),
        };
    }

    async fn refuse(
        &mut self,
        id: String,
        action: String,
        payload: &str,
        code: ErrorCode,
        why: &str,
    ) -> Result<(), End> {
        let text = frame::error(self.version, &id, code, why);
        self.note(true, id, action, payload.to_owned(), Some(text.clone()), Some(why.to_owned())).await;
        self.send(text).await
    }

    async fn on_bad_frame(&mut self, text: &str, bad: BadFrame) -> Result<(), End> {
        let code = match (&bad.id, bad.unknown_type) {
            (_, true) => ErrorCode::MessageType,
            (Some(_), false) => ErrorCode::Formation,
            (None, false) => ErrorCode::Framework,
        };
        // 2.0.1 answers even what has no id, as "-1"; 1.6 has no word for it.
        let id = bad.id.or_else(|| (self.version == Version::V201).then(|| "-1".to_owned()));
        let answer = id.as_deref().map(|id| frame::error(self.version, id, code, bad.what));
        let kept: String = text.chars().filter(|c| *c != '\0').take(4096).collect();
        self.note(true, id.unwrap_or_default(), String::new(), kept, answer.clone(), Some(bad.what.to_owned())).await;
        match answer {
            Some(answer) => self.send(answer).await,
            None => Ok(()),
        }
    }

    async fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.deadline <= now) {
            self.give_up(ChargerReply::NoAnswer).await;
        }
        if let Samples::Watched(at) = self.samples
            && at <= now
            && self.outstanding.is_none()
        {
            self.ask_for_samples().await?;
        }
        let silence = now - self.heard_at;
        if silence > Duration::from_secs(u64::from(self.node.config.heartbeat_s)) * SILENT_HEARTBEATS {
            return Err((CloseCode::Away, "silent for too long"));
        }
        if silence >= PING_EVERY {
            return self.transmit(Message::Ping(Vec::new().into())).await;
        }
        Ok(())
    }

    async fn note(
        &self,
        incoming: bool,
        message_id: String,
        action: String,
        payload: String,
        answer: Option<String>,
        problem: Option<String>,
    ) {
        let (charger, epoch, at) = (self.charger, self.epoch, evm_store::now());
        let answered_at = answer.as_ref().map(|_| at);
        let frame =
            NewFrame { charger, epoch, incoming, message_id, action, payload, answer, problem, at, answered_at };
        self.node.ingest.note(frame).await;
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.transmit(Message::Text(text.into())).await
    }

    async fn transmit(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND_TIME, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err((CloseCode::Protocol, "the connection broke")),
            Err(_) => Err((CloseCode::Policy, "the charger does not read")),
        }
    }
}
