//! The only messaging: commands to chargers by subject, events to customers.
//!
//! Two engines stand behind one enum. [`Bus::local`] works inside one process and lets phones in through
//! [`hub`], a small server of the NATS text protocol. [`Bus::connect_nats`] uses a NATS server (2.10 or newer)
//! shared by many processes, which asks [`callout`] whom to let in. Callers cannot tell them apart, and the same
//! tests run on both.

pub mod callout;
pub mod charger;
pub mod hub;
mod local;
mod logins;
mod nats;
mod nats_config;
pub mod subject;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;

pub use local::LocalBus;
pub use nats::{NatsBus, NatsOptions};
pub use nats_config::{CUSTOMER_ACCOUNT, NatsServerConfig, nats_config};

/// Most bytes of one event.
pub const MAX_EVENT: usize = 64 * 1024;
/// Most bytes of one command or of its answer.
pub const MAX_COMMAND: usize = 1024 * 1024;
/// Messages that wait for one [`Subscription`]; the newest are dropped and counted beyond that.
pub const SUBSCRIPTION_QUEUE: usize = 256;
/// Commands that wait for one [`Commands`].
const COMMAND_QUEUE: usize = 64;
/// The header that carries an event's id.
const ID_HEADER: &str = "Nats-Msg-Id";

/// Why the bus could not do something.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The server is not reachable or did not answer in time; worth another try later.
    #[error("message bus down: {0}")]
    Down(String),
    /// More waits to be sent than the bus keeps; worth another try later.
    #[error("message bus backlogged")]
    Backlogged,
    /// Over [`MAX_EVENT`] bytes.
    #[error("message of {0} bytes is too large")]
    TooLarge(usize),
    /// Empty, or with a wildcard, space or control character where none may be.
    #[error("bad subject {0:?}")]
    BadSubject(String),
    /// An event id that is empty, over 200 bytes, or not visible ASCII.
    #[error("bad event id {0:?}")]
    BadId(String),
    /// A wrong key, address or password in the settings.
    #[error("message bus settings: {0}")]
    Config(String),
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the subject, so the charger is offline. Nothing was delivered.
    #[error("nobody serves the subject")]
    NoResponder,
    /// No answer in time. The command may or may not have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// The bus cannot carry the command. Nothing was delivered.
    #[error("message bus down: {0}")]
    Down(String),
}

/// Says who may log in: user is a login session's id, pass its secret, and the answer the customer's topic, or
/// `None` for nobody. An `Err` (the store is down) refuses too, in a way that makes clients try again.
pub type Authenticator =
    Arc<dyn Fn(String, String) -> BoxFuture<'static, Result<Option<String>, BusError>> + Send + Sync>;

/// One event as subscribers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject it was published on.
    pub subject: String,
    /// The publisher's id, equal for repeats of one event; live figures have none.
    pub id: Option<String>,
    /// The event, JSON.
    pub payload: Vec<u8>,
}

/// The message bus. Clones share one connection.
#[derive(Clone)]
pub enum Bus {
    /// Inside this process.
    Local(LocalBus),
    /// Through a NATS server.
    Nats(NatsBus),
}

impl Bus {
    /// A bus inside this process.
    pub fn local() -> Bus {
        Bus::Local(LocalBus::default())
    }

    /// Connects to a NATS server and makes sure that it answers. Later disconnections mend themselves.
    ///
    /// # Errors
    /// [`BusError::Config`] for a wrong address, [`BusError::Down`] when the server refuses or is not there.
    pub async fn connect_nats(options: NatsOptions) -> Result<Bus, BusError> {
        NatsBus::connect(options).await.map(Bus::Nats)
    }

    /// Serves `subject`: whoever [`Bus::ask`]s it from now on reaches the returned [`Commands`]. The subject counts
    /// as served once this returns, and until the `Commands` is dropped. With several at once, one gets each command.
    ///
    /// # Errors
    /// [`BusError::BadSubject`]; [`BusError::Down`] when the server did not confirm it.
    pub async fn serve(&self, subject: &str) -> Result<Commands, BusError> {
        subject::check_literal(subject)?;
        match self {
            Bus::Local(local) => Ok(Commands(CommandSource::Local(local.serve(subject)))),
            Bus::Nats(nats) => Ok(Commands(CommandSource::Nats(nats.serve(subject).await?))),
        }
    }

    /// Sends a command to whoever serves `subject` and waits for the answer, `deadline` at the longest.
    /// A command whose asker has given up is not handed out any more.
    ///
    /// # Errors
    /// [`AskError::NoResponder`] at once when nobody serves the subject.
    pub async fn ask(&self, subject: &str, request: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, AskError> {
        subject::check_literal(subject).map_err(|error| AskError::Down(error.to_string()))?;
        if request.len() > MAX_COMMAND {
            let size = request.len();
            return Err(AskError::Down(format!("command of {size} bytes")));
        }
        match self {
            Bus::Local(local) => local.ask(subject, request, deadline).await,
            Bus::Nats(nats) => nats.ask(subject, request, deadline).await,
        }
    }

    /// Publishes an event to whoever listens now, with the header `Nats-Msg-Id` when `id` is given. `Ok` means only
    /// that it was handed over; see [`Bus::confirm`]. Slow listeners never hold it up.
    ///
    /// # Errors
    /// [`BusError::Down`] and [`BusError::Backlogged`] at once or within a second; the others for bad arguments.
    pub async fn publish(&self, subject: &str, id: Option<&str>, payload: &[u8]) -> Result<(), BusError> {
        subject::check_literal(subject)?;
        if payload.len() > MAX_EVENT {
            return Err(BusError::TooLarge(payload.len()));
        }
        if let Some(id) = id
            && !(1..=200).contains(&id.len())
        {
            return Err(BusError::BadId(id.to_owned()));
        }
        if let Some(id) = id.filter(|id| !id.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(BusError::BadId(id.to_owned()));
        }
        match self {
            Bus::Local(local) => {
                local.publish(Message {
                    subject: subject.to_owned(),
                    id: id.map(str::to_owned),
                    payload: payload.to_vec(),
                });
                Ok(())
            }
            Bus::Nats(nats) => nats.publish(subject, id, payload).await,
        }
    }

    /// Waits until the server has certainly taken every event with an id published before on this bus.
    ///
    /// For one publisher at a time (the outbox relay): publish, publish, confirm. An error says that any of them may be
    /// lost, so publish them all again.
    ///
    /// # Errors
    /// [`BusError::Down`] when the connection broke since, or the server did not answer.
    pub async fn confirm(&self) -> Result<(), BusError> {
        match self {
            Bus::Local(_) => Ok(()),
            Bus::Nats(nats) => nats.confirm().await,
        }
    }

    /// Subscribes to a subject, to `prefix.*` (one more token) or to `prefix.>` (one or more). Live once this returns.
    ///
    /// # Errors
    /// [`BusError::BadSubject`]; [`BusError::Down`] when the server did not confirm it.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        subject::check_pattern(subject)?;
        match self {
            Bus::Local(local) => Ok(Subscription(EventSource::Local(local.subscribe(subject)))),
            Bus::Nats(nats) => Ok(Subscription(EventSource::Nats(nats.subscribe(subject).await?))),
        }
    }

    /// Ends the connections that logged in as `user`: those of the hub, or at a NATS server those that this node let in
    /// ([`callout::Callout::noting`]). What is missed there ends by itself within [`callout::LOGIN_LIFETIME`].
    pub fn disconnect_user(&self, user: &str) {
        match self {
            Bus::Local(local) => local.disconnect_user(user),
            Bus::Nats(nats) => nats.disconnect_user(user),
        }
    }

    /// Whether a server stands between those who use it.
    pub fn has_server(&self) -> bool {
        matches!(self, Bus::Nats(_))
    }

    /// Waits until something sent has come back by the server. Nothing tells sooner that its packets go nowhere.
    ///
    /// # Errors
    /// [`BusError::Down`] where the connection is known to be broken, or after 5 s.
    pub async fn reach(&self) -> Result<(), BusError> {
        match self {
            Bus::Local(_) => Ok(()),
            Bus::Nats(nats) => nats.round_trip().await,
        }
    }

    /// Whether messages can go through now.
    pub fn healthy(&self) -> bool {
        match self {
            Bus::Local(_) => true,
            Bus::Nats(nats) => nats.healthy(),
        }
    }

    /// How many events and commands were dropped so far because a listener in this process was too slow.
    pub fn dropped(&self) -> u64 {
        match self {
            Bus::Local(local) => local.dropped(),
            Bus::Nats(nats) => nats.dropped(),
        }
    }
}

/// The commands for one served subject. Dropping it ends the serving.
pub struct Commands(CommandSource);

enum CommandSource {
    Local(local::LocalCommands),
    Nats(nats::NatsCommands),
}

impl Commands {
    /// The next command; `None` when the bus is gone for good.
    pub async fn next(&mut self) -> Option<Command> {
        match &mut self.0 {
            CommandSource::Local(commands) => commands.next().await,
            CommandSource::Nats(commands) => commands.next().await,
        }
    }
}

/// A command that waits for its answer. Dropped unanswered, its asker times out.
pub struct Command {
    /// What [`Bus::ask`] was given.
    pub payload: Vec<u8>,
    reply: Reply,
}

enum Reply {
    Local(tokio::sync::oneshot::Sender<Vec<u8>>),
    Nats(Box<nats::NatsReply>),
}

impl Command {
    /// Answers. An answer over [`MAX_COMMAND`] bytes, or one that finds no bus, is logged and lost.
    pub async fn respond(self, payload: Vec<u8>) {
        if payload.len() > MAX_COMMAND {
            tracing::error!(bytes = payload.len(), "answer to a command is too large");
            return;
        }
        match self.reply {
            // The asker may have given up meanwhile.
            Reply::Local(asker) => drop(asker.send(payload)),
            Reply::Nats(reply) => reply.send(payload).await,
        }
    }
}

/// A subscription inside the program. Dropping it ends it.
pub struct Subscription(EventSource);

enum EventSource {
    Local(local::LocalSubscription),
    Nats(async_nats::Subscriber),
}

impl Subscription {
    /// The next event; `None` when the bus is gone for good. Fall behind by [`SUBSCRIPTION_QUEUE`] events and the
    /// newest are lost.
    pub async fn next(&mut self) -> Option<Message> {
        match &mut self.0 {
            EventSource::Local(subscription) => subscription.next().await,
            EventSource::Nats(subscriber) => subscriber.next().await.map(nats::message),
        }
    }
}
