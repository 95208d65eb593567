//! Payloads as they are decoded. A tree of values costs a hundred times its text where the values are small, so it is made
//! only of what is known to be few, and samples are taken out of a long list one at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Values of a tree. The longest report or configuration of a station has some thousand.
const MOST_VALUES: usize = 100_000;
/// Fields of a payload that has too many values for a tree.
const MOST_FIELDS: usize = 64;
/// Samples that are kept of one list, its first and its last: one each second of a day, and some.
const MOST_SAMPLES: usize = 100_000;
/// The lists that grow with a charge: 1.6 StopTransaction; 1.6 MeterValues and 2.0.1 TransactionEvent.
const SAMPLES: [&str; 2] = ["transactionData", "meterValue"];

/// A payload. Halves of surrogate pairs, which some stations cut a text through, become U+FFFD. Of one with too many values
/// for a tree, each of its meter values stays text until it is [`opened`]; where it has too many others it is unreadable.
pub(crate) fn value(payload: &str) -> Option<Value> {
    if weight(payload) <= MOST_VALUES {
        tree(payload)
    } else {
        serde_json::from_str(payload).ok().map(|Long(value)| value)
    }
}

/// A meter value of a long list, read.
pub(super) fn opened(meter_value: &Value) -> Cow<'_, Value> {
    match meter_value {
        Value::String(text) => Cow::Owned(light(text).unwrap_or_default()),
        read => Cow::Borrowed(read),
    }
}

/// The tree of a text that is known to be short, or to have few values.
pub(super) fn tree(text: &str) -> Option<Value> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_halves(text))).ok()
}

/// The tree of a text, where it has few values.
pub(crate) fn light(text: &str) -> Option<Value> {
    if weight(text) <= MOST_VALUES { tree(text) } else { None }
}

/// How many values a JSON text has.
fn weight(json: &str) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// A payload with too many values for a tree.
struct Long(Value);

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Long;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with few values beside its samples")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Long, A::Error> {
                let mut fields = Map::new();
                let mut left = MOST_VALUES;
                let too_many = || serde::de::Error::custom("too many values");
                while let Some(name) = all.next_key::<String>()? {
                    if fields.len() == MOST_FIELDS {
                        return Err(too_many());
                    }
                    if SAMPLES.contains(&name.as_str()) {
                        let Samples(list) = all.next_value()?;
                        fields.insert(name, Value::Array(list));
                    } else {
                        let raw = all.next_value::<&RawValue>()?.get();
                        left = left.checked_sub(weight(raw)).ok_or_else(too_many)?;
                        fields.insert(name, tree(raw).ok_or_else(too_many)?);
                    }
                }
                Ok(Long(Value::Object(fields)))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The texts of a list's values.
struct Samples(Vec<Value>);

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Samples;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of meter values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Samples, A::Error> {
                let Some(first) = all.next_element::<&RawValue>()? else { return Ok(Samples(Vec::new())) };
                let mut last = VecDeque::new();
                while let Some(next) = all.next_element::<&RawValue>()? {
                    if last.len() + 1 == MOST_SAMPLES {
                        last.pop_front();
                    }
                    last.push_back(next);
                }
                Ok(Samples(std::iter::once(first).chain(last).map(|raw| raw.get().into()).collect()))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

fn without_halves(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let unit = |from: usize| u16::from_str_radix(escape.get(from..from + 4)?, 16).ok();
        let first = if escape.starts_with("\\u") { unit(2) } else { None };
        let second = if escape.get(6..8) == Some("\\u") { unit(8) } else { None };
        let length = match (first, second) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push('\u{fffd}');
                rest = &escape[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn half_a_surrogate_pair_does_not_make_a_payload_unreadable() {
        let read = |text: &str| value(text).map(|value| value["a"].as_str().unwrap_or_default().to_owned());
        for (text, expected) in [
            (r#"{"a":"x\ud83d"}"#, "x\u{fffd}"),
            (r#"{"a":"\ude00y"}"#, "\u{fffd}y"),
            (r#"{"a":"\ud83d\ud83d\ude00"}"#, "\u{fffd}😀"),
            (r#"{"a":"\\ud83d\n\u00e9é"}"#, "\\ud83d\néé"),
            (r#"{"a":"\ud83d\"}"}"#, "\u{fffd}\"}"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(value(&"[".repeat(500)), None);
    }

    #[test]
    fn of_a_long_payload_the_samples_stay_text() {
        let one = r#"{"timestamp":"2026-09-21T14:13:20Z","sampledValue":[{"value":"1"}]}"#;
        let list = vec![one; 60_000].join(",");
        let long = format!(r#"{{"transactionId":7,"transactionData":[{list}],"meterStop":9}}"#);
        let read = value(&long).unwrap();
        assert_eq!((&read["transactionId"], &read["meterStop"]), (&7.into(), &9.into()));
        let all = read["transactionData"].as_array().unwrap();
        assert_eq!((all.len(), opened(&all[59_999])["sampledValue"][0]["value"].as_str()), (60_000, Some("1")));
        let endless = format!(r#"{{"meterValue":[0,{}2]}}"#, "1,".repeat(200_000));
        let read = value(&endless).unwrap();
        let all = read["meterValue"].as_array().unwrap();
        assert_eq!((all.len(), all.first(), all.last()), (MOST_SAMPLES, Some(&"0".into()), Some(&"2".into())));
    }

    #[test]
    fn too_many_values_are_no_payload() {
        let lists = "[],".repeat(MOST_VALUES);
        for long in [
            format!(r#"{{"data":[{lists}1]}}"#),
            format!(r#"{{"meterValue":{{"x":[{lists}1]}}}}"#),
            format!("[{lists}1]"),
            format!("{{{}\"y\":[{lists}1]}}", "\"x\":1,".repeat(10)),
        ] {
            assert_eq!(value(&long), None);
        }
        let quoted = format!(r#"{{"data":"{}\\\""}}"#, "[],".repeat(MOST_VALUES));
        assert!(value(&quoted).is_some(), "a long text is one value");
    }
}
