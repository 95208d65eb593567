//! A station's clock, held against the times of receipt.
//!
//! A message is received after what it tells: its lag says by how much. Lags fall where a station empties its queue, and where
//! its clock is set forward. It was set where everything before came late, this comes at once, and the station is not known to
//! have been out of touch in between. What it told of a time out of touch is no queue where its lag stays the same for a
//! minute: so come the messages of a clock that stood still meanwhile.

use crate::point::{Dated, Point};
use crate::units::Timestamp;

/// Messages come late by so much without anybody's fault.
const LATE_MS: i64 = 45 * 60_000;
/// Where they come late by less and then one comes right away, it may have been a slow line or a clock: that is doubtful, and
/// what was told stays.
const DOUBTFUL_MS: i64 = 3 * 60_000;
const RIGHT_AWAY_MS: i64 = 30_000;
/// What comes within this time comes at once; or within the tenth part of what it is held against.
const AT_ONCE_MS: i64 = 10 * 60_000;
const AT_ONCE_PART: i64 = 10;
/// Receipts bear out whole minutes: a queue is emptied within seconds.
const LEAST_BORNE_MS: i64 = 60_000;
/// Lags that differ by no more than this are the same.
const SAME_LAG_MS: u64 = 10_000;

/// What is remembered of a session's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    /// The least lag so far, milliseconds.
    pub(crate) least_lag_ms: Option<i64>,
    /// Whether that one came late because the station was out of touch.
    pub(crate) was_away: bool,
    /// When the newest point was received; 0 where that is not known.
    pub(crate) heard_at: Timestamp,
    /// Whether the newest point's date is good by our clock too: it came late for a reason, or nobody knows how it came.
    pub(crate) date_holds: bool,
    /// The lag that the newest points have in common, milliseconds, and since which receipt; 0 where there is none.
    pub(crate) steady: (i64, Timestamp),
}

/// What was seen of the clock since the point before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    None,
    /// It was set forward by so much, milliseconds.
    Set {
        by: i64,
    },
    /// It may have been, by minutes; between the receipts passed this time, milliseconds.
    Perhaps {
        borne_ms: i64,
    },
}

impl Clock {
    /// Takes in the next point in the order of dates. Says what happened to the clock since `last_at`.
    pub(crate) fn take(&mut self, point: Point, last_at: Timestamp) -> Jump {
        if point.heard.at == Timestamp(0) {
            self.date_holds = true;
            return Jump::None;
        }
        let mut jump = Jump::None;
        self.date_holds = false;
        if point.heard.date != Dated::AtReceipt {
            let lag_ms = point.heard.at.0.saturating_sub(point.at.0);
            let is_away = point.heard.date == Dated::WhileAway && !self.is_steady(lag_ms, point.heard.at);
            self.was_away &= is_away || point.heard.date != Dated::WhileAway;
            jump = self.jump(point, lag_ms, last_at);
            if jump != Jump::None || self.least_lag_ms.is_none_or(|least| lag_ms < least) {
                self.least_lag_ms = Some(lag_ms);
                self.was_away = is_away;
            }
            self.date_holds = is_away;
        }
        self.heard_at = point.heard.at;
        jump
    }

    /// Whether points have come with the same lag for as long as a queue is not emptied in.
    fn is_steady(&mut self, lag_ms: i64, heard_at: Timestamp) -> bool {
        let (lag, since) = self.steady;
        if since == Timestamp(0) || lag.abs_diff(lag_ms) > SAME_LAG_MS {
            self.steady = (lag_ms, heard_at);
        }
        heard_at.since(self.steady.1) >= LEAST_BORNE_MS
    }

    fn jump(&self, point: Point, lag_ms: i64, last_at: Timestamp) -> Jump {
        let Some(least) = self.least_lag_ms.filter(|_| !self.was_away && last_at != Timestamp(0)) else {
            return Jump::None;
        };
        let fell_by = least.saturating_sub(lag_ms);
        if fell_by <= DOUBTFUL_MS || lag_ms > AT_ONCE_MS.max(fell_by / AT_ONCE_PART) {
            return Jump::None;
        }
        let dated = point.at.since(last_at);
        let borne = Some(point.heard.at.since(self.heard_at)).filter(|ms| *ms >= LEAST_BORNE_MS).unwrap_or(0);
        match dated - borne.min(dated) {
            by if by > LATE_MS && fell_by > LATE_MS => Jump::Set { by },
            by if by > DOUBTFUL_MS && lag_ms <= RIGHT_AWAY_MS => Jump::Perhaps { borne_ms: borne },
            _ => Jump::None,
        }
    }

    /// Our moment by the station's clock, as far as is known; `last_at` is the date of the newest point.
    pub(crate) fn stations(&self, ours: Timestamp, last_at: Timestamp) -> Timestamp {
        if self.date_holds || self.heard_at == Timestamp(0) {
            return ours;
        }
        last_at.plus_millis(ours.since(self.heard_at))
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
