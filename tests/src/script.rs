//! Raw frames from a fixture, played as a charger sends them.
//!
//! `tests/frames/NAME.frames` holds one frame a line, as it goes over the socket. Lines that begin with `#` and empty lines
//! are passed over; a line `== PART` begins a part that is played by its name. In a frame stand
//!
//! - `{T-600}`, `{T+5}`, `{T}`: seconds before or after now, as the specification writes times; `{T-2h}`, `{T-7d}` hours and days;
//! - `{ID.path}`: a value of the answer to the CALL with the message id `ID`, e.g. `{m1.transactionId}`;
//! - `{NAME}`: what the test set by [`Script::set`];
//! - `{NUL}`, `{TAB}`, `{LF}`: that byte itself.
//!
//! "Now" is the moment at which the script was loaded, so that a frame played again is the same frame. A message id that is
//! played again counts for its newest answer.

use std::collections::HashMap;

use crate::charger::{RawCharger, Reply};
use crate::env;

/// A fixture, and what its answers said.
pub struct Script {
    parts: HashMap<String, Vec<String>>,
    set: HashMap<String, String>,
    answers: HashMap<String, Reply>,
    loaded: chrono::DateTime<chrono::Utc>,
}

impl Script {
    /// Reads `tests/frames/NAME.frames`.
    pub fn load(name: &str) -> Self {
        let path = env::repository().join(format!("tests/frames/{name}.frames"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut parts: HashMap<String, Vec<String>> = HashMap::new();
        let mut part = String::new();
        for line in text.lines() {
            match line.strip_prefix("== ") {
                Some(name) => part = name.trim().to_owned(),
                None if line.is_empty() || line.starts_with('#') => {}
                None => parts.entry(part.clone()).or_default().push(line.to_owned()),
            }
        }
        Self { parts, set: HashMap::new(), answers: HashMap::new(), loaded: chrono::Utc::now() }
    }

    /// Gives `{NAME}` in the frames a value.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.set.insert(name.to_owned(), value.to_string());
    }

    /// The frames of a part, in order, as they would be sent now.
    pub fn frames(&self, part: &str) -> Vec<String> {
        self.part(part).iter().map(|line| self.fill(line)).collect()
    }

    /// Sends the frames of a part one after the other, each once the one before is answered.
    pub async fn play(&mut self, charger: &mut RawCharger, part: &str) {
        for line in self.part(part).to_vec() {
            let frame = self.fill(&line);
            let id = id_of(&frame);
            let reply = charger.ask(&id, &frame).await;
            self.answers.insert(id, reply);
        }
    }

    /// The newest answer to this message id.
    pub fn answer(&self, id: &str) -> &Reply {
        self.answers.get(id).unwrap_or_else(|| panic!("{id} was not played"))
    }

    fn part(&self, part: &str) -> &[String] {
        self.parts.get(part).unwrap_or_else(|| panic!("no part {part:?} in the fixture"))
    }

    fn fill(&self, line: &str) -> String {
        let mut filled = String::with_capacity(line.len() + 64);
        let mut rest = line;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let inner = rest[1..].split_once('}').map(|(inner, _)| inner);
            match inner.and_then(|inner| Some((inner, self.value(inner)?))) {
                Some((inner, value)) => {
                    filled.push_str(&value);
                    rest = &rest[inner.len() + 2..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled + rest
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "NUL" => return Some("\0".into()),
            "TAB" => return Some("\t".into()),
            "LF" => return Some("\n".into()),
            _ => {}
        }
        if let Some(value) = self.set.get(name) {
            return Some(value.clone());
        }
        if let Some((id, path)) = name.split_once('.')
            && let Some(Reply::Result(payload)) = self.answers.get(id)
        {
            let value = path.split('.').fold(payload, |value, key| &value[key]);
            assert!(!value.is_null(), "the answer to {id} has no {path}: {payload}");
            return Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let offset = name.strip_prefix('T')?;
        let seconds = if offset.is_empty() { 0 } else { seconds(offset)? };
        let at = self.loaded + chrono::Duration::seconds(seconds);
        Some(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}

/// `-600`, `+5`, `-2h`, `-7d` in seconds.
fn seconds(offset: &str) -> Option<i64> {
    let (number, unit) = match offset.as_bytes().last()? {
        b'h' => (&offset[..offset.len() - 1], 3600),
        b'd' => (&offset[..offset.len() - 1], 86_400),
        _ => (offset, 1),
    };
    let signed = number.starts_with(['+', '-']);
    signed.then(|| number.parse::<i64>().ok())?.map(|number| number * unit)
}

/// The message id, read without taking the frame for JSON: some frames of a fixture are none.
fn id_of(frame: &str) -> String {
    frame.split('"').nth(1).unwrap_or_else(|| panic!("no message id in {frame}")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_filled_in() {
        let mut script = Script {
            parts: HashMap::new(),
            set: HashMap::new(),
            answers: HashMap::new(),
            loaded: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        script.set("CARD", "04AABBCC");
        script.answers.insert("m1".into(), Reply::Result(serde_json::json!({ "transactionId": 7 })));
        let line = r#"[2,"m2","X",{"t":"{T-65}","d":"{T+1d}","n":{m1.transactionId},"c":"{CARD}","o":{"a":{}}}]"#;
        assert_eq!(
            script.fill(line),
            r#"[2,"m2","X",{"t":"2026-01-02T03:03:00.000Z","d":"2026-01-03T03:04:05.000Z","n":7,"c":"04AABBCC","o":{"a":{}}}]"#
        );
        assert_eq!(script.fill("a{NUL}b"), "a\0b");
        assert_eq!(id_of(line), "m2");
    }
}
