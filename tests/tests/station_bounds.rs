//! What a station costs at most: memory, disk, lines of the log, the time of others.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::api::{decimal, wh};
use evm_tests::charge::{begin_16, session_is, sessions_of};
use evm_tests::charger::at;
use evm_tests::{Engine, Version, World, eventually, on_both_engines, on_each_engine};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PHONE: &str = "+97686661488";
const CARD: &str = "04AABBCC";

/// Memory that the program holds, MiB: now (`VmRSS`) or at most so far (`VmHWM`).
fn memory(world: &World, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.program.pid().unwrap())).unwrap();
    let line = status.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// How many of a charger's transactions are open.
async fn open(world: &World, identity: &str) -> usize {
    let all = sessions_of(&world.operator, identity).await;
    all.iter().filter(|session| session["status"] == "active").count()
}

/// The session of a transaction at CP-5.
async fn session_of(world: &World, transaction: i64) -> Value {
    let (all, id) = (sessions_of(&world.operator, "CP-5").await, transaction.to_string());
    all.into_iter().find(|session| session["transactionId"] == id.as_str()).unwrap()
}

/// One sample each 5 s over some days.
fn samples(count: i64, last: i64) -> Vec<Value> {
    (0..count)
        .map(|n| {
            let ago = Duration::from_secs(u64::try_from((count - n) * 5).unwrap());
            json!({ "timestamp": at(ago), "sampledValue": [{
                "value": (n * last / count).to_string(), "context": "Sample.Periodic", "format": "Raw", "unit": "Wh",
                "measurand": "Energy.Active.Import.Register", "location": "Outlet",
            }] })
        })
        .collect()
}

on_both_engines! {
    async fn a_stop_with_the_intervals_of_a_day_bills_them_all(world) {
        world.operator.charger_priced("CP-1", 1, 1000, 0).await;
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let started = at(Duration::from_secs(86_000));
        let start = json!({ "connectorId": 1, "idTag": CARD, "meterStart": 0, "timestamp": started });
        world.operator.send(Method::PUT, &format!("/customers/{PHONE}/cards/{CARD}"), Some(json!({}))).await.ok();
        let transaction = charger.call("StartTransaction", start).await.ok()["transactionId"].clone();
        let intervals: Vec<Value> = (0..17_000u64)
            .map(|n| {
                let sampled = json!([{ "value": "1", "unit": "Wh", "measurand": "Energy.Active.Import.Interval" }]);
                json!({ "timestamp": at(Duration::from_secs(85_500 - 5 * n)), "sampledValue": sampled })
            })
            .collect();
        let stop = json!({ "transactionId": transaction, "meterStop": 0, "timestamp": at(Duration::ZERO), "transactionData": intervals });
        charger.call("StopTransaction", stop).await.ok();
        let session = session_is(&world.operator, "CP-1", "finished").await;
        assert_eq!(session["review"], "no_register", "{session}");
        let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
        assert_eq!(decimal(&purchase["amount"]), Decimal::from(17_000), "{purchase}");
    }

    async fn a_stop_with_the_samples_of_days_is_read(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let before = memory(world, "VmRSS");
        let stop = json!({
            "transactionId": transaction, "meterStop": 1_500, "timestamp": at(Duration::ZERO),
            "transactionData": samples(30_000, 1_500),
        });
        assert!(stop.to_string().len() > 5_600_000, "{}", stop.to_string().len());
        charger.call("StopTransaction", stop).await.ok();
        let peak = memory(world, "VmHWM") - before;
        assert!(peak < 200, "{peak} MiB");
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 1_500).await;
        // Its message is kept whole, and a list of messages has its beginning and the way to it.
        let page = world.operator.get("/chargers/CP-1/messages").await.ok();
        assert!(page.to_string().len() < 200_000, "{}", page.to_string().len());
        let kept = page.as_array().unwrap().iter().find(|kept| kept["action"] == "StopTransaction").unwrap();
        assert!(kept["payload"].as_str().unwrap().starts_with('{'));
        let link = kept["whole"].as_str().unwrap().strip_prefix("/admin/v1").unwrap();
        let whole = world.operator.get(link).await.ok();
        assert_eq!(whole["payload"]["transactionData"].as_array().unwrap().len(), 30_000);
        assert_eq!((&whole["whole"], &whole["id"]), (&Value::Null, &kept["id"]));
        for nobodys in ["/chargers/CP-1/messages/999999", "/chargers/NOBODY/messages/1", "/chargers/CP-1/messages/x"] {
            world.operator.get(nobodys).await.problem(404, "not_found");
        }
    }

    async fn frames_of_very_many_values_cost_little_memory(world) {
        world.operator.charger("CP-2", 1).await;
        for version in [Version::V16, Version::V201] {
            let mut charger = world.raw("CP-2", version).await;
            let before = memory(world, "VmRSS");
            for (n, values) in ["[],", "{\"\":1},"].into_iter().enumerate() {
                let list = format!("[{}0]", values.repeat((4 << 20) / values.len() - 100));
                for text in [
                    format!("[2,\"{version:?}a{n}\",\"DataTransfer\",{{\"vendorId\":\"v\",\"data\":{list}}}]"),
                    format!("[2,\"{version:?}b{n}\",\"MeterValues\",{{\"connectorId\":1,\"meterValue\":{list}}}]"),
                ] {
                    let id = text.split('"').nth(1).unwrap().to_owned();
                    charger.ask(&id, &text).await;
                }
                charger.send(&format!("[3,\"x\",{{\"status\":{list}}}]")).await;
                charger.send(&list).await;
            }
            charger.call("Heartbeat", json!({})).await.ok();
            let (peak, held) = (memory(world, "VmHWM") - before, memory(world, "VmRSS").saturating_sub(before));
            assert!(peak < 250 && held < 150, "{version:?}: {peak} MiB, and then {held}");
        }
    }

    async fn a_page_of_large_messages_is_bounded(world) {
        world.operator.charger("CP-3", 1).await;
        let mut charger = world.raw("CP-3", Version::V201).await;
        for n in 0..4 {
            let data = vec![json!({ "n": n }); 90_000 / 3];
            let payload = json!({ "vendorId": "v", "data": data, "x": "x".repeat(3 << 20) });
            charger.call("DataTransfer", payload).await.ok();
        }
        let before = memory(world, "VmRSS");
        let page = world.operator.get("/chargers/CP-3/messages?limit=200").await.ok();
        assert!(page.to_string().len() < 7 << 20);
        let grown = memory(world, "VmRSS").saturating_sub(before);
        assert!(grown < 100, "{grown} MiB");
    }

    async fn transactions_at_made_up_connectors_are_no_sessions_without_end(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let mut charger = world.raw("CP-4", Version::V16).await;
        let mut ids = std::collections::BTreeSet::new();
        for connector in 2..250 {
            ids.insert(charger.start(connector, "NOBODY", 0).await);
        }
        assert_eq!(ids.len(), 248, "each has a number of its own");
        let sessions = sessions_of(&world.operator, "CP-4").await.len();
        assert!(sessions <= 110, "{sessions}");
        // The connector that there is still works.
        let customer = world.rich_customer(PHONE, 50_000).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.stop(transaction, 100).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 100).await;
        for connector in 2..300 {
            charger.status(connector, "Available").await;
        }
        let shown = world.operator.get("/chargers/CP-4").await.ok();
        let told = shown["connectors"].as_array().unwrap().len();
        assert!(told <= 80, "{told}");
        for id in ids {
            charger.stop(id, 0).await;
        }
    }

    async fn starts_that_hold_nothing_are_open_in_bounded_number(world) {
        let device = world.operator.charger("CP-5", 1).await.remove(0);
        let mut charger = world.raw("CP-5", Version::V16).await;
        // One that is refused and takes energy all the same.
        let takes = charger.start(1, "NOBODY", 0).await;
        charger.meter(1, takes, 700).await;
        let mut refused = Vec::new();
        for n in 0..120 {
            refused.push(charger.start(1, &format!("NOBODY-{n}"), 1_000).await);
        }
        assert!(open(world, "CP-5").await <= 100);
        // What it took is kept, and told later it is corrected.
        let oldest = session_of(world, takes).await;
        assert_eq!((wh(&oldest["energy"]), &oldest["status"]), (700, &json!("finished")));
        charger.stop(takes, 900).await;
        assert_eq!(wh(&session_of(world, takes).await["energy"]), 900);
        // An honest start is as good as ever, by the app and with a card, and displaces none of them.
        let customer = world.rich_customer(PHONE, 50_000).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.stop(transaction, 100).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 100).await;
        customer.pay(&purchase, "EVM").await.ok();
        charger.status(1, "Available").await;
        world.operator.send(Method::PUT, &format!("/customers/{PHONE}/cards/{CARD}"), Some(json!({}))).await.ok();
        let transaction = charger.start(1, CARD, 0).await;
        charger.stop(transaction, 60).await;
        let purchase = session_of(world, transaction).await["purchaseId"].as_str().unwrap().to_owned();
        world.billed(&purchase, 60).await;
        customer.pay(&purchase, "EVM").await.ok();
        for id in refused {
            charger.stop(id, 1_000).await;
        }

        // In 2.0.1 events of nobody's transactions at a device, told from the middle.
        world.operator.charger("CS-5", 1).await;
        let mut charger = world.raw("CS-5", Version::V201).await;
        let event = |kind: &str, id: &str, seq_no: u32| json!({
            "eventType": kind, "timestamp": at(Duration::ZERO), "seqNo": seq_no, "triggerReason": "MeterValuePeriodic",
            "transactionInfo": { "transactionId": id }, "evse": { "id": 1, "connectorId": 1 },
        });
        for n in 0..120 {
            charger.call("TransactionEvent", event("Updated", &format!("U{n}"), 1)).await.ok();
        }
        assert!(open(world, "CS-5").await <= 100);
        let mut started = event("Started", "T1", 0);
        started["idToken"] = json!({ "idToken": CARD, "type": "ISO14443" });
        let answer = charger.call("TransactionEvent", started).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        charger.call("TransactionEvent", event("Ended", "T1", 1)).await.ok();
        eventually("the others to be over", async || (open(world, "CS-5").await == 0).then_some(())).await;
    }
}

async fn a_flood_is_counted_and_bills_go_on(engine: Engine) {
    let settings = [("EVM_MESSAGES_MB_PER_DAY", "1")];
    let mut world = World::start_on(engine, None, &settings).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.rich_customer(PHONE, 50_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = begin_16(&customer, &mut charger, &device, 0).await;
    for n in 0..400 {
        charger.send(&format!("[3,\"made-up-{n}\",{{}}]")).await;
        charger.send(&format!("[2,\"{n}\",{}", "x".repeat(4_000))).await;
    }
    // A queue of messages that bill is taken at once.
    for wh in 1..=300 {
        charger.meter(1, transaction, wh).await;
    }
    charger.call("DataTransfer", json!({ "vendorId": "v", "data": "x".repeat(1 << 20) })).await.ok();
    let lines = world.program.log().lines().filter(|line| line.contains("an answer came too late")).count();
    assert!(lines <= 30, "{lines} lines");
    charger.stop(transaction, 300).await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 300).await;
    charger.close().await;
    eventually("what is not kept to be counted", async || {
        let page = world.operator.get("/chargers/CP-1/messages?limit=200").await.ok();
        page.to_string().contains("messages more are not kept").then_some(())
    })
    .await;
    let kept = world.operator.messages("CP-1").await;
    let count = kept.len();
    let bytes = Value::from(kept).to_string().len();
    assert!(bytes < 2 << 20 && count > 300, "{bytes} bytes of {count} messages");
    session_is(&world.operator, "CP-1", "finished").await;
    world.finish().await;
}

async fn a_charger_that_answers_no_ping_is_offline(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_PING_EVERY_S", "6")]).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.rich_customer(PHONE, 50_000).await;
    let online = async || world.operator.get("/chargers/CP-1").await.ok()["online"] == true;
    // One that answers pings stays, however long it says nothing.
    let alive = world.raw("CP-1", Version::V16).await;
    let mut request = world.tap.url("CP-1").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "ocpp1.6".parse().unwrap());
    tokio::time::timeout(Duration::from_secs(12), alive.closed()).await.unwrap_err();
    assert!(online().await);
    drop(alive);
    // One whose line is dead: it is connected, and nothing of what it is sent is read.
    let (mut dead, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let boot = r#"[2,"boot","BootNotification",{"chargePointVendor":"Hand","chargePointModel":"Made"}]"#;
    dead.send(Message::text(boot)).await.unwrap();
    dead.next().await.unwrap().unwrap();
    let began = Instant::now();
    let refused = customer.start(&device).await;
    assert!(refused.status >= 409, "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "a start waits {:?}", began.elapsed());
    eventually("the dead charger to be offline", async || (!online().await).then_some(())).await;
    // It had begun all the same, and tells so when its line is back.
    let tag = loop {
        let text = dead.next().await.unwrap().unwrap().into_text().unwrap();
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        if frame[2] == "RemoteStartTransaction" {
            break frame[3]["idTag"].as_str().unwrap().to_owned();
        }
    };
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = charger.start(1, &tag, 0).await;
    charger.stop(transaction, 70).await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 70).await;
    world.finish().await;
}

on_each_engine! {
    a_flood_is_counted_and_bills_go_on,
    a_charger_that_answers_no_ping_is_offline,
}
