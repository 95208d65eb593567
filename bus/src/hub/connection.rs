//! One phone's connection.

use std::sync::Arc;
use std::time::Duration;

use evm_ports::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::protocol::{self, ConnectOptions, Decoder, Op};
use crate::callout::look_up;
use crate::local::{Backlog, Delivery, Registration, Sink};
use crate::subject;

/// Bytes taken from the socket at once.
const READ: usize = 4096;
/// Messages that wait for one connection, besides the limit in bytes.
const DELIVERY_QUEUE: usize = 1024;
/// Messages written at once.
const BATCH: usize = 64;
/// How long to wait for the peer to read our last words.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long until a login is looked up again that could not be looked up.
const RECHECK_AGAIN: Duration = Duration::from_secs(60);

/// Why a connection ends.
enum End {
    /// Nothing more to say.
    Quiet(&'static str),
    /// With these last words.
    Error(&'static str),
}

type Step<T> = Result<T, End>;

/// Serves one client to its end, and says why it ended.
pub(super) async fn serve(hub: &Hub, stream: TcpStream, client: u64, place: &Place) -> &'static str {
    // Events are small and wanted at once. Without it they are late, no more.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire { stream, decoder: Decoder::default(), stuck: hub.limits.write_timeout };
    let ended = tokio::select! {
        () = hub.shutdown.cancelled() => End::Quiet("shutdown"),
        () = place.shed() => End::Quiet("made room before its login"),
        ended = talk(hub, &mut wire, client, place) => ended,
    };
    match ended {
        End::Quiet(reason) => reason,
        End::Error(text) => {
            wire.farewell(text).await;
            text
        }
    }
}

async fn talk(hub: &Hub, wire: &mut Wire, client: u64, place: &Place) -> End {
    let session = match timeout(hub.limits.login_timeout, login(hub, wire, client, place)).await {
        Err(_) => return End::Error("Authentication Timeout"),
        Ok(Err(end)) => return end,
        Ok(Ok(session)) => session,
    };
    match session.run(wire).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

/// The socket and what was read from it.
struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    stuck: Duration,
}

impl Wire {
    async fn write(&mut self, bytes: &[u8]) -> Step<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match timeout(self.stuck, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Quiet("connection lost")),
            Err(_) => Err(End::Quiet("slow consumer")),
        }
    }

    /// Safe to be dropped halfway.
    async fn read(&mut self) -> Step<()> {
        let mut bytes = [0; READ];
        match self.stream.read(&mut bytes).await {
            Ok(count) if count > 0 => {
                self.decoder.push(bytes.get(..count).unwrap_or_default());
                Ok(())
            }
            _ => Err(End::Quiet("connection lost")),
        }
    }

    /// The next operation of those already read.
    fn op(&mut self) -> Step<Option<Op>> {
        self.decoder.next().map_err(|fault| End::Error(fault.text()))
    }

    /// Says the last words, and takes what the peer still sends, or its system would throw them away unread.
    async fn farewell(&mut self, text: &str) {
        let goodbye = async {
            self.stream.write_all(&protocol::error(text)).await?;
            self.stream.shutdown().await?;
            let mut bytes = [0; READ];
            while self.stream.read(&mut bytes).await? > 0 {}
            std::io::Result::Ok(())
        };
        // Whether the peer hears them is its own concern.
        let _ = timeout(FAREWELL, goodbye).await;
    }
}

/// `INFO`, then `CONNECT`, and nothing before that.
async fn login<'a>(hub: &'a Hub, wire: &mut Wire, client: u64, place: &Place) -> Step<Session<'a>> {
    wire.write(&protocol::info(&hub.server_id, client, &hub.limits)).await?;
    let options = loop {
        match wire.op()? {
            Some(Op::Connect(options)) => break *options,
            Some(_) => return Err(End::Error("Authorization Violation")),
            None => wire.read().await?,
        }
    };
    let ConnectOptions { user, pass, verbose, headers } = options;
    let (user, pass) = (user.unwrap_or_default(), pass.unwrap_or_default());
    // Noted before it is looked up: a logout in between finds it.
    let kicked = CancellationToken::new();
    let noted = hub.bus.logged_in(&user, kicked.clone());
    let topic = match look_up(&hub.authenticator, &user, &pass).await {
        Ok(Some(topic)) => topic,
        Ok(None) => {
            sleep(hub.limits.wrong_login_delay).await;
            return Err(End::Error("Authorization Violation"));
        }
        Err(error) => {
            tracing::warn!(%error, "cannot look up a NATS login");
            // Unlike a violation, this makes clients try again.
            return Err(End::Error("Authentication Timeout"));
        }
    };
    if !place.keep() {
        return Err(End::Quiet("made room before its login"));
    }
    if verbose {
        wire.write(b"+OK\r\n").await?;
    }
    Ok(Session::new(hub, Login { user, pass, topic, kicked, _noted: noted }, verbose, headers))
}

/// Who is logged in.
struct Login {
    user: String,
    pass: String,
    topic: String,
    /// The login is over.
    kicked: CancellationToken,
    _noted: Registration,
}

/// A client that is logged in.
struct Session<'a> {
    hub: &'a Hub,
    login: Login,
    verbose: bool,
    headers: bool,
    subscriptions: Vec<Subscribed>,
    next_subscription: u64,
    sender: mpsc::Sender<Delivery>,
    deliveries: mpsc::Receiver<Delivery>,
    backlog: Arc<Backlog>,
}

struct Subscribed {
    id: u64,
    sid: String,
    delivered: u64,
    max: Option<u64>,
    _registration: Registration,
}

impl<'a> Session<'a> {
    fn new(hub: &'a Hub, login: Login, verbose: bool, headers: bool) -> Session<'a> {
        let (sender, deliveries) = mpsc::channel(DELIVERY_QUEUE);
        Session {
            backlog: Arc::new(Backlog::new(hub.limits.pending_bytes)),
            subscriptions: Vec::new(),
            next_subscription: 0,
            hub,
            login,
            verbose,
            headers,
            sender,
            deliveries,
        }
    }

    async fn run(mut self, wire: &mut Wire) -> Step<std::convert::Infallible> {
        let backlog = self.backlog.clone();
        let kicked = self.login.kicked.clone();
        tokio::select! {
            end = self.converse(wire) => end,
            () = backlog.overflowed() => Err(End::Quiet("slow consumer")),
            () = kicked.cancelled() => Err(End::Error("User Authentication Revoked")),
        }
    }

    async fn converse(&mut self, wire: &mut Wire) -> Step<std::convert::Infallible> {
        let period = self.hub.limits.ping_interval;
        let mut pings = interval_at(Instant::now() + period, period);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        let mut recheck = Instant::now() + self.hub.limits.login_recheck;
        let mut batch = Vec::with_capacity(BATCH);
        // What was read together with CONNECT waits already.
        self.obey(wire).await?;
        loop {
            tokio::select! {
                read = wire.read() => {
                    read?;
                    unanswered = 0;
                    pings.reset();
                    self.obey(wire).await?;
                }
                _ = self.deliveries.recv_many(&mut batch, BATCH) => {
                    self.deliver(wire, &mut batch).await?;
                }
                _ = pings.tick() => {
                    if unanswered == 2 {
                        return Err(End::Error("Stale Connection"));
                    }
                    unanswered += 1;
                    wire.write(b"PING\r\n").await?;
                }
                () = sleep_until(recheck) => recheck = Instant::now() + self.look_up_again().await?,
            }
        }
    }

    /// Carries out what was read.
    async fn obey(&mut self, wire: &mut Wire) -> Step<()> {
        let mut out = Vec::new();
        loop {
            let op = match wire.op() {
                Ok(None) => break,
                Ok(Some(op)) => op,
                Err(end) => {
                    // Answers to what came before the fault.
                    wire.write(&out).await?;
                    return Err(end);
                }
            };
            match self.answer(op) {
                Answer::Line(line) => out.extend_from_slice(line),
                Answer::Refusal(text) => out.extend(protocol::error(&text)),
                Answer::Done if self.verbose => out.extend_from_slice(b"+OK\r\n"),
                Answer::Done => {}
            }
        }
        wire.write(&out).await
    }

    fn answer(&mut self, op: Op) -> Answer {
        match op {
            Op::Ping => Answer::Line(b"PONG\r\n"),
            Op::Pong => Answer::Line(b""),
            // Who one is was settled; a second CONNECT changes nothing.
            Op::Connect(_) => Answer::Done,
            Op::Pub { subject } => Answer::Refusal(format!("Permissions Violation for Publish to \"{subject}\"")),
            Op::Sub { subject, queue, sid } => self.subscribe(&subject, queue, sid),
            Op::Unsub { sid, max } => {
                for subscription in self.subscriptions.iter_mut().filter(|s| s.sid == sid) {
                    subscription.max = Some(max.unwrap_or(0));
                }
                self.drop_finished();
                Answer::Done
            }
        }
    }

    fn subscribe(&mut self, pattern: &str, queue: Option<String>, sid: String) -> Answer {
        if !subject::own(&self.login.topic, pattern) {
            let queue = queue.map(|queue| format!(" using queue \"{queue}\"")).unwrap_or_default();
            let text = format!("Permissions Violation for Subscription to \"{pattern}\"{queue}");
            return Answer::Refusal(text);
        }
        if self.subscriptions.iter().any(|known| known.sid == sid) {
            return Answer::Done;
        }
        if self.subscriptions.len() >= self.hub.limits.subscriptions {
            return Answer::Refusal("maximum subscriptions exceeded".to_owned());
        }
        let id = self.next_subscription;
        self.next_subscription += 1;
        let (sender, backlog) = (self.sender.clone(), self.backlog.clone());
        let sink = Sink::Hub { subscription: id, sender, backlog };
        let registration = self.hub.bus.listen(pattern, queue, sink);
        let (delivered, max) = (0, None);
        let subscribed = Subscribed { id, sid, delivered, max, _registration: registration };
        self.subscriptions.push(subscribed);
        Answer::Done
    }

    fn drop_finished(&mut self) {
        self.subscriptions.retain(|s| s.max.is_none_or(|max| s.delivered < max));
    }

    async fn deliver(&mut self, wire: &mut Wire, batch: &mut Vec<Delivery>) -> Step<()> {
        let mut out = Vec::new();
        for delivery in batch.iter() {
            // Gone when the client has unsubscribed meanwhile.
            let mut subscriptions = self.subscriptions.iter_mut();
            if let Some(subscribed) = subscriptions.find(|s| s.id == delivery.subscription) {
                protocol::message(&mut out, &delivery.message, &subscribed.sid, self.headers);
                subscribed.delivered += 1;
            }
            self.drop_finished();
        }
        wire.write(&out).await?;
        for delivery in batch.drain(..) {
            self.backlog.written(&delivery.message);
        }
        Ok(())
    }

    /// Whether the login still counts, and how long until it is looked up the next time.
    async fn look_up_again(&self) -> Step<Duration> {
        match look_up(&self.hub.authenticator, &self.login.user, &self.login.pass).await {
            Ok(Some(topic)) if topic == self.login.topic => Ok(self.hub.limits.login_recheck),
            Ok(_) => Err(End::Error("User Authentication Expired")),
            Err(error) => {
                tracing::warn!(%error, "cannot look up a NATS login again");
                Ok(RECHECK_AGAIN.min(self.hub.limits.login_recheck))
            }
        }
    }
}

enum Answer {
    /// `+OK` for those who asked for it.
    Done,
    Line(&'static [u8]),
    Refusal(String),
}
