//! Readers that take what real stations send: numbers as text, text as numbers, `null` for absent, one object
//! where a list is due, times without a zone.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use evm_domain::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

/// The longest text kept of a station's own words.
const LONGEST: usize = 500;

/// A field, where it is there and not `null`.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).filter(|value| !value.is_null())
}

/// A text or number as text, without control characters and outer spaces; `None` where empty.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    word(value, name).map(Cow::into_owned)
}

/// [`text`], for a look: most texts are as they should be, and are not copied.
pub(super) fn word<'a>(value: &'a Value, name: &str) -> Option<Cow<'a, str>> {
    let raw = match field(value, name)? {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    let is_clean = raw.len() <= LONGEST && raw.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_clean && raw.trim().len() == raw.len() {
        return Some(raw).filter(|text| !text.is_empty());
    }
    let clean: String = raw.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let clean = clean.trim();
    if clean.is_empty() { None } else { Some(Cow::Owned(clean.to_owned())) }
}

/// A whole number, also from text or with a fraction of zero.
pub(super) fn integer(value: &Value, name: &str) -> Option<i64> {
    decimal(field(value, name)?).and_then(whole)
}

/// The number nearest to an exact one, half away from zero. Where a station's text becomes Wh or W.
pub(super) fn whole(number: Decimal) -> Option<i64> {
    use rust_decimal::RoundingStrategy::MidpointAwayFromZero;
    number.round_dp_with_strategy(0, MidpointAwayFromZero).to_i64()
}

/// An exact number, also from text with spaces or with a decimal comma.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::String(text) if text.contains(',') => Cow::Owned(text.trim().replace(',', ".")),
        Value::String(text) => Cow::Borrowed(text.trim()),
        _ => return None,
    };
    if text.len() > 40 {
        return None;
    }
    text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()
}

/// A list; one object where a list is due counts as a list of one.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match field(value, name) {
        Some(Value::Array(all)) => all,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
}

/// A tag: upper case, for OCPP 1.6 tags know no case; the second part of `x;y`, as payment terminals send it.
pub(super) fn tag(value: &Value, name: &str) -> Option<String> {
    let whole = text(value, name)?;
    let part = whole.split_once(';').map_or(whole.as_str(), |(_, second)| second).trim();
    if part.is_empty() { None } else { Some(part.to_ascii_uppercase()) }
}

/// A connector or EVSE number that a station can have.
pub(super) fn connector(value: &Value, name: &str) -> Option<u32> {
    integer(value, name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 10_000)
}

/// What is dated longer ago than any charge can have been kept, two years, comes from a clock that nobody has set.
const LONGEST_AGO_MS: i64 = 731 * 24 * 3_600_000;
/// How far a clock may run ahead.
const AHEAD_MS: i64 = 5 * 60_000;

/// A station's time, repaired: without a zone it is UTC, and what cannot be right becomes the time of receipt.
pub(super) fn time(value: &Value, name: &str, received: Timestamp) -> Timestamp {
    told_time(value, name, received).unwrap_or(received)
}

/// A station's time, where it told one that can be right.
pub(super) fn told_time(value: &Value, name: &str, received: Timestamp) -> Option<Timestamp> {
    word(value, name).and_then(|text| parse_time(&text)).filter(|at| is_believable(*at, received))
}

fn is_believable(at: Timestamp, received: Timestamp) -> bool {
    at.0 >= received.0.saturating_sub(LONGEST_AGO_MS) && at.0 <= received.0.saturating_add(AHEAD_MS)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let with_zone = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    if let Ok(at) = with_zone {
        return Some(Timestamp(at.timestamp_millis()));
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), format).ok())
        .map(|at| Timestamp(at.and_utc().timestamp_millis()))
}

/// A time as every station reads it: `YYYY-MM-DDTHH:MM:SS.mmmZ`.
pub(crate) fn format_time(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const RECEIVED: Timestamp = Timestamp(1_795_000_000_000);

    #[test]
    fn times_are_repaired() {
        let at = |text: &str| time(&json!({ "t": text }), "t", RECEIVED).0;
        let right = 1_790_000_000_000;
        assert_eq!(at("2026-09-21T14:13:20Z"), right);
        assert_eq!(at("2026-09-21T14:13:20.000"), right);
        assert_eq!(at("2026-09-21 14:13:20"), right);
        assert_eq!(at("2026-09-21T22:13:20+08:00"), right);
        assert_eq!(at("2026-09-21T22:13:20+0800"), right);
        assert_eq!(at("2026-09-21T22:13:20+08"), right);
        for wrong in ["1970-01-01T00:00:00Z", "2023-01-01T00:01:00Z", "2099-01-01T00:00:00Z", "yesterday", ""] {
            assert_eq!(at(wrong), RECEIVED.0, "{wrong}");
        }
        assert_eq!(format_time(Timestamp(right)), "2026-09-21T14:13:20.000Z");
    }

    #[test]
    fn numbers_and_texts_stand_in_for_each_other() {
        let v =
            json!({ "a": "12", "b": 12, "c": 12.0, "d": null, "e": " 3,5 ", "f": "1e3", "g": {}, "h": "x".repeat(99) });
        assert_eq!(["a", "b", "c"].map(|name| integer(&v, name)), [Some(12); 3]);
        assert_eq!(integer(&v, "d"), None);
        assert_eq!(decimal(&v["e"]), Some("3.5".parse().unwrap()));
        assert_eq!(decimal(&v["f"]), Some("1000".parse().unwrap()));
        assert_eq!(decimal(&v["h"]), None);
        assert_eq!(text(&v, "b").unwrap(), "12");
        assert_eq!(list(&v, "g").len(), 1);
        assert_eq!(whole("0.5".parse().unwrap()), Some(1));
    }

    #[test]
    fn tags_are_cleaned() {
        let v = json!({ "a": "abc\u{0}\r", "b": "term;04aB", "c": " ", "d": 77 });
        assert_eq!(tag(&v, "a").unwrap(), "ABC");
        assert_eq!(tag(&v, "b").unwrap(), "04AB");
        assert_eq!(tag(&v, "c"), None);
        assert_eq!(tag(&v, "d").unwrap(), "77");
    }
}
