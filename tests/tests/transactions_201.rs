//! What 2.0.1 stations tell of transactions: twice, out of order, with gaps, with two ends, piece by piece.
#![allow(clippy::unwrap_used)]

use evm_tests::charge::{
    begin_201, bookings, newest_message, session_is, sessions_of, started_event, transaction_event,
};
use evm_tests::charger::Policy;
use evm_tests::{RawCharger, Version, now, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";

async fn tell(charger: &mut RawCharger, event: &Value) {
    charger.call("TransactionEvent", event.clone()).await.ok();
}

/// An event without meter values.
fn silent_event(kind: &str, transaction: &str, seq_no: i64) -> Value {
    let mut event = transaction_event(kind, transaction, seq_no, 0);
    event.as_object_mut().unwrap().remove("meterValue");
    event
}

on_both_engines! {
    async fn events_sent_again_change_nothing(world) {
        let device = world.operator.charger("CS-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-1", Version::V201).await;
        customer.start(&device).await.ok();
        let events = [
            started_event(&charger, "T-1", 7_000).await,
            transaction_event("Updated", "T-1", 1, 7_100),
            transaction_event("Ended", "T-1", 2, 7_250),
        ];
        for event in &events {
            for id in ["same", "same", "other"] {
                charger.call_as(id, "TransactionEvent", event.clone()).await.ok();
            }
        }
        for event in &events {
            tell(&mut charger, event).await;
        }
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 250).await;
        assert_eq!(sessions_of(&world.operator, "CS-1").await.len(), 1);
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
    }

    async fn events_in_any_order_are_one_charge(world) {
        let device = world.operator.charger_priced("CS-2", 1, 0, 0).await.remove(0);
        let customer = world.customer(PHONE).await;
        let mut charger = world.raw("CS-2", Version::V201).await;
        for (n, order) in [[3, 2, 1, 0], [1, 0, 3, 2], [3, 0, 1, 2], [0, 3, 2, 1]].into_iter().enumerate() {
            let transaction = format!("T-{n}");
            customer.start(&device).await.ok();
            let events = [
                started_event(&charger, &transaction, 1_000).await,
                transaction_event("Updated", &transaction, 1, 1_100),
                transaction_event("Updated", &transaction, 2, 1_200),
                transaction_event("Ended", &transaction, 3, 1_300),
            ];
            for index in order {
                tell(&mut charger, &events[index]).await;
            }
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 300).await;
            let mut sessions = sessions_of(&world.operator, "CS-2").await;
            sessions.retain(|session| session["transactionId"] == transaction.as_str());
            assert_eq!(sessions.len(), 1, "{order:?}: {sessions:?}");
            assert_eq!((&sessions[0]["status"], &sessions[0]["purchaseId"]), (&json!("finished"), &json!(purchase)));
        }
        assert_eq!(customer.purchases().await.len(), 4);
    }

    async fn an_end_waits_for_events_that_the_station_still_has(world) {
        let device = world.operator.charger("CS-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-3", Version::V201).await;
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": true, "ongoingIndicator": false })));
        begin_201(&customer, &mut charger, &device, "T-1", 1_000).await;
        tell(&mut charger, &silent_event("Ended", "T-1", 3)).await;
        assert_eq!(charger.command("GetTransactionStatus").await, json!({ "transactionId": "T-1" }));
        tell(&mut charger, &transaction_event("Updated", "T-1", 1, 1_400)).await;
        let session = session_is(&world.operator, "CS-3", "active").await;
        assert!(session["endedAt"].is_string(), "{session}");
        tell(&mut charger, &transaction_event("Updated", "T-1", 2, 1_900)).await;
        session_is(&world.operator, "CS-3", "finished").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 900).await;
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
    }

    async fn a_gap_that_stays_for_ever_is_billed_without(world) {
        let device = world.operator.charger("CS-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-4", Version::V201).await;
        begin_201(&customer, &mut charger, &device, "T-1", 1_000).await;
        tell(&mut charger, &transaction_event("Ended", "T-1", 5, 1_700)).await;
        charger.command("GetTransactionStatus").await;
        session_is(&world.operator, "CS-4", "finished").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 700).await;
        // What comes after all is not lost, and changes nothing here.
        tell(&mut charger, &transaction_event("Updated", "T-1", 2, 1_200)).await;
        world.billed(&purchase, 700).await;
    }

    async fn two_ends_are_one_bill(world) {
        let device = world.operator.charger("CS-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-5", Version::V201).await;
        begin_201(&customer, &mut charger, &device, "T-1", 0).await;
        let (mut first, second) = (transaction_event("Ended", "T-1", 1, 420), transaction_event("Ended", "T-1", 2, 420));
        first["transactionInfo"]["stoppedReason"] = "EVDisconnected".into();
        tell(&mut charger, &first).await;
        tell(&mut charger, &second).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 420).await;
        assert_eq!(session_is(&world.operator, "CS-5", "finished").await["stopReason"], "EVDisconnected");
        assert_eq!(customer.purchases().await.len(), 1);
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
    }

    async fn who_and_where_may_be_told_in_any_event(world) {
        let devices = world.operator.charger_priced("CS-6", 2, 0, 0).await;
        let customer = world.customer(PHONE).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
        let mut charger = world.raw("CS-6", Version::V201).await;
        charger.status(2, "Available").await;
        let bare = |kind, seq_no, wh| {
            let mut event = transaction_event(kind, "T-9", seq_no, wh);
            event.as_object_mut().unwrap().remove("evse");
            event["triggerReason"] = "CablePluggedIn".into();
            event
        };
        let token = json!({ "idToken": "04aabbcc", "type": "ISO14443" });
        // The card first, the place later.
        let mut started = bare("Started", 0, 100);
        started["idToken"] = token;
        let answer = charger.call("TransactionEvent", started).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        let mut placed = bare("Updated", 1, 150);
        placed["evse"] = json!({ "id": 2, "connectorId": 1 });
        tell(&mut charger, &placed).await;
        assert_eq!(session_is(&world.operator, "CS-6", "active").await["deviceId"], devices[1].as_str());
        world.device_is(&customer, &devices[1], "Busy").await;
        tell(&mut charger, &bare("Ended", 2, 640)).await;
        let session = session_is(&world.operator, "CS-6", "finished").await;
        assert_eq!(session["review"], Value::Null, "{session}");
        let purchase = customer.finish(&devices[1]).await;
        world.billed(&purchase, 540).await;
    }

    async fn an_unknown_card_gets_no_energy_and_no_bill(world) {
        world.operator.charger("CS-7", 1).await;
        let mut charger = world.raw("CS-7", Version::V201).await;
        let token = json!({ "idToken": "NOBODY", "type": "ISO14443" });
        let answer = charger.call("Authorize", json!({ "idToken": token })).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Invalid");
        let mut started = transaction_event("Started", "T-1", 0, 0);
        started["idToken"] = token;
        let answer = charger.call("TransactionEvent", started).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Invalid");
        assert_eq!(charger.command("RequestStopTransaction").await, json!({ "transactionId": "T-1" }));
        tell(&mut charger, &transaction_event("Ended", "T-1", 1, 20)).await;
        let session = session_is(&world.operator, "CS-7", "finished").await;
        assert_eq!((&session["review"], &session["energy"]), (&json!("unknown_tag"), &json!(0.02)), "{session}");
        assert!(world.operator.all("/purchases").await.is_empty());
    }

    async fn two_stations_may_use_the_same_transaction_id(world) {
        let customers = [world.rich_customer(PHONE, 50_000).await, world.rich_customer("+97699112233", 50_000).await];
        let mut chargers = Vec::new();
        let mut devices = Vec::new();
        for (identity, customer) in ["CS-8", "CS-9"].into_iter().zip(&customers) {
            devices.push(world.operator.charger(identity, 1).await.remove(0));
            let mut charger = world.raw(identity, Version::V201).await;
            begin_201(customer, &mut charger, devices.last().unwrap(), "1", 0).await;
            chargers.push(charger);
        }
        let (first, second) = chargers.split_at_mut(1);
        let (one, two) = (transaction_event("Ended", "1", 1, 111), transaction_event("Ended", "1", 1, 222));
        tokio::join!(tell(&mut first[0], &one), tell(&mut second[0], &two));
        for ((customer, device), wh) in customers.iter().zip(&devices).zip([111, 222]) {
            let purchase = customer.finish(device).await;
            world.billed(&purchase, wh).await;
        }
    }

    async fn events_that_make_no_sense_are_answered_and_kept(world) {
        world.operator.charger("CS-10", 1).await;
        let mut charger = world.raw("CS-10", Version::V201).await;
        let nameless = json!({ "eventType": "Updated", "timestamp": now(), "triggerReason": "Trigger", "seqNo": 4, "transactionInfo": {} });
        charger.call("TransactionEvent", nameless).await.ok();
        assert_eq!(newest_message(&world.operator, "CS-10", "TransactionEvent").await["problem"], "no transactionId");
        for (action, payload) in [
            ("NotifyReport", json!({ "requestId": 1, "generatedAt": now(), "seqNo": 0 })),
            ("NotifyEvent", json!({ "generatedAt": now(), "seqNo": 0, "eventData": [] })),
            ("SecurityEventNotification", json!({ "type": "StartupOfTheDevice", "timestamp": now() })),
            ("MeterValues", json!({ "evseId": 1, "meterValue": [{ "timestamp": now(), "sampledValue": [{ "value": 5 }] }] })),
            ("DataTransfer", json!({ "vendorId": "somebody" })),
            ("Heartbeat", json!({})),
        ] {
            charger.call(action, payload).await.ok();
        }
        assert!(sessions_of(&world.operator, "CS-10").await.is_empty());
    }
}
