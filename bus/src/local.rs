//! The bus inside one process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::mpsc as queue;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{AskError, COMMAND_QUEUE, Command, Message, Reply, SUBSCRIPTION_QUEUE};

/// The engine behind [`crate::Bus::local`].
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Who serves a subject.
    servers: Mutex<Table<queue::Sender<Command>>>,
    /// Who listens, by pattern as written.
    listeners: Mutex<Table<Listener>>,
    /// Hub connections by user.
    logins: Mutex<Table<CancellationToken>>,
    next_id: AtomicU64,
    dropped: AtomicU64,
}

type Table<T> = HashMap<String, Vec<(u64, T)>>;

struct Listener {
    queue: Option<String>,
    sink: Sink,
}

/// Where a listener's messages go.
pub(crate) enum Sink {
    /// Drops and counts what does not fit.
    Lossy(mpsc::Sender<Arc<Message>>),
    /// A hub connection: everything arrives, or the connection ends.
    Hub { subscription: u64, sender: mpsc::Sender<Delivery>, backlog: Arc<Backlog> },
}

/// A message for one of a hub connection's subscriptions.
pub(crate) struct Delivery {
    pub(crate) subscription: u64,
    pub(crate) message: Arc<Message>,
}

/// How much waits for one hub connection.
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    limit: usize,
    overflow: CancellationToken,
}

impl Backlog {
    pub(crate) fn new(limit: usize) -> Backlog {
        let (bytes, overflow) = (AtomicUsize::new(0), CancellationToken::new());
        Backlog { bytes, limit, overflow }
    }

    pub(crate) fn written(&self, message: &Message) {
        self.bytes.fetch_sub(cost(message), Ordering::Relaxed);
    }

    /// Done once more waited than may.
    pub(crate) async fn overflowed(&self) {
        self.overflow.cancelled().await;
    }
}

/// Bytes a message takes on the wire, about.
fn cost(message: &Message) -> usize {
    message.payload.len() + message.subject.len() + 128
}

impl LocalBus {
    pub(crate) fn serve(&self, subject: &str) -> LocalCommands {
        // Tokio's channel takes kilobytes before anything is in it, and a charger seldom gets a command.
        let (sender, receiver) = queue::channel(COMMAND_QUEUE - 1);
        let registration = self.register(Kind::Server, subject, |id| {
            add(&self.0.servers, subject, id, sender);
        });
        LocalCommands { receiver, _registration: registration }
    }

    pub(crate) async fn ask(&self, subject: &str, payload: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, AskError> {
        let (asker, answer) = oneshot::channel();
        let command = Command { payload, reply: Reply::Local(asker) };
        self.hand_over(subject, command)?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // Dropped unanswered, or late: either way nobody knows what became of it.
            Ok(Err(_)) | Err(_) => Err(AskError::Timeout),
        }
    }

    fn hand_over(&self, subject: &str, command: Command) -> Result<(), AskError> {
        let turn = self.next_id();
        let mut servers = lock(&self.0.servers);
        let serving = servers.get_mut(subject).ok_or(AskError::NoResponder)?;
        let (_, server) = pick(turn, serving).ok_or(AskError::NoResponder)?;
        server.try_send(command).map_err(|error| {
            if error.is_disconnected() {
                return AskError::NoResponder;
            }
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            AskError::Down("too many commands wait".to_owned())
        })
    }

    pub(crate) fn publish(&self, message: Message) {
        let message = Arc::new(message);
        let turn = self.next_id();
        let listeners = lock(&self.0.listeners);
        let mut queues: HashMap<&str, Vec<&Listener>> = HashMap::new();
        for pattern in patterns(&message.subject) {
            for (_, listener) in listeners.get(&pattern).into_iter().flatten() {
                match &listener.queue {
                    None => self.deliver(listener, &message),
                    Some(queue) => queues.entry(queue).or_default().push(listener),
                }
            }
        }
        for mut members in queues.into_values() {
            if let Some(listener) = pick(turn, &mut members) {
                self.deliver(listener, &message);
            }
        }
    }

    fn deliver(&self, listener: &Listener, message: &Arc<Message>) {
        let fits = match &listener.sink {
            Sink::Lossy(sender) => sender.try_send(message.clone()).is_ok(),
            Sink::Hub { subscription, sender, backlog } => {
                let cost = cost(message);
                let before = backlog.bytes.fetch_add(cost, Ordering::Relaxed);
                let subscription = *subscription;
                let delivery = Delivery { subscription, message: message.clone() };
                let fits = before + cost <= backlog.limit && sender.try_send(delivery).is_ok();
                if !fits {
                    backlog.overflow.cancel();
                }
                fits
            }
        };
        if !fits {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> LocalSubscription {
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_QUEUE);
        let registration = self.listen(pattern, None, Sink::Lossy(sender));
        LocalSubscription { receiver, _registration: registration }
    }

    pub(crate) fn listen(&self, pattern: &str, queue: Option<String>, sink: Sink) -> Registration {
        self.register(Kind::Listener, pattern, |id| {
            add(&self.0.listeners, pattern, id, Listener { queue, sink });
        })
    }

    /// Notes a hub login, so that [`LocalBus::disconnect_user`] finds it: the token is cancelled then.
    pub(crate) fn logged_in(&self, user: &str, kick: CancellationToken) -> Registration {
        self.register(Kind::Login, user, |id| add(&self.0.logins, user, id, kick))
    }

    pub(crate) fn disconnect_user(&self, user: &str) {
        for (_, kick) in lock(&self.0.logins).get(user).into_iter().flatten() {
            kick.cancel();
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn register(&self, kind: Kind, key: &str, add: impl FnOnce(u64)) -> Registration {
        let id = self.next_id();
        add(id);
        Registration { bus: self.clone(), kind, key: key.to_owned(), id }
    }

    fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// All patterns that match a subject: itself, `*` for its last token, `>` for every tail of it.
fn patterns(subject: &str) -> Vec<String> {
    let mut patterns = vec![subject.to_owned()];
    if let Some((prefix, _)) = subject.rsplit_once('.') {
        patterns.push(format!("{prefix}.*"));
    }
    for (dot, _) in subject.match_indices('.') {
        patterns.push(format!("{}.>", &subject[..dot]));
    }
    patterns
}

/// One of them, another at each turn.
fn pick<T>(turn: u64, among: &mut [T]) -> Option<&mut T> {
    let count = u64::try_from(among.len()).ok().filter(|count| *count > 0)?;
    among.get_mut(usize::try_from(turn % count).ok()?)
}

/// No code panics while it holds one of these locks; were it so, the table would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add<T>(table: &Mutex<Table<T>>, key: &str, id: u64, value: T) {
    lock(table).entry(key.to_owned()).or_default().push((id, value));
}

fn remove<T>(table: &Mutex<Table<T>>, key: &str, id: u64) {
    let mut table = lock(table);
    if let Some(entries) = table.get_mut(key) {
        entries.retain(|(entry, _)| *entry != id);
        if entries.is_empty() {
            table.remove(key);
        }
    }
}

enum Kind {
    Server,
    Listener,
    Login,
}

/// An entry in one of the tables; dropping it takes the entry out.
pub(crate) struct Registration {
    bus: LocalBus,
    kind: Kind,
    key: String,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let shared = &self.bus.0;
        match self.kind {
            Kind::Server => remove(&shared.servers, &self.key, self.id),
            Kind::Listener => remove(&shared.listeners, &self.key, self.id),
            Kind::Login => remove(&shared.logins, &self.key, self.id),
        }
    }
}

pub(crate) struct LocalCommands {
    receiver: queue::Receiver<Command>,
    _registration: Registration,
}

impl LocalCommands {
    pub(crate) async fn next(&mut self) -> Option<Command> {
        loop {
            let command = self.receiver.next().await?;
            if !matches!(&command.reply, Reply::Local(asker) if asker.is_closed()) {
                return Some(command);
            }
        }
    }
}

pub(crate) struct LocalSubscription {
    receiver: mpsc::Receiver<Arc<Message>>,
    _registration: Registration,
}

impl LocalSubscription {
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await.map(Arc::unwrap_or_clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_that_matches_is_looked_up() {
        assert_eq!(patterns("a.b.c"), ["a.b.c", "a.b.*", "a.>", "a.b.>"]);
        assert_eq!(patterns("a"), ["a"]);
    }

    #[test]
    fn dropped_registrations_leave_nothing_behind() {
        let bus = LocalBus::default();
        let commands = bus.serve("cmd.a.1");
        let subscription = bus.subscribe("ev.a.>");
        let login = bus.logged_in("user", CancellationToken::new());
        assert_eq!(lock(&bus.0.servers).len(), 1);
        drop((commands, subscription, login));
        assert!(lock(&bus.0.servers).is_empty());
        assert!(lock(&bus.0.listeners).is_empty());
        assert!(lock(&bus.0.logins).is_empty());
    }

    #[test]
    fn a_queue_gives_each_message_to_one_member() {
        let bus = LocalBus::default();
        let (sender, mut receiver) = mpsc::channel(8);
        let member = || bus.listen("ev.a.*", Some("q".to_owned()), Sink::Lossy(sender.clone()));
        let _members = [member(), member()];
        let message = Message { subject: "ev.a.X".to_owned(), id: None, payload: vec![] };
        bus.publish(message);
        assert!(receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err());
    }
}
