//! A small NATS server for phones, for operators without a NATS server of their own. It speaks the core text protocol
//! without TLS: log in, hear the own topic, nothing else. Refusals are worded as the real server's.

mod connection;
mod protocol;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Authenticator, Bus, LocalBus};

/// What one client, one address and all together may use.
#[derive(Debug, Clone)]
pub struct HubLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address (one /64 for IPv6). Many phones share one behind a carrier's gateway.
    pub connections_per_address: usize,
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
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
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
    let open = Mutex::default();
    let hub = Arc::new(Hub { bus, authenticator, limits, server_id, shutdown, open });
    let connections = TaskTracker::new();
    let mut client = 0;
    loop {
        let accepted = tokio::select! {
            () = hub.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        client += 1;
        match accepted {
            Ok((stream, peer)) => admit(&hub, &connections, stream, peer, client),
            Err(error) => {
                // Out of file descriptors, mostly; trying again at once would spin.
                tracing::warn!(%error, "cannot accept a NATS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    let longest = hub.limits.write_timeout;
    let _ = tokio::time::timeout(longest, connections.wait()).await;
}

fn admit(hub: &Arc<Hub>, connections: &TaskTracker, stream: TcpStream, peer: SocketAddr, client: u64) {
    let Some(place) = Place::take(hub, peer.ip()) else {
        tracing::debug!(%peer, "too many NATS connections");
        // Fits the socket's empty buffer; there is nobody to wait for.
        let _ = stream.try_write(&protocol::error("maximum connections exceeded"));
        return;
    };
    let hub = hub.clone();
    connections.spawn(async move {
        let reason = connection::serve(&hub, stream, client).await;
        tracing::debug!(%peer, client, reason, "NATS connection ended");
        drop(place);
    });
}

/// One connection's place among those allowed.
struct Place {
    hub: Arc<Hub>,
    address: IpAddr,
}

impl Place {
    fn take(hub: &Arc<Hub>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = hub.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or_default();
        if open.all >= hub.limits.connections || here >= hub.limits.connections_per_address {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, here + 1);
        Some(Place { hub: hub.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.hub.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: for IPv6 the /64, for IPv4 in IPv6's clothes the IPv4 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_whole_ipv6_network_counts_as_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
        assert_ne!(network(ip("::ffff:10.0.0.1")), network(ip("::ffff:10.0.0.2")));
        assert_eq!(network(ip("::ffff:10.0.0.1")), network(ip("10.0.0.1")));
    }
}
