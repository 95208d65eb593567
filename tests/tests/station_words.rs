//! What a station may write: control bytes, broken answers, secrets.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::charge::{begin_16, begin_201, kept_message, newest_message, session_is};
use evm_tests::charger::Policy;
use evm_tests::script::Script;
use evm_tests::{RawCharger, Version, World, eventually, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const SECRET: &str = "correct-horse-17";

async fn boots(world: &mut World, version: Version, part: &str, ids: &[&str]) {
    world.operator.charger("CP-1", 1).await;
    let mut charger = RawCharger::connect(&world.tap, "CP-1", version).await;
    let mut script = Script::load("control_bytes");
    script.play(&mut charger, part).await;
    for id in ids {
        assert_eq!(script.answer(id).clone().ok()["status"], "Accepted", "{id}");
    }
    for frame in script.frames(part) {
        let told = charger.stray().len();
        charger.send_as_binary(&frame).await;
        eventually("the answer to a binary frame", async || (charger.stray().len() > told).then_some(())).await;
    }
    let shown = world.operator.get("/chargers/CP-1").await.ok();
    assert_eq!((&shown["serial"], &shown["vendor"]), (&json!("SN-77"), &json!("Hand")), "{shown}");
    let kept = newest_message(&world.operator, "CP-1", "BootNotification").await;
    assert!(kept["payload"].is_object(), "{kept}");
}

on_both_engines! {
    async fn control_bytes_are_dropped_and_the_rest_is_read_1_6(world) {
        let ids = ["boot-serial", "boot-behind", "boot-buffer", "boot-tab", "boot-bom", "boot-escape", "boot-action"];
        boots(world, Version::V16, "boot 1.6", &ids).await;
        world.rich_customer(PHONE, 50_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC").replace('+', "%2B");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({ "blocked": false }))).await.ok();
        let mut charger = world.raw("CP-1", Version::V16).await;
        let mut script = Script::load("control_bytes");
        script.play(&mut charger, "charge").await;
        assert_eq!(script.answer("start").clone().ok()["idTagInfo"]["status"], "Accepted");
        let session = session_is(&world.operator, "CP-1", "finished").await;
        let purchase = session["purchaseId"].as_str().unwrap().to_owned();
        world.billed(&purchase, 1_000).await;
    }

    async fn control_bytes_are_dropped_and_the_rest_is_read_2_0_1(world) {
        boots(world, Version::V201, "boot 2.0.1", &["boot-serial", "boot-tab", "boot-bom"]).await;
    }

    async fn control_bytes_in_an_answer_are_dropped(world) {
        world.operator.charger("CP-2", 1).await;
        let charger = world.raw("CP-2", Version::V16).await;
        charger.on("ClearCache", Policy::Silence);
        let operator = world.operator.clone();
        let asked = tokio::spawn(async move { operator.command("CP-2", "ClearCache", json!({})).await });
        let id = charger.asked("ClearCache").await.id;
        charger.send(&format!("\u{feff}[3,\"{id}\",{{\"status\":\"Acc\0epted\"}}]\0")).await;
        assert_eq!(asked.await.unwrap().ok(), json!({ "result": { "status": "Accepted" } }));
        newest_message(&world.operator, "CP-2", "ClearCache").await;
    }

    async fn a_broken_answer_does_not_hold_up_the_customers_stop_1_6(world) {
        let device = world.operator.charger("CP-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-3", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
        broken_answers(world, &mut charger, "CP-3").await;
        charger.meter(1, transaction, 1_500).await;
        let began = Instant::now();
        let purchase = customer.finish(&device).await;
        charger.command("RemoteStopTransaction").await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        charger.stop(transaction, 1_500).await;
        world.billed(&purchase, 500).await;
    }

    async fn a_broken_answer_does_not_hold_up_the_customers_stop_2_0_1(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V201).await;
        begin_201(&customer, &mut charger, &device, "T-1", 1_000).await;
        broken_answers(world, &mut charger, "CP-4").await;
        let purchase = customer.finish(&device).await;
        charger.command("RequestStopTransaction").await;
        let ended = evm_tests::charge::transaction_event("Ended", "T-1", 1, 1_500);
        charger.call("TransactionEvent", ended).await.ok();
        world.billed(&purchase, 500).await;
    }

    async fn meter_values_outside_of_a_charge_are_no_problem(world) {
        let mut script = Script::load("station_words");
        for (identity, version, part, ids) in [
            ("CP-5", Version::V16, "outside of a charge", ["m1", "m2"]),
            ("CS-5", Version::V201, "outside of a charge 2.0.1", ["m4", "m5"]),
        ] {
            world.operator.charger(identity, 1).await;
            let mut charger = world.raw(identity, version).await;
            script.play(&mut charger, part).await;
            for id in ids {
                let kept = kept_message(&world.operator, identity, |kept| kept["messageId"] == id).await;
                assert_eq!(kept["problem"], Value::Null, "{kept}");
            }
            if version == Version::V16 {
                script.play(&mut charger, "of no transaction").await;
                let kept = kept_message(&world.operator, identity, |kept| kept["messageId"] == "m3").await;
                assert_eq!(kept["problem"], "no such transaction");
            }
        }
    }

    async fn secrets_are_not_kept_in_either_direction_1_6(world) {
        world.operator.charger("CP-6", 1).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let entry = json!({ "key": "AuthorizationKey", "readonly": false, "value": SECRET });
        charger.on("GetConfiguration", Policy::Answer(json!({ "configurationKey": [entry] })));
        world.operator.command("CP-6", "GetConfiguration", json!({})).await.ok();
        for key in ["AuthorizationKey", "authorizationkey", "AUTHORIZATIONKEY"] {
            let body = json!({ "key": key, "value": hex });
            world.operator.command("CP-6", "ChangeConfiguration", body).await.ok();
        }
        charger.on("ChangeConfiguration", Policy::Silence);
        let operator = world.operator.clone();
        let body = json!({ "key": "AuthorizationKey", "value": hex });
        let asked = tokio::spawn(async move { operator.command("CP-6", "ChangeConfiguration", body).await });
        let id = last_asked(&charger, "ChangeConfiguration", 4).await;
        let details = json!({ "key": "AuthorizationKey", "value": hex });
        charger.send(&json!([4, id, "GenericError", format!("{hex} is too long"), details]).to_string()).await;
        asked.await.unwrap().ok();
        let data = format!("{{\"AuthorizationKey\":\"{SECRET}\"}}");
        charger.call("DataTransfer", json!({ "vendorId": "v", "messageId": "Password", "data": SECRET })).await.ok();
        charger.call("DataTransfer", json!({ "vendorId": "v", "data": data })).await.ok();
        charger.send(&format!("[2,\"bad\",\"DataTransfer\",{{\"key\":\"AuthorizationKey\",\"value\":\"{SECRET}\"")).await;
        charger.call("Teleport", json!({ "password": SECRET })).await;
        nothing_tells(world, "CP-6", 8).await;
    }

    async fn secrets_are_not_kept_in_either_direction_2_0_1(world) {
        world.operator.charger("CP-7", 1).await;
        let mut charger = world.raw("CP-7", Version::V201).await;
        let variable = || json!({ "component": { "name": "SecurityCtrlr" }, "variable": { "name": "BasicAuthPassword" } });
        let with = |name: &str, value: &str| {
            let mut all = variable();
            all[name] = value.into();
            all
        };
        let mut got = with("attributeValue", SECRET);
        got["attributeStatus"] = "Accepted".into();
        charger.on("GetVariables", Policy::Answer(json!({ "getVariableResult": [got] })));
        world.operator.command("CP-7", "GetVariables", json!({ "getVariableData": [variable()] })).await.ok();
        let set = json!({ "setVariableData": [with("attributeValue", SECRET)] });
        world.operator.command("CP-7", "SetVariables", set).await.ok();
        let mut report = variable();
        report["variableAttribute"] = json!([{ "type": "Actual", "value": SECRET }]);
        let told = json!({ "requestId": 1, "generatedAt": evm_tests::now(), "seqNo": 0, "reportData": [report] });
        charger.call("NotifyReport", told).await.ok();
        charger.call("DataTransfer", json!({ "vendorId": "v", "data": { "password": SECRET } })).await.ok();
        nothing_tells(world, "CP-7", 4).await;
    }
}

/// Each kind of broken answer to a command of the operator's is told at once.
async fn broken_answers(world: &World, charger: &mut RawCharger, identity: &'static str) {
    charger.on("ClearCache", Policy::Silence);
    let mut script = Script::load("station_words");
    for n in 0..script.frames("broken answers").len() {
        let operator = world.operator.clone();
        let began = Instant::now();
        let asked = tokio::spawn(async move { operator.command(identity, "ClearCache", json!({})).await });
        let id = charger.asked("ClearCache").await.id;
        script.set("ID", &id);
        let broken = script.frames("broken answers").remove(n);
        charger.send(&broken).await;
        asked.await.unwrap().problem(504, "charger_no_answer");
        assert!(began.elapsed() < Duration::from_secs(15), "{broken}: {:?}", began.elapsed());
        let kept = newest_message(&world.operator, identity, "ClearCache").await;
        assert_eq!(kept["problem"], "the answer cannot be read", "{broken}");
        // The right one comes after all: it belongs to no other command.
        charger.send(&json!([3, id, { "status": "Rejected" }]).to_string()).await;
    }
    // The others are answers, and a second answer is none.
    for n in 0..script.frames("short answers").len() {
        let operator = world.operator.clone();
        let asked = tokio::spawn(async move { operator.command(identity, "ClearCache", json!({})).await });
        let id = charger.asked("ClearCache").await.id;
        script.set("ID", id);
        let answer = script.frames("short answers").remove(n);
        charger.send(&answer).await;
        charger.send(&answer).await;
        asked.await.unwrap().ok();
    }
}

/// The id of a command's `nth` CALL at a charger.
async fn last_asked(charger: &RawCharger, action: &str, nth: usize) -> String {
    let mut id = String::new();
    for _ in 0..nth {
        id = charger.asked(action).await.id;
    }
    id
}

/// `least` of a charger's messages have something covered, and nothing tells the secret, in the store and in the log.
async fn nothing_tells(world: &World, identity: &str, least: usize) {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let all = eventually("the messages to be kept", async || {
        let all = world.operator.get(&format!("/chargers/{identity}/messages?limit=200")).await.ok();
        let covered = all.as_array().unwrap().iter().filter(|message| message.to_string().contains("***")).count();
        (covered >= least).then(|| all.to_string())
    })
    .await;
    let log = world.program.log();
    for form in [SECRET, hex.as_str()] {
        assert!(!all.contains(form), "{all}");
        assert!(!log.contains(form), "the log");
    }
}
