//! What 2.0.1 stations tell of transactions: twice, out of order, with gaps, with two ends, piece by piece.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::charge::{
    begin_201, bookings, newest_message, session_is, sessions_of, started_event, transaction_event,
};
use evm_tests::charger::{Policy, at};
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

/// A car that plugs in where that alone begins a transaction, with nobody's token.
fn plugged_in(transaction: &str) -> Value {
    let mut event = silent_event("Started", transaction, 0);
    event["triggerReason"] = "CablePluggedIn".into();
    event["timestamp"] = at(Duration::from_secs(600)).into();
    event["transactionInfo"]["chargingState"] = "EVConnected".into();
    event
}

/// An event that tells for whom: the token and the remoteStartId that the station was sent.
async fn authorized(charger: &RawCharger, transaction: &str, seq_no: i64, wh: i64) -> Value {
    let mut event = started_event(charger, transaction, wh).await;
    (event["eventType"], event["seqNo"]) = ("Updated".into(), seq_no.into());
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

    async fn a_car_that_is_plugged_in_may_be_started_by_the_app(world) {
        let device = world.operator.charger("CS-11", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-11", Version::V201).await;
        for (n, plugged_in_first) in [true, false].into_iter().enumerate() {
            let transaction = format!("T-{n}");
            if !plugged_in_first {
                customer.start(&device).await.ok();
            }
            charger.status(1, "Occupied").await;
            assert_eq!(charger.call("TransactionEvent", plugged_in(&transaction)).await.ok(), json!({}));
            if plugged_in_first {
                tell(&mut charger, &silent_event("Updated", &transaction, 1)).await;
                world.device_is(&customer, &device, "Idle").await;
                customer.start(&device).await.ok();
            }
            world.device_is(&customer, &device, "Busy").await;
            let told = authorized(&charger, &transaction, 2, 1_000).await;
            let answer = charger.call("TransactionEvent", told).await.ok();
            assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
            tell(&mut charger, &transaction_event("Updated", &transaction, 3, 1_300)).await;
            if !plugged_in_first {
                tell(&mut charger, &silent_event("Updated", &transaction, 1)).await;
            }
            tell(&mut charger, &transaction_event("Ended", &transaction, 4, 1_450)).await;
            charger.status(1, "Available").await;
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 450).await;
            let waited = customer.purchase(&purchase).await["waitingTime"].clone();
            assert_eq!(waited, 0, "before it was started nobody waited");
            customer.pay(&purchase, "EVM").await.ok();
        }
        assert_eq!(customer.purchases().await.len(), 2);
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
        assert!(charger.waiting().iter().all(|asked| asked.action != "RequestStopTransaction"), "{:?}", charger.waiting());
    }

    async fn a_token_told_after_its_request_was_given_up_still_is_that_customers(world) {
        let device = world.operator.charger("CS-12", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-12", Version::V201).await;
        tell(&mut charger, &plugged_in("T-1")).await;
        charger.on("RequestStartTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        customer.start(&device).await.problem(409, "start_refused");
        let told = authorized(&charger, "T-1", 1, 2_000).await;
        let answer = charger.call("TransactionEvent", told).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        world.device_is(&customer, &device, "Busy").await;
        tell(&mut charger, &transaction_event("Ended", "T-1", 2, 2_600)).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 600).await;
    }

    async fn a_token_told_after_its_customer_finished_stops_and_is_corrected(world) {
        let device = world.operator.charger("CS-16", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-16", Version::V201).await;
        charger.boot().await;
        tell(&mut charger, &plugged_in("T-1")).await;
        customer.start(&device).await.ok();
        let told = authorized(&charger, "T-1", 1, 2_000).await;
        let purchase = customer.finish(&device).await;
        let answer = charger.call("TransactionEvent", told).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Invalid", "{answer}");
        assert_eq!(charger.command("RequestStopTransaction").await, json!({ "transactionId": "T-1" }));
        tell(&mut charger, &transaction_event("Ended", "T-1", 2, 2_080)).await;
        world.billed(&purchase, 80).await;
        assert_eq!(bookings(&world.operator, "correction").await.len(), 1);
    }

    async fn a_card_that_is_shown_after_the_car_is_plugged_in_pays(world) {
        let device = world.operator.charger("CS-15", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
        let mut charger = world.raw("CS-15", Version::V201).await;
        tell(&mut charger, &plugged_in("T-1")).await;
        let mut shown = transaction_event("Updated", "T-1", 1, 300);
        shown["idToken"] = json!({ "idToken": "04AABBCC", "type": "ISO14443" });
        let answer = charger.call("TransactionEvent", shown).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        world.device_is(&customer, &device, "Busy").await;
        tell(&mut charger, &transaction_event("Ended", "T-1", 2, 850)).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 550).await;
        let session = session_is(&world.operator, "CS-15", "finished").await;
        assert_eq!(session["review"], Value::Null, "{session}");
    }

    async fn a_car_that_nobody_starts_bills_nobody(world) {
        let device = world.operator.charger("CS-13", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-13", Version::V201).await;
        tell(&mut charger, &plugged_in("T-1")).await;
        tell(&mut charger, &transaction_event("Updated", "T-1", 1, 700)).await;
        world.device_is(&customer, &device, "Idle").await;
        // The next car: the first one's end was never told.
        tell(&mut charger, &plugged_in("T-2")).await;
        tell(&mut charger, &transaction_event("Ended", "T-2", 1, 900)).await;
        let sessions = sessions_of(&world.operator, "CS-13").await;
        assert_eq!(sessions.len(), 2, "{sessions:?}");
        for session in sessions {
            let told = (&session["status"], &session["review"], &session["customerId"]);
            assert_eq!(told, (&json!("finished"), &Value::Null, &Value::Null), "no energy, no case: {session}");
        }
        assert!(world.operator.all("/purchases").await.is_empty());
    }

    async fn a_transaction_id_used_again_is_another_charge(world) {
        let device = world.operator.charger("CS-14", 1).await.remove(0);
        let customers = [world.rich_customer(PHONE, 50_000).await, world.rich_customer("+97699112233", 50_000).await];
        let mut charger = world.raw("CS-14", Version::V201).await;
        let mut purchases = Vec::new();
        for (customer, wh) in customers.iter().zip([100, 250]) {
            begin_201(customer, &mut charger, &device, "1", 0).await;
            tell(&mut charger, &transaction_event("Updated", "1", 1, wh - 50)).await;
            tell(&mut charger, &transaction_event("Ended", "1", 2, wh)).await;
            charger.status(1, "Available").await;
            purchases.push(customer.finish(&device).await);
        }
        // A card does as well as the app.
        let card = "/customers/+97699112233/cards/04AABBCC";
        world.operator.send(reqwest::Method::PUT, card, Some(json!({}))).await.ok();
        customers[1].pay(&purchases[1], "EVM").await.ok();
        let mut started = transaction_event("Started", "1", 0, 0);
        started["idToken"] = json!({ "idToken": "04AABBCC", "type": "ISO14443" });
        let answer = charger.call("TransactionEvent", started).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        tell(&mut charger, &transaction_event("Ended", "1", 1, 370)).await;
        purchases.push(customers[1].finish(&device).await);
        for (purchase, wh) in purchases.iter().zip([100, 250, 370]) {
            world.billed(purchase, wh).await;
        }
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
    }
}
