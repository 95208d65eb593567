//! What is not kept of the CALLs to a charger: the password that it is told.

use std::borrow::Cow;

use serde_json::Value;

const COVER: &str = "***";

/// The payload without passwords, as it is kept: 1.6 `AuthorizationKey` (security whitepaper, `AuthorizationKey`), 2.0.1
/// `BasicAuthPassword` (A01, Update Charging Station Password).
pub(crate) fn hide<'a>(action: &str, payload: &'a Value) -> Cow<'a, Value> {
    if !["ChangeConfiguration", "SetVariables"].contains(&action) {
        return Cow::Borrowed(payload);
    }
    let mut hidden = payload.clone();
    match action {
        "ChangeConfiguration" if is(&payload["key"], "AuthorizationKey") => hidden["value"] = COVER.into(),
        "SetVariables" => {
            let all = hidden["setVariableData"].as_array_mut().into_iter().flatten();
            for one in all.filter(|one| is(&one["variable"]["name"], "BasicAuthPassword")) {
                one["attributeValue"] = COVER.into();
            }
        }
        _ => {}
    }
    Cow::Owned(hidden)
}

/// The names of keys and variables do not tell upper from lower case.
fn is(name: &Value, wanted: &str) -> bool {
    name.as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passwords_are_covered_and_nothing_else() {
        let key = |key: &str| json!({ "key": key, "value": "secret" });
        assert_eq!(hide("ChangeConfiguration", &key("authorizationkey"))["value"], "***");
        assert_eq!(hide("ChangeConfiguration", &key("HeartbeatInterval"))["value"], "secret");
        let one = |name: &str| json!({ "variable": { "name": name }, "attributeValue": "secret" });
        let both = json!({ "setVariableData": [one("BasicAuthPassword"), one("Interval")] });
        let hidden = hide("SetVariables", &both);
        let values: Vec<_> = (0..2).map(|n| hidden["setVariableData"][n]["attributeValue"].clone()).collect();
        assert_eq!(values, ["***", "secret"]);
        assert_eq!(hide("Reset", &key("AuthorizationKey"))["value"], "secret");
    }
}
