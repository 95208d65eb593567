//! Any order, any repetition, same bill: an end among what is told, and the start once more after it. With a time that start is
//! the same charge, without a clock another. `EVM_TEST_ROUNDS` plays more orders than a few.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::{decimal, wh};
use evm_tests::charge::sessions_of;
use evm_tests::charger::{Policy, at};
use evm_tests::{Customer, RawCharger, Script, Version, World, env, eventually, on_both_engines};
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";

/// Chance that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    /// Each of these once to three times, in any order.
    fn told(&mut self, frames: &[String]) -> Vec<String> {
        let mut told = Vec::new();
        for frame in frames {
            for _ in 0..1 + self.below(3) {
                told.insert(self.below(told.len() + 1), frame.clone());
            }
        }
        told
    }
}

/// A charger with one device and a customer's card, and how many messages it has sent.
struct Place {
    charger: RawCharger,
    customer: Customer,
    sent: usize,
}

impl Place {
    async fn new(world: &mut World, version: Version) -> Self {
        world.operator.charger_priced("CP-1", 1, 1000, 50).await;
        let customer = world.rich_customer(PHONE, 1_000_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, None).await.ok();
        Self { charger: world.raw("CP-1", version).await, customer, sent: 0 }
    }

    /// Sends a frame under a message id that was not used before.
    async fn send(&mut self, frame: &str) -> Value {
        self.sent += 1;
        let (own, id) = (frame.split('"').nth(1).unwrap(), format!("{}", self.sent));
        self.charger.ask(&id, &frame.replacen(own, &id, 1)).await.ok()
    }

    /// The number that a start is answered.
    async fn start(&mut self, frame: &str) -> i64 {
        let answer = self.send(frame).await;
        assert_eq!(answer["idTagInfo"]["status"], "Accepted", "{answer}");
        answer["transactionId"].as_i64().unwrap()
    }

    /// Sends these; every start among them has to be answered this number.
    async fn send_all(&mut self, frames: &[String], number: i64) {
        for frame in frames {
            if frame.contains("StartTransaction") {
                assert_eq!(self.start(frame).await, number, "{frames:#?}");
            } else {
                self.send(frame).await;
            }
        }
    }

    /// The bills have these energies, the oldest first (twenty are looked at), and are paid then.
    async fn are_billed(&self, wanted: &[i64], told: &[String]) {
        eventually(&format!("bills of {wanted:?}, told {told:#?}"), async || {
            let bills = self.customer.purchases().await;
            let newest = bills.iter().take(20).map(|bill| wh(&bill["energy"]));
            newest.eq(wanted.iter().rev().take(20).copied()).then_some(())
        })
        .await;
        for bill in self.customer.purchases().await {
            if bill["status"] != "paid" {
                self.customer.pay(bill["id"].as_str().unwrap(), "EVM").await.ok();
            }
        }
    }
}

on_both_engines! {
    async fn a_start_told_again_after_its_stop_is_the_same_charge(world) {
        let mut place = Place::new(world, Version::V16).await;
        for round in 1..=env::rounds() {
            let mut script = Script::load("any_order");
            let start = script.frames("start").remove(0);
            let number = place.start(&start).await;
            script.set("TX", number);
            let mut told = Dice(round as u64).told(&[script.frames("rest"), vec![start.clone()]].concat());
            told.extend([script.frames("rest").remove(3), start]);
            place.send_all(&told, number).await;
            place.are_billed(&vec![1000; round], &told).await;
            place.charger.status(1, "Available").await;
        }
        assert_eq!(sessions_of(&world.operator, "CP-1").await.len(), env::rounds());
        let bills = place.customer.purchases().await;
        assert!(bills.iter().all(|bill| bill["status"] == "paid" && decimal(&bill["amount"]) == 1000.into()), "{bills:?}");
    }

    async fn a_start_told_again_after_its_stop_is_another_charge_without_a_clock(world) {
        let mut place = Place::new(world, Version::V16).await;
        let stuck = format!(r#","timestamp":"{}""#, at(Duration::from_secs(500 * 24 * 3600)));
        let stamps = ["", r#","timestamp":"1970-01-01T00:00:00Z""#, &stuck];
        let mut wanted = Vec::new();
        for round in 1..=env::rounds() * stamps.len() {
            let mut dice = Dice(round as u64);
            let mut script = Script::load("any_order");
            script.set("STAMP", stamps[round % stamps.len()]);
            let start = script.frames("undated start").remove(0);
            let mut late = Vec::new();
            for wh in [3000, 2000] {
                let number = place.start(&start).await;
                script.set("TX", number);
                script.set("WH", wh);
                // What is told once more of the one before changes nothing.
                let own = [script.frames("undated samples"), vec![start.clone()], std::mem::take(&mut late)].concat();
                let mut told = dice.told(&own);
                let stop = script.frames("undated stop").remove(0);
                told.extend([stop.clone(), stop.clone()]);
                place.send_all(&told, number).await;
                wanted.push(wh);
                place.are_billed(&wanted, &told).await;
                late = [script.frames("undated samples"), vec![stop]].concat();
                if dice.below(2) == 0 {
                    script.play(&mut place.charger, "undated free").await;
                }
            }
            script.play(&mut place.charger, "undated free").await;
        }
        assert_eq!(sessions_of(&world.operator, "CP-1").await.len(), wanted.len());
    }

    async fn a_begin_told_again_after_its_end_is_the_same_charge_in_201(world) {
        let mut place = Place::new(world, Version::V201).await;
        place.charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": true })));
        for round in 1..=env::rounds() {
            let mut script = Script::load("any_order");
            script.set("TX", format!("T-{round}"));
            let frames = script.frames("charge 2.0.1");
            let mut told = Dice(round as u64).told(&frames);
            told.extend([frames[4].clone(), frames[0].clone()]);
            place.send_all(&told, 0).await;
            place.are_billed(&vec![1000; round], &told).await;
            place.charger.status(1, "Available").await;
        }
        let bills = place.customer.purchases().await;
        let right = |bill: &Value| bill["waitingTime"] == 60 && decimal(&bill["amount"]) == Decimal::from(1050);
        assert!(bills.iter().all(|bill| bill["status"] == "paid" && right(bill)), "{bills:?}");
    }
}
