//! From what chargers tell to the store: what many sockets bring within a few milliseconds becomes one commit, and
//! only then is it answered (group commit). Nothing is answered that is not stored.
//!
//! The queue is bounded. When the store is slow it fills, connections wait here instead of reading their sockets,
//! and the stations slow down. With the store down all sockets close.

mod batch;
mod charge;
mod matching;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use evm_bus::Bus;
use evm_domain::{ChargerId, SessionId, Timestamp};
use evm_store::Store;
use evm_store::chargers::{Arrival, Connected};
use evm_store::frames::NewFrame;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Config;
use crate::ocpp::{Decoded, Reach, Version};
use crate::registry::Registry;

/// Work that waits for one writer.
const QUEUE: usize = 1024;

/// A CALL on its way into the store.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) charger: ChargerId,
    pub(crate) epoch: i64,
    pub(crate) version: Version,
    pub(crate) received: Timestamp,
    pub(crate) reach: Reach,
    pub(crate) message_id: String,
    pub(crate) action: String,
    /// As it is kept, without secrets, or its beginning.
    pub(crate) payload: String,
    /// Whether its frame is kept; it always is where it cannot be stored as what it is.
    pub(crate) is_kept: bool,
    pub(crate) decoded: Decoded,
}

/// What comes of a stored CALL.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame to send.
    pub(crate) text: String,
    /// What is to be asked of the station then.
    pub(crate) then: Option<Then>,
    /// It named a tag that is nobody's.
    pub(crate) wrong_tag: bool,
}

/// What is to be asked of a station because of what it told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// This transaction is nobody's: it should end, also where the station charges on after Invalid.
    Stop(String),
    /// This transaction has ended and some of its messages are missing (2.0.1): will they come?
    AskForRest {
        /// Its session.
        session: SessionId,
        /// Its id.
        transaction: String,
    },
}

/// What a writer does.
enum Work {
    /// Stores a CALL.
    Tell(Box<Told>, oneshot::Sender<Answer>),
    /// Notes a new connection.
    Connect(Arrival, oneshot::Sender<Connected>),
    /// Notes an ended connection.
    Disconnect(ChargerId, i64),
    /// Keeps a frame that changes nothing.
    Note(Box<NewFrame>),
    /// Makes the bill of an ended transaction without the messages that are missing.
    Settle(ChargerId, SessionId),
    /// Notes that a command took the station as a whole out of service, or back into it.
    Availability(ChargerId, bool),
}

impl Work {
    fn charger(&self) -> ChargerId {
        match self {
            Self::Tell(told, _) => told.charger,
            Self::Connect(arrival, _) => arrival.charger,
            Self::Disconnect(charger, _) | Self::Settle(charger, _) | Self::Availability(charger, _) => *charger,
            Self::Note(frame) => frame.charger,
        }
    }
}

/// The way into the store, shared by all connections of a node.
pub(crate) struct Ingest(Mutex<Vec<mpsc::Sender<Work>>>);

/// Starts the writers. Each has its own chargers, so that a charger's messages keep their order.
pub(crate) fn start(
    store: &Store,
    bus: &Bus,
    config: &Config,
    node: &str,
    registry: &Arc<Registry>,
) -> (Ingest, Vec<JoinHandle<()>>) {
    let (senders, tasks) = (0..store.writers())
        .map(|_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let writer = writer::Writer {
                store: store.clone(),
                bus: bus.clone(),
                settings: batch::Settings {
                    node: node.to_owned(),
                    heartbeat_s: config.heartbeat_s,
                    most_readings: config.most_readings,
                    credit: config.credit,
                },
                registry: registry.clone(),
                running: charge::Running::default(),
            };
            (sender, tokio::spawn(writer.run(receiver)))
        })
        .unzip();
    (Ingest(Mutex::new(senders)), tasks)
}

impl Ingest {
    fn writer_of(&self, charger: ChargerId) -> Option<mpsc::Sender<Work>> {
        let mut hasher = DefaultHasher::new();
        charger.hash(&mut hasher);
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = usize::try_from(hasher.finish() % (senders.len().max(1) as u64)).unwrap_or_default();
        senders.get(n).cloned()
    }

    async fn push(&self, work: Work) -> Option<()> {
        self.writer_of(work.charger())?.send(work).await.ok()
    }

    /// Stores a CALL. `None`: it is not stored, and must not be answered.
    pub(crate) async fn tell(&self, told: Told) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.push(Work::Tell(Box::new(told), sender)).await?;
        receiver.await.ok()
    }

    /// Notes a new connection.
    pub(crate) async fn connect(&self, arrival: Arrival) -> Option<Connected> {
        let (sender, receiver) = oneshot::channel();
        self.push(Work::Connect(arrival, sender)).await?;
        receiver.await.ok()
    }

    /// Notes an ended connection.
    pub(crate) async fn disconnect(&self, charger: ChargerId, epoch: i64) {
        let _ = self.push(Work::Disconnect(charger, epoch)).await;
    }

    /// Keeps a frame. Lost when the store is down: nobody was told that it is kept.
    pub(crate) async fn note(&self, frame: NewFrame) {
        let _ = self.push(Work::Note(Box::new(frame))).await;
    }

    /// Makes the bill of an ended transaction without the messages that are missing. Lost when the store is down: then the
    /// sweep makes it.
    pub(crate) async fn settle(&self, charger: ChargerId, session: SessionId) {
        let _ = self.push(Work::Settle(charger, session)).await;
    }

    /// Notes that the station agreed to be out of service as a whole, or in service. Lost when the store is down: then its
    /// connectors' own states count alone.
    pub(crate) async fn availability(&self, charger: ChargerId, inoperative: bool) {
        let _ = self.push(Work::Availability(charger, inoperative)).await;
    }

    /// No more work; the writers end when their queues are empty.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
