//! The main job: log in, find a charger, charge, watch, finish, pay.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use evm_tests::api::{decimal, wh};
use evm_tests::{Phone, PyCharger, Version, World, on_both_engines};
use ocpp_sim::{Charger, ChargerConfig, ConnectorStatus};
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";

/// A charge by independent peers: the PyPI package `ocpp` delivers, `nats-py` watches, the REST API drives.
async fn whole_job(world: &mut World, version: Version) {
    let devices = world.operator.charger_priced("PY-1", 1, 850, 100).await;
    let device = &devices[0];
    let customer = world.rich_customer(PHONE, 50_000).await;
    assert_eq!(decimal(&customer.post("/user/me", None).await.ok()["profile"]["balance"]), Decimal::from(50_000));
    let phone = Phone::connect(&customer).await;
    assert_eq!(customer.state(device).await.as_deref(), Some("Error"), "out of touch before its first connection");

    let mut charger = PyCharger::boot(&world.tap, "PY-1", version).await;
    world.device_is(&customer, device, "Idle").await;
    charger.plug().await;
    customer.start(device).await.ok();
    charger.charging().await;
    world.device_is(&customer, device, "Busy").await;
    assert_eq!(customer.post("/user/me", None).await.ok()["device"]["_id"], *device);

    charger.deliver(1_234).await;
    let live = phone.hears("CHARGING", |event| wh(&event["energy"]) == 1_234).await;
    assert_eq!(decimal(&live["amount"]), "1048.9".parse().unwrap(), "1.234 kWh at 850");
    assert!(live["waitingTime"].is_u64(), "{live}");
    charger.deliver(2_000).await;

    let purchase = customer.finish(device).await;
    let delivered = charger.delivered().await;
    assert_eq!(delivered, 3_234);
    world.billed(&purchase, delivered).await;
    let last = phone.hears("CHARGING", |event| wh(&event["energy"]) == delivered).await;
    charger.unplug().await;
    world.device_is(&customer, device, "Idle").await;

    let billed = customer.purchase(&purchase).await;
    assert_eq!(billed["status"], "unpaid");
    assert_eq!(billed["device"]["_id"], *device);
    assert_eq!(decimal(&billed["amount"]), decimal(&last["amount"]), "the last event carries the final figures");
    let expected = Decimal::from(delivered) * Decimal::from(850) / Decimal::from(1000)
        + decimal(&billed["waitingTime"]) * Decimal::from(100) / Decimal::from(60);
    assert!((decimal(&billed["amount"]) - expected).abs() <= "0.01".parse().unwrap(), "{billed} costs {expected}");

    let paid = customer.pay(&purchase, "EVM").await.ok();
    let balance = Decimal::from(50_000) - decimal(&billed["amount"]);
    assert_eq!((&paid["option"], &paid["invoiceId"]), (&json!("EVM"), &json!(purchase)));
    assert_eq!(decimal(&paid["newBalance"]), balance);
    assert_eq!(decimal(&customer.post("/user/me", None).await.ok()["profile"]["balance"]), balance);
    let event = phone.hears("PAYMENT", |event| event["status"] == "success").await;
    assert_eq!(decimal(&event["amount"]), decimal(&billed["amount"]));
    assert_eq!(customer.purchase(&purchase).await["status"], "paid");
    let status = customer.post(&format!("/purchases/{purchase}/status"), Some(json!({ "invoiceId": purchase }))).await;
    assert_eq!(status.ok()["status"], "success");
    let feedback = json!({ "feedback": { "score": 5, "description": "fast" } });
    customer.post(&format!("/purchases/{purchase}/feedback"), Some(feedback)).await.ok();
    assert_eq!(customer.purchase(&purchase).await["feedback"]["score"], 5);
}

on_both_engines! {
    async fn a_1_6_charging_point_of_pypi(world) {
        whole_job(world, Version::V16).await;
    }

    async fn a_2_0_1_charging_station_of_pypi(world) {
        whole_job(world, Version::V201).await;
    }

    async fn the_simulator_in_both_versions(world) {
        let customer = world.rich_customer(PHONE, 100_000).await;
        for (identity, version) in [("SIM-16", ocpp_sim::Version::V16), ("SIM-201", ocpp_sim::Version::V201)] {
            let device = world.operator.charger(identity, 1).await.remove(0);
            let url = format!("ws://{}/ocpp", world.tap.addr);
            let charger = Charger::spawn(ChargerConfig {
                speed: 60,
                sample_interval: std::time::Duration::from_secs(1),
                ..ChargerConfig::new(url, identity, version)
            });
            world.device_is(&customer, &device, "Idle").await;
            charger.plug_in(1).await;
            charger.wait_status(1, ConnectorStatus::Preparing, evm_tests::poll::SOON).await.unwrap();
            customer.start(&device).await.ok();
            charger.wait_until(evm_tests::poll::SOON, |state| {
                state.connector(1).is_some_and(|connector| connector.delivered_wh > 100)
            }).await.unwrap();
            let purchase = customer.finish(&device).await;
            charger.wait_until(evm_tests::poll::SOON, |state| {
                state.connector(1).is_some_and(|connector| connector.transaction_id.is_none()) && state.queued == 0
            }).await.unwrap();
            let delivered = charger.state().connector(1).unwrap().delivered_wh;
            world.billed(&purchase, delivered).await;
            charger.unplug(1).await;
            customer.pay(&purchase, "EVM").await.ok();
            charger.shutdown().await;
        }
    }

    async fn a_phone_hears_its_own_topic_and_no_other(world) {
        let device = world.operator.charger("PY-2", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.customer("+97699112233").await;
        let mut phone = Phone::connect(&customer).await;
        let mut eavesdropper = Phone::connect(&other).await;
        let topic = customer.login["nats"]["topic"].as_str().unwrap().to_owned();
        assert_ne!(other.login["nats"]["topic"], topic.as_str());

        for subject in [format!("{topic}.>"), format!("{topic}.CHARGING"), ">".into(), "*.>".into(), "ev.>".into(), "cmd.>".into()] {
            // A server may end the connection of one who tries; then the next try is made on a new one.
            let error = eavesdropper.is_refused_to_hear(&subject).await;
            assert!(error.to_lowercase().contains("permissions violation"), "{subject}: {error}");
        }
        for subject in [format!("{topic}.CHARGING"), "cmd.PY-2".into(), "anything".into()] {
            let error = phone.is_refused_to_say(&subject).await;
            assert!(error.to_lowercase().contains("permissions violation"), "{subject}: {error}");
        }
        let mut forged = customer.login["nats"].clone();
        forged["pass"] = "wrong".into();
        Phone::connect_as(&forged).await.refused().await;

        let mut charger = PyCharger::boot(&world.tap, "PY-2", Version::V16).await;
        charger.plug().await;
        customer.start(&device).await.ok();
        charger.charging().await;
        charger.deliver(10).await;
        phone.hears("CHARGING", |event| wh(&event["energy"]) == 10).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, charger.delivered().await).await;
        customer.pay(&purchase, "EVM").await.ok();
        phone.hears("PAYMENT", |event| event["status"] == "success").await;
        let subjects: BTreeSet<String> = phone.everything().into_iter().map(|(subject, _)| subject).collect();
        assert!(subjects.iter().all(|subject| subject.starts_with(&format!("{topic}."))), "{subjects:?}");
        assert_eq!(eavesdropper.everything(), Vec::<(String, Value)>::new());
    }

    async fn charging_events_come_every_2_to_5_seconds(world) {
        let device = world.operator.charger("PY-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let phone = Phone::connect(&customer).await;
        let mut charger = PyCharger::boot(&world.tap, "PY-3", Version::V201).await;
        charger.plug().await;
        customer.start(&device).await.ok();
        charger.charging().await;
        charger.deliver(1).await;
        phone.hears("CHARGING", |event| wh(&event["energy"]) == 1).await;
        let before = phone.heard("CHARGING").len();
        let begin = std::time::Instant::now();
        evm_tests::until("three more events", std::time::Duration::from_secs(30), async || {
            (phone.heard("CHARGING").len() >= before + 3).then_some(())
        }).await;
        let each = begin.elapsed() / 3;
        assert!((1_500..=5_500).contains(&each.as_millis()), "one CHARGING event in {each:?}");
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, charger.delivered().await).await;
    }
}
