//! The JSON schemas of commands: what an operator sends is checked before a station sees it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use rust_embed::RustEmbed;
use serde_json::Value;

use super::Version;

#[derive(RustEmbed)]
#[folder = "schemas/"]
#[include = "*.json"]
struct Schemas;

/// Why a command cannot go out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The version has no such command.
    UnknownAction,
    /// The payload does not fit: JSON pointer and reason.
    Payload { field: String, message: String },
}

/// Compiled at their first use: most operators use a handful.
static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn validator(version: Version, action: &str) -> Option<Arc<Validator>> {
    let folder = match version {
        Version::V16 => "v16",
        Version::V201 => "v201",
    };
    if !action.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let path = format!("{folder}/{action}.json");
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = compiled.get(&path) {
        return Some(found.clone());
    }
    let file = Schemas::get(&path)?;
    let text = file.data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file.data);
    let schema: Value = serde_json::from_slice(text).ok()?;
    let validator = Arc::new(jsonschema::validator_for(&schema).ok()?);
    compiled.insert(path, validator.clone());
    Some(validator)
}

/// Checks a command of the central system against its schema.
pub(crate) fn check(version: Version, action: &str, payload: &Value) -> Result<(), Misfit> {
    let validator = validator(version, action).ok_or(Misfit::UnknownAction)?;
    validator.validate(payload).map_err(|error| Misfit::Payload {
        field: error.instance_path().to_string(),
        message: error.to_string().chars().take(300).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_schemas_compile() {
        let mut count = 0;
        for path in Schemas::iter() {
            let (folder, file) = path.split_once('/').unwrap_or_default();
            let version = if folder == "v16" { Version::V16 } else { Version::V201 };
            assert!(validator(version, file.trim_end_matches(".json")).is_some(), "{path}");
            count += 1;
        }
        assert!(count > 60, "{count}");
    }

    #[test]
    fn misfits_name_the_field() {
        assert_eq!(check(Version::V16, "Reset", &json!({ "type": "Soft" })), Ok(()));
        let misfit = check(Version::V16, "Reset", &json!({ "type": "Sideways" }));
        assert!(matches!(misfit, Err(Misfit::Payload { field, .. }) if field == "/type"));
        assert_eq!(check(Version::V16, "GetVariables", &json!({})), Err(Misfit::UnknownAction));
        assert_eq!(check(Version::V201, "../v16/Reset", &json!({})), Err(Misfit::UnknownAction));
    }
}
