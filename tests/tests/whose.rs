//! Whose a charge is: only who began it pays, found by what was sent, in whatever order it is told.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::wh;
use evm_tests::charge::{begin_201, session_is, sessions_of, started_event, transaction_event};
use evm_tests::charger::{Policy, at};
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

async fn tell(charger: &mut RawCharger, event: &Value) -> Value {
    charger.call("TransactionEvent", event.clone()).await.ok()
}

/// An event so many seconds ago, with a token where one is given.
fn event(
    kind: &str,
    transaction: &str,
    seq_no: i64,
    (ago, wh): (u64, i64),
    token: Option<&str>,
    trigger: &str,
) -> Value {
    let mut event = transaction_event(kind, transaction, seq_no, wh);
    event["timestamp"] = at(Duration::from_secs(ago)).into();
    event["meterValue"][0]["timestamp"] = event["timestamp"].clone();
    event["triggerReason"] = trigger.into();
    if let Some(token) = token {
        event["idToken"] = json!({ "idToken": token, "type": "ISO14443" });
    }
    event
}

async fn energies(customer: &Customer) -> Vec<i64> {
    customer.purchases().await.iter().map(|purchase| wh(&purchase["energy"])).collect()
}

async fn billed(customer: &Customer, wanted: &[i64]) {
    let mut all = Vec::new();
    for _ in 0..500 {
        all = energies(customer).await;
        if all == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("wanted {wanted:?}, billed {all:?}");
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
        let mut started = event("Started", "T-1", 0, (300, 1_000), None, "RemoteStart");
        started["transactionInfo"]["remoteStartId"] = 77.into();
        assert_eq!(tell(&mut charger, &started).await, json!({}), "no token was named");
        tell(&mut charger, &event("Updated", "T-1", 1, (200, 1_300), None, "MeterValuePeriodic")).await;
        tell(&mut charger, &event("Ended", "T-1", 2, (100, 1_500), None, "EVDeparted")).await;
        billed(&customer, &[500]).await;
        assert_eq!(energies(&other).await, [0; 0]);
        // With a card of nobody: nobody pays, and it is stopped.
        world.operator.command("CS-1", "RequestStartTransaction", ask(78, "NOBODY")).await.ok();
        let mut started = event("Started", "T-2", 0, (90, 2_000), None, "RemoteStart");
        started["transactionInfo"]["remoteStartId"] = 78.into();
        tell(&mut charger, &started).await;
        assert_eq!(charger.command("RequestStopTransaction").await, json!({ "transactionId": "T-2" }));
        tell(&mut charger, &event("Ended", "T-2", 1, (10, 2_500), None, "RemoteStop")).await;
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
        let mut started = event("Started", "T-9", 0, (90, 3_000), None, "RemoteStart");
        started["transactionInfo"]["remoteStartId"] = 77.into();
        tell(&mut charger, &started).await;
        tell(&mut charger, &event("Ended", "T-9", 1, (10, 3_200), None, "EVDeparted")).await;
        billed(&customer, &[200, 500]).await;
        assert_eq!(energies(&other).await, [0; 0]);
    }

    async fn a_begin_told_after_all_is_billed_to_its_customer(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        // The station says that nothing is to come, and then it comes.
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        tell(&mut charger, &event("Ended", "T-1", 2, (100, 1_700), None, "EVDeparted")).await;
        charger.command("GetTransactionStatus").await;
        session_is(&world.operator, "CS-1", "finished").await;
        let answer = tell(&mut charger, &event("Started", "T-1", 0, (300, 1_000), Some(CARD), "Authorized")).await;
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
        billed(&customer, &[700]).await;
        tell(&mut charger, &event("Updated", "T-1", 1, (200, 1_300), None, "MeterValuePeriodic")).await;
        billed(&customer, &[700]).await;
        assert_eq!(sessions_of(&world.operator, "CS-1").await.len(), 1);
    }

    async fn a_guessed_card_that_is_told_late_is_for_review(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        for n in 0..30 {
            let guess = json!({ "idToken": { "idToken": format!("04{n:06X}"), "type": "ISO14443" } });
            charger.call("Authorize", guess).await.ok();
        }
        charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": false })));
        tell(&mut charger, &event("Ended", "T-1", 1, (100, 1_700), None, "EVDeparted")).await;
        session_is(&world.operator, "CS-1", "finished").await;
        tell(&mut charger, &event("Started", "T-1", 0, (300, 1_000), Some(CARD), "Authorized")).await;
        billed(&customer, &[700]).await;
        assert_eq!(session_is(&world.operator, "CS-1", "finished").await["review"], "guessed_card");
    }

    async fn events_told_backwards_are_the_same_bill(world) {
        let (mut charger, [customer, _], _) = set_up(world).await;
        let mut wanted = Vec::new();
        for queued in [false, true] {
            charger.on("GetTransactionStatus", Policy::Answer(json!({ "messagesInQueue": queued })));
            let transaction = format!("T-{queued}");
            let told = [
                event("Ended", &transaction, 4, (100, 1_700), Some(OTHERS_CARD), "StopAuthorized"),
                event("Updated", &transaction, 3, (150, 1_600), None, "MeterValuePeriodic"),
                event("Updated", &transaction, 2, (200, 1_500), None, "MeterValuePeriodic"),
                event("Updated", &transaction, 1, (250, 1_300), None, "MeterValuePeriodic"),
                event("Started", &transaction, 0, (300, 1_000), Some(CARD), "Authorized"),
            ];
            for event in &told {
                tell(&mut charger, event).await;
            }
            wanted.push(700);
            billed(&customer, &wanted).await;
        }
    }

    async fn who_ends_a_transaction_does_not_pay_for_it(world) {
        let (mut charger, [customer, other], _) = set_up(world).await;
        // Nobody's, ended by a card; another's, ended by a card; a refused one, to which a card is shown.
        tell(&mut charger, &event("Started", "T-1", 0, (900, 1_000), None, "CablePluggedIn")).await;
        tell(&mut charger, &event("Updated", "T-1", 1, (850, 1_300), Some(OTHERS_CARD), "StopAuthorized")).await;
        tell(&mut charger, &event("Ended", "T-1", 2, (800, 1_500), Some(OTHERS_CARD), "StopAuthorized")).await;
        tell(&mut charger, &event("Started", "T-2", 0, (700, 2_000), Some(CARD), "Authorized")).await;
        tell(&mut charger, &event("Updated", "T-2", 1, (650, 2_100), Some(OTHERS_CARD), "StopAuthorized")).await;
        tell(&mut charger, &event("Ended", "T-2", 2, (600, 2_200), Some(OTHERS_CARD), "StopAuthorized")).await;
        tell(&mut charger, &event("Started", "T-3", 0, (500, 3_000), Some("NOBODY"), "Authorized")).await;
        tell(&mut charger, &event("Updated", "T-3", 1, (450, 3_100), Some(OTHERS_CARD), "Authorized")).await;
        tell(&mut charger, &event("Ended", "T-3", 2, (400, 3_200), None, "EVDeparted")).await;
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
            let transaction = format!("T-{n}");
            let mut plugged_in = event("Started", &transaction, 0, (60, 1_000), None, "CablePluggedIn");
            plugged_in["transactionInfo"]["chargingState"] = "EVConnected".into();
            tell(&mut charger, &plugged_in).await;
            if n < 2 {
                customer.start(&device).await.ok();
                let mut told = started_event(&charger, &transaction, 1_000).await;
                (told["eventType"], told["seqNo"]) = ("Updated".into(), 1.into());
                tell(&mut charger, &told).await;
                tell(&mut charger, &transaction_event("Ended", &transaction, 2, 1_200)).await;
            } else {
                tell(&mut charger, &event("Ended", &transaction, 1, (0, 1_000), None, "EVDeparted")).await;
            }
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
            begin_201(&customer, &mut charger, &device, "1", 0).await;
            tell(&mut charger, &transaction_event("Ended", "1", 1, wh)).await;
            charger.status(1, "Available").await;
        }
        let mut all = energies(&customer).await;
        all.sort_unstable();
        assert_eq!(all, [100, 250]);
    }
}
