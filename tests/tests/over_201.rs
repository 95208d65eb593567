//! A charge that is over is over, told by a 2.0.1 station: its own token or remoteStartId, told late, begins nothing.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::wh;
use evm_tests::charge::{kept_message, session_is, sessions_of};
use evm_tests::charger::{Policy, at};
use evm_tests::{Customer, RawCharger, Reply, Script, Version, World, eventually, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// A station of one device, and two customers with their cards, 04AABBCC and 04DDEEFF.
async fn set_up(world: &mut World) -> (RawCharger, [Customer; 2], String) {
    let device = world.operator.charger_priced("CS-1", 1, 1000, 50).await.remove(0);
    let customers = [world.rich_customer(PHONE, 100_000).await, world.rich_customer(OTHER, 100_000).await];
    for (phone, tag) in [(PHONE, "04AABBCC"), (OTHER, "04DDEEFF")] {
        let card = format!("/customers/{phone}/cards/{tag}");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
    }
    let charger = world.raw("CS-1", Version::V201).await;
    charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
    (charger, customers, device)
}

async fn billed(customer: &Customer, wanted: &[i64]) {
    eventually(&format!("bills of {wanted:?}"), async || {
        let all: Vec<i64> = customer.purchases().await.iter().map(|purchase| wh(&purchase["energy"])).collect();
        (all == wanted).then_some(())
    })
    .await;
}

async fn problem_of(world: &World, id: &str) -> Value {
    kept_message(&world.operator, "CS-1", |message| message["messageId"] == id).await["problem"].clone()
}

on_both_engines! {
    async fn what_is_told_after_the_end_does_not_change_a_paid_bill(world) {
        let (mut charger, [customer, _], device) = set_up(world).await;
        let mut script = Script::load("over");
        script.play(&mut charger, "charge 2.0.1").await;
        billed(&customer, &[1000]).await;
        let purchase = customer.purchases().await.remove(0)["id"].as_str().unwrap().to_owned();
        customer.pay(&purchase, "EVM").await.ok();
        charger.status(1, "Available").await;
        // Without its token, and with it.
        for part in ["late samples 2.0.1", "late samples with the token 2.0.1", "late samples with other names 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        assert_eq!(*script.answer("late3"), *script.answer("late1"));
        for id in ["late1", "late2", "late3", "late4"] {
            assert_eq!(problem_of(world, id).await, "dated after the end", "{id}");
        }
        let paid = customer.purchase(&purchase).await;
        assert_eq!((&paid["status"], &paid["amount"]), (&json!("paid"), &json!(1000)), "{paid}");
        let sessions = sessions_of(&world.operator, "CS-1").await;
        assert_eq!((sessions.len(), &sessions[0]["review"]), (1, &json!("rose_after_end")), "{sessions:?}");
        world.device_is(&customer, &device, "Idle").await;
    }

    async fn a_charge_ends_where_another_takes_its_place(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        Script::load("over").play(&mut charger, "two at one place, the first one's end last 2.0.1").await;
        billed(&customer, &[1000]).await;
        billed(&other, &[3000]).await;
        assert_eq!(problem_of(world, "a2").await, "dated after the end");
        let sessions = sessions_of(&world.operator, "CS-1").await;
        let marked = sessions.iter().filter(|one| one["review"] == "rose_after_end").count();
        assert_eq!(marked, 1, "{sessions:?}");
    }

    async fn a_late_sample_with_its_own_token_displaces_nobody(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        let mut script = Script::load("over");
        for part in ["charge 2.0.1", "another begins 2.0.1", "late samples with the token 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        assert_eq!(session_is(&world.operator, "CS-1", "active").await["transactionId"], "2");
        for part in ["another ends 2.0.1", "late samples with the token 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        billed(&customer, &[1000]).await;
        billed(&other, &[3000]).await;
        assert_eq!(sessions_of(&world.operator, "CS-1").await.len(), 2);
    }

    async fn a_late_sample_with_the_apps_own_start_begins_nothing(world) {
        let (mut charger, [customer, _], device) = set_up(world).await;
        customer.start(&device).await.ok();
        let (tag, remote) = charger.remote_start().await;
        let mut script = Script::load("over");
        script.set("TAG", tag);
        script.set("REMOTE", remote);
        for part in ["charge by the app 2.0.1", "late samples by the app 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        for id in ["late1", "late2"] {
            assert_eq!(problem_of(world, id).await, "dated after the end", "{id}");
        }
        billed(&customer, &[1000]).await;
        assert_eq!(sessions_of(&world.operator, "CS-1").await.len(), 1);
    }

    async fn a_charge_told_late_ends_where_a_later_one_began(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        let mut script = Script::load("over");
        for part in ["another begins 2.0.1", "told late, over after another began 2.0.1", "another ends 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        billed(&customer, &[1000]).await;
        billed(&other, &[3000]).await;
    }

    async fn a_begin_told_again_with_another_time_is_no_other_charge(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        let mut script = Script::load("over");
        for part in ["running 2.0.1", "begin told again 2.0.1", "runs on 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        billed(&customer, &[2000]).await;
        let sessions = sessions_of(&world.operator, "CS-1").await;
        let own = sessions.iter().find(|one| one["customerId"] != Value::Null).unwrap();
        assert_eq!((&own["transactionId"], &own["review"]), (&json!("1"), &Value::Null));
    }

    async fn an_end_dated_before_the_begin_is_not_the_end(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        // One of long before is taken for another charge's of this id.
        let rose = json!("rose_after_end");
        let ways = [
            ("of last week", 604_800, 900, Value::Null), ("of an hour before", 3_600, 5500, Value::Null),
            ("of a moment before", 310, 5500, rose.clone()), ("without a register", 360, 0, rose),
            ("that says more", 604_800, 20_000, Value::Null),
        ];
        for (n, (way, when, old, review)) in ways.into_iter().enumerate() {
            let mut script = Script::load("over");
            script.set("OLD", old);
            // One transaction each.
            let told = ["told without its end 2.0.1", "end of another time 2.0.1", "told to its end 2.0.1"];
            let when = at(Duration::from_secs(when));
            for frame in told.into_iter().flat_map(|part| script.frames(part)) {
                let frame = frame.replace("{WHEN}", &when).replace(r#""transactionId":"3""#, &format!(r#""transactionId":"T-{n}""#));
                let id = frame.split('"').nth(1).unwrap().to_owned() + &n.to_string();
                let own = frame.split('"').nth(1).unwrap().to_owned();
                let reply = charger.ask(&id, &frame.replacen(&own, &id, 1)).await;
                assert!(matches!(reply, Reply::Result(_)), "{way}");
            }
            billed(&customer, &vec![3000; n + 1]).await;
            assert_eq!(problem_of(world, &format!("old{n}")).await, "dated before the begin", "{way}");
            // Above the register of what was taken for the end.
            let sessions = sessions_of(&world.operator, "CS-1").await;
            let charge = sessions.iter().find(|one| one["transactionId"] == format!("T-{n}")).unwrap();
            assert_eq!((&charge["review"], &charge["status"]), (&review, &json!("finished")), "{way} {charge}");
            customer.pay(charge["purchaseId"].as_str().unwrap(), "EVM").await.ok();
            charger.status(1, "Available").await;
        }
    }

    async fn an_unknown_card_ends_nobodys_charge(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        let mut script = Script::load("over");
        for part in ["running 2.0.1", "a strange card 2.0.1"] {
            script.play(&mut charger, part).await;
        }
        let refused = script.answer("strange").clone().ok();
        assert_eq!(refused["idTokenInfo"]["status"], "Invalid", "{refused}");
        assert_eq!(charger.command("RequestStopTransaction").await, json!({ "transactionId": "2" }));
        script.play(&mut charger, "runs on 2.0.1").await;
        billed(&customer, &[2000]).await;
        billed(&other, &[]).await;
        let sessions = sessions_of(&world.operator, "CS-1").await;
        let of = |tag: &str| sessions.iter().find(|session| session["idTag"] == tag).unwrap();
        assert_eq!((&of("0BADCAFE")["review"], &of("0BADCAFE")["customerId"]), (&json!("unknown_tag"), &Value::Null));
        assert_eq!(of("04AABBCC")["review"], Value::Null);
    }
}
