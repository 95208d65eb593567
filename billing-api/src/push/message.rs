//! What a phone is told: a line for people, and the event's own values for the app.

use std::collections::BTreeMap;

use evm_store::pushes::Due;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Most bytes of a message.
const MOST: usize = 4096;
/// Most bytes of an id by which a phone replaces an earlier message.
const MOST_COLLAPSE_ID: usize = 64;

/// The body of `messages:send`. `None`: this event is not told by push, or is too large to be.
pub(super) fn body(due: &Due, token: &str, lives_s: i64, now_s: i64) -> Option<String> {
    let values = values(&due.payload)?;
    let (title, text) = words(&due.name, &values)?;
    let mut data: BTreeMap<&str, &str> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    data.insert("event", &due.name);
    data.insert("eventId", &due.event_id);
    // A repeat replaces the first one on the screen.
    let mut android =
        json!({ "priority": "HIGH", "ttl": format!("{lives_s}s"), "notification": { "tag": due.event_id } });
    let mut apns = json!({
        "headers": { "apns-priority": "10", "apns-expiration": (now_s + lives_s).to_string() },
        "payload": { "aps": { "sound": "default" } },
    });
    if due.event_id.len() <= MOST_COLLAPSE_ID {
        apns["headers"]["apns-collapse-id"] = due.event_id.as_str().into();
    } else {
        android["notification"] = Value::Null;
    }
    let message = json!({ "message": {
        "token": token, "notification": { "title": title, "body": text }, "data": data, "android": android, "apns": apns,
    }});
    Some(message.to_string()).filter(|text| text.len() <= MOST)
}

/// An event's values as text: numbers with every digit, strings without their quotes.
fn values(payload: &str) -> Option<BTreeMap<String, String>> {
    let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_str(payload).ok()?;
    let text = |value: &RawValue| match serde_json::from_str::<String>(value.get()) {
        Ok(text) => text,
        Err(_) => value.get().to_owned(),
    };
    Some(raw.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

/// Title and text. The `CHARGING` events of the outbox are final.
fn words(name: &str, values: &BTreeMap<String, String>) -> Option<(&'static str, String)> {
    let value = |name: &str| values.get(name).map_or("", String::as_str);
    let amount = format!("{} MNT", value("amount"));
    Some(match (name, value("status")) {
        ("CHARGING", _) => ("Charge ended", format!("{} kWh, {amount}", value("energy"))),
        ("PAYMENT", "success") => ("Payment received", amount),
        ("PAYMENT", _) => ("Payment failed", amount),
        ("REPLENISHMENT", "success") => ("Balance topped up", amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use evm_domain::{CustomerId, Timestamp};

    fn due(name: &str, payload: &str) -> Due {
        Due {
            id: 1,
            event_id: format!("{}-1", name.to_lowercase()),
            customer: CustomerId(evm_store::new_id()),
            token: None,
            name: name.into(),
            payload: payload.into(),
            created_at: Timestamp(0),
            tries: 0,
        }
    }

    fn message(due: &Due) -> Value {
        serde_json::from_str::<Value>(&body(due, "TOKEN", 600, 1000).unwrap()).unwrap()["message"].take()
    }

    #[test]
    fn data_is_text_with_every_digit() {
        let told = message(&due("CHARGING", r#"{"energy":12.300,"waitingTime":0,"amount":1048.90}"#));
        assert_eq!(told["token"], "TOKEN");
        assert_eq!(told["notification"], json!({ "title": "Charge ended", "body": "12.300 kWh, 1048.90 MNT" }));
        let data = json!({ "event": "CHARGING", "eventId": "charging-1", "energy": "12.300", "waitingTime": "0", "amount": "1048.90" });
        assert_eq!(told["data"], data);
        assert_eq!((&told["android"]["ttl"], &told["android"]["priority"]), (&json!("600s"), &json!("HIGH")));
        assert_eq!(told["apns"]["headers"]["apns-expiration"], "1600");
    }

    #[test]
    fn each_event_has_its_words() {
        let title = |name, payload| message(&due(name, payload))["notification"]["title"].as_str().unwrap().to_owned();
        assert_eq!(title("PAYMENT", r#"{"status":"success","amount":1}"#), "Payment received");
        assert_eq!(title("PAYMENT", r#"{"status":"fail","amount":1}"#), "Payment failed");
        assert_eq!(title("REPLENISHMENT", r#"{"status":"success","amount":1}"#), "Balance topped up");
        assert!(body(&due("OTHER", "{}"), "TOKEN", 1, 1).is_none());
        assert!(body(&due("PAYMENT", "no JSON"), "TOKEN", 1, 1).is_none());
    }

    #[test]
    fn a_message_has_its_most() {
        let due = due("PAYMENT", r#"{"status":"success","amount":1}"#);
        assert!(body(&due, &"t".repeat(2048), 1, 1).is_some());
        assert!(body(&due, &"t".repeat(4096), 1, 1).is_none());
    }
}
