//! The central system: real chargers over websockets, OCPP 1.6J and 2.0.1. The only OCPP in the house.
//!
//! `listener` → `handshake` → `connection` (one task a socket) → `ocpp` (frames to events) → `ingest` (one commit
//! for what many sockets bring) → answer. `live` sends the running figures and ends what fell silent.

mod allowance;
mod connection;
mod guesses;
mod handshake;
mod ingest;
mod listener;
mod live;
mod ocpp;
mod registry;
mod severed;

use std::sync::Arc;
use std::time::Duration;

use evm_bus::Bus;
use evm_ports::Networks;
use evm_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The settings of the central system.
#[derive(Debug, Clone)]
pub struct Config {
    /// Key of the hashes of chargers' passwords.
    pub server_secret: [u8; 32],
    /// Told to chargers at boot, seconds; never 0.
    pub heartbeat_s: u32,
    /// How long a charger may take to answer a command.
    pub call_timeout: Duration,
    /// How long a customer's request holds a device before the charge has begun.
    pub start_limit: Duration,
    /// How long an offline charger may be silent before its charges are ended with the figures so far.
    pub silence_limit: Duration,
    /// How long a charge goes on of which its station knows nothing any more, by its own words.
    pub lost_limit: Duration,
    /// How often the live event goes out.
    pub live_interval: Duration,
    /// How many readings of a charge are kept; older ones go on in its figures only. A late one costs the look at so many.
    pub most_readings: u32,
    /// Who may begin a charge with a card.
    pub credit: evm_domain::credit::Rules,
    /// Whether a charge is stopped when it costs as much as its customer's balance.
    pub stop_at_balance: bool,
    /// What a wrong tag costs a charger where card numbers are guessed, and fifty times as much where very many are.
    pub guess_pause: Duration,
    /// How long frames are kept.
    pub keep_frames: Duration,
    /// How old a charge is whose readings are packed.
    pub pack_readings: Duration,
    /// Most bytes of one frame.
    pub max_frame: usize,
    /// Most bytes of long messages, and of what is made of them, at a time; whoever comes then waits.
    pub max_room: u64,
    /// How long one waits for room before the slowest of those that hold it give way.
    pub room_patience: Duration,
    /// Most bytes of one charger's messages that are kept a day.
    pub frame_bytes_a_day: u64,
    /// Silence after which a charger is pinged; an answer may take a sixth of it, and after three that do not come the
    /// connection is over.
    pub ping_every: Duration,
    /// Most sockets that have said what they want, chargers above all.
    pub max_connections: usize,
    /// Most sockets beside these, that have not said so yet.
    pub max_strangers: usize,
    /// How long a station that comes while the store does not answer waits for it, before it is refused.
    pub store_patience: Duration,
    /// How long a handshake may take.
    pub handshake_time: Duration,
    /// Proxies, which may hold all sockets, and whose headers say where a charger comes from.
    pub trusted_proxies: Networks,
}

impl Config {
    /// The defaults, with this key.
    pub fn new(server_secret: [u8; 32]) -> Self {
        Self {
            server_secret,
            heartbeat_s: 300,
            call_timeout: Duration::from_secs(30),
            start_limit: Duration::from_secs(180),
            silence_limit: Duration::from_secs(15 * 60),
            lost_limit: Duration::from_secs(15 * 60),
            live_interval: Duration::from_secs(3),
            most_readings: 20_000,
            credit: evm_domain::credit::Rules::default(),
            stop_at_balance: false,
            guess_pause: Duration::from_millis(20),
            keep_frames: Duration::from_secs(30 * 24 * 3600),
            pack_readings: Duration::from_secs(2 * 24 * 3600),
            // A StopTransaction of three days with a sample every 5 s has 10 MB; refused, it would come again for ever.
            max_frame: 16 * 1024 * 1024,
            max_room: 256 * 1024 * 1024,
            room_patience: Duration::from_secs(10),
            frame_bytes_a_day: 100 * 1024 * 1024,
            ping_every: Duration::from_secs(60),
            max_connections: 50_000,
            max_strangers: 12_500,
            store_patience: Duration::from_secs(20),
            handshake_time: Duration::from_secs(10),
            trusted_proxies: Networks::default(),
        }
    }
}

/// What every part of a node shares.
struct Node {
    /// This node among all, new at every start.
    id: String,
    store: Store,
    bus: Bus,
    config: Config,
    door: handshake::Door,
    registry: Arc<registry::Registry>,
    ingest: ingest::Ingest,
    allowances: allowance::Allowances,
    guesses: guesses::Guesses,
    /// For the long messages of all sockets.
    room: Arc<connection::Room>,
    severed: severed::Severed,
}

/// Serves chargers until `shutdown`, then closes their sockets.
///
/// # Errors
/// Where the store does not answer at the start.
pub async fn run(
    listener: TcpListener,
    store: Store,
    bus: Bus,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let id = evm_store::new_id().to_string();
    let registry = Arc::new(registry::Registry::default());
    let (ingest, writers) = ingest::start(&store, &bus, &config, &id, &registry);
    let door = handshake::Door::new(&config);
    let (allowances, room) =
        (allowance::Allowances::default(), connection::Room::new(config.max_room, config.room_patience));
    let guesses = guesses::Guesses::new(config.guess_pause);
    let severed = severed::Severed::default();
    let node = Arc::new(Node { id, store, bus, config, door, registry, ingest, allowances, guesses, room, severed });
    live::renew_node(&node).await?;
    let work = live::start(&node, &shutdown);
    listener::run(listener, node.clone(), shutdown).await;
    // Sockets are closed by now; what they handed over is written before the program ends.
    node.ingest.close();
    for writer in writers {
        let _ = writer.await;
    }
    work.await;
    live::leave(&node).await;
    Ok(())
}

/// Binds the port for chargers with a queue long enough for the return of all of them at once.
///
/// # Errors
/// Where the address is taken or not ours.
pub fn bind(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}
