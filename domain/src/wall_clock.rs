//! The wall clock of the place where a station stands, with the changes of it.

use std::sync::Arc;

use crate::units::Timestamp;

/// How far a wall clock is ahead of UTC, and when that changes. All of it is data: the same clock gives the same bill whenever
/// it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WallClock {
    zone: Option<Arc<str>>,
    first_min: i16,
    /// In the order of time: from when on, and how many minutes ahead from then on.
    changes: Arc<[(Timestamp, i16)]>,
}

impl WallClock {
    /// A clock that is so many minutes ahead of UTC for ever.
    pub fn fixed(utc_offset_min: i16) -> Self {
        Self { first_min: utc_offset_min, ..Self::default() }
    }

    /// The clock of a time zone: its offset before the first change, and the changes in the order of time.
    pub fn of_zone(zone: &str, first_min: i16, changes: Vec<(Timestamp, i16)>) -> Self {
        Self { zone: Some(zone.into()), first_min, changes: changes.into() }
    }

    /// The name of its time zone; `None` where it is fixed.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// How many minutes it is ahead of UTC at a moment.
    pub fn offset_min_at(&self, at: Timestamp) -> i16 {
        let passed = self.passed(at);
        passed.checked_sub(1).and_then(|n| self.changes.get(n)).map_or(self.first_min, |(_, offset)| *offset)
    }

    /// When it changes next after a moment.
    pub(crate) fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.changes.get(self.passed(at)).map(|(change, _)| *change)
    }

    fn passed(&self, at: Timestamp) -> usize {
        self.changes.partition_point(|(change, _)| *change <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_holds_from_its_change_on() {
        let clock = WallClock::of_zone("A/B", 60, vec![(Timestamp(100), 120), (Timestamp(200), 60)]);
        let at = |ms| (clock.offset_min_at(Timestamp(ms)), clock.next_change(Timestamp(ms)).map(|at| at.0));
        assert_eq!(at(99), (60, Some(100)));
        assert_eq!(at(100), (120, Some(200)));
        assert_eq!(at(200), (60, None));
        assert_eq!(WallClock::fixed(-30).offset_min_at(Timestamp(0)), -30);
    }
}
