//! One charger's socket: a thin task that waits for what comes first and then acts on it.
//!
//! A CALL is read, stored and answered before the next is read, which keeps the station's order and slows it down
//! when the store is slow. One CALL of ours is under way at a time; crossing CALLs are fine.

mod calls;
mod inbound;
mod intake;
mod pings;
mod plugs;
mod room;
mod setup;
mod tags;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evm_bus::charger::ChargerReply;
use evm_bus::{Commands, subject};
use evm_domain::{ChargerId, Timestamp};
use evm_ports::Place;
use evm_store::chargers::Arrival;
use evm_store::frames::NewFrame;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use self::calls::Outstanding;
use self::intake::Intake;
use self::pings::Pings;
pub(crate) use self::room::Room;
use self::setup::Setup;
use crate::Node;
use crate::allowance::{Allowance, Keep};
use crate::handshake::{self, Refusal};
use crate::ingest::Then;
use crate::ocpp::Version;
use crate::registry::{Held, Why};

/// How long a station may take to read what it is sent.
const SEND_TIME: Duration = Duration::from_secs(30);
/// How long the farewell may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long after a connection's end commands are still answered: whoever asks has read before that it is there.
const LATE: Duration = Duration::from_secs(2);
/// Time for what is looked after now and then.
const LOOK_AROUND: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<Intake>;

/// Serves one socket from its first byte to its last.
pub(crate) async fn run(stream: TcpStream, peer: IpAddr, place: Place, node: &Arc<Node>, shutdown: &CancellationToken) {
    // What it takes to let a station in is large, and gone once it is in.
    let Some((connection, mut commands)) = Box::pin(let_in(stream, peer, place, node, shutdown)).await else { return };
    let (charger, epoch) = (connection.charger, connection.epoch);
    let (mut socket, (code, farewell)) = connection.serve(&mut commands).await;
    let over = async {
        close(&mut socket, code, farewell).await;
        drop(socket);
        tracing::debug!(%charger, epoch, farewell, "charger gone");
        leave(node, charger, epoch, shutdown).await;
    };
    Box::pin(calls::turn_away(&mut commands, over)).await;
}

/// Lets a station in; `None`: it was refused, or is gone.
async fn let_in(
    mut stream: TcpStream,
    peer: IpAddr,
    place: Place,
    node: &Arc<Node>,
    shutdown: &CancellationToken,
) -> Option<(Box<Connection>, Commands)> {
    let _ = stream.set_nodelay(true);
    let checked = Box::pin(handshake::check(&mut stream, peer, place, node)).await?;
    let (charger, identity) = (checked.charger, &checked.asked.identity);
    let Some(version) = checked.version else {
        node.door.tell(&checked.asked, Refusal::NoVersion);
        if stream.write_all(checked.welcome.as_bytes()).await.is_ok() {
            let mut socket = websocket(stream, checked.rest, &Held::new(0, shutdown), node).await;
            close(&mut socket, CloseCode::Protocol, "no common subprotocol").await;
        }
        return None;
    };
    // Noted before it is welcomed: with the store down it is refused, and keeps what it has to say.
    let network = evm_ports::prefix(checked.asked.address).to_string();
    let arrival = Arrival { charger, version: version.as_str(), network, password_used: checked.password_used };
    let Some(connected) = node.ingest.connect(arrival).await else {
        handshake::refuse(&mut stream, peer, &checked.asked, Refusal::StoreDown, node).await;
        return None;
    };
    let (epoch, away_since) = (connected.epoch, connected.away_since);
    let held = Held::new(epoch, shutdown);
    node.registry.hold(charger, &held);
    let Some(mut commands) = announce(node, identity, charger, epoch).await else {
        handshake::refuse(&mut stream, peer, &checked.asked, Refusal::BusDown, node).await;
        gone(node, charger, epoch).await;
        return None;
    };
    if stream.write_all(checked.welcome.as_bytes()).await.is_err() {
        calls::turn_away(&mut commands, leave(node, charger, epoch, shutdown)).await;
        return None;
    }
    tracing::debug!(%identity, %charger, epoch, version = version.as_str(), "charger connected");
    let connection = Connection {
        node: node.clone(),
        socket: websocket(stream, checked.rest, &held, node).await,
        handling: None,
        charger,
        identity: identity.clone(),
        epoch,
        version,
        held,
        booted: checked.booted,
        away: (away_since, evm_store::now()),
        setup: None,
        heard_at: Instant::now(),
        outstanding: None,
        told_secrets: Vec::new(),
        allowance: node.allowances.of(charger),
        pings: Pings::default(),
        resumes_at: None,
        left_out_at: Instant::now(),
        follow_ups: VecDeque::new(),
        plugs: plugs::Plugs::default(),
        samples: Samples::Quiet,
        _seat: checked.seat,
    };
    Some((Box::new(connection), commands))
}

/// Tells others that the connection is over, and stays while whoever read before that it is there may still ask.
async fn leave(node: &Node, charger: ChargerId, epoch: i64, shutdown: &CancellationToken) {
    gone(node, charger, epoch).await;
    let _ = tokio::time::timeout(LATE, shutdown.cancelled()).await;
}

/// The connection is over: others may know.
async fn gone(node: &Node, charger: ChargerId, epoch: i64) {
    node.registry.release(charger, epoch);
    node.ingest.disconnect(charger, epoch).await;
}

async fn websocket(stream: TcpStream, rest: Vec<u8>, held: &Arc<Held>, node: &Node) -> Socket {
    let intake = Intake::new(stream, &node.room, held, node.config.max_frame).after(&rest);
    WebSocketStream::from_partially_read(intake, rest, Role::Server, Some(limits(node))).await
}

fn limits(node: &Node) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(node.config.max_frame))
        .max_frame_size(Some(node.config.max_frame))
}

/// Makes the socket reachable for commands and tells other nodes that older ones are over.
async fn announce(node: &Node, identity: &str, charger: ChargerId, epoch: i64) -> Option<Commands> {
    if node.severed.is_so() {
        return None;
    }
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
    /// Room for what is made of a long message, until it is answered.
    handling: Option<OwnedSemaphorePermit>,
    charger: ChargerId,
    identity: String,
    epoch: i64,
    version: Version,
    held: Arc<Held>,
    booted: bool,
    /// From when to when the station was out of touch before this connection.
    away: (Option<Timestamp>, Timestamp),
    /// What is being set at the station; `None` before its boot.
    setup: Option<Setup>,
    heard_at: Instant,
    outstanding: Option<Box<Outstanding>>,
    /// Passwords that the station was told here: it may tell them again in any place.
    told_secrets: Vec<String>,
    allowance: Arc<Allowance>,
    pings: Pings,
    /// Until when it is not read, for what it sends is good for nothing.
    resumes_at: Option<Instant>,
    /// When it was last told how much was left out.
    left_out_at: Instant,
    /// What is to be asked of the station because of what it told.
    follow_ups: VecDeque<Then>,
    /// What is told of the connectors of each EVSE (2.0.1).
    plugs: plugs::Plugs,
    samples: Samples,
    /// Its place among those who are connected.
    _seat: OwnedSemaphorePermit,
}

/// Why a connection ends: close code and reason.
type End = (CloseCode, &'static str);

/// What a station is told at an end of ours.
fn farewell(why: Why) -> End {
    match why {
        Why::Replaced => (CloseCode::Policy, "a newer connection took its place"),
        Why::Slow => (CloseCode::Again, "a long message came too slowly while others waited"),
        Why::StoreDown | Why::Severed => (CloseCode::Again, "try again"),
        Why::Shutdown => (CloseCode::Restart, "the central system restarts"),
    }
}

impl Connection {
    /// Until its end; gives the socket back to be closed.
    async fn serve(mut self: Box<Self>, commands: &mut Commands) -> (Socket, End) {
        let held = self.held.clone();
        let mut ended = std::pin::pin!(held.ended.cancelled());
        let mut timer = Box::pin(tokio::time::sleep_until(self.next_deadline()));
        let end = loop {
            let done = tokio::select! {
                // The station last: one that never pauses must not keep the others out.
                biased;
                () = &mut ended => Err(farewell(held.why())),
                Some(command) = commands.next(), if self.outstanding.is_none() => Box::pin(self.on_command(command)).await,
                () = &mut timer => Box::pin(self.on_time()).await,
                message = self.socket.next(), if self.resumes_at.is_none() => {
                    let done = self.on_message(message).await;
                    self.handling = None;
                    if self.socket.get_mut().done() {
                        Box::pin(self.renew_socket()).await;
                    }
                    done
                }
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
        Box::pin(self.say_what_was_left_out()).await;
        (self.socket, end)
    }

    fn next_deadline(&self) -> Instant {
        let mut next = Instant::now() + LOOK_AROUND;
        next = next.min(self.pings.next_at(self.heard_at(), self.node.config.ping_every));
        if let Some(outstanding) = &self.outstanding {
            next = next.min(outstanding.next_at());
        }
        if let Some(at) = self.resumes_at {
            next = next.min(at);
        }
        if let Samples::Watched(at) = self.samples {
            next = next.min(at);
        }
        self.next_setup().map_or(next, |at| next.min(at))
    }

    /// A long message is done: its bytes, and the buffer that it was read into, need not stay.
    async fn renew_socket(&mut self) {
        let (room, longest) = (&self.node.room, self.node.config.max_frame);
        let hollow = Intake::hollow(room, &self.held, longest);
        let hollow = WebSocketStream::from_raw_socket(hollow, Role::Server, None).await;
        let intake = std::mem::replace(&mut self.socket, hollow).into_inner();
        self.socket = WebSocketStream::from_raw_socket(intake, Role::Server, Some(limits(&self.node))).await;
    }

    /// Counts a frame that is good for nothing. Who sends very many is read no faster than that.
    fn pause(&mut self) {
        let wait = self.allowance.useless();
        self.resumes_at = (!wait.is_zero()).then(|| Instant::now() + wait);
    }

    /// When anything came from it, were it a part of a message.
    fn heard_at(&self) -> Instant {
        self.heard_at.max(self.socket.get_ref().read_at())
    }

    fn hear(&mut self) {
        self.pings.answered();
        self.heard_at = Instant::now();
        self.held.heard();
    }

    async fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.look_after_call(now).await;
        if let Samples::Watched(at) = self.samples
            && at <= now
            && self.outstanding.is_none()
        {
            self.ask_for_samples().await?;
        }
        if self.resumes_at.is_some_and(|at| at <= now) {
            self.resumes_at = None;
        }
        if now.saturating_duration_since(self.left_out_at) >= LOOK_AROUND / 2 {
            self.left_out_at = now;
            Box::pin(self.say_what_was_left_out()).await;
        }
        self.look_for_life(now).await
    }

    /// What was left out is told by its number, in the log and among the charger's messages.
    async fn say_what_was_left_out(&self) {
        let lines = self.allowance.unsaid();
        if lines > 0 {
            tracing::info!(charger = %self.charger, lines, "and so many lines more");
        }
        let unkept = self.allowance.unkept();
        if unkept > 0 {
            let problem = format!("{unkept} messages more are not kept: the bound of a day is reached");
            tracing::warn!(charger = %self.charger, unkept, "messages are not kept: the bound of a day is reached");
            let (charger, epoch, at) = (self.charger, self.epoch, evm_store::now());
            self.node.ingest.note(NewFrame::remark(charger, epoch, problem, at)).await;
        }
    }

    /// Keeps a frame that changes nothing, where the day has room for it.
    async fn note(&self, frame: NewFrame) {
        let bytes = frame.payload.len() + frame.answer.as_ref().map_or(0, String::len);
        if self.allowance.keep(bytes, false, self.node.config.frame_bytes_a_day, frame.at) != Keep::Nothing {
            self.node.ingest.note(frame).await;
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.transmit(Message::Text(text.into())).await
    }

    /// Waits for something that is not to keep a connection which is to end.
    async fn unless_ended<T>(&self, wait: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            done = wait => Ok(done),
            () = self.held.ended.cancelled() => Err(farewell(self.held.why())),
        }
    }

    async fn transmit(&mut self, message: Message) -> Result<(), End> {
        // What was made of a message is stored and gone; a station that does not read keeps nobody waiting.
        self.handling = None;
        match tokio::time::timeout(SEND_TIME, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err((CloseCode::Protocol, "the connection broke")),
            Err(_) => Err((CloseCode::Policy, "the charger does not read")),
        }
    }
}
