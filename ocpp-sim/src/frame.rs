//! OCPP-J frames: the JSON arrays CALL, CALLRESULT and CALLERROR (OCPP-J 1.6 and 2.0.1 part 4, section 4.2).

use serde_json::{Value, json};

/// One received frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    Call { id: String, action: String, payload: Value },
    Result { id: String, payload: Value },
    Error { id: String, code: String, description: String },
}

/// Why a text is no frame.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("not JSON: {0}")]
    Json(String),
    #[error("not an OCPP frame: {0}")]
    Shape(&'static str),
}

/// Reads a text message. A missing or `null` payload counts as `{}`.
pub(crate) fn parse(text: &str) -> Result<Frame, FrameError> {
    let value: Value = serde_json::from_str(text).map_err(|e| FrameError::Json(e.to_string()))?;
    let Value::Array(items) = value else {
        return Err(FrameError::Shape("not an array"));
    };
    let kind = items.first().and_then(Value::as_i64);
    let Some(id) = items.get(1).and_then(Value::as_str).map(str::to_owned) else {
        return Err(FrameError::Shape("message id is not a string"));
    };
    let text_at = |i: usize| items.get(i).and_then(Value::as_str).map(str::to_owned);
    let payload_at = |i: usize| match items.get(i) {
        None | Some(Value::Null) => json!({}),
        Some(payload) => payload.clone(),
    };
    match kind {
        Some(2) => match text_at(2) {
            Some(action) => Ok(Frame::Call { id, action, payload: payload_at(3) }),
            None => Err(FrameError::Shape("action is not a string")),
        },
        Some(3) => Ok(Frame::Result { id, payload: payload_at(2) }),
        Some(4) => {
            Ok(Frame::Error { id, code: text_at(2).unwrap_or_default(), description: text_at(3).unwrap_or_default() })
        }
        _ => Err(FrameError::Shape("message type is not 2, 3 or 4")),
    }
}

/// Writes a CALL.
pub(crate) fn call(id: &str, action: &str, payload: &Value) -> String {
    json!([2, id, action, payload]).to_string()
}

/// Writes a CALLRESULT.
pub(crate) fn result(id: &str, payload: &Value) -> String {
    json!([3, id, payload]).to_string()
}

/// Writes a CALLERROR; the description is cut at the specified 255 characters.
pub(crate) fn error(id: &str, code: &str, description: &str) -> String {
    let description: String = description.chars().take(255).collect();
    json!([4, id, code, description, {}]).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(
            parse(&call("7", "Heartbeat", &json!({}))).unwrap(),
            Frame::Call { id: "7".into(), action: "Heartbeat".into(), payload: json!({}) }
        );
        assert_eq!(
            parse(&result("7", &json!({"a": 1}))).unwrap(),
            Frame::Result { id: "7".into(), payload: json!({"a": 1}) }
        );
        assert_eq!(
            parse(&error("7", "InternalError", &"x".repeat(300))).unwrap(),
            Frame::Error { id: "7".into(), code: "InternalError".into(), description: "x".repeat(255) }
        );
    }

    #[test]
    fn a_null_or_missing_payload_is_an_empty_object() {
        for text in [r#"[2,"1","ClearCache",null]"#, r#"[2,"1","ClearCache"]"#, r#" [2, "1", "ClearCache", {}] "#] {
            assert_eq!(
                parse(text).unwrap(),
                Frame::Call { id: "1".into(), action: "ClearCache".into(), payload: json!({}) }
            );
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "{}", "[]", "[2]", r#"[9,"1",{}]"#, r#"[2,1,"X",{}]"#, r#"[2,"1",5,{}]"#, "[2,"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
