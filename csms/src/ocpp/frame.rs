//! OCPP-J frames (1.6J section 4, 2.0.1 part 4 section 4): `[2,id,action,payload]`, `[3,id,payload]`,
//! `[4,id,code,description,details]`.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Version;

/// The longest message id of both versions.
const LONGEST_ID: usize = 36;
/// Stations that make longer ids than they may are still understood.
const LONGEST_ID_READ: usize = 255;

/// Longer than any action there is; of an unknown one no more is kept.
const LONGEST_ACTION: usize = 64;

/// A frame from the station.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// It asks.
    Call { id: String, action: String, payload: &'a RawValue },
    /// It answers.
    Result { id: String, payload: Value },
    /// It refuses.
    Error { id: String, code: String, description: String, details: Value },
}

/// A text that is no frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFrame {
    /// The message id, where one could be read.
    pub(crate) id: Option<String>,
    /// Whether the message type is the trouble (2.0.1 has an error code of its own for it).
    pub(crate) unknown_type: bool,
    /// What is wrong.
    pub(crate) what: &'static str,
}

fn bad(what: &'static str) -> BadFrame {
    BadFrame { id: None, unknown_type: false, what }
}

/// Reads a frame. The payload of a CALL stays text until its action is known.
pub(crate) fn parse(text: &str) -> Result<Frame<'_>, BadFrame> {
    let parts: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| bad(if error.is_data() { "the frame is no array" } else { "the frame is no JSON" }))?;
    if parts.len() > 8 {
        return Err(bad("the frame has too many parts"));
    }
    let id = parts
        .get(1)
        .and_then(|raw| text_of(raw))
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID_READ && !id.chars().any(char::is_control));
    let kind = parts.first().map(|raw| raw.get().trim_matches('"'));
    let Some(id) = id else { return Err(bad("the frame has no message id")) };
    let lacks = |what| BadFrame { id: Some(id.clone()), unknown_type: false, what };
    match kind {
        Some("2") => {
            let action = parts.get(2).and_then(|raw| text_of(raw)).ok_or_else(|| lacks("the CALL has no action"))?;
            if action.chars().any(char::is_control) {
                return Err(lacks("the action is no name"));
            }
            let action = action.chars().take(LONGEST_ACTION).collect();
            // 1.6 stations leave an empty payload out.
            let payload = parts.get(3).copied().unwrap_or(RawValue::NULL);
            Ok(Frame::Call { id, action, payload })
        }
        Some("3") => Ok(Frame::Result { id, payload: value_of(parts.get(2)) }),
        Some("4") => Ok(Frame::Error {
            id,
            code: parts.get(2).and_then(|raw| text_of(raw)).unwrap_or_default(),
            description: parts.get(3).and_then(|raw| text_of(raw)).unwrap_or_default(),
            details: value_of(parts.get(4)),
        }),
        _ => Err(BadFrame { id: Some(id), unknown_type: true, what: "the message type is not 2, 3 or 4" }),
    }
}

/// A payload. Halves of surrogate pairs, which some stations cut a text through, become U+FFFD.
pub(crate) fn value(payload: &str) -> Option<Value> {
    serde_json::from_str(payload).or_else(|_| serde_json::from_str(&without_halves(payload))).ok()
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

/// A text, or a number that some stations send in its place.
fn text_of(raw: &RawValue) -> Option<String> {
    match serde_json::from_str(raw.get()).ok()? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn value_of(raw: Option<&&RawValue>) -> Value {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null)
}

/// The reasons for a CALLERROR of ours. Business trouble is none: a station whose CALL is refused retries and
/// then throws the bill away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    NotImplemented,
    Formation,
    Framework,
    MessageType,
}

impl ErrorCode {
    /// The code as the version spells it.
    pub(crate) fn as_str(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::NotImplemented, _) => "NotImplemented",
            (Self::Formation, Version::V16) => "FormationViolation",
            (Self::Formation, Version::V201) => "FormatViolation",
            (Self::Framework, Version::V16) => "GenericError",
            (Self::Framework, Version::V201) => "RpcFrameworkError",
            (Self::MessageType, Version::V16) => "NotSupported",
            (Self::MessageType, Version::V201) => "MessageTypeNotSupported",
        }
    }
}

/// A CALL of ours.
pub(crate) fn call(id: &str, action: &str, payload: &Value) -> String {
    debug_assert!(id.len() <= LONGEST_ID);
    format!(r#"[2,"{id}","{action}",{payload}]"#)
}

/// Our answer; `payload` is JSON.
pub(crate) fn result(id: &str, payload: &str) -> String {
    format!("[3,{},{payload}]", quoted(id))
}

/// Our refusal; `description` is cut to the 255 characters both versions allow.
pub(crate) fn error(version: Version, id: &str, code: ErrorCode, description: &str) -> String {
    let short: String = description.chars().take(255).collect();
    format!(r#"[4,{},"{}",{},{{}}]"#, quoted(id), code.as_str(version), quoted(&short))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_the_three_kinds() {
        let Frame::Call { id, action, payload } = parse(r#"[2,"19","Heartbeat",{}]"#).unwrap() else { panic!() };
        assert_eq!((id.as_str(), action.as_str(), payload.get()), ("19", "Heartbeat", "{}"));
        let long = format!(r#"[2,"19","{}"]"#, "X".repeat(500));
        assert!(matches!(parse(&long).unwrap(), Frame::Call { action, .. } if action.len() == LONGEST_ACTION));
        assert!(matches!(parse(r#"[2, 19, "Heartbeat"]"#).unwrap(), Frame::Call { .. }));
        assert!(matches!(parse(r#"["3","19",{"status":"Accepted"}]"#).unwrap(), Frame::Result { .. }));
        let Frame::Error { code, .. } = parse(r#"[4,"19","OccurenceConstraintViolation"]"#).unwrap() else { panic!() };
        assert_eq!(code, "OccurenceConstraintViolation");
    }

    #[test]
    fn says_what_is_wrong_and_keeps_the_id() {
        assert_eq!(parse("").unwrap_err().what, "the frame is no JSON");
        assert_eq!(parse("{}").unwrap_err().what, "the frame is no array");
        assert_eq!(parse("[2]").unwrap_err().what, "the frame has no message id");
        assert_eq!(parse(r#"[2,"7"]"#).unwrap_err().id.as_deref(), Some("7"));
        assert!(parse(r#"[9,"7",{}]"#).unwrap_err().unknown_type);
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

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
    fn an_id_with_quotes_stays_json() {
        let text = result("a\"b\\", "{}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[1], "a\"b\\");
        let text = error(Version::V16, "\u{1}", ErrorCode::Formation, "x");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[2], "FormationViolation");
    }
}
