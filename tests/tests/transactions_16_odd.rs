//! What 1.6 chargers tell of the wrong transaction, or at the wrong time: each customer's bill stays right.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::wh;
use evm_tests::charge::{begin_16, bookings, newest_message, session_is, sessions_of, stop_of};
use evm_tests::charger::{Policy, at};
use evm_tests::{Version, on_both_engines};
use serde_json::json;

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

fn ago(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

on_both_engines! {
    async fn what_is_older_than_the_open_charge_is_not_its_own(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
        let values = json!({ "connectorId": 1, "meterValue": [
            { "timestamp": at(ago(3_700)), "sampledValue": [{ "value": "900" }] },
        ] });
        let stop = json!({ "transactionId": -1, "meterStop": 950, "timestamp": at(ago(3_600)) });
        for (action, payload) in [("MeterValues", values), ("StopTransaction", stop)] {
            charger.call(action, payload).await.ok();
            assert_eq!(newest_message(&world.operator, "CP-1", action).await["problem"], "no such transaction");
        }
        session_is(&world.operator, "CP-1", "active").await;
        charger.stop(transaction, 1_400).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 400).await;
    }

    async fn a_stop_that_forgot_its_transaction_ends_that_of_its_tag(world) {
        let devices = world.operator.charger("CP-2", 2).await;
        let customers = [world.rich_customer(PHONE, 50_000).await, world.rich_customer(OTHER, 50_000).await];
        let mut charger = world.raw("CP-2", Version::V16).await;
        let mut tags = Vec::new();
        for (connector, (customer, device)) in (1..).zip(customers.iter().zip(&devices)) {
            customer.start(device).await.ok();
            let (tag, _) = charger.remote_start().await;
            charger.start(connector, &tag, 0).await;
            tags.push(tag);
        }
        // One whose tag is neither's, and one without a tag: nobody knows which they mean.
        for tag in [Some("SOMEBODY"), None] {
            let mut stop = json!({ "transactionId": -1, "meterStop": 9_000, "timestamp": at(ago(0)) });
            if let Some(tag) = tag {
                stop["idTag"] = tag.into();
            }
            charger.call("StopTransaction", stop).await.ok();
            let kept = newest_message(&world.operator, "CP-2", "StopTransaction").await;
            assert_eq!(kept["problem"], "no such transaction");
        }
        for (n, wh) in [(1, 220), (0, 110)] {
            let stop = json!({ "transactionId": -1, "idTag": tags[n], "meterStop": wh, "timestamp": at(ago(0)) });
            charger.call("StopTransaction", stop).await.ok();
            let purchase = customers[n].finish(&devices[n]).await;
            world.billed(&purchase, wh).await;
        }
    }

    async fn a_charge_that_goes_on_after_it_was_settled_is_stopped(world) {
        let device = world.operator.charger("CP-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        for (n, forgets) in [false, true].into_iter().enumerate() {
            let mut charger = world.raw("CP-3", Version::V16).await;
            let transaction = begin_16(&customer, &mut charger, &device, 0).await;
            charger.meter(1, transaction, 100).await;
            charger.close().await;
            world.device_is(&customer, &device, "Error").await;
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 100).await;

            let mut charger = world.raw("CP-3", Version::V16).await;
            charger.boot().await;
            for wh in [150, 180, 200] {
                charger.meter(1, transaction, wh).await;
            }
            assert_eq!(charger.command("RemoteStopTransaction").await, json!({ "transactionId": transaction }));
            charger.call("Heartbeat", json!({})).await.ok();
            assert!(charger.waiting().iter().all(|asked| asked.action != "RemoteStopTransaction"), "asked once");
            let told = if forgets { -1 } else { transaction };
            charger.call("StopTransaction", stop_of(told, 230, "Remote")).await.ok();
            world.billed(&purchase, 230).await;
            assert_eq!(bookings(&world.operator, "correction").await.len(), n + 1);
            customer.pay(&purchase, "EVM").await.ok();
            charger.status(1, "Available").await;
            charger.close().await;
        }
        // Both are over now: nothing takes another stop.
        let mut charger = world.raw("CP-3", Version::V16).await;
        charger.call("StopTransaction", stop_of(-1, 9_000, "Local")).await.ok();
        let kept = newest_message(&world.operator, "CP-3", "StopTransaction").await;
        assert_eq!(kept["problem"], "no such transaction");
    }

    async fn a_start_told_again_by_another_clock_is_the_same_charge(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let start = |seconds| json!({ "connectorId": 1, "idTag": tag, "meterStart": 500, "timestamp": at(ago(seconds)) });
        let first = charger.call("StartTransaction", start(7_200)).await.ok();
        assert_eq!(charger.call("StartTransaction", start(2)).await.ok(), first);
        assert_eq!(first["idTagInfo"]["status"], "Accepted");
        let transaction = first["transactionId"].as_i64().unwrap();
        charger.meter(1, transaction, 700).await;
        charger.stop(transaction, 800).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 300).await;
        assert_eq!(sessions_of(&world.operator, "CP-4").await.len(), 1);
    }

    async fn a_start_from_a_queue_ends_no_newer_charge(world) {
        let device = world.operator.charger("CP-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
        let mut charger = world.raw("CP-5", Version::V16).await;
        // A start by the app that seemed to fail.
        charger.on("RemoteStartTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        other.start(&device).await.problem(409, "start_refused");
        let (others_tag, _) = charger.remote_start().await;
        charger.on("RemoteStartTransaction", Policy::Answer(json!({ "status": "Accepted" })));
        let running = begin_16(&customer, &mut charger, &device, 5_000).await;
        for (tag, hours, wh) in [("04AABBCC", 4, 700), (&others_tag, 2, 800)] {
            let hours_ago = |hours: u64| at(ago(3_600 * hours));
            let start = json!({ "connectorId": 1, "idTag": tag, "meterStart": 1_000, "timestamp": hours_ago(hours) });
            let answer = charger.call("StartTransaction", start).await.ok();
            assert_eq!(answer["idTagInfo"]["status"], "Accepted", "{tag}: {answer}");
            let old = answer["transactionId"].as_i64().unwrap();
            assert_ne!(old, running);
            let stop = json!({ "transactionId": old, "meterStop": 1_000 + wh, "timestamp": hours_ago(hours - 1) });
            charger.call("StopTransaction", stop).await.ok();
        }
        charger.meter(1, running, 5_200).await;
        world.device_is(&customer, &device, "Busy").await;
        charger.stop(running, 5_300).await;
        session_is(&world.operator, "CP-5", "finished").await;
        for (who, wanted) in [(&customer, vec![300, 700]), (&other, vec![800])] {
            let bought = who.purchases().await;
            let mut billed: Vec<i64> = bought.iter().map(|bought| wh(&bought["energy"])).collect();
            billed.sort_unstable();
            assert_eq!(billed, wanted, "{bought:?}");
        }
        assert_eq!(sessions_of(&world.operator, "CP-5").await.len(), 3);
    }
}
