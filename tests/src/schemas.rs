//! The rules for what the central system sends, from the JSON schemas of the PyPI package `ocpp`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::Value;

use crate::charger::Version;
use crate::env;

const CODES_16: &[&str] = &[
    "NotImplemented",
    "NotSupported",
    "InternalError",
    "ProtocolError",
    "SecurityError",
    "FormationViolation",
    "PropertyConstraintViolation",
    "OccurenceConstraintViolation",
    "TypeConstraintViolation",
    "GenericError",
];
const CODES_201: &[&str] = &[
    "FormatViolation",
    "GenericError",
    "InternalError",
    "MessageTypeNotSupported",
    "NotImplemented",
    "NotSupported",
    "OccurrenceConstraintViolation",
    "PropertyConstraintViolation",
    "ProtocolError",
    "RpcFrameworkError",
    "SecurityError",
    "TypeConstraintViolation",
];

type Compiled = HashMap<(Version, String), Option<Arc<Validator>>>;

/// Checks one frame from the central system. `actions` are the charger's CALLs so far, by message id.
/// Returns what is wrong with it.
pub fn check(version: Version, text: &str, actions: &HashMap<String, String>) -> Result<(), String> {
    let frame: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let parts = frame.as_array().ok_or("is no array")?;
    match parts.as_slice() {
        [kind, Value::String(id), Value::String(action), payload] if kind == 2 => {
            if id.is_empty() || id.len() > 36 {
                return Err("has a message id of a wrong length".into());
            }
            let name = match version {
                Version::V16 => action.clone(),
                Version::V201 => format!("{action}Request"),
            };
            body(version, &name, payload)
        }
        [kind, Value::String(id), payload] if kind == 3 => {
            let action = actions.get(id).ok_or("answers a CALL that never came")?;
            body(version, &format!("{action}Response"), payload)
        }
        [kind, Value::String(id), Value::String(code), Value::String(description), Value::Object(_)] if kind == 4 => {
            let codes = match version {
                Version::V16 => CODES_16,
                Version::V201 => CODES_201,
            };
            if !codes.contains(&code.as_str()) {
                return Err(format!("has the error code {code}, unknown to this version"));
            }
            if description.chars().count() > 255 {
                return Err("has too long a description".into());
            }
            if !actions.contains_key(id) && id != "-1" {
                return Err("answers a CALL that never came".into());
            }
            Ok(())
        }
        _ => Err("is no CALL, CALLRESULT or CALLERROR".into()),
    }
}

fn body(version: Version, name: &str, payload: &Value) -> Result<(), String> {
    let validator = schema(version, name).ok_or_else(|| format!("has no schema {name}"))?;
    if let Some(error) = validator.iter_errors(payload).next() {
        return Err(format!("breaks the schema {name}: {error} at {:?}", error.instance_path().to_string()));
    }
    values(payload, true)
}

/// No `null`, no empty list or object inside, and every time in the one spelling.
fn values(value: &Value, outermost: bool) -> Result<(), String> {
    match value {
        Value::Null => Err("has a null".into()),
        Value::Array(items) if items.is_empty() => Err("has an empty list".into()),
        Value::Array(items) => items.iter().try_for_each(|item| values(item, false)),
        Value::Object(fields) if fields.is_empty() && !outermost => Err("has an empty object".into()),
        Value::Object(fields) => fields.values().try_for_each(|field| values(field, false)),
        Value::String(text) if looks_like_a_time(text) && !is_a_good_time(text) => {
            Err(format!("has a time not written YYYY-MM-DDTHH:MM:SS.mmmZ: {text}"))
        }
        _ => Ok(()),
    }
}

fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn looks_like_a_time(text: &str) -> bool {
    shape(text).starts_with("0000-00-00T")
}

fn is_a_good_time(text: &str) -> bool {
    shape(text) == "0000-00-00T00:00:00.000Z" && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

/// The compiled schema of a message, if the version has it.
fn schema(version: Version, name: &str) -> Option<Arc<Validator>> {
    static COMPILED: OnceLock<Mutex<Compiled>> = OnceLock::new();
    let mut compiled = COMPILED.get_or_init(Mutex::default).lock().unwrap();
    compiled
        .entry((version, name.to_owned()))
        .or_insert_with(|| {
            let folder = match version {
                Version::V16 => "v16/schemas",
                Version::V201 => "v201/schemas",
            };
            let text = std::fs::read_to_string(env::python_ocpp().join(folder).join(format!("{name}.json"))).ok()?;
            let schema: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
            Some(Arc::new(jsonschema::validator_for(&schema).unwrap()))
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check16(text: &str) -> Result<(), String> {
        let actions = [("1".to_owned(), "Heartbeat".to_owned()), ("2".to_owned(), "Wonder".to_owned())];
        check(Version::V16, text, &actions.into())
    }

    #[test]
    fn lets_good_frames_pass() {
        check16(r#"[3,"1",{"currentTime":"2026-01-02T03:04:05.678Z"}]"#).unwrap();
        check16(r#"[2,"a","RemoteStartTransaction",{"idTag":"ABC","connectorId":1}]"#).unwrap();
        check16(r#"[4,"2","NotImplemented","",{}]"#).unwrap();
        check(
            Version::V201,
            r#"[2,"a","GetBaseReport",{"requestId":1,"reportBase":"FullInventory"}]"#,
            &HashMap::new(),
        )
        .unwrap();
    }

    #[test]
    fn finds_what_is_wrong() {
        for bad in [
            "x",
            "{}",
            r#"[3,"9",{"currentTime":"2026-01-02T03:04:05.678Z"}]"#,
            r#"[3,"1",{"currentTime":"2026-01-02T03:04:05Z"}]"#,
            r#"[3,"1",{}]"#,
            r#"[3,"2",{}]"#,
            r#"[2,"a","RemoteStartTransaction",{"connectorId":1}]"#,
            r#"[2,"a","RemoteStartTransaction",{"idTag":"ABC","connectorId":null}]"#,
            r#"[2,"a","GetConfiguration",{"key":[]}]"#,
            r#"[2,"a","RequestStartTransaction",{}]"#,
            r#"[4,"1","FormatViolation","",{}]"#,
            r#"[4,"1","NotImplemented","",null]"#,
        ] {
            assert!(check16(bad).is_err(), "{bad}");
        }
    }
}
