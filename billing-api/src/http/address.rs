//! Where a request comes from. Headers of proxies are believed from the proxies of the settings only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use evm_ports::Networks;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub(crate) use evm_ports::prefix as network;

use super::problem::Problem;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Client>().copied().unwrap_or(Client(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }
}

/// Said once.
static WARNED: AtomicBool = AtomicBool::new(false);

/// The client of a request: the peer, or the last one in the headers that is no trusted proxy.
pub(crate) fn client(request: &Request, trusted: &Networks) -> Client {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip()).to_canonical();
    let headers = request.headers();
    let forwarded = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
    if forwarded && !trusted.contain(peer) && !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            %peer,
            "requests come forwarded by a peer that is not in EVM_TRUSTED_PROXIES: if it is your proxy, \
             all customers share the limits of its one address"
        );
    }
    let lines = |name| headers.get_all(name).into_iter().map(axum::http::HeaderValue::as_bytes);
    Client(evm_ports::client(peer, lines(X_FORWARDED_FOR), lines(FORWARDED.as_str()), trusted))
}

/// [`network`] and two wider ones around it: what one line or one hoster gives away (/48, /24), and a provider (/32, /16).
pub(crate) fn networks(address: IpAddr) -> [IpNet; 3] {
    match address.to_canonical() {
        IpAddr::V6(address) => [64, 48, 32].map(|bits| Ipv6Net::new_assert(address, bits).trunc().into()),
        IpAddr::V4(address) => [32, 24, 16].map(|bits| Ipv4Net::new_assert(address, bits).trunc().into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_are_wider_and_wider() {
        let wider = |text: &str| networks(text.parse().unwrap()).map(|network| network.to_string());
        assert_eq!(wider("2001:db8:1:2:3:4:5:6"), ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]);
        assert_eq!(wider("::ffff:203.0.113.7"), ["203.0.113.7/32", "203.0.113.0/24", "203.0.0.0/16"]);
    }
}
