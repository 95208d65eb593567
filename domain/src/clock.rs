//! A station's clock, held against the times of receipt.
//!
//! A message is received after what it tells: its lag says by how much. Lags fall where a station empties its queue, and where
//! its clock is set forward. It was set where everything before came late, this comes at once, and the station is not known to
//! have been out of touch in between.

use crate::point::{Dated, Point};
use crate::units::Timestamp;

/// Messages come late by so much without anybody's fault.
const LATE_MS: i64 = 45 * 60_000;
/// What comes within this time comes at once; or within the tenth part of what it is held against.
const AT_ONCE_MS: i64 = 10 * 60_000;
const AT_ONCE_PART: i64 = 10;
/// Receipts bear out whole minutes: a queue is emptied within seconds.
const LEAST_BORNE_MS: i64 = 60_000;

/// What is remembered of a session's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    /// The least lag so far, milliseconds.
    pub(crate) least_lag_ms: Option<i64>,
    /// Whether that one came late because the station was out of touch.
    pub(crate) was_away: bool,
    /// When the newest point was received; 0 where that is not known.
    pub(crate) heard_at: Timestamp,
}

impl Clock {
    /// Takes in the next point in the order of dates. Gives by how much the clock was set forward since `last_at`, milliseconds,
    /// where it was.
    pub(crate) fn take(&mut self, point: Point, last_at: Timestamp) -> Option<i64> {
        if point.heard.at == Timestamp(0) {
            return None;
        }
        let mut set_by = None;
        if point.heard.date != Dated::AtReceipt {
            let lag_ms = point.heard.at.0.saturating_sub(point.at.0);
            set_by = self.set_by(point, lag_ms, last_at);
            if set_by.is_some() || self.least_lag_ms.is_none_or(|least| lag_ms < least) {
                self.least_lag_ms = Some(lag_ms);
                self.was_away = point.heard.date == Dated::WhileAway;
            }
        }
        self.heard_at = point.heard.at;
        set_by
    }

    fn set_by(&self, point: Point, lag_ms: i64, last_at: Timestamp) -> Option<i64> {
        let least = self.least_lag_ms.filter(|_| !self.was_away && last_at != Timestamp(0))?;
        let fell_by = least.saturating_sub(lag_ms);
        if fell_by <= LATE_MS || lag_ms > AT_ONCE_MS.max(fell_by / AT_ONCE_PART) {
            return None;
        }
        let dated = point.at.since(last_at);
        let borne = Some(point.heard.at.since(self.heard_at)).filter(|ms| *ms >= LEAST_BORNE_MS).unwrap_or(0);
        Some(dated - borne.min(dated)).filter(|set_by| *set_by > LATE_MS)
    }
}
