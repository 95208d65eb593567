//! Where a request comes from. Headers of proxies are believed from the proxies of the settings only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::problem::Problem;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Most hops that are looked at; more stand in no honest header.
const MOST_HOPS: usize = 32;

/// Addresses and networks, e.g. `10.0.0.0/8, ::1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether an address is among them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let network = |part: &str| {
            let one = |_| part.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            part.parse::<IpNet>().or_else(one).map_err(|_| BadNetwork)
        };
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// No address and no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadNetwork;

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write addresses and networks like 10.0.0.0/8, 192.168.1.7, ::1")
    }
}

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
    if !trusted.contain(peer) {
        let forwarded = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if forwarded && !WARNED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "requests come forwarded by a peer that is not in EVM_TRUSTED_PROXIES: if it is your proxy, \
                 all customers share the limits of its one address"
            );
        }
        return Client(peer);
    }
    let (x_forwarded_for, forwarded) = (x_forwarded_for(headers), forwarded(headers));
    Client(match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
        (true, _) => walk(peer, &forwarded, trusted),
        (false, true) => walk(peer, &x_forwarded_for, trusted),
        // A proxy writes one of the two and may hand on what the client wrote into the other: believed where they agree.
        (false, false) => {
            let one = walk(peer, &x_forwarded_for, trusted);
            if walk(peer, &forwarded, trusted) == one { one } else { peer }
        }
    })
}

/// From the peer backwards while the hop is trusted. A hop that is no address ends the walk: what lies before it was
/// written by somebody unknown.
fn walk(peer: IpAddr, hops: &[Option<IpAddr>], trusted: &Networks) -> IpAddr {
    let mut at = peer;
    for hop in hops.iter().rev().take(MOST_HOPS) {
        if !trusted.contain(at) {
            break;
        }
        let Some(before) = hop else { break };
        at = *before;
    }
    at
}

fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    lines(headers, X_FORWARDED_FOR).flat_map(|line| line.split(',')).map(|hop| address(hop.trim())).collect()
}

/// `Forwarded: for=192.0.2.43, for="[2001:db8::17]:4711";proto=https` (RFC 7239).
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let hops = lines(headers, FORWARDED.as_str()).flat_map(|line| line.split(','));
    hops.map(|hop| {
        let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
        let mut client = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        client.next().and_then(|(_, value)| address(value.trim().trim_matches('"')))
    })
    .collect()
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    // A line that is no text is a hop that is no address.
    headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("?"))
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    found.ok().map(|address| address.to_canonical())
}

/// Whom an address stands for: itself, or in version 6 its network of 64 bits, which one customer has to themself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Net::new_assert(address, 64).network().into(),
        address => address,
    }
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
    use axum::body::Body;

    fn from(peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted: Networks = "10.0.0.0/8, 127.0.0.1, fd00::/8".parse().unwrap();
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 5000)));
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(&request, &trusted).0.to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_is_believed() {
        assert_eq!(from("203.0.113.9", &[("x-forwarded-for", "1.1.1.1")]), "203.0.113.9");
        assert_eq!(from("203.0.113.9", &[("forwarded", "for=1.1.1.1")]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1")]), "1.1.1.1");
        assert_eq!(from("::ffff:10.0.0.1", &[("x-forwarded-for", "1.1.1.1")]), "1.1.1.1");
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_counts() {
        for (header, client) in [
            ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
            ("1.1.1.1:4000", "1.1.1.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("1.1.1.1, nonsense", "10.0.0.1"),
            ("1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
            ("1.1.1.1,", "10.0.0.1"),
        ] {
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", header)]), client, "{header}");
        }
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1, 10.0.0.2")];
        assert_eq!(from("10.0.0.1", &lines), "1.1.1.1");
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, \u{fc}")]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (header, client) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=6.6.6.6;proto=http, proto=https;for=1.1.1.1;by=10.0.0.1", "1.1.1.1"),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(from("10.0.0.1", &[("forwarded", header)]), client, "{header}");
        }
    }

    #[test]
    fn two_headers_count_where_they_agree() {
        let (one, other) = (("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1"));
        assert_eq!(from("10.0.0.1", &[one, other]), "1.1.1.1");
        assert_eq!(from("10.0.0.1", &[one, ("forwarded", "for=6.6.6.6")]), "10.0.0.1");
    }

    #[test]
    fn networks_are_lists_of_addresses() {
        assert_eq!("".parse::<Networks>(), Ok(Networks::default()));
        for bad in ["10.0.0.0/33", "localhost", "10.0.0.1;10.0.0.2"] {
            assert_eq!(bad.parse::<Networks>(), Err(BadNetwork), "{bad}");
        }
        let one: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        assert_eq!(network(one).to_string(), "2001:db8:1:2::");
        let wider = |text: &str| networks(text.parse().unwrap()).map(|network| network.to_string());
        assert_eq!(wider("2001:db8:1:2:3:4:5:6"), ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]);
        assert_eq!(wider("::ffff:203.0.113.7"), ["203.0.113.7/32", "203.0.113.0/24", "203.0.0.0/16"]);
    }
}
