//! What is not kept of what goes over a socket, whoever says it: passwords and keys. 1.6 `AuthorizationKey` (security
//! whitepaper), 2.0.1 `BasicAuthPassword` (A01) and the passwords of a NetworkConnectionProfile, and what vendors call so.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};

use super::payload;

const COVER: &str = "***";

/// What the name of a secret has in it, once it is lower case without anything between the letters.
const NAMES: [&str; 12] = [
    "authorizationkey",
    "authkey",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "privatekey",
    "presharedkey",
    "simpin",
    "apikey",
    "credential",
    "accesstoken",
];
/// Members that name what is told beside them.
const NAMING: [&str; 7] = ["key", "name", "variable", "variablename", "keyname", "parameter", "messageid"];
/// Shorter texts are not looked for elsewhere: they stand there by chance.
const SHORTEST: usize = 6;

/// A text as it is kept: JSON, or what was to be JSON.
pub(crate) fn hide(text: &str) -> Cow<'_, str> {
    if !may_tell(text) {
        return Cow::Borrowed(text);
    }
    match payload::light(text) {
        Some(mut value) => {
            let mut covered = Vec::new();
            cover(&mut value, &mut covered);
            if covered.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(value.to_string()) }
        }
        None => cover_text(text),
    }
}

/// The secrets that a payload tells, as they stand in it and as the text that hexadecimal digits stand for.
pub(crate) fn told(payload: &Value) -> Vec<String> {
    let mut covered = Vec::new();
    cover(&mut payload.clone(), &mut covered);
    let texts = covered.iter().filter_map(|hex| String::from_utf8(hex::decode(hex).ok()?).ok()).collect::<Vec<_>>();
    covered.into_iter().chain(texts).filter(|secret| secret.len() >= SHORTEST && secret != COVER).collect()
}

/// [`hide`], also where one of these is told without its name.
pub(crate) fn hide_told<'a>(text: &'a str, told: &[String]) -> Cow<'a, str> {
    let mut hidden = hide(text);
    for secret in told {
        if hidden.contains(secret.as_str()) {
            hidden = Cow::Owned(hidden.replace(secret.as_str(), COVER));
        }
    }
    hidden
}

/// Looks for all [`NAMES`] at once: every message is looked through.
static NAMED: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(NAMES).ok());

/// Letters and digits, lower case.
fn plain(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    plain.extend(name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()));
    String::from_utf8(plain).unwrap_or_default()
}

fn is_secret(name: &str) -> bool {
    NAMED.as_ref().is_none_or(|names| names.is_match(&plain(name)))
}

/// Whether there may be one in it: most texts have none, and are not taken apart.
fn may_tell(text: &str) -> bool {
    text.contains("\\u00") || text.contains('@') || is_secret(text)
}

/// Members that tell the value of what is named beside them: `value`, `attributeValue`, `actualValue`, `data`.
fn is_value(name: &str) -> bool {
    let name = plain(name);
    name.ends_with("value") || name == "data"
}

fn cover(value: &mut Value, covered: &mut Vec<String>) {
    match value {
        Value::Object(fields) if names_a_secret(fields) => cover_values(fields, covered),
        Value::Object(fields) => {
            // A preshared key beside a password, as in a VPN's settings.
            let beside = fields.keys().any(|name| is_secret(name));
            for (name, value) in fields {
                if is_secret(name) || (beside && plain(name) == "key") {
                    blot(value, covered);
                } else {
                    cover(value, covered);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cover(item, covered)),
        Value::String(text) if may_tell(text) => {
            // Vendors put JSON into texts.
            let hidden = if text.trim_start().starts_with(['{', '[']) { hide(text) } else { cover_text(text) };
            if let Cow::Owned(hidden) = hidden {
                covered.push(String::new());
                *text = hidden;
            }
        }
        _ => {}
    }
}

fn names_a_secret(fields: &Map<String, Value>) -> bool {
    fields.iter().filter(|(name, _)| NAMING.contains(&plain(name).as_str())).any(|(_, value)| match value {
        Value::String(name) => is_secret(name),
        Value::Object(variable) => names_a_secret(variable),
        _ => false,
    })
}

/// Covers the values beside a secret's name; a variable has its values in a list (NotifyReport).
fn cover_values(fields: &mut Map<String, Value>, covered: &mut Vec<String>) {
    for (name, value) in fields {
        match value {
            value if is_value(name) || is_secret(name) => blot(value, covered),
            Value::Object(inner) => cover_values(inner, covered),
            Value::Array(items) => items.iter_mut().for_each(|item| match item {
                Value::Object(inner) => cover_values(inner, covered),
                other => cover(other, covered),
            }),
            other => cover(other, covered),
        }
    }
}

fn blot(value: &mut Value, covered: &mut Vec<String>) {
    let told = match value {
        Value::Null | Value::Bool(_) => return,
        Value::String(text) if text.is_empty() => return,
        Value::String(text) => std::mem::take(text),
        ref other => other.to_string(),
    };
    covered.push(told);
    *value = COVER.into();
}

/// Covers what follows the name of a secret, or in a text that has one, of a value, and the password in a URL.
fn cover_text(text: &str) -> Cow<'_, str> {
    let has_secret = is_secret(text);
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let word = &rest[at..];
        let end =
            word.find(|c: char| !c.is_ascii_alphanumeric() && !['_', '-', '.'].contains(&c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        hidden.push_str(&rest[..at + end]);
        rest = after;
        let gap = after.find(|c: char| !" \t\"'\\:=>".contains(c)).unwrap_or(after.len());
        let told = has_secret && (is_secret(word) || is_value(word)) && after[..gap].contains([':', '=', '>']);
        if told && gap < after.len() {
            let value = &after[gap..];
            let quote = ['"', '\''].into_iter().find(|quote| after[..gap].ends_with(*quote));
            let end = value.find(|c: char| match quote {
                Some(quote) => c == quote || c == '\\',
                None => c.is_whitespace() || "\"',;}]&|<".contains(c),
            });
            hidden.push_str(&after[..gap]);
            hidden.push_str(COVER);
            rest = &value[end.unwrap_or(value.len())..];
        } else if let Some((user, host)) = login_in_url(after) {
            hidden.push_str(user);
            hidden.push_str(COVER);
            rest = host;
        }
    }
    hidden.push_str(rest);
    if hidden == text { Cow::Borrowed(text) } else { Cow::Owned(hidden) }
}

/// Behind the scheme of a URL with a password: what stands before it, and from the `@` on.
fn login_in_url(after_scheme: &str) -> Option<(&str, &str)> {
    let start = ["://", ":\\/\\/"].into_iter().find(|start| after_scheme.starts_with(start))?;
    let login = &after_scheme[start.len()..];
    let host = login.find(|c: char| c == '/' || c == '"' || c == '\\' || c.is_whitespace()).unwrap_or(login.len());
    let at = login[..host].rfind('@')?;
    let colon = login[..at].find(':')?;
    Some(after_scheme.split_at(start.len() + colon + 1)).map(|(user, _)| (user, &login[at..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const SECRET: &str = "correct-horse-17";

    #[track_caller]
    fn is_hidden(text: &str) {
        let hidden = hide(text);
        assert!(!hidden.contains(SECRET) && hidden.contains(COVER), "{hidden}");
    }

    #[test]
    fn secrets_are_covered_wherever_they_are_told() {
        for told in [
            json!({ "key": "AuthorizationKey", "value": SECRET }),
            json!({ "key": "AUTHORIZATIONKEY", "Value": SECRET }),
            json!({ "Key": "authorization_key", "value": SECRET }),
            json!({ "configurationKey": [{ "key": "A", "value": "1" }, { "key": "AuthorizationKey", "readonly": false, "value": SECRET }] }),
            json!({ "getVariableResult": [{ "attributeStatus": "Accepted", "attributeValue": SECRET,
                "component": { "name": "SecurityCtrlr" }, "variable": { "name": "BasicAuthPassword" } }] }),
            json!({ "setVariableData": [{ "variable": { "name": "basicauthpassword" }, "attributeValue": SECRET }] }),
            json!({ "reportData": [{ "component": { "name": "SecurityCtrlr" }, "variable": { "name": "BasicAuthPassword" },
                "variableAttribute": [{ "type": "Actual", "value": SECRET, "mutability": "WriteOnly" }] }] }),
            json!({ "eventData": [{ "variable": { "name": "BasicAuthPassword" }, "actualValue": SECRET }] }),
            json!({ "vendorId": "v", "messageId": "SetPassword", "data": SECRET }),
            json!({ "vendorId": "v", "data": format!("{{\"AuthorizationKey\":\"{SECRET}\"}}") }),
            json!({ "vendorId": "v", "data": format!("[{{\"key\":\"AuthorizationKey\",\"value\":\"{SECRET}\"}}]") }),
            json!({ "vendorId": "v", "data": { "wifi": { "passphrase": SECRET } } }),
            json!({ "vendorId": "v", "data": format!("user=x;password={SECRET};port=1") }),
            json!({ "connectionData": { "vpn": { "user": "u", "password": "p", "key": SECRET } } }),
            json!({ "location": format!("ftp://user:{SECRET}@files.example/logs") }),
            json!(["PropertyConstraintViolation", format!("AuthorizationKey: {SECRET} is too long"), {}]),
            json!(["FormatViolation", "", { "key": "AuthorizationKey", "value": SECRET }]),
        ] {
            is_hidden(&told.to_string());
        }
        is_hidden(&format!(r#"{{"authorization\u004bey":"{SECRET}"}}"#));
    }

    #[test]
    fn a_text_that_is_no_json_is_covered_too() {
        for text in [
            format!(r#"[2,"1","ChangeConfiguration",{{"key":"AuthorizationKey","value":"{SECRET}"#),
            format!(r#"[3,"1",{{"configurationKey":[{{"value":"{SECRET}","key":"AuthorizationKey"}}"#),
            format!(r#"[3,"1",{{"attributeValue" : "{SECRET}","variable":{{"name":"BasicAuthPassword"}}"#),
            format!("AuthorizationKey={SECRET}"),
            format!("<password>{SECRET}</password>"),
            format!(r#"{{"data":"{{\"password\":\"{SECRET}\"}}"#),
        ] {
            is_hidden(&text);
        }
    }

    #[test]
    fn nothing_else_is_covered() {
        for text in [
            r#"{"key":"HeartbeatInterval","value":"60"}"#,
            r#"{"key":["AuthorizationKey","HeartbeatInterval"]}"#,
            r#"{"status":"Accepted","unknownKey":["AuthorizationKey"]}"#,
            r#"{"meterValue":[{"sampledValue":[{"value":"7","unit":"Wh"}]}],"vendor":"\u00e9","mail":"a@b"}"#,
            r#"{"passwordRequired":true,"url":"https://files.example/a@b"}"#,
            r#"["NotSupported","no AuthorizationKey here",{}]"#,
            "hello",
        ] {
            assert_eq!(hide(text), text);
        }
        let both = json!({ "configurationKey": [{ "key": "AuthorizationKey", "value": SECRET }, { "key": "A", "value": "kept" }] });
        let hidden: Value = serde_json::from_str(&hide(&both.to_string())).unwrap();
        let values = [0, 1].map(|n| hidden["configurationKey"][n]["value"].clone());
        assert_eq!(values, ["***", "kept"]);
    }

    #[test]
    fn a_secret_that_was_told_is_covered_without_its_name() {
        let key = hex::encode(SECRET);
        let secrets = told(&json!({ "key": "AuthorizationKey", "value": key }));
        for echo in [format!(r#"["GenericError","{key} is too short",{{}}]"#), format!(r#"{{"status":"{SECRET}"}}"#)] {
            assert!(hide_told(&echo, &secrets).contains(COVER));
        }
        assert!(told(&json!({ "key": "HeartbeatInterval", "value": "600000" })).is_empty());
    }
}
