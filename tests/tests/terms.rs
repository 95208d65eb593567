//! What the operator sets: the terms of a tariff, VAT, and who may begin a charge.
#![allow(clippy::unwrap_used)]

use evm_tests::api::decimal;
use evm_tests::charge::{begin_16, bookings, ended_at_charger, meter_values, session_is, stop_of};
use evm_tests::world::purchase_is;
use evm_tests::{Customer, Engine, RawCharger, Version, World, on_each_engine};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// Puts a charger with one device of these terms in place, and gives the device's id.
async fn device(world: &World, identity: &str, terms: Value) -> String {
    let mut device = json!({
        "deviceNumber": identity, "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 0,
    });
    device.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
    let body = json!({ "timeZone": "Asia/Ulaanbaatar", "devices": [device] });
    let registered = world.operator.send(Method::PUT, &format!("/chargers/{identity}"), Some(body)).await.ok();
    registered["devices"][0]["_id"].as_str().unwrap().to_owned()
}

/// One charge of this energy; gives the purchase.
async fn charge(world: &mut World, charger: &mut RawCharger, customer: &Customer, device: &str, wh: i64) -> Value {
    let purchase = ended_at_charger(world, charger, customer, device, wh).await;
    customer.purchase(&purchase).await
}

fn mnt(text: &str) -> Decimal {
    text.parse().unwrap()
}

async fn every_term_of_a_tariff_is_billed(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_VAT_RATE", "10")]).await;
    let customer = world.rich_customer(PHONE, 50_000).await;
    let terms = json!({ "startFee": 200, "minimum": 500, "cap": 3000 });
    let id = device(&world, "CP-1", terms).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let shown = world.operator.get("/chargers/CP-1").await.ok();
    assert_eq!(shown["timeZone"], "Asia/Ulaanbaatar");
    let shown = &shown["devices"][0];
    for (term, amount) in [("startFee", 200), ("minimum", 500), ("cap", 3000), ("vatRate", 10)] {
        assert_eq!(decimal(&shown[term]), Decimal::from(amount), "{term} in {shown}");
    }
    // Below the minimum, in between with the start fee, and above the cap.
    for (wh, amount) in [(100, "500"), (1_234, "1434"), (5_000, "3000")] {
        let purchase = charge(&mut world, &mut charger, &customer, &id, wh).await;
        assert_eq!(decimal(&purchase["amount"]), mnt(amount), "{wh} Wh: {purchase}");
        customer.pay(purchase["id"].as_str().unwrap(), "EVM").await.ok();
    }
    // Nothing taken, nothing owed.
    let purchase = charge(&mut world, &mut charger, &customer, &id, 0).await;
    assert_eq!((decimal(&purchase["amount"]), &purchase["status"]), (Decimal::ZERO, &json!("paid")));
    // 10 of 110 parts of each amount are VAT, rounded half up.
    let mut vat: Vec<Decimal> = Vec::new();
    for booking in bookings(&world.operator, "charge").await {
        let postings = booking["postings"].as_array().unwrap().clone();
        vat.extend(
            postings.iter().filter(|posting| posting["account"] == "vat").map(|posting| decimal(&posting["amount"])),
        );
    }
    vat.sort();
    assert_eq!(vat, [mnt("45.45"), mnt("130.36"), mnt("272.73")]);
    world.finish().await;
}

async fn bands_go_by_the_stations_clock_and_a_charge_keeps_its_terms(engine: Engine) {
    let mut world = World::start_on(engine, None, &[]).await;
    let customer = world.rich_customer(PHONE, 50_000).await;
    // Whatever the clock says, a band holds.
    let halves = json!([{ "from": "00:00", "to": "12:00", "price": 500 }, { "from": "12:00", "to": "24:00", "price": 500, "waitingPrice": 10 }]);
    let id = device(&world, "CP-1", json!({ "bands": halves })).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let corners = "bottom-left-longitude=106&bottom-left-latitude=47&upper-right-longitude=108&upper-right-latitude=49";
    let map = customer.get(&format!("/devices/by-location?{corners}")).await.ok();
    assert_eq!(decimal(&map[0]["price"]), Decimal::from(500), "{map}");
    let shown = world.operator.get("/chargers/CP-1").await.ok();
    let bands = &shown["devices"][0]["bands"];
    assert_eq!((&bands[0]["from"], &bands[1]["from"]), (&json!("00:00"), &json!("12:00")), "{bands}");

    let transaction = begin_16(&customer, &mut charger, &id, 0).await;
    // A price of its own from now on: the running charge does not see it.
    let same = device(&world, "CP-1", json!({ "price": 9_000 })).await;
    assert_eq!(same, id);
    charger.stop(transaction, 2_000).await;
    let purchase = customer.finish(&id).await;
    world.billed(&purchase, 2_000).await;
    assert_eq!(decimal(&customer.purchase(&purchase).await["amount"]), Decimal::from(1_000));
    customer.pay(&purchase, "EVM").await.ok();
    charger.status(1, "Available").await;
    let purchase = charge(&mut world, &mut charger, &customer, &id, 2_000).await;
    assert_eq!(decimal(&purchase["amount"]), Decimal::from(18_000));
    world.finish().await;
}

async fn terms_that_cannot_be_are_named(engine: Engine) {
    let world = World::start_on(engine, None, &[]).await;
    let over = json!([{ "from": "22:00", "to": "06:00", "price": 1 }, { "from": "05:00", "to": "07:00", "price": 1 }]);
    for (terms, field) in [
        (json!({ "startFee": -1 }), "devices[0].startFee"),
        (json!({ "minimum": -0.01 }), "devices[0].minimum"),
        (json!({ "minimum": 100, "cap": 99.99 }), "devices[0].cap"),
        (json!({ "bands": over }), "devices[0].bands"),
        (json!({ "bands": [{ "from": "7", "to": "08:00", "price": 1 }] }), "devices[0].bands[0].from"),
        (json!({ "bands": [{ "from": "07:00", "to": "07:00", "price": 1 }] }), "devices[0].bands"),
        (json!({ "bands": [{ "from": "07:00", "to": "08:00", "price": -1 }] }), "devices[0].bands[0].price"),
    ] {
        let mut device =
            json!({ "deviceNumber": "D", "connector": 1, "location": [106.9, 47.9], "price": 1, "waitingPrice": 0 });
        device.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        let body = json!({ "devices": [device] });
        world.operator.send(Method::PUT, "/chargers/CP-1", Some(body)).await.names_field(field);
    }
    let body = json!({ "timeZone": "Mars/Olympus", "devices": [] });
    world.operator.send(Method::PUT, "/chargers/CP-1", Some(body)).await.names_field("timeZone");
    world.operator.get("/chargers/CP-1").await.problem(404, "not_found");
    world.finish().await;
}

async fn a_refused_start_holds_nothing(engine: Engine) {
    let settings = [("EVM_START_WITH_UNPAID", "true"), ("EVM_MOST_DEBT", "1500"), ("EVM_LEAST_BALANCE", "5000")];
    let mut world = World::start_on(engine, None, &settings).await;
    let id = world.operator.charger("CP-1", 1).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let poor = world.rich_customer(PHONE, 4_999).await;
    poor.start(&id).await.problem(409, "balance_too_low");
    world.operator.credit(PHONE, 1).await;
    // 1 000 are owed, and another charge may begin; 2 000, and none may.
    for _ in 0..2 {
        charge(&mut world, &mut charger, &poor, &id, 1_000).await;
    }
    poor.start(&id).await.problem(409, "debt_too_large");
    assert!(
        charger.waiting().iter().all(|asked| asked.action != "RemoteStartTransaction"),
        "a refused start reached the charger"
    );
    // Neither the device nor the customer is held.
    let other = world.rich_customer(OTHER, 5_000).await;
    charge(&mut world, &mut charger, &other, &id, 1_000).await;
    let oldest = poor.purchases().await.pop().unwrap();
    poor.pay(oldest["id"].as_str().unwrap(), "EVM").await.ok();
    poor.start(&id).await.problem(409, "balance_too_low");
    world.operator.credit(PHONE, 1_000).await;
    charge(&mut world, &mut charger, &poor, &id, 100).await;
    world.finish().await;
}

async fn a_charge_stops_where_the_balance_ends(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_STOP_AT_BALANCE", "true")]).await;
    let customer = world.rich_customer(PHONE, 1_000).await;
    let id = world.operator.charger("CP-1", 1).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = begin_16(&customer, &mut charger, &id, 0).await;
    charger.meter(1, transaction, 1_000).await;
    let asked = charger.command("RemoteStopTransaction").await;
    assert_eq!(asked["transactionId"], transaction);
    charger.call("StopTransaction", stop_of(transaction, 1_000, "Remote")).await.ok();
    let session = session_is(&world.operator, "CP-1", "finished").await;
    assert_eq!(session["stopReason"], "balance_reached", "{session}");
    let purchase = customer.finish(&id).await;
    world.billed(&purchase, 1_000).await;
    customer.pay(&purchase, "EVM").await.ok();
    purchase_is(&customer, &purchase, "paid").await;
    world.finish().await;
}

/// 985 of 1 000 are spent, and 7.2 kW spend 10 more by the next look and the charger's answer, or what a minute brings.
async fn a_charge_stops_before_the_balance_ends(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_STOP_AT_BALANCE", "true")]).await;
    let customer = world.rich_customer(PHONE, 1_000).await;
    let id = world.operator.charger("CP-1", 1).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = begin_16(&customer, &mut charger, &id, 0).await;
    let sampled = json!([{ "value": "985" }, { "value": "7200", "measurand": "Power.Active.Import" }]);
    let ago = std::time::Duration::ZERO;
    charger.call("MeterValues", meter_values(1, transaction, ago, sampled)).await.ok();
    charger.command("RemoteStopTransaction").await;
    charger.call("StopTransaction", stop_of(transaction, 998, "Remote")).await.ok();
    let session = session_is(&world.operator, "CP-1", "finished").await;
    assert_eq!(session["stopReason"], "balance_reached", "{session}");
    let purchase = customer.finish(&id).await;
    world.billed(&purchase, 998).await;
    customer.pay(&purchase, "EVM").await.ok();
    world.finish().await;
}

on_each_engine!(
    every_term_of_a_tariff_is_billed,
    bands_go_by_the_stations_clock_and_a_charge_keeps_its_terms,
    terms_that_cannot_be_are_named,
    a_refused_start_holds_nothing,
    a_charge_stops_where_the_balance_ends,
    a_charge_stops_before_the_balance_ends,
);
