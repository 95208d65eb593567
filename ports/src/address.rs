//! Where a client comes from. Headers of proxies are believed from the proxies of the settings only.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

/// Most hops that are looked at; more stand in no honest header.
const MOST_HOPS: usize = 32;

/// Addresses and networks, e.g. `10.0.0.0/8, ::1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether an address is among them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
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

/// The client behind a peer: the peer itself, or the last address in its headers `X-Forwarded-For` and `Forwarded` (all
/// their lines, in order) that is no trusted proxy.
pub fn client<'a>(
    peer: IpAddr,
    x_forwarded_for: impl Iterator<Item = &'a [u8]>,
    forwarded: impl Iterator<Item = &'a [u8]>,
    trusted: &Networks,
) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contain(peer) {
        return peer;
    }
    let (x_forwarded_for, forwarded) = (read_x_forwarded_for(x_forwarded_for), read_forwarded(forwarded));
    match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
        (true, _) => walk(peer, &forwarded, trusted),
        (false, true) => walk(peer, &x_forwarded_for, trusted),
        // A proxy writes one of the two and may hand on what the client wrote into the other: believed where they agree.
        (false, false) => {
            let one = walk(peer, &x_forwarded_for, trusted);
            if walk(peer, &forwarded, trusted) == one { one } else { peer }
        }
    }
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

fn read_x_forwarded_for<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<Option<IpAddr>> {
    lines.flat_map(|line| text(line).split(',')).map(|hop| address(hop.trim())).collect()
}

/// `Forwarded: for=192.0.2.43, for="[2001:db8::17]:4711";proto=https` (RFC 7239).
fn read_forwarded<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<Option<IpAddr>> {
    let hops = lines.flat_map(|line| text(line).split(','));
    hops.map(|hop| {
        let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
        let mut client = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        client.next().and_then(|(_, value)| address(value.trim().trim_matches('"')))
    })
    .collect()
}

/// A line that is no text is a hop that is no address.
fn text(line: &[u8]) -> &str {
    std::str::from_utf8(line).ok().filter(|line| line.is_ascii()).unwrap_or("?")
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse::<IpAddr>().or_else(|_| text.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    found.ok().map(|address| address.to_canonical())
}

/// Whom an address stands for: itself, or in version 6 its network of 64 bits, which one line has to itself.
pub fn prefix(address: IpAddr) -> IpAddr {
    cut(address, 64)
}

/// Who may command many addresses: in version 6 a network of 48 bits, as a site or a rented server has it.
pub fn site(address: IpAddr) -> IpAddr {
    cut(address, 48)
}

fn cut(address: IpAddr, bits: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Net::new_assert(address, bits).network().into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted: Networks = "10.0.0.0/8, 127.0.0.1, fd00::/8".parse().unwrap();
        let lines = |wanted: &'static str| {
            headers.iter().filter(move |(name, _)| *name == wanted).map(|(_, line)| line.as_bytes())
        };
        client(peer.parse().unwrap(), lines("x-forwarded-for"), lines("forwarded"), &trusted).to_string()
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
    }

    #[test]
    fn an_address_of_version_6_stands_for_its_network() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(prefix(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(site(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1::"));
        for of in [prefix, site] {
            assert_ne!(of(ip("::ffff:10.0.0.1")), of(ip("::ffff:10.0.0.2")));
            assert_eq!(of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        }
    }
}
