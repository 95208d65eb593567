//! Card numbers that are guessed by starts.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::charge::sessions_of;
use evm_tests::charger::{at, now};
use evm_tests::{Version, World, on_both_engines};
use reqwest::Method;
use serde_json::json;

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

async fn card(world: &World, phone: &str, tag: &str) {
    world.operator.send(Method::PUT, &format!("/customers/{phone}/cards/{tag}"), Some(json!({}))).await.ok();
}

/// Whether the log tells of guesses at this charger.
fn is_told_of(world: &World, identity: &str) -> bool {
    world.program.log().lines().any(|line| line.contains("card numbers are guessed") && line.contains(identity))
}

on_both_engines! {
    async fn cards_are_guessed_by_starts_as_well(world) {
        let customer = world.rich_customer(PHONE, 50_000).await;
        world.rich_customer(OTHER, 50_000).await;
        card(world, PHONE, "04AABBCC").await;
        card(world, OTHER, "04DDEEFF").await;

        // Dated before a charge that runs: over already, and answered as any.
        world.operator.charger("CP-6", 1).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        let runs = charger.start(1, "04DDEEFF", 0).await;
        for n in 0..25 {
            let tag = format!("04{n:06X}");
            let start = json!({ "connectorId": 1, "idTag": tag, "meterStart": 0, "timestamp": at(Duration::from_secs(900 + n)) });
            let answer = charger.call("StartTransaction", start).await.ok();
            assert_eq!(answer["idTagInfo"]["status"], "Invalid");
        }
        charger.stop(runs, 100).await;
        assert!(is_told_of(world, "CP-6"));
        let transaction = charger.start(1, "04AABBCC", 0).await;
        charger.stop(transaction, 40).await;
        let mine = async |identity: &str| {
            let all = sessions_of(&world.operator, identity).await;
            all.into_iter().find(|session| session["phone"] == PHONE).unwrap()
        };
        customer.pay(mine("CP-6").await["purchaseId"].as_str().unwrap(), "EVM").await.ok();

        // In 2.0.1 a token may be told before the place is.
        world.operator.charger("CS-6", 1).await;
        let mut charger = world.raw("CS-6", Version::V201).await;
        let event = |kind: &str, tag: &str, seq_no: u32| json!({
            "eventType": kind, "timestamp": now(), "seqNo": seq_no, "triggerReason": "Authorized",
            "transactionInfo": { "transactionId": tag }, "idToken": { "idToken": tag, "type": "ISO14443" },
        });
        for n in 0..25 {
            let tag = format!("05{n:06X}");
            let answer = charger.call("TransactionEvent", event("Started", &tag, 0)).await.ok();
            assert_eq!(answer["idTokenInfo"]["status"], "Invalid");
            charger.call("TransactionEvent", event("Ended", &tag, 1)).await.ok();
        }
        assert!(is_told_of(world, "CS-6"));
        let mut started = event("Started", "04AABBCC", 0);
        started["evse"] = json!({ "id": 1 });
        let answer = charger.call("TransactionEvent", started).await.ok();
        assert_eq!(answer["idTokenInfo"]["status"], "Accepted");
        charger.call("TransactionEvent", event("Ended", "04AABBCC", 1)).await.ok();

        for identity in ["CP-6", "CS-6"] {
            assert_eq!(mine(identity).await["review"], "guessed_card");
        }
    }
}
