//! The bus through a NATS server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::connection::State;
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, HeaderValue, Request, RequestErrorKind, ServerAddr, Subscriber,
};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use crate::logins::Logins;
use crate::{AskError, BusError, Command, ID_HEADER, MAX_COMMAND, Message, Reply, SUBSCRIPTION_QUEUE};

/// Longest wait for the server's own answers: to a connection attempt, a subscription, a [`crate::Bus::confirm`].
const SERVER_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for room in the client's queue.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(1);
/// Operations that wait in the client to be written, at most.
const OUTGOING_QUEUE: usize = 1024;
/// How soon a dead connection is noticed: two of these.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// When a command's asker gives up, in UNIX milliseconds. Without it, a request that waited in the client while the server
/// was away would start a charge that its customer gave up long ago.
const EXPIRES_HEADER: &str = "Evm-Expires";
/// All nodes' servers of one subject; one of them gets each command.
const COMMAND_GROUP: &str = "evm";

/// Where the NATS server is.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://user:password@host:port`, `tls://…` for TLS; several servers of one cluster with commas between.
    pub url: String,
    /// The name this program shows in the server's lists.
    pub name: String,
}

impl NatsOptions {
    /// The server at `url`.
    pub fn new(url: impl Into<String>) -> NatsOptions {
        NatsOptions { url: url.into(), name: "evm".to_owned() }
    }
}

/// The engine behind [`crate::Bus::connect_nats`].
#[derive(Clone)]
pub struct NatsBus {
    client: Client,
    dropped: Arc<AtomicU64>,
    pub(crate) logins: Arc<Logins>,
    /// The connection (counted from 1) on which the oldest unconfirmed event went out.
    unconfirmed: Arc<Mutex<Option<u64>>>,
}

impl NatsBus {
    pub(crate) async fn connect(options: NatsOptions) -> Result<NatsBus, BusError> {
        let dropped = Arc::new(AtomicU64::new(0));
        let client = connect(&options, SUBSCRIPTION_QUEUE, dropped.clone()).await?;
        let bus = NatsBus { client, dropped, logins: Arc::default(), unconfirmed: Arc::default() };
        bus.round_trip().await?;
        Ok(bus)
    }

    pub(crate) async fn serve(&self, subject: &str) -> Result<NatsCommands, BusError> {
        let subscriber = self.live(self.client.queue_subscribe(subject.to_owned(), COMMAND_GROUP.to_owned())).await?;
        Ok(NatsCommands { subscriber, client: self.client.clone() })
    }

    pub(crate) async fn subscribe(&self, subject: &str) -> Result<Subscriber, BusError> {
        self.live(self.client.subscribe(subject.to_owned())).await
    }

    /// A subscription that the server knows of. Without a connection it would wait in the client's queue, which is soon full.
    async fn live<E: std::fmt::Display>(
        &self,
        subscription: impl Future<Output = Result<Subscriber, E>>,
    ) -> Result<Subscriber, BusError> {
        self.check_connected()?;
        let subscribed = timeout(SERVER_PATIENCE, subscription).await;
        let subscribed = subscribed.map_err(|_| BusError::Down("too much waits to be sent".to_owned()))?;
        let subscriber = subscribed.map_err(|error| BusError::Down(error.to_string()))?;
        self.round_trip().await?;
        Ok(subscriber)
    }

    fn check_connected(&self) -> Result<(), BusError> {
        if self.healthy() { Ok(()) } else { Err(BusError::Down("not connected".to_owned())) }
    }

    pub(crate) async fn ask(&self, subject: &str, request: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, AskError> {
        if !self.healthy() {
            return Err(AskError::Down("not connected".to_owned()));
        }
        let mut headers = HeaderMap::new();
        let expires = unix_millis().saturating_add(deadline.as_millis());
        headers.insert(EXPIRES_HEADER, expires.to_string());
        // An inbox of its own, because the client's shared one keeps an entry for ever for every request that timed out.
        let request = Request::new()
            .payload(request.into())
            .headers(headers)
            .inbox(self.client.new_inbox())
            .timeout(Some(deadline));
        let answer = timeout(deadline, self.client.send_request(subject.to_owned(), request));
        match answer.await {
            Err(_) => Err(AskError::Timeout),
            Ok(Ok(message)) => Ok(message.payload.into()),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => AskError::NoResponder,
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    AskError::Down(error.to_string())
                }
                // It broke on the way, there or back.
                RequestErrorKind::TimedOut | RequestErrorKind::Other => AskError::Timeout,
            }),
        }
    }

    pub(crate) async fn publish(&self, subject: &str, id: Option<&str>, payload: &[u8]) -> Result<(), BusError> {
        self.check_connected()?;
        let subject = subject.to_owned();
        let payload = payload.to_vec().into();
        let published = match id {
            None => timeout(PUBLISH_PATIENCE, self.client.publish(subject, payload)).await,
            Some(id) => {
                let mut headers = HeaderMap::new();
                let value = id.parse::<HeaderValue>().map_err(|_| BusError::BadId(id.to_owned()))?;
                headers.insert(ID_HEADER, value);
                self.unconfirmed().get_or_insert(self.connection());
                let sent = self.client.publish_with_headers(subject, headers, payload);
                timeout(PUBLISH_PATIENCE, sent).await
            }
        };
        match published {
            Err(_) => Err(BusError::Backlogged),
            Ok(sent) => sent.map_err(|error| BusError::Down(error.to_string())),
        }
    }

    /// What was published on a connection that broke may be lost, however well the next one answers.
    pub(crate) async fn confirm(&self) -> Result<(), BusError> {
        let oldest = self.unconfirmed().take().unwrap_or(self.connection());
        self.round_trip().await?;
        if self.connection() == oldest {
            Ok(())
        } else {
            Err(BusError::Down("the connection broke meanwhile".to_owned()))
        }
    }

    /// Asks the server to end a login's connections. It heeds requests with a reply only; nobody waits for it.
    pub(crate) fn disconnect_user(&self, user: &str) {
        let places = self.logins.ended(user);
        if places.is_empty() {
            return;
        }
        let client = self.client.clone();
        tokio::spawn(async move {
            for place in places {
                let subject = format!("$SYS.REQ.SERVER.{}.KICK", place.server);
                let payload = format!(r#"{{"cid":{}}}"#, place.client);
                let sent = client.publish_with_reply(subject, client.new_inbox(), payload.into());
                if !matches!(timeout(PUBLISH_PATIENCE, sent).await, Ok(Ok(()))) {
                    tracing::warn!("a NATS login that is over could not be ended; it ends by itself within the hour");
                }
            }
        });
    }

    pub(crate) async fn round_trip(&self) -> Result<(), BusError> {
        self.check_connected()?;
        round_trip(&self.client).await
    }

    /// How many connections there were; it grows before a new one carries anything.
    fn connection(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::SeqCst)
    }

    fn unconfirmed(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn healthy(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Connects, with everything bounded. Afterwards the client reconnects by itself, for ever.
pub(crate) async fn connect(
    options: &NatsOptions,
    subscription_queue: usize,
    dropped: Arc<AtomicU64>,
) -> Result<Client, BusError> {
    let (servers, login) = addresses(&options.url)?;
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(SERVER_PATIENCE)
        .ping_interval(PING_INTERVAL)
        .client_capacity(OUTGOING_QUEUE)
        .subscription_capacity(subscription_queue)
        .event_callback(move |event| {
            if let Event::SlowConsumer(_) = event {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The client itself logs every event at level info; these need someone's attention.
            if let Event::ServerError(error) = &event {
                tracing::error!(%error, "the NATS server refuses");
            }
            std::future::ready(())
        });
    if let Some((user, password)) = login {
        connect = connect.user_and_password(user, password);
    }
    connect.connect(servers).await.map_err(|error| BusError::Down(error.to_string()))
}

/// Sends a message to oneself. The server takes things in order, so everything sent before has arrived when it comes back.
/// (The client's `flush` only empties its own buffer, and succeeds with the server dead.)
pub(crate) async fn round_trip(client: &Client) -> Result<(), BusError> {
    let there_and_back = async {
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.ok()?;
        client.publish(inbox, Vec::new().into()).await.ok()?;
        echo.next().await
    };
    match timeout(SERVER_PATIENCE, there_and_back).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(BusError::Down("the client has ended".to_owned())),
        Err(_) => Err(BusError::Down("the server does not answer".to_owned())),
    }
}

type Login = (String, String);

/// The servers of a comma-separated list, without the login, which the client would not take from there and might log.
fn addresses(urls: &str) -> Result<(Vec<ServerAddr>, Option<Login>), BusError> {
    let mut login = None;
    let mut servers = Vec::new();
    for url in urls.split(',').map(str::trim) {
        // The error must not show the URL, because of the password.
        let wrong = || BusError::Config("not a NATS server's URL".to_owned());
        let server: ServerAddr = url.parse().map_err(|_| wrong())?;
        if let (Some(user), Some(password)) = (server.username(), server.password()) {
            login.get_or_insert((decoded(user)?, decoded(password)?));
        }
        let mut url = server.into_inner();
        url.set_username("").map_err(|()| wrong())?;
        url.set_password(None).map_err(|()| wrong())?;
        servers.push(ServerAddr::from_url(url).map_err(|_| wrong())?);
    }
    Ok((servers, login))
}

fn decoded(part: &str) -> Result<String, BusError> {
    let decoded = percent_decode_str(part).decode_utf8();
    let wrong = |_| BusError::Config("user or password in the NATS server's URL".to_owned());
    decoded.map(|text| text.into_owned()).map_err(wrong)
}

fn unix_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

pub(crate) fn message(message: async_nats::Message) -> Message {
    let headers = message.headers.as_ref();
    Message {
        subject: message.subject.to_string(),
        id: headers.and_then(|h| h.get(ID_HEADER)).map(|id| id.as_str().to_owned()),
        payload: message.payload.into(),
    }
}

pub(crate) struct NatsCommands {
    subscriber: Subscriber,
    client: Client,
}

impl NatsCommands {
    pub(crate) async fn next(&mut self) -> Option<Command> {
        loop {
            let message = self.subscriber.next().await?;
            if expired(message.headers.as_ref(), unix_millis()) {
                tracing::warn!(
                    subject = %message.subject,
                    "left out a command that came too late; if it was not, a clock is wrong"
                );
                continue;
            }
            if let Some(subject) = message.reply {
                let reply = NatsReply { client: self.client.clone(), subject: subject.to_string() };
                let payload = message.payload.into();
                return Some(Command { payload, reply: Reply::Nats(Box::new(reply)) });
            }
        }
    }
}

fn expired(headers: Option<&HeaderMap>, now: u128) -> bool {
    headers
        .and_then(|headers| headers.get(EXPIRES_HEADER))
        .and_then(|expires| expires.as_str().parse().ok())
        // At that very millisecond the asker may have given up already.
        .is_some_and(|expires: u128| expires <= now)
}

pub(crate) struct NatsReply {
    client: Client,
    subject: String,
}

impl NatsReply {
    pub(crate) async fn send(self, payload: Vec<u8>) {
        debug_assert!(payload.len() <= MAX_COMMAND);
        let sent = self.client.publish(self.subject, payload.into());
        match timeout(PUBLISH_PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "could not answer a command"),
            Err(_) => tracing::error!("could not answer a command: too much waits to be sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn logins_are_taken_out_of_urls() {
        let (servers, login) = addresses("nats://api:p%40ss@one:4222, nats://two:4223").unwrap();
        assert_eq!(login.unwrap(), ("api".to_owned(), "p@ss".to_owned()));
        let urls: Vec<_> = servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, ["nats://one:4222", "nats://two:4223"]);
        assert_eq!(addresses("localhost").unwrap().1, None);
    }

    #[test]
    fn wrong_urls_are_not_shown() {
        for wrong in ["http://api:secret@host", "nats://api:secret@host:x", "", "nats://a:%ff@b"] {
            let error = addresses(wrong).err().unwrap().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn commands_expire() {
        let mut headers = HeaderMap::new();
        assert!(!expired(Some(&headers), 5));
        headers.insert(EXPIRES_HEADER, "5");
        assert!(!expired(Some(&headers), 4));
        assert!(expired(Some(&headers), 5));
        assert!(!expired(None, 5));
    }
}
