//! Many who want one thing at the same moment.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use evm_tests::api::decimal;
use evm_tests::charge::{begin_16, begin_201, bookings, stop_of, transaction_event};
use evm_tests::{Customer, Engine, RawCharger, Version, World, now, on_each_engine};
use rust_decimal::Decimal;
use serde_json::{Value, json};

const LEND: [(&str, &str); 1] = [("EVM_START_WITH_UNPAID", "true")];
/// Chargers side by side, and the rounds of each: 1 000 in all.
const CHARGERS: u32 = 8;
const ROUNDS: u32 = 125;

/// The charger ends its charge at this register reading, and the car goes: two messages, in either order.
async fn ends(charger: &RawCharger, name: &str, wh: i64, round: u32) {
    let (end, stop) = match charger.version {
        Version::V16 => ("StopTransaction", stop_of(name.parse().unwrap(), wh, "EVDisconnected")),
        Version::V201 => ("TransactionEvent", transaction_event("Ended", name, 1, wh)),
    };
    let free = match charger.version {
        Version::V16 => json!({ "connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": now() }),
        Version::V201 => json!({ "timestamp": now(), "connectorStatus": "Available", "evseId": 1, "connectorId": 1 }),
    };
    let (end_id, free_id) = (format!("end-{round}"), format!("free-{round}"));
    let stopping = async {
        jitter(round).await;
        charger.call_as(&end_id, end, stop).await.ok();
    };
    let unplugging = async {
        jitter(round / 3).await;
        charger.call_as(&free_id, "StatusNotification", free).await.ok();
    };
    tokio::join!(stopping, unplugging);
}

/// Up to a millisecond, another one each round.
async fn jitter(round: u32) {
    tokio::time::sleep(Duration::from_micros(u64::from(round * 7_919 % 1_000))).await;
}

/// One charger's rounds; gives the purchases with the energy delivered in each.
async fn rounds(customer: Customer, mut charger: RawCharger, device: String) -> Vec<(String, i64)> {
    let mut purchases = Vec::new();
    for round in 0..ROUNDS {
        let wh = 1 + i64::from(round);
        let name = match charger.version {
            Version::V16 => begin_16(&customer, &mut charger, &device, 0).await.to_string(),
            Version::V201 => {
                let name = format!("T-{round}");
                begin_201(&customer, &mut charger, &device, &name, 0).await;
                name
            }
        };
        let finishing = async {
            jitter(round / 2).await;
            customer.finish(&device).await
        };
        let (purchase, ()) = tokio::join!(finishing, ends(&charger, &name, wh, round));
        purchases.push((purchase, wh));
    }
    purchases
}

async fn finish_stop_and_unplug_within_a_millisecond(engine: Engine) {
    let mut world = World::start_on(engine, None, &LEND).await;
    let mut running = Vec::new();
    for number in 0..CHARGERS {
        let identity = format!("CP-{number}");
        let device = world.operator.charger(&identity, 1).await.remove(0);
        let customer = world.customer(&format!("+9768666{number:04}")).await;
        let version = if number % 2 == 0 { Version::V16 } else { Version::V201 };
        let charger = world.raw(&identity, version).await;
        running.push(rounds(customer, charger, device));
    }
    let mut ids = BTreeSet::new();
    for (purchase, wh) in futures_util::future::join_all(running).await.concat() {
        world.delivered(&purchase, wh);
        ids.insert(purchase);
    }
    let rounds = (CHARGERS * ROUNDS) as usize;
    let all = world.operator.all("/purchases").await;
    assert_eq!((ids.len(), all.len()), (rounds, rounds), "one purchase each");
    let charged: BTreeSet<String> =
        bookings(&world.operator, "charge").await.iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(charged.len(), rounds, "each charged once");
    world.finish().await;
}

async fn of_200_payments_a_balance_for_100_pays_100(engine: Engine) {
    let mut world = World::start_on(engine, None, &LEND).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.rich_customer("+97686661488", 1_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let mut purchases = Vec::new();
    for _ in 0..200 {
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.stop(transaction, 10).await;
        let purchase = customer.finish(&device).await;
        world.delivered(&purchase, 10);
        purchases.push(purchase);
    }
    let tries: Vec<_> = purchases
        .into_iter()
        .map(|purchase| {
            let customer = customer.clone();
            tokio::spawn(async move { customer.pay(&purchase, "EVM").await })
        })
        .collect();
    let mut paid = 0;
    for one in tries {
        let answer = one.await.unwrap();
        if answer.status == 200 {
            paid += 1;
        } else {
            answer.problem(409, "insufficient_balance");
        }
    }
    assert_eq!(paid, 100);
    let me: Value = customer.post("/user/me", None).await.ok();
    assert_eq!(decimal(&me["profile"]["balance"]), Decimal::ZERO);
    assert_eq!(bookings(&world.operator, "payment").await.len(), 100);
    let paid = customer.get("/purchases?page-size=200").await.ok();
    assert_eq!(paid["items"].as_array().unwrap().iter().filter(|one| one["status"] == "paid").count(), 100);
    world.finish().await;
}

on_each_engine!(finish_stop_and_unplug_within_a_millisecond, of_200_payments_a_balance_for_100_pays_100);
