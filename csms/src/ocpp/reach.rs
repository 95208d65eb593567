//! What a message's dates are held against: when it was received, and when its station was out of touch before that.

use evm_domain::bounds::closing;
use evm_domain::{Dated, Heard, Timestamp, TransactionUpdate};
use serde_json::Value;

use super::lenient::{field, format_time};

/// When a station was last heard is kept to some seconds.
const SLACK_MS: i64 = 60_000;
/// A station that was never heard before and says that it was offline is believed so far back.
const OFFLINE_MS: i64 = 7 * 24 * 3_600_000;

/// So many moments are looked at; a message tells few dates of now.
const MOST_STEPS: i64 = 8;

/// A time of receipt that the message does not name: what has it as its date has none of the station's own.
pub(crate) fn apart(received: Timestamp, payload: &str) -> Timestamp {
    let is_told = |received: Timestamp| {
        // Some stations write no thousandths, or fewer digits of them.
        received.0 % 10 == 0 || format_time(received).get(14..23).is_some_and(|minute| payload.contains(minute))
    };
    // A message that names moment after moment names them on purpose.
    (0..MOST_STEPS).map(|ms| received.plus_millis(ms)).find(|moment| !is_told(*moment)).unwrap_or(received)
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) received: Timestamp,
    /// From when to when the station is known to have been out of touch.
    away: Option<(Timestamp, Timestamp)>,
}

impl Reach {
    /// `away`: when the station was last heard before its connection, and when that began.
    pub(crate) fn of(received: Timestamp, away: (Option<Timestamp>, Timestamp), payload: &Value) -> Self {
        let (heard, connected) = away;
        let says_offline = field(payload, "offline") == Some(&Value::Bool(true));
        let since = heard.or_else(|| says_offline.then(|| connected.plus_millis(-OFFLINE_MS)));
        Self { received, away: since.map(|since| (since.plus_millis(-SLACK_MS), connected)) }
    }

    /// What is known of a date in the message.
    pub(crate) fn heard(&self, at: Timestamp) -> Heard {
        let date = if at == self.received {
            Dated::AtReceipt
        } else if self.away.is_some_and(|(since, until)| since <= at && at <= until) {
            Dated::WhileAway
        } else {
            Dated::ByStation
        };
        Heard { at: self.received, date }
    }

    /// Notes with each point of an update how it came, also with the one that its end is.
    pub(super) fn stamp(&self, update: &mut TransactionUpdate) {
        update.points.extend(closing(update));
        for point in &mut update.points {
            // What has no time that can be believed is of its message's.
            if point.at == self.received {
                point.at = update.at;
            }
            point.heard = self.heard(point.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_date_of_the_station_is_never_the_time_of_receipt() {
        let received = Timestamp(1_795_000_000_365);
        assert_eq!(apart(received, "{}"), received);
        for digits in [0, 1, 2, 3] {
            for ms in [0, 100, 120, 123] {
                let received = Timestamp(1_795_000_000_000 + ms);
                let told = format_time(received);
                let told = if digits == 0 { told[..19].to_owned() } else { told[..20 + digits].to_owned() };
                let payload = json!({ "timestamp": format!("{told}Z"), "other": format_time(received.plus_millis(1)) });
                let apart = apart(received, &payload.to_string());
                let read = super::super::lenient::time(&payload, "timestamp", apart);
                assert!(read != apart && apart.0 - received.0 <= 3, "{payload} {read:?} {apart:?}");
            }
        }
    }

    #[test]
    fn a_message_that_names_every_moment_costs_a_few_looks() {
        let received = Timestamp(1_795_000_000_001);
        let told: String = (0..10_000).map(|ms| format_time(received.plus_millis(ms))).collect();
        assert_eq!(apart(received, &told), received);
    }

    #[test]
    fn a_date_is_known_for_what_it_is() {
        let hours = |n: i64| Timestamp(1_795_000_000_000 + n * 3_600_000);
        let dated = |since: Option<i64>, offline: bool, at: i64| {
            let payload = json!({ "offline": offline });
            Reach::of(hours(0), (since.map(hours), hours(-1)), &payload).heard(hours(at)).date
        };
        assert_eq!(dated(None, false, -2), Dated::ByStation);
        assert_eq!(dated(Some(-3), false, -2), Dated::WhileAway);
        assert_eq!(dated(Some(-3), false, -4), Dated::ByStation, "it was there");
        assert_eq!(dated(Some(-3), true, -4), Dated::ByStation, "whatever it says");
        assert_eq!(dated(None, true, -4), Dated::WhileAway);
        assert_eq!(dated(None, true, -24 * 8), Dated::ByStation);
        assert_eq!(dated(Some(-3), false, 0), Dated::AtReceipt);
    }
}
