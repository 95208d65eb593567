//! Commands of the operator to chargers, in both versions.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evm_tests::charge::{begin_16, kept_message};
use evm_tests::charger::{Policy, Reply};
use evm_tests::{RawCharger, Version, World, on_both_engines};
use serde_json::{Value, json};

/// Action, payload, and what the charger answers.
type Case = (&'static str, Value, Value);

fn cases_16() -> Vec<Case> {
    let accepted = || json!({ "status": "Accepted" });
    vec![
        ("RemoteStartTransaction", json!({ "idTag": "OPERATOR", "connectorId": 1 }), json!({ "status": "Rejected" })),
        ("RemoteStopTransaction", json!({ "transactionId": 7 }), json!({ "status": "Rejected" })),
        (
            "ChangeConfiguration",
            json!({ "key": "HeartbeatInterval", "value": "60" }),
            json!({ "status": "RebootRequired" }),
        ),
        (
            "GetConfiguration",
            json!({ "key": ["HeartbeatInterval", "Nothing"] }),
            json!({
                "configurationKey": [{ "key": "HeartbeatInterval", "readonly": false, "value": "60" }], "unknownKey": ["Nothing"],
            }),
        ),
        ("GetConfiguration", json!({}), json!({ "configurationKey": [] })),
        ("Reset", json!({ "type": "Soft" }), accepted()),
        ("UnlockConnector", json!({ "connectorId": 1 }), json!({ "status": "UnlockFailed" })),
        ("ChangeAvailability", json!({ "connectorId": 0, "type": "Inoperative" }), json!({ "status": "Scheduled" })),
        ("ClearCache", json!({}), accepted()),
        (
            "TriggerMessage",
            json!({ "requestedMessage": "StatusNotification", "connectorId": 1 }),
            json!({ "status": "NotImplemented" }),
        ),
        ("DataTransfer", json!({ "vendorId": "somebody", "data": "x" }), json!({ "status": "UnknownVendorId" })),
    ]
}

fn cases_201() -> Vec<Case> {
    let accepted = || json!({ "status": "Accepted" });
    let variable = || json!({ "component": { "name": "OCPPCommCtrlr" }, "variable": { "name": "HeartbeatInterval" } });
    let with = |more: Value| {
        let mut all = variable();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    vec![
        (
            "RequestStartTransaction",
            json!({ "idToken": { "idToken": "OPERATOR", "type": "Central" }, "remoteStartId": 3 }),
            json!({ "status": "Rejected" }),
        ),
        ("RequestStopTransaction", json!({ "transactionId": "T-7" }), json!({ "status": "Rejected" })),
        (
            "GetVariables",
            json!({ "getVariableData": [variable()] }),
            json!({
                "getVariableResult": [with(json!({ "attributeStatus": "Accepted", "attributeValue": "60" }))],
            }),
        ),
        (
            "SetVariables",
            json!({ "setVariableData": [with(json!({ "attributeValue": "60" }))] }),
            json!({
                "setVariableResult": [with(json!({ "attributeStatus": "RebootRequired" }))],
            }),
        ),
        ("GetBaseReport", json!({ "requestId": 1, "reportBase": "FullInventory" }), accepted()),
        ("GetTransactionStatus", json!({ "transactionId": "T-7" }), json!({ "messagesInQueue": false })),
        ("Reset", json!({ "type": "OnIdle" }), json!({ "status": "Scheduled" })),
        ("UnlockConnector", json!({ "evseId": 1, "connectorId": 1 }), json!({ "status": "Unlocked" })),
        ("ChangeAvailability", json!({ "operationalStatus": "Inoperative", "evse": { "id": 1 } }), accepted()),
        ("TriggerMessage", json!({ "requestedMessage": "Heartbeat" }), accepted()),
        ("ClearCache", json!({}), accepted()),
        ("DataTransfer", json!({ "vendorId": "somebody", "data": { "a": 1 } }), json!({ "status": "UnknownVendorId" })),
    ]
}

async fn every_command(world: &mut World, version: Version, cases: Vec<Case>) {
    world.operator.charger("CP-1", 1).await;
    let charger = world.raw("CP-1", version).await;
    for (action, payload, answer) in cases {
        charger.on(action, Policy::Answer(answer.clone()));
        let told = world.operator.command("CP-1", action, payload.clone()).await.ok();
        assert_eq!(told, json!({ "result": answer }), "{action}");
        assert_eq!(charger.command(action).await, payload, "{action}");
        kept_message(&world.operator, "CP-1", |kept| {
            kept["direction"] == "out"
                && kept["action"] == action
                && kept["payload"] == payload
                && kept["answer"] == answer
        })
        .await;
    }
    // What a charger refuses is told as it said it.
    charger.on("ClearCache", Policy::Refuse("NotSupported"));
    let told = world.operator.command("CP-1", "ClearCache", json!({})).await.ok();
    assert_eq!(told, json!({ "error": { "code": "NotSupported", "description": "said by the test", "details": {} } }));
}

/// Heartbeats there and back: whatever the central system had to say by then has come.
async fn round_trip(charger: &mut RawCharger) {
    for _ in 0..3 {
        charger.call("Heartbeat", json!({})).await.ok();
    }
}

on_both_engines! {
    async fn every_command_of_1_6_core_goes_out_and_comes_back(world) {
        every_command(world, Version::V16, cases_16()).await;
    }

    async fn every_command_of_2_0_1_goes_out_and_comes_back(world) {
        every_command(world, Version::V201, cases_201()).await;
    }

    async fn what_misfits_the_schema_is_not_sent(world) {
        world.operator.charger("CP-2", 1).await;
        let mut charger = world.raw("CP-2", Version::V16).await;
        for (action, payload) in [
            ("Reset", json!({ "type": "Sideways" })),
            ("Reset", json!({})),
            ("Reset", json!([])),
            ("UnlockConnector", json!({ "connectorId": "one" })),
            ("ChangeConfiguration", json!({ "key": "k".repeat(51), "value": "1" })),
            ("ClearCache", json!({ "more": 1 })),
            ("GetConfiguration", json!({ "key": null })),
        ] {
            let answer = world.operator.command("CP-2", action, payload.clone()).await;
            let body = answer.problem(400, "invalid_request");
            assert!(body["field"].is_string(), "{action} {payload}: {body}");
        }
        let answer = world.operator.command("CP-2", "Reset", json!({ "type": "Sideways" })).await;
        answer.names_field("/type");
        round_trip(&mut charger).await;
        assert!(charger.waiting().is_empty(), "{:?}", charger.waiting());
        // Fits, but some stations stumble over an empty list.
        world.operator.command("CP-2", "GetConfiguration", json!({ "key": [] })).await.ok();
        assert_eq!(charger.command("GetConfiguration").await, json!({}));
    }

    async fn an_unknown_charger_or_action_is_404(world) {
        world.operator.charger("CP-3", 1).await;
        world.operator.command("NOBODY", "ClearCache", json!({})).await.problem(404, "not_found");
        let mut old = world.raw("CP-3", Version::V16).await;
        for action in ["GetVariables", "Teleport", "Heartbeat", "BootNotification", "..%2Fv201%2FReset", "reset"] {
            world.operator.command("CP-3", action, json!({})).await.problem(404, "not_found");
        }
        round_trip(&mut old).await;
        assert!(old.waiting().is_empty());
        let mut new = world.raw("CP-3", Version::V201).await;
        for action in ["GetConfiguration", "RemoteStartTransaction", "TransactionEvent"] {
            world.operator.command("CP-3", action, json!({})).await.problem(404, "not_found");
        }
        round_trip(&mut new).await;
        assert!(new.waiting().is_empty());
    }

    async fn a_charger_that_is_away_or_has_not_booted_is_409(world) {
        world.operator.charger("CP-4", 1).await;
        world.operator.command("CP-4", "ClearCache", json!({})).await.problem(409, "charger_offline");
        let mut charger = RawCharger::connect(&world.tap, "CP-4", Version::V16).await;
        round_trip(&mut charger).await;
        // Before its boot is accepted a station is asked for nothing.
        world.operator.command("CP-4", "ClearCache", json!({})).await.problem(409, "charger_offline");
        assert!(charger.waiting().is_empty());
        charger.boot().await;
        world.operator.command("CP-4", "ClearCache", json!({})).await.ok();
        charger.close().await;
        evm_tests::eventually("the charger to be away", async || {
            (world.operator.command("CP-4", "ClearCache", json!({})).await.status == 409).then_some(())
        }).await;
        // Accepted once, it need not boot again.
        let charger = RawCharger::connect(&world.tap, "CP-4", Version::V16).await;
        world.operator.command("CP-4", "ClearCache", json!({})).await.ok();
        charger.command("ClearCache").await;
    }

    async fn whoever_asks_while_the_connection_ends_is_told_so_at_once(world) {
        world.operator.charger("CP-8", 1).await;
        for round in 0..8 {
            let charger = world.raw("CP-8", Version::V16).await;
            let over = Arc::new(AtomicBool::new(false));
            let askers: Vec<_> = (0..8).map(|_| {
                let (operator, over) = (world.operator.clone(), over.clone());
                tokio::spawn(async move {
                    let mut statuses = Vec::new();
                    while !over.load(Ordering::Relaxed) || statuses.is_empty() {
                        statuses.push(operator.command("CP-8", "ClearCache", json!({})).await.status);
                    }
                    statuses
                })
            }).collect();
            charger.asked("ClearCache").await;
            // By turns a farewell and a cut line.
            match round % 2 {
                0 => charger.close().await,
                _ => world.tap.cut("CP-8"),
            }
            evm_tests::eventually("the charger to be away", async || {
                (world.operator.command("CP-8", "ClearCache", json!({})).await.status == 409).then_some(())
            }).await;
            over.store(true, Ordering::Relaxed);
            for asker in askers {
                let statuses = asker.await.unwrap();
                assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "round {round}: {statuses:?}");
            }
        }
    }

    async fn a_silent_charger_is_504_and_its_late_answer_is_dropped(world) {
        world.operator.charger("CP-5", 1).await;
        let mut charger = world.raw("CP-5", Version::V16).await;
        charger.on("ClearCache", Policy::Silence);
        world.operator.command("CP-5", "ClearCache", json!({})).await.problem(504, "charger_no_answer");
        let late = charger.asked("ClearCache").await;
        charger.send(&json!([3, late.id, { "status": "Accepted" }]).to_string()).await;
        round_trip(&mut charger).await;
        world.operator.command("CP-5", "Reset", json!({ "type": "Soft" })).await.ok();
        assert!(!charger.is_closed());
        kept_message(&world.operator, "CP-5", |kept| kept["problem"] == "no answer in time").await;
    }

    async fn one_call_at_a_time_and_crossing_calls(world) {
        let device = world.operator.charger("CP-6", 1).await.remove(0);
        let customer = world.rich_customer("+97686661488", 50_000).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.on("Reset", Policy::Silence);
        let (first, second) = {
            let operator = world.operator.clone();
            let first = tokio::spawn(async move { operator.command("CP-6", "Reset", json!({ "type": "Soft" })).await });
            let asked = charger.asked("Reset").await;
            let operator = world.operator.clone();
            let second = tokio::spawn(async move { operator.command("CP-6", "ClearCache", json!({})).await });
            // The charger's own CALLs cross it; the second command waits.
            charger.meter(1, transaction, 100).await;
            round_trip(&mut charger).await;
            assert!(charger.waiting().is_empty(), "{:?}", charger.waiting());
            charger.send(&json!([3, asked.id, { "status": "Accepted" }]).to_string()).await;
            (first.await.unwrap(), second.await.unwrap())
        };
        assert_eq!(first.ok(), json!({ "result": { "status": "Accepted" } }));
        assert_eq!(second.ok(), json!({ "result": { "status": "Accepted" } }));
        charger.stop(transaction, 150).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 150).await;
    }

    async fn a_command_whose_connection_ends_is_told_so(world) {
        world.operator.charger("CP-7", 1).await;
        let charger = world.raw("CP-7", Version::V16).await;
        charger.on("Reset", Policy::Silence);
        let operator = world.operator.clone();
        let asked = tokio::spawn(async move { operator.command("CP-7", "Reset", json!({ "type": "Hard" })).await });
        charger.asked("Reset").await;
        world.tap.cut("CP-7");
        asked.await.unwrap().problem(409, "charger_offline");
        let mut again = world.raw("CP-7", Version::V16).await;
        assert_ne!(again.call("Heartbeat", json!({})).await, Reply::Closed);
    }
}
