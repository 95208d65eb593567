//! Whose a charge is: only who began it pays, found by what was sent, in whatever order it is told.
#![allow(clippy::unwrap_used)]

use evm_tests::api::wh;
use evm_tests::charge::{session_is, sessions_of};
use evm_tests::charger::Policy;
use evm_tests::{Customer, RawCharger, Script, Version, World, eventually, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";
const CARD: &str = "04AABBCC";
const OTHERS_CARD: &str = "04DDEEFF";

async fn set_up(world: &mut World) -> (RawCharger, [Customer; 2], String) {
    let device = world.operator.charger_priced("CS-1", 1, 0, 0).await.remove(0);
    let customers = [world.rich_customer(PHONE, 100_000).await, world.rich_customer(OTHER, 100_000).await];
    for (phone, tag) in [(PHONE, CARD), (OTHER, OTHERS_CARD)] {
        let card = format!("/customers/{phone}/cards/{tag}");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
    }
    (world.raw("CS-1", Version::V201).await, customers, device)
}

/// A start by the app that the station is sent, and whose names the frames carry from then on.
async fn asked_for(script: &mut Script, customer: &Customer, charger: &RawCharger, device: &str) {
    customer.start(device).await.ok();
    let (tag, remote) = charger.remote_start().await;
    script.set("TAG", tag);
    script.set("REMOTE", remote);
}

async fn energies(customer: &Customer) -> Vec<i64> {
    customer.purchases().await.iter().map(|purchase| wh(&purchase["energy"])).collect()
}

async fn billed(customer: &Customer, wanted: &[i64]) {
    eventually(&format!("bills of {wanted:?}"), async || (energies(customer).await == wanted).then_some(())).await;
}

on_both_engines! {
    async fn an_operators_start_is_paid_by_the_cards_customer(world) {
        let (charger, [customer, other], _) = set_up(world).await;
        let ask = |number: i64, tag: &str| json!({ "evseId": 1, "remoteStartId": number, "idToken": { "idToken": tag, "type": "ISO14443" } });
        world.operator.command("CS-1", "RequestStartTransaction", ask(77, "04ddeeff")).await.ok();
        world.operator.command("CS-1", "RequestStartTransaction", ask(77, "04aabbcc")).await.ok();
        // It is found by what is stored.
        charger.close().await;
        world.program.kill().await;
        world.program.restart().await;
        let mut charger = world.raw("CS-1", Version::V201).await;
        let mut script = Script::load("whose");
        script.play(&mut charger, "an operator's start without a token").await;
        assert_eq!(script.answer("o1").clone().ok(), json!({}), "no token was named");
        script.play(&mut charger, "it goes on and ends").await;
        billed(&customer, &[500]).await;
        assert_eq!(energies(&other).await, [0; 0]);
        // With a card of nobody: nobody pays, and it is stopped.
        world.operator.command("CS-1", "RequestStartTransaction", ask(78, "NOBODY")).await.ok();
        script.play(&mut charger, "an operator's start for nobody").await;
        assert_eq!(charger.command("RequestStopTransaction").await, json!({ "transactionId": "T-2" }));
        script.play(&mut charger, "nobody's ends").await;
        assert_eq!(session_is(&world.operator, "CS-1", "finished").await["review"], "unknown_tag");
        billed(&customer, &[500]).await;
    }

    async fn a_remote_start_id_is_good_for_one_transaction(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        let ask = json!({ "evseId": 1, "remoteStartId": 77, "idToken": { "idToken": CARD, "type": "ISO14443" } });
        world.operator.command("CS-1", "RequestStartTransaction", ask.clone()).await.ok();
        let mut script = Script::load("whose");
        // A number of its own, and the same one again.
        for (n, transaction) in ["2", "1"].into_iter().enumerate() {
            script.set("TX", transaction);
            for part in ["an operator's start", "its number again", "its number again", "an operator's start"] {
                script.play(&mut charger, part).await;
                billed(&customer, &[500]).await;
            }
            let sessions = sessions_of(&world.operator, "CS-1").await;
            assert_eq!(sessions.len(), 2 + n, "{sessions:?}");
        }
        // Sent once more, it is good once more.
        world.operator.command("CS-1", "RequestStartTransaction", ask).await.ok();
        script.play(&mut charger, "its number sent once more").await;
        billed(&customer, &[200, 500]).await;
        assert_eq!(energies(&other).await, [0; 0]);
    }

    async fn a_begin_told_after_all_is_billed_to_its_customer(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        // The station says that nothing is to come, and then it comes.
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        let mut script = Script::load("whose");
        script.play(&mut charger, "the end alone").await;
        charger.command("GetTransactionStatus").await;
        session_is(&world.operator, "CS-1", "finished").await;
        script.play(&mut charger, "the begin after all").await;
        let answer = script.answer("begin").clone().ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        billed(&customer, &[700]).await;
        script.play(&mut charger, "a sample after all").await;
        billed(&customer, &[700]).await;
        assert_eq!(sessions_of(&world.operator, "CS-1").await.len(), 1);
    }

    async fn a_card_told_after_all_and_before_its_place_is_billed(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        let mut script = Script::load("whose");
        script.play(&mut charger, "the end alone, nowhere").await;
        charger.command("GetTransactionStatus").await;
        session_is(&world.operator, "CS-1", "finished").await;
        for _ in 0..2 {
            script.play(&mut charger, "the card and then the place after all").await;
            billed(&customer, &[700]).await;
        }
        assert_eq!(session_is(&world.operator, "CS-1", "finished").await["review"], Value::Null);
    }

    async fn a_card_told_before_its_place_is_billed(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        let mut script = Script::load("whose");
        script.play(&mut charger, "the place last").await;
        billed(&customer, &[700]).await;
    }

    async fn a_guessed_card_that_is_told_late_is_for_review(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        for n in 0..30 {
            let guess = json!({ "idToken": { "idToken": format!("04{n:06X}"), "type": "ISO14443" } });
            charger.call("Authorize", guess).await.ok();
        }
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        let mut script = Script::load("whose");
        script.play(&mut charger, "the end alone").await;
        session_is(&world.operator, "CS-1", "finished").await;
        script.play(&mut charger, "the begin after all").await;
        billed(&customer, &[700]).await;
        assert_eq!(session_is(&world.operator, "CS-1", "finished").await["review"], "guessed_card");
    }

    async fn events_told_backwards_are_the_same_bill(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        let mut wanted = Vec::new();
        for queued in [false, true] {
            charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": queued })));
            let mut script = Script::load("whose");
            script.set("TX", format!("T-{queued}"));
            script.play(&mut charger, "backwards").await;
            wanted.push(700);
            billed(&customer, &wanted).await;
        }
    }

    async fn who_ends_a_transaction_does_not_pay_for_it(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        Script::load("whose").play(&mut charger, "ended by a card").await;
        billed(&customer, &[200]).await;
        assert_eq!(energies(&other).await, [0; 0]);
        let sessions = sessions_of(&world.operator, "CS-1").await;
        let review = |id: &str| sessions.iter().find(|one| one["transactionId"] == id).unwrap()["review"].clone();
        // Energy that nobody pays is worth a look.
        assert_eq!((review("T-1"), review("T-2"), review("T-3")), (json!("no_customer"), Value::Null, json!("unknown_tag")));
    }

    async fn what_was_merged_or_never_claimed_is_no_case_for_review(world) {
        let (mut charger, [customer, _], device) = set_up(world).await;
        for n in 0..3 {
            let mut script = Script::load("whose");
            script.set("TX", format!("T-{n}"));
            script.play(&mut charger, "plugged in").await;
            if n < 2 {
                asked_for(&mut script, &customer, &charger, &device).await;
            }
            script.play(&mut charger, if n < 2 { "claimed by the app" } else { "never claimed" }).await;
            charger.status(1, "Available").await;
        }
        billed(&customer, &[200, 200]).await;
        eventually("all sessions to be over", async || {
            let sessions = sessions_of(&world.operator, "CS-1").await;
            sessions.iter().all(|session| session["status"] == "finished").then_some(())
        })
        .await;
        let sessions = sessions_of(&world.operator, "CS-1").await;
        assert_eq!(sessions.len(), 3, "{sessions:?}");
        assert!(sessions.iter().all(|session| session["review"].is_null()), "{sessions:?}");
    }

    async fn an_id_begun_again_at_once_by_the_app_is_another_charge(world) {
        let (mut charger, [customer, _], device) = set_up(world).await;
        for wh in [100, 250] {
            let mut script = Script::load("whose");
            script.set("WH", wh);
            asked_for(&mut script, &customer, &charger, &device).await;
            script.play(&mut charger, "begun and ended by the app").await;
            charger.status(1, "Available").await;
        }
        let mut all = energies(&customer).await;
        all.sort_unstable();
        assert_eq!(all, [100, 250]);
    }
}
