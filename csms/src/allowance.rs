//! What one charger may cost: frames that are good for nothing, lines of the log, bytes that are kept of its messages.
//! Counted on this node and not by connection, so that coming again gains nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evm_domain::{ChargerId, Timestamp};
use evm_ports::{Pace, Paced};

const DAY_MS: i64 = 24 * 3_600_000;
/// What a kept message takes beside its texts, bytes.
const ROW: u64 = 300;
/// Of a message that is kept in part, characters.
pub(crate) const PART: usize = 1024;
/// Connections that ended for want of pongs and were followed by another: from then on it is known to send none.
const NEVER_PONGS: u8 = 2;

/// Frames that change nothing and are no sign of life either. Who sends more is read more slowly.
const USELESS: Pace = Pace { every: Duration::from_millis(20), burst: 500 };
/// Lines of the log.
const LINES: Pace = Pace { every: Duration::from_secs(10), burst: 20 };

/// How much of a message is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Whole,
    /// Its first [`PART`] characters.
    Part,
    /// It is counted only.
    Nothing,
}

/// What one charger has used up.
pub(crate) struct Allowance(Mutex<Used>);

struct Used {
    useless: Paced,
    lines: Paced,
    unsaid: u64,
    day: i64,
    bytes: u64,
    unkept: u64,
    ponged: bool,
    cut: u8,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        let (useless, lines) = (Paced::nothing(now), Paced::nothing(now));
        Self(Mutex::new(Used { useless, lines, unsaid: 0, day: 0, bytes: 0, unkept: 0, ponged: false, cut: 0 }))
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a frame that is good for nothing; how long the next may be left unread.
    pub(crate) fn useless(&self) -> Duration {
        self.used().useless.owe(USELESS, Instant::now())
    }

    /// Whether a line may go to the log, and how many did not since the last one.
    pub(crate) fn line(&self) -> Option<u64> {
        let mut used = self.used();
        if used.lines.take(LINES, Instant::now()).is_err() {
            used.unsaid += 1;
            return None;
        }
        Some(std::mem::take(&mut used.unsaid))
    }

    /// How many lines were left out since the last one.
    pub(crate) fn unsaid(&self) -> u64 {
        std::mem::take(&mut self.used().unsaid)
    }

    /// Counts the bytes of a message against the `bound` of a day. What bills has more room than what does not, and is kept
    /// in part for a while after it is used up.
    pub(crate) fn keep(&self, bytes: usize, bills: bool, bound: u64, now: Timestamp) -> Keep {
        let (day, mut used) = (now.0.div_euclid(DAY_MS), self.used());
        if used.day != day {
            (used.day, used.bytes) = (day, 0);
        }
        let whole = used.bytes.saturating_add(bytes as u64 + ROW);
        let part = used.bytes.saturating_add(PART as u64 + ROW);
        let (keep, bytes) = match bills {
            false if whole <= bound / 2 => (Keep::Whole, whole),
            true if whole <= bound => (Keep::Whole, whole),
            true if part <= bound + bound / 4 => (Keep::Part, part),
            _ => (Keep::Nothing, used.bytes),
        };
        used.bytes = bytes;
        used.unkept += u64::from(keep == Keep::Nothing);
        keep
    }

    /// How many messages were not kept since this was asked last.
    pub(crate) fn unkept(&self) -> u64 {
        std::mem::take(&mut self.used().unkept)
    }

    /// It answered a ping.
    pub(crate) fn ponged(&self) {
        let mut used = self.used();
        (used.ponged, used.cut) = (true, 0);
    }

    /// It was cut off because it answered no ping.
    pub(crate) fn cut(&self) {
        let mut used = self.used();
        used.cut = used.cut.saturating_add(1);
    }

    /// Whether silence after a ping means anything: a station that comes back each time it was cut off, and never sent a
    /// pong, sends none.
    pub(crate) fn pongs(&self) -> bool {
        let used = self.used();
        used.ponged || used.cut < NEVER_PONGS
    }
}

/// The allowances of all chargers that came to this node.
#[derive(Default)]
pub(crate) struct Allowances(Mutex<HashMap<ChargerId, Arc<Allowance>>>);

impl Allowances {
    pub(crate) fn of(&self, charger: ChargerId) -> Arc<Allowance> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(charger).or_insert_with(|| Arc::new(Allowance::new(Instant::now()))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn a_burst_is_free_and_then_each_waits() {
        let allowance = Allowance::new(Instant::now());
        for _ in 0..USELESS.burst {
            assert_eq!(allowance.useless(), Duration::ZERO);
        }
        let waits: Vec<_> = (0..100).map(|_| allowance.useless()).collect();
        assert!(waits.last().is_some_and(|wait| *wait > Duration::from_millis(900)), "{waits:?}");
        let said = (0..1000).filter_map(|_| allowance.line()).count();
        assert!((20..=22).contains(&said), "{said}");
        assert_eq!((allowance.unsaid(), allowance.unsaid()), (1000 - said as u64, 0));
    }

    #[test]
    fn the_bytes_of_a_day_are_bounded_and_what_bills_comes_first() {
        let allowance = Allowance::new(Instant::now());
        let keep = |bytes: u64, bills, at| {
            allowance.keep(usize::try_from(bytes - ROW).unwrap_or_default(), bills, 100_000, at)
        };
        assert_eq!(keep(50_000, false, DAY), Keep::Whole);
        assert_eq!(keep(1_000, false, DAY), Keep::Nothing);
        assert_eq!(keep(50_000, true, DAY), Keep::Whole);
        let kept = (0..1000).filter(|_| keep(9_000, true, DAY) == Keep::Part).count();
        assert_eq!(kept, 18, "a quarter more, in parts");
        assert_eq!(keep(9_000, true, DAY), Keep::Nothing);
        assert_eq!((allowance.unkept(), allowance.unkept()), (984, 0));
        assert_eq!(keep(50_000, false, DAY.plus_millis(DAY_MS)), Keep::Whole, "the next day is another");
    }

    #[test]
    fn who_comes_back_each_time_without_a_pong_sends_none() {
        let allowance = Allowance::new(Instant::now());
        allowance.cut();
        assert!(allowance.pongs());
        allowance.cut();
        assert!(!allowance.pongs());
        allowance.ponged();
        (0..5).for_each(|_| allowance.cut());
        assert!(allowance.pongs(), "it can");
    }
}
