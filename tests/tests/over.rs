//! A charge that is over is over: its begin and its end bound it in time. A charge is more than its id, its key or its tag.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::wh;
use evm_tests::charge::{kept_message, session_is, sessions_of};
use evm_tests::charger::at;
use evm_tests::{Customer, RawCharger, Script, Version, World, eventually, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// A charger of one device with these prices, and two customers with their cards, 04AABBCC and 04DDEEFF.
async fn set_up(world: &mut World, version: Version, prices: (u32, u32)) -> (RawCharger, [Customer; 2], String) {
    let device = world.operator.charger_priced("CP-1", 1, prices.0, prices.1).await.remove(0);
    let customers = [world.rich_customer(PHONE, 100_000).await, world.rich_customer(OTHER, 100_000).await];
    for (phone, tag) in [(PHONE, "04AABBCC"), (OTHER, "04DDEEFF")] {
        let card = format!("/customers/{phone}/cards/{tag}");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
    }
    let charger = world.raw("CP-1", version).await;
    (charger, customers, device)
}

/// What a customer was billed, Wh, the smallest first.
async fn energies(customer: &Customer) -> Vec<i64> {
    let mut all: Vec<i64> = customer.purchases().await.iter().map(|purchase| wh(&purchase["energy"])).collect();
    all.sort_unstable();
    all
}

async fn problem_of(world: &World, id: &str) -> Value {
    kept_message(&world.operator, "CP-1", |message| message["messageId"] == id).await["problem"].clone()
}

on_both_engines! {
    async fn what_is_told_after_the_end_does_not_change_a_paid_bill(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V16, (1000, 50)).await;
        let mut script = Script::load("over");
        script.play(&mut charger, "charge").await;
        let purchase = customer.purchases().await.remove(0)["id"].as_str().unwrap().to_owned();
        customer.pay(&purchase, "EVM").await.ok();
        script.play(&mut charger, "late samples").await;
        for id in ["late1", "late2"] {
            assert_eq!(*script.answer(id), evm_tests::Reply::Result(json!({})));
            assert_eq!(problem_of(world, id).await, "dated after the end");
        }
        // What is dated up to the end counts still, the rest of the same message does not.
        script.play(&mut charger, "samples up to the end, late").await;
        assert_eq!(problem_of(world, "late3").await, "dated after the end");
        let billed = customer.purchase(&purchase).await;
        assert_eq!((&billed["status"], &billed["amount"]), (&json!("paid"), &json!(1000)), "{billed}");
        world.billed(&purchase, 1000).await;
        let session = session_is(&world.operator, "CP-1", "finished").await;
        assert_eq!(session["review"], "rose_after_end");
    }

    async fn two_charges_do_not_pay_the_same_energy(world) {
        let (mut charger, [customer, other], _) = set_up(world, Version::V16, (1000, 50)).await;
        let mut script = Script::load("over");
        for part in ["charge", "another begins", "late samples", "another ends", "late samples"] {
            script.play(&mut charger, part).await;
        }
        for (customer, wanted) in [(&customer, 1000), (&other, 3000)] {
            assert_eq!(energies(customer).await, [wanted]);
            assert_eq!(customer.purchases().await[0]["amount"], wanted);
        }
    }

    async fn a_charge_ends_where_another_takes_its_place(world) {
        let (mut charger, customers, _) = set_up(world, Version::V16, (1000, 50)).await;
        let mut wanted = [Vec::new(), Vec::new()];
        for (part, first) in
            [("two at one place, the first one's stop last", 1_000), ("two at one place, the first one's stop late", 900)]
        {
            let mut script = Script::load("over");
            script.play(&mut charger, part).await;
            wanted[0].push(first);
            wanted[1].push(3_000);
            for (customer, wanted) in customers.iter().zip(&wanted) {
                evm_tests::eventually(&format!("{part}: bills of {wanted:?}"), async || {
                    let mut all = energies(customer).await;
                    all.sort_unstable_by_key(|wh| wanted.iter().position(|one| one == wh));
                    (all == *wanted).then_some(())
                })
                .await;
                for purchase in customer.purchases().await {
                    customer.pay(purchase["id"].as_str().unwrap(), "EVM").await;
                }
            }
            charger.status(1, "Available").await;
        }
        assert_eq!(problem_of(world, "stop").await, "dated after the end");
        let sessions = evm_tests::charge::sessions_of(&world.operator, "CP-1").await;
        let marked = sessions.iter().filter(|one| one["review"] == "rose_after_end").count();
        assert_eq!(marked, 1, "{sessions:?}");
    }

    async fn a_charge_that_is_counted_from_0_keeps_its_energy_where_another_takes_its_place(world) {
        let (mut charger, [customer, other], _) = set_up(world, Version::V16, (0, 0)).await;
        Script::load("over").play(&mut charger, "two at one place, each counted from 0, the first one's stop last").await;
        for (customer, wanted) in [(&customer, 1500), (&other, 3000)] {
            eventually(&format!("a bill of {wanted}"), async || (energies(customer).await == [wanted]).then_some(())).await;
        }
    }

    async fn a_charge_told_late_ends_where_a_later_one_began(world) {
        let (mut charger, [customer, other], _) = set_up(world, Version::V16, (0, 0)).await;
        let late = "told late, over after another began";
        for (n, order) in [["another begins", late, "another ends"], ["another begins", "another ends", late]].into_iter().enumerate() {
            let mut script = Script::load("over");
            for part in order {
                script.play(&mut charger, part).await;
            }
            for (customer, wanted) in [(&customer, 1000), (&other, 3000)] {
                eventually(&format!("{wanted} told {order:?}"), async || {
                    (energies(customer).await == vec![wanted; n + 1]).then_some(())
                })
                .await;
            }
            script.play(&mut charger, "free").await;
        }
        let sessions = sessions_of(&world.operator, "CP-1").await;
        assert_eq!(sessions.iter().filter(|one| one["review"] == "rose_after_end").count(), 2, "{sessions:?}");
    }

    async fn a_clock_that_was_behind_those_before_cuts_no_charge(world) {
        let (mut charger, [customer, other], _) = set_up(world, Version::V16, (0, 0)).await;
        // A register that goes on, and one that begins anew with each charge.
        for (n, registers) in [[1000, 2000, 2000, 2500, 4000], [0, 1000, 0, 500, 2000]].into_iter().enumerate() {
            if n > 0 {
                world.operator.charger("CP-2", 1).await;
                charger = world.raw("CP-2", Version::V16).await;
            }
            let mut script = Script::load("over");
            for (name, register) in ["FIRST", "LAST", "BEGIN", "READ", "END"].into_iter().zip(registers) {
                script.set(name, register);
            }
            script.play(&mut charger, "a clock set meanwhile").await;
            for (customer, wanted) in [(&customer, 1000), (&other, 2000)] {
                eventually(&format!("{wanted} by {registers:?}"), async || {
                    (energies(customer).await == vec![wanted; n + 1]).then_some(())
                })
                .await;
            }
        }
    }

    async fn a_charge_begun_by_a_clock_that_a_power_failure_set_back_is_a_charge(world) {
        let (_, [customer, other], _) = set_up(world, Version::V16, (0, 0)).await;
        let mut n = 0;
        for state in ["Available", "Preparing"] {
            for began in [7200, 300 * 24 * 3600] {
                n += 1;
                let identity = format!("CP-{}", n + 1);
                world.operator.charger_priced(&identity, 1, 0, 0).await;
                let mut charger = world.raw(&identity, Version::V16).await;
                let mut script = Script::load("over");
                script.set("STATE", state);
                script.set("BEGAN", at(Duration::from_secs(began)));
                script.play(&mut charger, "cut by a power failure").await;
                script.play(&mut charger, "the clock set after the begin").await;
                let asked: Vec<String> = charger.waiting().into_iter().map(|asked| format!("{} {}", asked.action, asked.payload)).collect();
                assert!(!asked.iter().any(|asked| asked.starts_with("RemoteStop")), "{asked:?}");
                for (customer, wanted) in [(&customer, 800), (&other, 1000)] {
                    eventually(&format!("{wanted} after {state}, {began} s behind"), async || {
                        (energies(customer).await == vec![wanted; n]).then_some(())
                    })
                    .await;
                }
            }
        }
    }

    async fn a_stop_dated_before_the_begin_ends_nothing(world) {
        let (mut charger, [customer, _], device) = set_up(world, Version::V16, (0, 0)).await;
        for (n, (when, old)) in [(604_800, 900), (3_600, 9_000), (400, 900)].into_iter().enumerate() {
            let mut script = Script::load("over");
            script.play(&mut charger, "told without its end").await;
            script.set("OLD", old);
            script.set("WHEN", at(Duration::from_secs(when)));
            script.play(&mut charger, "stop of another time").await;
            assert_eq!(*script.answer("old"), evm_tests::Reply::Result(json!({})));
            assert_eq!(problem_of(world, "old").await, "dated before the begin");
            session_is(&world.operator, "CP-1", "active").await;
            world.device_is(&customer, &device, "Busy").await;
            script.play(&mut charger, "told to its end").await;
            session_is(&world.operator, "CP-1", "finished").await;
            assert_eq!(energies(&customer).await, vec![3000; n + 1]);
            let session = sessions_of(&world.operator, "CP-1").await.remove(0);
            assert!(session["customerId"].is_string(), "{session}");
            customer.pay(session["purchaseId"].as_str().unwrap(), "EVM").await;
            script.play(&mut charger, "free").await;
        }
        // One of them told a register above what was read.
        let marks: Vec<Value> = sessions_of(&world.operator, "CP-1").await.iter().map(|one| one["review"].clone()).collect();
        assert_eq!(marks, [Value::Null, json!("ends_contradict"), Value::Null]);
    }

    async fn another_stop_of_the_same_moment_that_says_otherwise_is_for_review(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V16, (0, 0)).await;
        let mut script = Script::load("over");
        script.play(&mut charger, "charge").await;
        let told = script.frames("charge")[2].clone();
        for (id, wh, problem, mark) in [("again", 2000, Value::Null, Value::Null), ("other", 5000, json!("stopped before"), json!("ends_contradict"))] {
            let frame = told.replace(r#""stop""#, &format!("{id:?}")).replace("2000", &wh.to_string());
            charger.ask(id, &frame).await.ok();
            assert_eq!(problem_of(world, id).await, problem);
            assert_eq!(session_is(&world.operator, "CP-1", "finished").await["review"], mark);
        }
        assert_eq!(energies(&customer).await, [1000]);
    }

    async fn a_stop_dated_a_little_before_the_begin_gives_way_to_a_later_one(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V16, (0, 0)).await;
        let rose = json!("rose_after_end");
        let ways = [(310, 5500, rose.clone()), (360, 0, rose), (310, 8000, Value::Null)];
        for (n, (when, old, review)) in ways.into_iter().enumerate() {
            let mut script = Script::load("over");
            script.play(&mut charger, "told without its end").await;
            script.set("OLD", old);
            script.set("WHEN", at(Duration::from_secs(when)));
            script.play(&mut charger, "stop of another time").await;
            session_is(&world.operator, "CP-1", "finished").await;
            script.play(&mut charger, "told to its end").await;
            // The better end is told once; what comes after it is none.
            script.play(&mut charger, "stop of another time").await;
            assert_eq!(problem_of(world, "old").await, "stopped before");
            assert_eq!(energies(&customer).await, vec![3000; n + 1], "{when}");
            // Above the register of what was taken for the end.
            let session = sessions_of(&world.operator, "CP-1").await.remove(0);
            assert_eq!(session["review"], review, "{when} {session}");
            customer.pay(session["purchaseId"].as_str().unwrap(), "EVM").await;
            script.play(&mut charger, "free").await;
        }
    }

    async fn a_start_without_a_time_begins_again_after_a_stop(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V16, (0, 0)).await;
        // No time, one that cannot be, and one that might, but stands still.
        let stuck = format!(r#","timestamp":"{}""#, at(Duration::from_secs(500 * 24 * 3600)));
        for stamp in ["", r#","timestamp":"1970-01-01T00:00:00Z""#, &stuck] {
            let before = energies(&customer).await.len();
            let mut script = Script::load("over");
            script.set("STAMP", stamp);
            for id in ["first", "again"] {
                script.set("ID", id);
                script.play(&mut charger, "timeless start").await;
            }
            assert_eq!(script.answer("again"), script.answer("first"));
            script.play(&mut charger, "timeless charge").await;
            script.set("ID", "once more");
            script.play(&mut charger, "timeless start").await;
            assert_eq!(script.answer("once more"), script.answer("first"), "before a stop");
            for part in ["timeless stop", "timeless free"] {
                script.play(&mut charger, part).await;
            }
            script.set("ID", "second");
            script.play(&mut charger, "timeless start").await;
            assert_ne!(script.answer("second"), script.answer("first"));
            script.play(&mut charger, "timeless second stop").await;
            script.play(&mut charger, "timeless free").await;
            assert_eq!(energies(&customer).await.len(), before + 2);
        }
        assert_eq!(energies(&customer).await, [2000, 2000, 2000, 3000, 3000, 3000]);
    }

    async fn an_unknown_card_ends_nobodys_charge(world) {
        let (mut charger, [customer, other], _) = set_up(world, Version::V16, (1000, 50)).await;
        let mut script = Script::load("over");
        for part in ["running", "a strange card"] {
            script.play(&mut charger, part).await;
        }
        let refused = script.answer("strange").clone().ok();
        assert_eq!(refused["idTagInfo"]["status"], "Invalid", "{refused}");
        assert_eq!(charger.command("RemoteStopTransaction").await["transactionId"], refused["transactionId"]);
        script.play(&mut charger, "runs on").await;
        assert_eq!(energies(&customer).await, [2000]);
        // Who ends a transaction does not pay for it.
        assert_eq!(energies(&other).await, [0; 0]);
        let sessions = sessions_of(&world.operator, "CP-1").await;
        let of = |tag: &str| sessions.iter().find(|session| session["idTag"] == tag).unwrap();
        assert_eq!((&of("0BADCAFE")["review"], &of("0BADCAFE")["customerId"]), (&json!("unknown_tag"), &Value::Null));
        assert_eq!(of("04AABBCC")["review"], Value::Null);
        assert!(charger.waiting().iter().all(|asked| asked.action != "RemoteStopTransaction"), "only itself");
    }

    async fn what_a_charger_samples_after_its_own_stop_is_not_billed(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V16, (1000, 50)).await;
        let mut script = Script::load("over");
        script.play(&mut charger, "samples on").await;
        assert_eq!(energies(&customer).await, [11]);
        customer.pay(customer.purchases().await[0]["id"].as_str().unwrap(), "EVM").await.ok();
        charger.close().await;
        let mut charger = world.raw("CP-1", Version::V201).await;
        script.play(&mut charger, "boot 2.0.1").await;
        script.play(&mut charger, "samples on 2.0.1").await;
        assert_eq!(problem_of(world, "on1").await, "dated after the end");
        assert_eq!(energies(&customer).await, [11, 24]);
    }

    async fn a_transaction_id_after_a_reboot_is_another_charge_in_any_order(world) {
        let (mut charger, [customer, _], _) = set_up(world, Version::V201, (0, 0)).await;
        let mut script = Script::load("over");
        let mut done = 0;
        for order in orders(4) {
            script.set("TX", format!("T-{order:?}"));
            let frames = script.frames("again 2.0.1");
            for (n, of) in order.iter().enumerate() {
                // Each of them twice, and the first once more at the end.
                for _ in 0..2 {
                    send_as(&mut charger, &format!("{order:?}-{n}"), &frames[*of]).await;
                }
                if n == 1 {
                    script.play(&mut charger, "boot 2.0.1").await;
                }
            }
            send_as(&mut charger, &format!("{order:?}-last"), &frames[order[0]]).await;
            done += 2;
            let billed = eventually(&format!("two bills of {order:?}"), async || {
                Some(energies(&customer).await).filter(|all| all.len() >= done)
            })
            .await;
            assert_eq!(billed, vec![1000; done], "{order:?}");
        }
    }
}

/// Sends a frame under another message id.
async fn send_as(charger: &mut RawCharger, id: &str, frame: &str) {
    let own = frame.split('"').nth(1).unwrap();
    charger.ask(id, &frame.replacen(own, id, 1)).await.ok();
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..count).map(|at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    });
    longer.collect()
}
