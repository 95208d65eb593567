use super::*;

const RECEIVED: Timestamp = Timestamp(1_795_000_000_000);
const SENT: Timestamp = Timestamp(1_790_000_000_000);

fn update_of(payload: Value) -> TransactionUpdate {
    match decode("TransactionEvent", &payload, RECEIVED) {
        Decision::Ingest(Decoded { event: ChargerEvent::Transaction(update), .. }) => update,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_event_with_everything() {
    let update = update_of(json!({
        "eventType": "Started", "timestamp": "2026-09-21T14:13:20Z", "triggerReason": "RemoteStart", "seqNo": 0,
        "transactionInfo": { "transactionId": "T-1", "chargingState": "Charging", "remoteStartId": 5 },
        "evse": { "id": 2, "connectorId": 1 }, "idToken": { "idToken": "abc", "type": "Central" },
        "meterValue": [{ "timestamp": "2026-09-21T14:13:20Z", "sampledValue": [{ "value": 10.0, "context": "Transaction.Begin" }] }],
    }));
    assert_eq!((update.phase, update.connector, update.remote_start_id), (Phase::Started, Some(2), Some(5)));
    assert_eq!(update.id_tag.as_deref(), Some("ABC"));
    assert_eq!(
        update.points,
        [Point::new(SENT, PointKind::Begin, 10), Point::new(SENT, PointKind::State, ChargingState::Charging as i64)]
    );
}

#[test]
fn an_event_without_a_transaction_is_set_aside() {
    let Decision::Ingest(decoded) = decode("TransactionEvent", &json!({ "eventType": "Ended" }), RECEIVED) else {
        panic!()
    };
    assert_eq!(decoded.event, ChargerEvent::Noted);
    assert!(decoded.problem.is_some());
}

#[test]
fn every_station_message_has_an_object_for_an_answer() {
    for action in NOTED.iter().chain(REFUSED.iter().map(|(name, _)| name)).chain(&["TransactionEvent", "Authorize"]) {
        assert!(matches!(decode(action, &json!({}), RECEIVED), Decision::Ingest(_)), "{action}");
        let answer = answer(action, Outcome::default(), RECEIVED, 300);
        assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|v| v.is_object()), "{action}");
    }
    assert_eq!(decode("RequestStartTransaction", &Value::Null, RECEIVED), Decision::Unknown);
}

#[test]
fn commands_have_no_nulls() {
    let (_, payload) = command(ChargerRequest::Start { connector: 1, id_tag: "A1".into(), remote_start_id: 5 });
    let wanted = json!({ "evseId": 1, "remoteStartId": 5, "idToken": { "idToken": "A1", "type": "Central" } });
    assert_eq!(payload, wanted);
}

#[test]
fn a_token_that_names_nobody_is_still_a_token() {
    let told = |token: Value| {
        update_of(json!({
            "eventType": "Started", "timestamp": "2026-09-21T14:13:20Z", "triggerReason": "Authorized", "seqNo": 0,
            "transactionInfo": { "transactionId": "T-1" }, "idToken": token,
        }))
        .id_tag
    };
    for text in ["", "whatever"] {
        assert_eq!(told(json!({ "idToken": text, "type": "NoAuthorization" })).as_deref(), Some(NO_AUTHORIZATION));
    }
    assert_eq!(told(json!({ "idToken": "", "type": "Central" })).as_deref(), Some(""));
    assert_eq!(told(json!("04aabb")).as_deref(), Some("04AABB"), "a text where an object is due");
    assert_eq!(told(Value::Null), None);
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_version() {
    use super::super::TagStatus;
    assert_eq!(TagStatus::NoCredit.as_str(Version::V201), "NoCredit");
    assert_eq!(TagStatus::NoCredit.as_str(Version::V16), "Blocked");
    assert_eq!(TagStatus::Blocked.as_str(Version::V16), "Blocked");
}
