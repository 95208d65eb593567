//! When a charge that nobody ends is over, and what becomes of one that was given up.
#![allow(clippy::unwrap_used)]

use evm_tests::charge::{asked_for, bookings, session_is, sessions_of};
use evm_tests::script::Script;
use evm_tests::{Customer, Engine, RawCharger, Version, World, eventually, on_each_engine};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// Charges that their stations forgot end, and others do not.
async fn what_the_charger_forgot_ends_after_a_grace(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_LOST_CHARGE_S", "2")]).await;
    let customer = world.rich_customer(PHONE, 50_000).await;
    let silent_one = world.rich_customer("+97699112201", 50_000).await;
    let honest_one = world.rich_customer("+97699112202", 50_000).await;
    let other = world.rich_customer(OTHER, 50_000).await;
    let mut devices = Vec::new();
    for identity in ["CP-5", "CP-6", "CP-7"] {
        devices.push(world.operator.charger(identity, 1).await.remove(0));
    }
    // Online and without a sample ever, as some are.
    let mut silent = world.raw("CP-6", Version::V16).await;
    let unsampled = evm_tests::charge::begin_16(&silent_one, &mut silent, &devices[1], 0).await;
    // Boots in the middle of the charge, and charges on.
    let mut honest = world.raw("CP-7", Version::V16).await;
    let mut honest_script = Script::load("places");
    asked_for(&mut honest_script, &honest_one, &honest, &devices[2]).await;
    honest_script.play(&mut honest, "runs 16").await;
    for part in ["rebooted 16", "goes on 16"] {
        honest_script.play(&mut honest, part).await;
    }

    let charger = world.raw("CP-5", Version::V16).await;
    let mut script = Script::load("places");
    asked_for(&mut script, &customer, &charger, &devices[0]).await;
    let mut charger = charger;
    script.play(&mut charger, "runs 16").await;
    charger.close().await;
    let mut charger = RawCharger::connect(&world.tap, "CP-5", Version::V16).await;
    for part in ["rebooted 16", "waits for a start 16"] {
        script.play(&mut charger, part).await;
    }
    let session = session_is(&world.operator, "CP-5", "finished").await;
    assert_eq!(session["stopReason"], "lost_by_charger", "{session}");
    let purchase = customer.finish(&devices[0]).await;
    world.billed(&purchase, 1_000).await;
    world.device_is(&customer, &devices[0], "Idle").await;
    customer.pay(&purchase, "EVM").await.ok();
    other.start(&devices[0]).await.ok();
    charger.remote_start().await;
    other.finish(&devices[0]).await;
    // A stop from its queue corrects.
    script.play(&mut charger, "late stop 16").await;
    world.billed(&purchase, 1_300).await;
    assert_eq!(bookings(&world.operator, "correction").await.len(), 1);

    for identity in ["CP-6", "CP-7"] {
        assert_eq!(sessions_of(&world.operator, identity).await[0]["status"], "active", "{identity}");
    }
    silent.stop(unsampled, 420).await;
    let purchase = silent_one.finish(&devices[1]).await;
    world.billed(&purchase, 420).await;
    honest_script.play(&mut honest, "late stop 16").await;
    let purchase = honest_one.finish(&devices[2]).await;
    world.billed(&purchase, 1_300).await;
    world.finish().await;
}

async fn what_a_201_station_forgot_ends_after_a_grace(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_LOST_CHARGE_S", "2")]).await;
    let mut all = Vec::new();
    for (identity, phone, resumes) in [("CS-4", PHONE, true), ("CS-5", OTHER, false)] {
        let device = world.operator.charger(identity, 1).await.remove(0);
        let customer = world.rich_customer(phone, 50_000).await;
        let mut charger = world.raw(identity, Version::V201).await;
        let mut script = Script::load("places");
        asked_for(&mut script, &customer, &charger, &device).await;
        for part in ["runs 201", "rebooted 201"] {
            script.play(&mut charger, part).await;
        }
        if resumes {
            script.play(&mut charger, "goes on 201").await;
        }
        all.push((device, customer, charger, script));
    }
    let session = session_is(&world.operator, "CS-5", "finished").await;
    assert_eq!(session["stopReason"], "lost_by_charger", "{session}");
    let (device, customer, ..) = &all[1];
    let purchase = customer.finish(device).await;
    world.billed(&purchase, 1_000).await;
    // It has had its charge, and is still plugged in.
    world.device_is(customer, device, "Busy").await;
    assert_eq!(sessions_of(&world.operator, "CS-4").await[0]["status"], "active");
    let (device, customer, charger, script) = &mut all[0];
    script.play(charger, "ends 201").await;
    let purchase = customer.finish(device).await;
    world.billed(&purchase, 1_150).await;
    world.finish().await;
}

/// A car was plugged in at a station that was out of touch for so long that nobody believed in a charge any more; its customer
/// has the card 04AABBCC.
async fn given_up(engine: Engine) -> (World, String, Customer, RawCharger, Script) {
    let world = World::start_on(engine, None, &[("EVM_LOST_CHARGE_S", "1")]).await;
    let device = world.operator.charger("CS-9", 1).await.remove(0);
    let customer = world.rich_customer(PHONE, 50_000).await;
    let card = format!("/customers/{PHONE}/cards/04AABBCC");
    world.operator.send(reqwest::Method::PUT, &card, None).await.ok();
    let mut charger = world.raw("CS-9", Version::V201).await;
    let mut script = Script::load("places");
    for part in ["plugged in before it was out of touch 201", "rebooted 201"] {
        script.play(&mut charger, part).await;
    }
    session_is(&world.operator, "CS-9", "finished").await;
    (world, device, customer, charger, script)
}

async fn a_token_told_after_its_transaction_was_given_up_is_billed(engine: Engine) {
    let (world, _, customer, mut charger, mut script) = given_up(engine).await;
    for n in 0..2 {
        script.play(&mut charger, "began while it was out of touch 201").await;
        eventually(&format!("its bill, told {n} times more"), async || {
            let all = customer.purchases().await;
            (all.len() == 1 && evm_tests::api::wh(&all[0]["energy"]) == 900).then_some(())
        })
        .await;
    }
    assert_eq!(session_is(&world.operator, "CS-9", "finished").await["review"], Value::Null);
    world.finish().await;
}

/// Its customer comes with a card, and hears that it is good.
async fn a_card_begins_a_transaction_that_was_given_up(engine: Engine) {
    let (mut world, device, customer, mut charger, mut script) = given_up(engine).await;
    script.set("TAG", "04AABBCC");
    script.play(&mut charger, "a card begins it 201").await;
    assert_eq!(script.answer("q7").clone().ok()["idTokenInfo"]["status"], "Accepted");
    world.device_is(&customer, &device, "Busy").await;
    script.play(&mut charger, "its end 201").await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 900).await;
    assert!(charger.waiting().iter().all(|asked| asked.action != "RequestStopTransaction"));
    world.finish().await;
}

/// A car that is plugged in for long, at a station that has booted meanwhile.
async fn a_transaction_that_was_given_up_may_begin_by_the_app(engine: Engine) {
    let (mut world, device, customer, mut charger, mut script) = given_up(engine).await;
    asked_for(&mut script, &customer, &charger, &device).await;
    script.play(&mut charger, "started by the app after all 201").await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 900).await;
    assert_eq!(script.answer("q4").clone().ok()["idTokenInfo"]["status"], "Accepted");
    world.finish().await;
}

on_each_engine!(
    a_card_begins_a_transaction_that_was_given_up,
    a_token_told_after_its_transaction_was_given_up_is_billed,
    a_transaction_that_was_given_up_may_begin_by_the_app
);

/// A station without a clock tells each of its starts by the same words.
async fn a_start_without_a_clock_begins_another_after_one_that_was_forgotten(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_LOST_CHARGE_S", "1")]).await;
    world.operator.charger("CP-8", 1).await;
    let customer = world.rich_customer(PHONE, 50_000).await;
    let card = format!("/customers/{PHONE}/cards/04AABBCC");
    world.operator.send(reqwest::Method::PUT, &card, None).await.ok();
    let mut charger = world.raw("CP-8", Version::V16).await;
    let start = json!({ "connectorId": 1, "idTag": "04AABBCC", "meterStart": 0 });
    let first = charger.call("StartTransaction", start.clone()).await.ok();
    charger.status(1, "Available").await;
    session_is(&world.operator, "CP-8", "finished").await;
    let second = charger.call("StartTransaction", start).await.ok();
    assert_ne!(first["transactionId"], second["transactionId"]);
    assert_eq!(second["idTagInfo"]["status"], "Accepted", "{second}");
    charger.stop(second["transactionId"].as_i64().unwrap(), 700).await;
    let all = evm_tests::eventually("the bill", async || {
        let all = customer.purchases().await;
        all.iter().any(|one| evm_tests::api::wh(&one["energy"]) == 700).then_some(all)
    })
    .await;
    let billed: i64 = all.iter().map(|one| evm_tests::api::wh(&one["energy"])).sum();
    assert_eq!(billed, 700);
    world.finish().await;
}

on_each_engine!(a_start_without_a_clock_begins_another_after_one_that_was_forgotten);
on_each_engine!(what_the_charger_forgot_ends_after_a_grace, what_a_201_station_forgot_ends_after_a_grace);
