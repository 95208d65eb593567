use serde_json::json;

use super::*;

const RECEIVED: Timestamp = Timestamp(1_795_000_000_000);
const SENT: Timestamp = Timestamp(1_790_000_000_000);

fn event(action: &str, payload: Value) -> ChargerEvent {
    match decode(action, &payload, RECEIVED) {
        Decision::Ingest(decoded) => decoded.event,
        other => panic!("{other:?}"),
    }
}

fn transaction_update(action: &str, payload: Value) -> TransactionUpdate {
    match event(action, payload) {
        ChargerEvent::Transaction(update) => update,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start() {
    let told = json!({ "connectorId": 2, "idTag": "abc", "meterStart": "1200", "timestamp": "2026-09-21T14:13:20Z" });
    let update = transaction_update("StartTransaction", told.clone());
    assert_eq!((update.connector, update.id_tag.as_deref(), update.at), (Some(2), Some("ABC"), SENT));
    assert_eq!(update.points, [Point::new(SENT, PointKind::MeterStart, 1200)]);
    assert_eq!(update.start_key, transaction_update("StartTransaction", told).start_key);
}

#[test]
fn the_same_start_with_a_hopeless_clock_has_the_same_key() {
    let told = json!({ "connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": "1970-01-01T00:00:09Z" });
    let update = transaction_update("StartTransaction", told);
    assert_eq!(update.at, RECEIVED);
    assert_eq!(update.start_key.as_deref(), Some("1|1970-01-01T00:00:09Z|A|0"));
}

#[test]
fn a_stop_that_forgot_its_transaction() {
    for forgotten in [json!(-1), json!(0), json!("0"), Value::Null] {
        let told = json!({ "transactionId": forgotten, "meterStop": 1500, "timestamp": "2026-09-21T14:13:20Z" });
        let update = transaction_update("StopTransaction", told);
        assert_eq!((update.transaction, update.phase), (None, Phase::Ended));
    }
}

#[test]
fn meter_values_on_connector_0_belong_to_1() {
    let told = json!({ "connectorId": 0, "transactionId": 7, "meterValue": [{ "timestamp": "2026-09-21T14:13:20Z",
        "sampledValue": [{ "value": "1.5", "unit": "kWh" }] }] });
    let update = transaction_update("MeterValues", told);
    assert_eq!((update.connector, update.transaction.as_deref()), (Some(1), Some("7")));
    assert_eq!(update.points, [Point::new(SENT, PointKind::Register, 1500)]);
}

#[test]
fn the_main_meter_belongs_to_no_connector() {
    for nobodys in [Value::Null, json!(0), json!(-1)] {
        let told = json!({ "connectorId": 0, "transactionId": nobodys, "meterValue": [{ "sampledValue": [{ "value": "7" }] }] });
        assert_eq!(event("MeterValues", told), ChargerEvent::Noted);
    }
}

#[test]
fn a_register_that_no_meter_has_is_set_aside() {
    for (action, name) in [("StartTransaction", "meterStart"), ("StopTransaction", "meterStop")] {
        for (value, is_one) in
            [(-1, false), (1_000_000_000_000_i64, true), (1_000_000_000_001, false), (i64::MAX, false)]
        {
            let told = json!({ "connectorId": 1, "transactionId": 7, name: value });
            let Decision::Ingest(decoded) = decode(action, &told, RECEIVED) else { panic!() };
            let ChargerEvent::Transaction(update) = decoded.event else { panic!() };
            assert_eq!((update.points.len() == 1, decoded.problem.is_none()), (is_one, is_one), "{name} {value}");
        }
    }
}

#[test]
fn statuses_tell_of_charging() {
    let told = json!({ "connectorId": 1, "errorCode": "NoError", "status": "SuspendedEV" });
    let ChargerEvent::Status(report) = event("StatusNotification", told) else { panic!() };
    assert_eq!((report.charging, report.error, report.at), (Some(ChargingState::SuspendedEv), None, RECEIVED));
    assert_eq!(event("StatusNotification", json!({ "connectorId": 1, "status": "Dreaming" })), ChargerEvent::Noted);
}

#[test]
fn every_station_message_is_answered_and_others_are_not_implemented() {
    for action in NOTED.iter().chain(&["DataTransfer", "SignCertificate", "Authorize", "BootNotification"]) {
        assert!(matches!(decode(action, &Value::Null, RECEIVED), Decision::Ingest(_)), "{action}");
        let answer = answer(action, Outcome::default(), RECEIVED, 300);
        assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|v| v.is_object()), "{action}");
    }
    assert_eq!(decode("RemoteStartTransaction", &Value::Null, RECEIVED), Decision::Unknown);
}

#[test]
fn commands_have_no_nulls() {
    let (action, payload) = command(ChargerRequest::Start { connector: 1, id_tag: "A1".into(), remote_start_id: 5 });
    assert_eq!((action.as_str(), payload), ("RemoteStartTransaction", json!({ "connectorId": 1, "idTag": "A1" })));
    let (_, payload) = command(ChargerRequest::Stop { transaction: "77".into() });
    assert_eq!(payload, json!({ "transactionId": 77 }));
}
