//! One charge told in OCPP 1.6 and in 2.0.1 gives the same bill, and ends in the same ways.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::charge::{begin_16, begin_201, session_is, sim_config, started_event, transaction_event};
use evm_tests::charger::at;
use evm_tests::poll::SOON;
use evm_tests::{Customer, Version, World, on_both_engines};
use ocpp_sim::{Charger, ConnectorStatus};
use serde_json::{Value, json};

const PHONES: [&str; 2] = ["+97686661488", "+97699112233"];

/// What happened: seconds ago, and either the register in Wh or what the car does.
const STORY: [(u64, Told); 7] = [
    (540, Told::Register(10_400)),
    (480, Told::Register(11_234)),
    (470, Told::State("SuspendedEV")),
    (300, Told::Register(11_234)),
    (240, Told::State("Charging")),
    (200, Told::Register(11_890)),
    (150, Told::State("SuspendedEVSE")),
];
const BEGIN: (u64, i64) = (600, 10_000);
const END: (u64, i64) = (60, 11_901);

#[derive(Clone, Copy)]
enum Told {
    Register(i64),
    State(&'static str),
}

fn ago(seconds: u64) -> String {
    at(Duration::from_secs(seconds))
}

async fn told_in_16(world: &World, customer: &Customer, device: &str) {
    let mut charger = world.raw("SAME-16", Version::V16).await;
    customer.start(device).await.ok();
    let (tag, _) = charger.remote_start().await;
    let start = json!({ "connectorId": 1, "idTag": tag, "meterStart": BEGIN.1, "timestamp": ago(BEGIN.0) });
    let transaction = charger.call("StartTransaction", start).await.ok()["transactionId"].clone();
    for (seconds, told) in STORY {
        let (action, payload) = match told {
            Told::Register(wh) => (
                "MeterValues",
                json!({
                    "connectorId": 1, "transactionId": transaction,
                    "meterValue": [{ "timestamp": ago(seconds), "sampledValue": [{ "value": wh.to_string() }] }],
                }),
            ),
            Told::State(state) => (
                "StatusNotification",
                json!({
                    "connectorId": 1, "errorCode": "NoError", "status": state, "timestamp": ago(seconds),
                }),
            ),
        };
        charger.call(action, payload).await.ok();
    }
    let stop = json!({ "transactionId": transaction, "meterStop": END.1, "timestamp": ago(END.0), "reason": "EVDisconnected" });
    charger.call("StopTransaction", stop).await.ok();
}

async fn told_in_201(world: &World, customer: &Customer, device: &str) {
    let mut charger = world.raw("SAME-201", Version::V201).await;
    customer.start(device).await.ok();
    let timed = |mut event: Value, seconds: u64| {
        event["timestamp"] = ago(seconds).into();
        event["meterValue"][0]["timestamp"] = event["timestamp"].clone();
        event["transactionInfo"].as_object_mut().unwrap().remove("chargingState");
        event
    };
    let started = timed(started_event(&charger, "T-1", BEGIN.1).await, BEGIN.0);
    charger.call("TransactionEvent", started).await.ok();
    let mut seq_no = 0;
    for (seconds, told) in STORY {
        seq_no += 1;
        let mut event = timed(transaction_event("Updated", "T-1", seq_no, 0), seconds);
        match told {
            Told::Register(wh) => event["meterValue"][0]["sampledValue"][0]["value"] = wh.into(),
            Told::State(state) => {
                event.as_object_mut().unwrap().remove("meterValue");
                event["transactionInfo"]["chargingState"] = state.into();
                event["triggerReason"] = "ChargingStateChanged".into();
            }
        }
        charger.call("TransactionEvent", event).await.ok();
    }
    let mut ended = timed(transaction_event("Ended", "T-1", seq_no + 1, END.1), END.0);
    ended["transactionInfo"]["stoppedReason"] = "EVDisconnected".into();
    charger.call("TransactionEvent", ended).await.ok();
}

/// A simulated charger charges, and `end` ends it without the app.
async fn ended_at_the_charger(world: &mut World, name: &str, end: impl AsyncFn(&Charger)) {
    let customer = world.rich_customer(PHONES[0], 100_000).await;
    for version in [Version::V16, Version::V201] {
        let identity = format!("{name}-{version:?}");
        let device = world.operator.charger(&identity, 1).await.remove(0);
        let charger = Charger::spawn(sim_config(&world.tap, &identity, version));
        world.device_is(&customer, &device, "Idle").await;
        charger.plug_in(1).await;
        customer.start(&device).await.ok();
        charger.wait_until(SOON, |state| state.connector(1).is_some_and(|one| one.delivered_wh > 100)).await.unwrap();
        end(&charger).await;
        charger
            .wait_until(SOON, |state| state.queued == 0 && state.connector(1).is_some_and(|one| !one.in_transaction))
            .await
            .unwrap();
        let delivered = charger.state().connector(1).unwrap().delivered_wh;
        let session = session_is(&world.operator, &identity, "finished").await;
        let purchase = session["purchaseId"].as_str().unwrap();
        assert_eq!(customer.finish(&device).await, purchase);
        world.billed(purchase, delivered).await;
        charger.unplug(1).await;
        charger.wait_status(1, ConnectorStatus::Available, SOON).await.unwrap();
        world.device_is(&customer, &device, "Idle").await;
        customer.pay(purchase, "EVM").await.ok();
        charger.shutdown().await;
    }
}

on_both_engines! {
    async fn one_charge_told_in_both_versions_costs_the_same(world) {
        let mut bills = Vec::new();
        for (phone, identity) in PHONES.into_iter().zip(["SAME-16", "SAME-201"]) {
            let device = world.operator.charger_priced(identity, 1, 850, 120).await.remove(0);
            let customer = world.rich_customer(phone, 50_000).await;
            if identity == "SAME-16" {
                told_in_16(world, &customer, &device).await;
            } else {
                told_in_201(world, &customer, &device).await;
            }
            let session = session_is(&world.operator, identity, "finished").await;
            assert_eq!((&session["stopReason"], &session["review"]), (&json!("EVDisconnected"), &Value::Null), "{session}");
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 1_901).await;
            bills.push(customer.purchase(&purchase).await);
        }
        // From 470 to 240 s ago the car took nothing, of its own accord.
        assert_eq!(bills[0]["waitingTime"], 230, "{}", bills[0]);
        for field in ["energy", "waitingTime", "amount", "price", "waitingPrice", "status"] {
            assert_eq!(bills[0][field], bills[1][field], "{field}");
        }
        assert_eq!(bills[0]["amount"], json!(2_075.85), "1.901 × 850 + 230 / 60 × 120");
    }

    async fn a_charge_ends_when_the_car_is_unplugged(world) {
        ended_at_the_charger(world, "UNPLUG", async |charger| charger.unplug(1).await).await;
    }

    async fn a_charge_ends_at_the_charger(world) {
        ended_at_the_charger(world, "BUTTON", async |charger| charger.stop_local(1).await).await;
    }

    async fn a_charge_ends_by_a_fault_of_the_charger(world) {
        let customer = world.rich_customer(PHONES[0], 100_000).await;
        for version in [Version::V16, Version::V201] {
            let identity = format!("FAULT-{version:?}");
            let device = world.operator.charger(&identity, 1).await.remove(0);
            let mut charger = world.raw(&identity, version).await;
            match version {
                Version::V16 => {
                    let transaction = begin_16(&customer, &mut charger, &device, 0).await;
                    charger.status(1, "Faulted").await;
                    charger.stop(transaction, 60).await;
                }
                Version::V201 => {
                    begin_201(&customer, &mut charger, &device, "T-1", 0).await;
                    charger.status(1, "Faulted").await;
                    charger.call("TransactionEvent", transaction_event("Ended", "T-1", 1, 60)).await.ok();
                }
            }
            world.device_is(&customer, &device, "Error").await;
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 60).await;
            customer.pay(&purchase, "EVM").await.ok();
        }
    }
}
