//! Refused upgrades: what the peer is told, and the line in the log.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evm_ports::{Pace, Paces, site};

use super::head::Asked;

/// Lines of one address.
const LINES_OF_ONE: Pace = Pace { burst: 20, every: Duration::from_secs(3) };
/// Lines in all.
const LINES: Pace = Pace { burst: 100, every: Duration::from_millis(100) };
/// Most addresses whose lines are counted.
const MOST_ADDRESSES: usize = 10_000;
/// Most characters of what was asked.
const MOST_SHOWN: usize = 100;

/// A refused upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No request, or one that can be read in two ways: why.
    Malformed(&'static str),
    NotFound,
    /// Why.
    Unauthorized(&'static str),
    /// Too many wrong passwords: how long until the next try.
    TooOften(Duration),
    NotAnUpgrade,
    OtherWebsocket,
    TooLarge,
    TimedOut,
    /// Others wanted the place.
    Crowded,
    TooMany,
    /// Told by a close behind the 101.
    NoVersion,
    StoreDown,
    BusDown,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Malformed(why) | Self::Unauthorized(why) => why,
            Self::NotFound => "no such charger",
            Self::TooOften(_) => "too many wrong passwords",
            Self::NotAnUpgrade => "no websocket upgrade",
            Self::OtherWebsocket => "Sec-WebSocket-Version is not 13",
            Self::TooLarge => "the head is too large",
            Self::TimedOut => "the head did not come in time",
            Self::Crowded => "made room for others before its head had come",
            Self::TooMany => "too many connections",
            Self::NoVersion => "no common subprotocol",
            Self::StoreDown => "the store does not answer",
            Self::BusDown => "the bus is down",
        }
    }

    /// The whole answer; empty: none.
    pub(super) fn response(self) -> String {
        let again = |seconds: u64| format!("Retry-After: {seconds}\r\n");
        let (status, extra, code) = match self {
            Self::Crowded | Self::NoVersion => return String::new(),
            Self::Malformed(_) => ("400 Bad Request", String::new(), "invalid_request"),
            Self::NotFound => ("404 Not Found", String::new(), "unknown_charger"),
            Self::Unauthorized(_) => {
                ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"ocpp\"\r\n".into(), "unauthorized")
            }
            Self::TooOften(wait) => ("429 Too Many Requests", again(wait.as_secs() + 1), "too_many_requests"),
            Self::NotAnUpgrade => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nConnection: Upgrade\r\n".into(), "websocket_only")
            }
            Self::OtherWebsocket => ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n".into(), "websocket_only"),
            Self::TooLarge => ("431 Request Header Fields Too Large", String::new(), "head_too_large"),
            Self::TimedOut => ("408 Request Timeout", String::new(), "timed_out"),
            Self::TooMany => ("503 Service Unavailable", again(10), "too_many_connections"),
            Self::StoreDown => ("503 Service Unavailable", again(10), "store_down"),
            Self::BusDown => ("503 Service Unavailable", again(10), "bus_down"),
        };
        let body = format!(r#"{{"code":"{code}"}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: application/problem+json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }
}

/// Tells of refusals, few enough that nobody fills the disk with them.
pub(super) struct Log(Mutex<Lines>);

struct Lines {
    of_one: Paces<IpAddr>,
    all: Paces<()>,
    left_out: u64,
}

impl Default for Log {
    fn default() -> Self {
        let of_one = Paces::new(LINES_OF_ONE, MOST_ADDRESSES);
        Self(Mutex::new(Lines { of_one, all: Paces::new(LINES, 1), left_out: 0 }))
    }
}

impl Log {
    pub(super) fn tell(&self, asked: &Asked, reason: &'static str) {
        let Some(left_out) = self.is_due(asked.address, Instant::now()) else { return };
        let shown = |text: &str| text.chars().take(MOST_SHOWN).collect::<String>();
        let (address, identity, subprotocols) =
            (asked.address, shown(&asked.identity), shown(&asked.protocols.join(", ")));
        // Debug forms, so that nothing of it looks like a line of its own.
        if left_out == 0 {
            tracing::info!(%address, ?identity, ?subprotocols, reason, "charger refused");
        } else {
            tracing::info!(%address, ?identity, ?subprotocols, reason, left_out, "charger refused");
        }
    }

    /// Whether a line may be written, and how many before it were not.
    fn is_due(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.of_one.take(&site(address), now).is_ok() && lines.all.take(&(), now).is_ok() {
            Some(std::mem::take(&mut lines.left_out))
        } else {
            lines.left_out += 1;
            None
        }
    }
}

impl super::Door {
    /// Tells the log of a refusal.
    pub(crate) fn tell(&self, asked: &Asked, refusal: Refusal) {
        self.log.tell(asked, refusal.reason());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_few_and_what_is_left_out_is_counted() {
        let (log, now) = (Log::default(), Instant::now());
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        let told = (0..1000).filter(|_| log.is_due(ip(1), now).is_some()).count();
        assert_eq!(told, 20);
        assert_eq!(log.is_due(ip(2), now), Some(980));
        assert_eq!(log.is_due(ip(1), now + Duration::from_secs(3)), Some(0));
        let later = now + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|n| log.is_due(ip(100 + n), later).is_some()).count(), 100);
    }

    #[test]
    fn every_answer_is_whole() {
        for refusal in [
            Refusal::Malformed("x"),
            Refusal::TooOften(Duration::from_millis(1500)),
            Refusal::OtherWebsocket,
            Refusal::TimedOut,
            Refusal::TooMany,
        ] {
            let response = refusal.response();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{response}");
        }
        assert!(Refusal::TooOften(Duration::from_millis(1500)).response().contains("\r\nRetry-After: 2\r\n"));
    }
}
