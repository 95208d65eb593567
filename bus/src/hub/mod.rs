//! A small NATS server for phones, for operators without a NATS server of their own. It speaks the core text protocol
//! without TLS: log in, hear the own topic, nothing else. Refusals are worded as the real server's.

mod connection;
mod protocol;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evm_ports::{Limits, Networks, Places};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Authenticator, Bus, LocalBus};

/// What one client, one address and all together may use.
#[derive(Debug, Clone)]
pub struct HubLimits {
    /// Connections in all. Where they are used up, who has not logged in makes room.
    pub connections: usize,
    /// Connections from one address (one /48 for IPv6). Many phones share one behind a carrier's gateway.
    pub connections_per_address: usize,
    /// Proxies, which may hold all connections.
    pub trusted_proxies: Networks,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Bytes that may wait for one connection; a slower reader is cut off.
    pub pending_bytes: usize,
    /// From the first byte to a good login.
    pub login_timeout: Duration,
    /// How long a wrong login waits for its answer.
    pub wrong_login_delay: Duration,
    /// How long a login counts before it is looked up again.
    pub login_recheck: Duration,
    /// A silent client is asked this often whether it lives, and cut off when two such questions stay unanswered.
    pub ping_interval: Duration,
    /// Longest time that one write may be stuck.
    pub write_timeout: Duration,
    /// The port told to clients; the listener's own when 0.
    pub advertised_port: u16,
}

impl Default for HubLimits {
    fn default() -> HubLimits {
        HubLimits {
            connections: 10_000,
            connections_per_address: 1_000,
            trusted_proxies: Networks::default(),
            subscriptions: 16,
            pending_bytes: 1024 * 1024,
            login_timeout: Duration::from_secs(5),
            wrong_login_delay: Duration::from_millis(500),
            login_recheck: Duration::from_secs(60 * 60),
            ping_interval: Duration::from_secs(30),
            write_timeout: Duration::from_secs(5),
            advertised_port: 0,
        }
    }
}

/// What all connections share.
struct Hub {
    bus: LocalBus,
    authenticator: Authenticator,
    limits: HubLimits,
    server_id: String,
    shutdown: CancellationToken,
    places: Places,
}

/// Serves phones until `shutdown`, then closes their connections. Needs [`Bus::Local`]; with another bus it logs an error
/// and returns, because there the NATS server serves them.
pub async fn run(
    listener: TcpListener,
    bus: Bus,
    authenticator: Authenticator,
    mut limits: HubLimits,
    shutdown: CancellationToken,
) {
    let Bus::Local(bus) = bus else {
        tracing::error!("the built-in NATS port works with the local bus only");
        return;
    };
    if limits.advertised_port == 0 {
        limits.advertised_port = listener.local_addr().map_or(0, |address| address.port());
    }
    let server_id = nkeys::KeyPair::new_server().public_key();
    let places = Places::new(Limits { all: limits.connections, of_one: limits.connections_per_address });
    let hub = Arc::new(Hub { bus, authenticator, limits, server_id, shutdown, places });
    let connections = TaskTracker::new();
    let mut client = 0;
    loop {
        let (stream, peer) = tokio::select! {
            () = hub.shutdown.cancelled() => break,
            accepted = evm_ports::accept(&listener, &hub.places) => accepted,
        };
        client += 1;
        admit(&hub, &connections, stream, peer, client);
    }
    connections.close();
    let longest = hub.limits.write_timeout;
    let _ = tokio::time::timeout(longest, connections.wait()).await;
}

fn admit(hub: &Arc<Hub>, connections: &TaskTracker, stream: TcpStream, peer: SocketAddr, client: u64) {
    let shared = hub.limits.trusted_proxies.contain(peer.ip());
    let Some(place) = hub.places.enter(peer.ip(), shared) else {
        tracing::debug!(%peer, "too many NATS connections");
        // Fits the socket's empty buffer; there is nobody to wait for.
        let _ = stream.try_write(&protocol::error("maximum connections exceeded"));
        return;
    };
    let hub = hub.clone();
    connections.spawn(async move {
        let reason = connection::serve(&hub, stream, client, &place).await;
        tracing::debug!(%peer, client, reason, "NATS connection ended");
    });
}
