//! File descriptors: every socket takes one. The process asks for all that it may have, and serves no more sockets than
//! these carry.

use crate::settings::Settings;

/// Asked for where the system names no limit.
const PLENTY: u64 = 1 << 20;
/// Kept for the database, the log and calls to others.
const RESERVE: u64 = 256;
/// Beside the sockets of chargers this part of them may be strangers': many chargers may come back at once.
const PART_OF_STRANGERS: u32 = 4;

/// What the system gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// How many the process had.
    pub(crate) before: u64,
    /// How many it has now.
    pub(crate) now: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one.
    #[cfg(unix)]
    pub(crate) fn raise() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let before = limit.current.unwrap_or(PLENTY);
        let wanted = limit.maximum.unwrap_or(PLENTY).max(before);
        // Some systems name no limit and have one all the same.
        for current in [wanted, wanted.min(10_240)] {
            if current > before && setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }).is_ok() {
                break;
            }
        }
        Self { before, now: getrlimit(Resource::Nofile).current.unwrap_or(PLENTY) }
    }

    /// Nothing is known of them here.
    #[cfg(not(unix))]
    pub(crate) fn raise() -> Self {
        Self { before: PLENTY, now: PLENTY }
    }

    /// What the ports may hold: as the settings say, or less where descriptors are few.
    pub(crate) fn sockets(self, settings: &Settings) -> Sockets {
        let wanted = Sockets {
            chargers: settings.ocpp_connections.max(1),
            strangers: settings.ocpp_connections / PART_OF_STRANGERS,
            http: settings.http_connections.max(1),
            phones: settings.nats_hub_connections.max(1),
        };
        let there = self.now.saturating_sub(RESERVE.min(self.now / 4));
        wanted.cut_to(there)
    }
}

/// Most sockets of each port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// Chargers.
    pub(crate) chargers: u32,
    /// Those at the chargers' port who have not said yet what they want.
    pub(crate) strangers: u32,
    /// The REST API.
    pub(crate) http: u32,
    /// Phones at the built-in NATS port.
    pub(crate) phones: u32,
}

impl Sockets {
    /// How many there are in all.
    pub(crate) fn sum(self) -> u64 {
        [self.chargers, self.strangers, self.http, self.phones].into_iter().map(u64::from).sum()
    }

    /// Each in its part of so many.
    fn cut_to(self, there: u64) -> Self {
        let sum = self.sum();
        if there >= sum {
            return self;
        }
        let cut = |wanted: u32| u32::try_from(u64::from(wanted) * there / sum).unwrap_or(wanted).max(1);
        Self {
            chargers: cut(self.chargers),
            strangers: cut(self.strangers),
            http: cut(self.http),
            phones: cut(self.phones),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_out() {
        let wanted = Sockets { chargers: 50_000, strangers: 5_000, http: 4_000, phones: 10_000 };
        assert_eq!(wanted.cut_to(u64::MAX), wanted);
        assert_eq!(wanted.cut_to(100_000), wanted);
        assert_eq!(wanted.cut_to(69_000), wanted);
        let few = wanted.cut_to(690);
        assert_eq!(few, Sockets { chargers: 500, strangers: 50, http: 40, phones: 100 });
        assert_eq!(wanted.cut_to(3).sum(), 5, "one for each, and no port is shut: chargers get two");
    }

    #[test]
    fn raising_takes_nothing_away() {
        let Descriptors { before, now } = Descriptors::raise();
        assert!(now >= before && before > 0);
        assert_eq!(Descriptors::raise().before, now);
    }
}
