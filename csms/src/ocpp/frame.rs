//! OCPP-J frames (1.6J section 4, 2.0.1 part 4 section 4): `[2,id,action,payload]`, `[3,id,payload]`,
//! `[4,id,code,description,details]`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Version, payload};

/// The longest message id of both versions.
const LONGEST_ID: usize = 36;
/// Stations that make longer ids than they may are still understood.
const LONGEST_ID_READ: usize = 255;

/// Longer than any action there is; of an unknown one no more is kept.
const LONGEST_ACTION: usize = 64;

/// Parts that a frame may have; more than any version knows.
const MOST_PARTS: usize = 8;
/// Of a part that is to be a short text, no more is read.
const LONGEST_TEXT: usize = 8 * 1024;

/// A frame from the station.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// It asks.
    Call { id: String, action: String, payload: &'a RawValue },
    /// It answers.
    Result { id: String, payload: &'a RawValue },
    /// It refuses.
    Error { id: String, code: String, description: String, details: &'a RawValue },
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

/// The text of a frame without what firmware leaves in it and JSON forbids: a byte order mark in front, raw control bytes
/// anywhere (outside of texts they are at most spaces), and what stands behind the frame in a buffer that ends with NUL.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let text = text.trim_start_matches('\u{feff}');
    if !text.bytes().any(|byte| byte < b' ') {
        return Cow::Borrowed(text);
    }
    let mut clean: String = text.chars().filter(|c| *c >= ' ').collect();
    if text.contains('\0') {
        let mut values = serde_json::Deserializer::from_str(&clean).into_iter::<IgnoredAny>();
        if let Some(Ok(_)) = values.next() {
            let end = values.byte_offset();
            clean.truncate(end);
        }
    }
    Cow::Owned(clean.trim_start_matches('\u{feff}').to_owned())
}

/// The parts of a frame as they stand in the text, and whether there are too many of them.
struct Parts<'a>(Vec<&'a RawValue>, bool);

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Parts<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a frame")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::with_capacity(4);
                while parts.len() < MOST_PARTS {
                    match all.next_element()? {
                        Some(part) => parts.push(part),
                        None => return Ok(Parts(parts, false)),
                    }
                }
                let mut too_many = false;
                while all.next_element::<IgnoredAny>()?.is_some() {
                    too_many = true;
                }
                Ok(Parts(parts, too_many))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Reads a frame that was made [`clean`]. Payloads stay text until it is known what they are of.
pub(crate) fn parse(text: &str) -> Result<Frame<'_>, BadFrame> {
    let Parts(parts, too_many) = serde_json::from_str(text)
        .map_err(|error| bad(if error.is_data() { "the frame is no array" } else { "the frame is no JSON" }))?;
    if too_many {
        return Err(bad("the frame has too many parts"));
    }
    let id = parts.get(1).and_then(|raw| text_of(raw)).filter(|id| !id.is_empty() && id.len() <= LONGEST_ID_READ);
    let kind = parts.first().map(|raw| raw.get().trim_matches('"'));
    let Some(id) = id else { return Err(bad("the frame has no message id")) };
    let lacks = |what| BadFrame { id: Some(id.clone()), unknown_type: false, what };
    // Stations leave an empty payload out.
    let payload = |n: usize| parts.get(n).copied().unwrap_or(RawValue::NULL);
    match kind {
        Some("2") => {
            let action = parts.get(2).and_then(|raw| text_of(raw)).ok_or_else(|| lacks("the CALL has no action"))?;
            let action: String = action.chars().filter(|c| !c.is_control()).take(LONGEST_ACTION).collect();
            Ok(Frame::Call { id, action: action.trim().to_owned(), payload: payload(3) })
        }
        Some("3") => Ok(Frame::Result { id, payload: payload(2) }),
        Some("4") => Ok(Frame::Error {
            id,
            code: parts.get(2).and_then(|raw| text_of(raw)).unwrap_or_default(),
            description: parts.get(3).and_then(|raw| text_of(raw)).unwrap_or_default(),
            details: payload(4),
        }),
        _ => Err(BadFrame { id: Some(id), unknown_type: true, what: "the message type is not 2, 3 or 4" }),
    }
}

/// Whether a text that is no frame says by its begin that it was to be a CALL.
pub(crate) fn begins_as_call(text: &str) -> bool {
    let inside = text.trim_start().strip_prefix('[').unwrap_or_default();
    inside.trim_start_matches([' ', '"']).starts_with('2')
}

/// A text, or a number that some stations send in its place.
fn text_of(raw: &RawValue) -> Option<String> {
    let raw = Some(raw.get()).filter(|raw| raw.len() <= LONGEST_TEXT && !raw.starts_with(['[', '{']))?;
    match payload::tree(raw)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
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
    fn control_bytes_are_dropped_and_the_rest_is_read() {
        let frame = r#"[2,"7","Authorize",{"idTag":"04AABBCC"}]"#;
        for raw in [
            format!("\u{feff}{frame}"),
            format!("{frame}\0\0"),
            format!("{frame}\0\"}}]  left behind"),
            format!("\0{frame}\r\n"),
            frame.replace("04AABBCC", "04AABB\0CC"),
            frame.replace("04AABBCC", "04AA\tBBCC\n"),
            frame.replace(',', ",\n\t"),
            frame.replace("Authorize", "Authorize\u{1b}\u{7}"),
        ] {
            assert_eq!(clean(&raw), frame, "{raw:?}");
        }
        let Frame::Call { action, id, .. } = parse(r#"[2,"7\u0000","Boot\u0000 "]"#).unwrap() else { panic!() };
        assert_eq!((action.as_str(), id.as_str()), ("Boot", "7\0"));
        assert!(matches!(clean(frame), Cow::Borrowed(_)));
        assert_eq!(clean("\0 \u{1}"), " ");
    }

    #[test]
    fn a_frame_of_very_many_parts_costs_nothing() {
        let many = format!("[2,\"7\",{}1]", "1,".repeat(100_000));
        assert_eq!(parse(&many).unwrap_err().what, "the frame has too many parts");
        let long = format!("[2,[{}1],\"Heartbeat\"]", "1,".repeat(100_000));
        assert_eq!(parse(&long).unwrap_err().what, "the frame has no message id");
    }

    #[test]
    fn what_was_to_be_a_call_is_told_from_an_answer() {
        assert!(begins_as_call(r#" [ "2" , "x", "#) && begins_as_call("[2,"));
        assert!(!["[3,\"x\"", "[4", "{}", "", "hello", "[", "[null"].into_iter().any(begins_as_call));
    }

    #[test]
    fn an_id_with_quotes_stays_json() {
        let text = result("a\"b\\", "{}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[1], "a\"b\\");
        let text = error(Version::V16, "\u{1}", ErrorCode::Formation, "x");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[2], "FormationViolation");
    }
}
