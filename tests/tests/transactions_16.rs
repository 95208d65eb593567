//! What 1.6 chargers tell of transactions: twice, too late, for the wrong one, in strange shapes.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::charge::{begin_16, bookings, meter_values, newest_message, session_is, sessions_of, stop_of};
use evm_tests::charger::at;
use evm_tests::{Customer, RawCharger, Version, World, now, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

fn ago(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A charge for free that begins 100 s ago at 1000 Wh; what is told within it is the caller's. Stopped with a meterStop
/// of 0, so that its samples alone say what it took.
async fn told_by_samples(
    world: &mut World,
    charger: &mut RawCharger,
    (customer, device): (&Customer, &str),
    (name, told): (&str, Vec<Value>),
    expected: i64,
) {
    customer.start(device).await.ok();
    let (tag, _) = charger.remote_start().await;
    let start = json!({ "connectorId": 1, "idTag": tag, "meterStart": 1_000, "timestamp": at(ago(100)) });
    let transaction = charger.call("StartTransaction", start).await.ok()["transactionId"].clone();
    for mut values in told {
        values["transactionId"] = transaction.clone();
        charger.call("MeterValues", values).await.ok();
    }
    charger.call("StopTransaction", stop_of(transaction.as_i64().unwrap(), 0, "Local")).await.ok();
    let session = session_is(&world.operator, &charger.identity, "finished").await;
    let purchase = session["purchaseId"].as_str().unwrap();
    assert_eq!(evm_tests::api::wh(&session["energy"]), expected, "{name}: {session}");
    world.billed(purchase, expected).await;
}

on_both_engines! {
    async fn a_start_sent_again_is_the_same_transaction(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let start = json!({ "connectorId": 1, "idTag": tag, "meterStart": 100, "timestamp": now() });
        let first = charger.call_as("once", "StartTransaction", start.clone()).await.ok();
        assert!(first["transactionId"].as_i64().unwrap() > 0, "{first}");
        for id in ["once", "twice"] {
            assert_eq!(charger.call_as(id, "StartTransaction", start.clone()).await.ok(), first, "sent again as {id}");
        }
        let transaction = first["transactionId"].as_i64().unwrap();
        charger.stop(transaction, 350).await;
        // The answer to the start may have been lost, and the end come first.
        assert_eq!(charger.call("StartTransaction", start).await.ok()["transactionId"], transaction);
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 250).await;
        assert_eq!(sessions_of(&world.operator, "CP-1").await.len(), 1);
    }

    async fn of_two_stops_the_first_counts(world) {
        let device = world.operator.charger("CP-2", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-2", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let stop = stop_of(transaction, 400, "Local");
        for id in ["once", "once", "twice"] {
            assert_eq!(charger.call_as(id, "StopTransaction", stop.clone()).await.ok(), json!({}));
        }
        charger.call("StopTransaction", stop_of(transaction, 9_000, "PowerLoss")).await.ok();
        assert_eq!(newest_message(&world.operator, "CP-2", "StopTransaction").await["problem"], "stopped before");
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 400).await;
        assert_eq!(session_is(&world.operator, "CP-2", "finished").await["stopReason"], "Local");
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
    }

    async fn a_stop_that_forgot_its_transaction_ends_the_open_one(world) {
        let device = world.operator.charger_priced("CP-3", 1, 0, 0).await.remove(0);
        let customer = world.customer(PHONE).await;
        let mut charger = world.raw("CP-3", Version::V16).await;
        for (n, forgotten) in [json!(-1), json!(0), json!("0"), Value::Null].into_iter().enumerate() {
            begin_16(&customer, &mut charger, &device, 0).await;
            let wh = 100 + i64::try_from(n).unwrap();
            let stop = json!({ "transactionId": forgotten, "meterStop": wh, "timestamp": now() });
            charger.call("StopTransaction", stop).await.ok();
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, wh).await;
        }
        // And with nothing open it is answered, and kept.
        let stop = json!({ "transactionId": -1, "meterStop": 5, "timestamp": now() });
        assert_eq!(charger.call("StopTransaction", stop).await.ok(), json!({}));
        assert_eq!(newest_message(&world.operator, "CP-3", "StopTransaction").await["problem"], "no such transaction");
        assert_eq!(sessions_of(&world.operator, "CP-3").await.len(), 4);
    }

    async fn a_stop_with_a_wrong_number_and_the_right_tag_ends_it(world) {
        let device = world.operator.charger("CP-11", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-11", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        charger.start(1, &tag, 0).await;
        let mut stop = stop_of(1_999_999_999, 340, "Local");
        stop["idTag"] = format!("terminal;{}\u{0}", tag.to_lowercase()).into();
        charger.call("StopTransaction", stop).await.ok();
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 340).await;
    }

    async fn a_connector_that_is_free_before_the_stop_is_no_end(world) {
        let device = world.operator.charger_priced("CP-12", 1, 1000, 600).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-12", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.meter(1, transaction, 300).await;
        charger.status(1, "Available").await;
        session_is(&world.operator, "CP-12", "active").await;
        charger.stop(transaction, 310).await;
        // Finishing with an error beside it is no fault.
        let status = json!({ "connectorId": 1, "errorCode": "OtherError", "status": "Finishing", "timestamp": now() });
        charger.call("StatusNotification", status).await.ok();
        world.device_is(&customer, &device, "Busy").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 310).await;
        assert_eq!(customer.purchase(&purchase).await["waitingTime"], 0, "no car, no waiting");
    }

    async fn a_stop_of_another_chargers_transaction_ends_nothing(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let other_device = world.operator.charger("CP-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V16).await;
        let mut stranger = world.raw("CP-5", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let others = begin_16(&other, &mut stranger, &other_device, 0).await;
        for foreign in [transaction, 1_999_999_999] {
            stranger.call("StopTransaction", stop_of(foreign, 77_000, "Local")).await.ok();
            let kept = newest_message(&world.operator, "CP-5", "StopTransaction").await;
            assert_eq!(kept["problem"], "no such transaction", "{kept}");
        }
        for identity in ["CP-4", "CP-5"] {
            assert_eq!(session_is(&world.operator, identity, "active").await["energy"], json!(0), "{identity}");
        }
        charger.stop(transaction, 10).await;
        stranger.stop(others, 20).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 10).await;
        let purchase = other.finish(&other_device).await;
        world.billed(&purchase, 20).await;
    }

    async fn meter_values_in_any_shape_bill_the_same(world) {
        let device = world.operator.charger_priced("CP-6", 1, 0, 0).await.remove(0);
        let customer = world.customer(PHONE).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        let register = |seconds, sampled| meter_values(1, 0, ago(seconds), sampled);
        let wh = |seconds, value: &str| register(seconds, json!([{ "value": value }]));
        let phase = |phase: &str, value: &str| json!({ "value": value, "phase": phase, "measurand": "Energy.Active.Import.Register" });
        let one_by_one = |phases: [&str; 3]| {
            let values: Vec<Value> = ["L1", "L2", "L3"].into_iter().zip(phases).map(|(name, value)| {
                json!({ "timestamp": at(ago(30)), "sampledValue": [phase(name, value)] })
            }).collect();
            json!({ "connectorId": 1, "meterValue": values })
        };
        for (name, told) in [
            ("plain", vec![wh(60, "1200"), wh(30, "1500")]),
            ("out of order", vec![wh(30, "1500"), wh(60, "1200"), wh(50, "1300")]),
            ("twice", vec![wh(60, "1200"), wh(60, "1200"), wh(30, "1500"), wh(30, "1500"), wh(60, "1200")]),
            ("in kWh", vec![register(30, json!([{ "value": "1.5", "unit": "kWh" }]))]),
            ("per phase", vec![register(30, json!([phase("L1", "500"), phase("L2", "600"), phase("L3", "400"), phase("N", "9000")]))]),
            ("phases beside their total", vec![register(30, json!([phase("L1", "9000"), { "value": "1500" }]))]),
            ("phases one by one", vec![one_by_one(["500", "600", "400"])]),
            ("as numbers", vec![register(30, json!([{ "value": 1500.0 }]))]),
            ("one object for a list", vec![register(30, json!({ "value": "1500" }))]),
            ("with nulls", vec![register(30, json!([{ "value": "1500", "measurand": null, "unit": null, "phase": null }]))]),
            ("going down", vec![wh(60, "1500"), wh(30, "1100"), wh(20, "0")]),
            ("beside what never bills", vec![register(30, json!([
                { "value": "1500" }, { "value": "8000", "context": "Sample.Clock" },
                { "value": "8000", "measurand": "Energy.Active.Export.Register" },
                { "value": "8000", "measurand": "Energy.Active.Import.Interval" },
                { "value": "99", "measurand": "Something.New" },
            ]))]),
            ("an empty list at last", vec![wh(30, "1500"), register(10, json!([]))]),
            ("on connector 0", vec![{ let mut values = wh(30, "1500"); values["connectorId"] = 0.into(); values }]),
        ] {
            told_by_samples(world, &mut charger, (&customer, &device), (name, told), 500).await;
        }
    }

    async fn a_begin_of_0_beside_a_large_register_is_no_energy(world) {
        let device = world.operator.charger("CP-7", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-7", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.meter(1, transaction, 910_000).await;
        charger.meter(1, transaction, 912_500).await;
        charger.stop(transaction, 913_000).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 3_000).await;
        assert_eq!(session_is(&world.operator, "CP-7", "finished").await["review"], "missing_baseline");
    }

    async fn a_rise_beyond_the_plug_is_held_for_review(world) {
        let body = json!({ "devices": [{
            "deviceNumber": "P-1", "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 0, "maxPower": 22_000,
        }] });
        let registered = world.operator.send(reqwest::Method::PUT, "/chargers/CP-8", Some(body)).await.ok();
        let device = registered["devices"][0]["_id"].as_str().unwrap().to_owned();
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-8", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 5_000).await;
        charger.meter(1, transaction, 5_100).await;
        charger.meter(1, transaction, 95_000).await;
        charger.stop(transaction, 5_150).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 150).await;
        assert_eq!(session_is(&world.operator, "CP-8", "finished").await["review"], "implausible_rise");
    }

    async fn an_unknown_card_gets_no_energy_and_no_bill(world) {
        world.operator.charger("CP-9", 1).await;
        let mut charger = world.raw("CP-9", Version::V16).await;
        assert_eq!(charger.call("Authorize", json!({ "idTag": "NOBODY" })).await.ok()["idTagInfo"]["status"], "Invalid");
        let start = json!({ "connectorId": 1, "idTag": "NOBODY", "meterStart": 0, "timestamp": now() });
        let answer = charger.call("StartTransaction", start).await.ok();
        assert_eq!(answer["idTagInfo"]["status"], "Invalid");
        let transaction = answer["transactionId"].as_i64().unwrap();
        assert!(transaction > 0, "it happened, so it has a number");
        // A charger that goes on all the same is told to stop.
        assert_eq!(charger.command("RemoteStopTransaction").await["transactionId"], transaction);
        charger.stop(transaction, 30).await;
        let session = session_is(&world.operator, "CP-9", "finished").await;
        assert_eq!((&session["review"], &session["energy"]), (&json!("unknown_tag"), &json!(0.03)), "{session}");
        assert!(session["customerId"].is_null());
        assert!(world.operator.all("/purchases").await.is_empty());
    }

    async fn a_late_stop_corrects_the_bill_once(world) {
        let device = world.operator.charger("CP-10", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-10", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
        charger.meter(1, transaction, 1_200).await;
        charger.close().await;
        world.device_is(&customer, &device, "Error").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 200).await;
        customer.pay(&purchase, "EVM").await.ok();

        // It kept the end to itself until it came back.
        let mut charger = world.raw("CP-10", Version::V16).await;
        let stop = json!({ "transactionId": transaction, "meterStop": 1_500, "timestamp": now(), "reason": "Local" });
        for _ in 0..3 {
            charger.call("StopTransaction", stop.clone()).await.ok();
        }
        world.billed(&purchase, 500).await;
        assert_eq!(bookings(&world.operator, "correction").await.len(), 1);
        let billed = customer.purchase(&purchase).await;
        assert_eq!((&billed["status"], &billed["amount"]), (&json!("unpaid"), &json!(500)), "{billed}");
        customer.pay(&purchase, "EVM").await.ok();
        let balance = customer.post("/user/me", None).await.ok()["profile"]["balance"].clone();
        assert_eq!(balance, json!(49_500), "what was paid before counts");
    }
}
