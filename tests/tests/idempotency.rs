//! `Idempotency-Key`: what is sent again gets the same answer and does nothing twice.
#![allow(clippy::unwrap_used)]

use evm_tests::api::decimal;
use evm_tests::charge::{bookings, ended_at_charger};
use evm_tests::charger::Policy;
use evm_tests::qpay::Shop;
use evm_tests::{Customer, Engine, Version, eventually, on_both_engines, on_each_engine};
use qpay_sim::Kind;
use reqwest::Response;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// A POST with a key.
async fn post(customer: &Customer, path: &str, key: &str, body: Option<Value>) -> Response {
    let mut request = customer.http.post(format!("{}/api/v1{path}", customer.base)).bearer_auth(&customer.token);
    request = request.header("idempotency-key", key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

/// Status, whether it was given before, and the body as it came.
async fn read(response: Response) -> (u16, bool, String) {
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    (response.status().as_u16(), replayed, response.text().await.unwrap())
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

fn start_of(device: &str) -> String {
    format!("/devices/{device}/start")
}

on_both_engines! {
    async fn an_operators_credit_that_comes_twice_credits_once(world) {
        let customer = world.customer(PHONE).await;
        let url = format!("{}/admin/v1/customers/{PHONE}/credit", world.operator.base);
        let credit = async |key: &str, amount: u32| {
            let body = json!({ "amount": amount, "note": "cash" });
            let request = world.http.post(&url).bearer_auth(&world.operator.token).header("idempotency-key", key);
            read(request.json(&body).send().await.unwrap()).await
        };
        let (status, replayed, first) = credit("k", 500).await;
        assert_eq!((status, replayed), (200, false), "{first}");
        assert_eq!(credit("k", 500).await, (200, true, first.clone()));
        assert_eq!(credit("k", 700).await.0, 422);
        world.program.kill().await;
        world.program.restart().await;
        assert_eq!(credit("k", 500).await, (200, true, first));
        assert_eq!(credit("other", 500).await.0, 200);
        let me = customer.post("/user/me", None).await.ok();
        assert_eq!(decimal(&me["profile"]["balance"]), Decimal::from(1_000));
    }

    async fn the_same_key_gets_the_same_answer_also_after_a_crash(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let first = read(post(&customer, &start_of(&device), "start", None).await).await;
        assert_eq!(first, (200, false, String::new()));
        assert_eq!(read(post(&customer, &start_of(&device), "start", None).await).await, (200, true, String::new()));
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        charger.stop(transaction, 1_000).await;
        let finish = format!("/devices/{device}/finish");
        let (status, _, finished) = read(post(&customer, &finish, "finish", None).await).await;
        assert_eq!(status, 200, "{finished}");
        let purchase = serde_json::from_str::<Value>(&finished).unwrap()["id"].as_str().unwrap().to_owned();
        world.billed(&purchase, 1_000).await;
        let (pay, body) = (format!("/purchases/{purchase}/pay"), Some(json!({ "option": "EVM" })));
        let (status, replayed, paid) = read(post(&customer, &pay, "pay", body.clone()).await).await;
        assert_eq!((status, replayed), (200, false), "{paid}");
        // What is refused for good is kept, too.
        let again = post(&customer, &pay, "pay-again", body.clone()).await;
        let (status, _, refused) = read(again).await;
        assert_eq!(status, 409, "{refused}");

        world.program.kill().await;
        world.program.restart().await;
        world.operator.credit(PHONE, 700).await;
        assert_eq!(read(post(&customer, &start_of(&device), "start", None).await).await, (200, true, String::new()));
        assert_eq!(read(post(&customer, &finish, "finish", None).await).await, (200, true, finished));
        assert_eq!(read(post(&customer, &pay, "pay", body.clone()).await).await, (200, true, paid));
        assert_eq!(read(post(&customer, &pay, "pay-again", body).await).await, (409, true, refused));
        assert_eq!(bookings(&world.operator, "payment").await.len(), 1);
        let me = customer.post("/user/me", None).await.ok();
        assert_eq!(decimal(&me["profile"]["balance"]), Decimal::from(50_000 - 1_000 + 700));
    }

    async fn a_key_is_for_one_thing_of_one_customer(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let (customer, other) = (world.rich_customer(PHONE, 50_000).await, world.customer(OTHER).await);
        let mut charger = world.raw("CP-1", Version::V16).await;
        let purchase = ended_at_charger(world, &mut charger, &customer, &device, 1_000).await;
        let pay = format!("/purchases/{purchase}/pay");
        let by = |option: &str| Some(json!({ "option": option }));
        assert_eq!(code(post(&customer, &pay, "k", by("GOLD")).await).await, (422, "payment_option_disabled".to_owned()));
        let reused = (422, "idempotency_key_reused".to_owned());
        assert_eq!(code(post(&customer, &pay, "k", by("EVM")).await).await, reused);
        assert_eq!(code(post(&customer, &start_of(&device), "k", None).await).await, reused);
        assert_eq!(customer.purchase(&purchase).await["status"], "unpaid");
        // Another customer's key of the same name is another key.
        assert_eq!(code(post(&other, &pay, "k", by("EVM")).await).await, (404, "not_found".to_owned()));
        for bad in ["", "with space", &"k".repeat(256)] {
            let response = post(&customer, &pay, bad, by("EVM")).await;
            assert_eq!(code(response).await, (400, "invalid_request".to_owned()), "{bad:?}");
        }
        assert_eq!(post(&customer, &pay, &"k".repeat(255), by("EVM")).await.status(), 200);
    }

    /// Where no money moves and nothing starts a key does nothing, so that no login and no text of a customer is kept.
    async fn other_calls_keep_no_answer(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let purchase = ended_at_charger(world, &mut charger, &customer, &device, 1_000).await;
        let feedback = format!("/purchases/{purchase}/feedback");
        for score in [5, 1] {
            let body = json!({ "feedback": { "score": score, "description": "" } });
            assert_eq!(post(&customer, &feedback, "k", Some(body)).await.status(), 200);
        }
        assert_eq!(customer.purchase(&purchase).await["feedback"]["score"], 1);
        for _ in 0..2 {
            let (status, replayed, me) = read(post(&customer, "/user/me", "k", None).await).await;
            assert_eq!((status, replayed), (200, false));
            assert!(me.contains(&customer.token), "{me}");
        }
        let pay = format!("/purchases/{purchase}/pay");
        assert_eq!(post(&customer, &pay, "k", Some(json!({ "option": "EVM" }))).await.status(), 200, "the key was free");
        if world.engine == Engine::SqliteLocal {
            let pass = customer.login["nats"]["pass"].as_str().unwrap();
            for name in ["evm.db", "evm.db-wal"] {
                let file = std::fs::read(world.scratch().join("data").join(name)).unwrap();
                for secret in [customer.token.as_str(), pass] {
                    let there = file.windows(secret.len()).any(|part| part == secret.as_bytes());
                    assert!(!there, "a secret of the login lies in {name}");
                }
            }
        }
    }

    /// An operator's command is carried out once, and its answer, which may hold a charger's secrets, is sealed.
    async fn a_command_that_comes_twice_is_sent_once(world) {
        world.operator.charger("CP-1", 1).await;
        let charger = world.raw("CP-1", Version::V16).await;
        charger.on("GetDiagnostics", Policy::Answer(json!({ "fileName": "a-secret.zip" })));
        let command = async |key: &str| {
            let url = format!("{}/admin/v1/chargers/CP-1/commands/GetDiagnostics", world.operator.base);
            let request = world.http.post(&url).bearer_auth(&world.operator.token).header("idempotency-key", key);
            read(request.json(&json!({ "location": "ftp://127.0.0.1/" })).send().await.unwrap()).await
        };
        let (status, replayed, first) = command("k").await;
        assert_eq!((status, replayed), (200, false), "{first}");
        assert_eq!(command("k").await, (200, true, first));
        let asked = charger.waiting().iter().filter(|asked| asked.action == "GetDiagnostics").count();
        assert_eq!(asked, 1);
    }

    /// The store of answers cannot be filled by one customer; what was answered still is.
    async fn keys_of_a_customer_are_bounded(world) {
        let (customer, other) = (world.customer(PHONE).await, world.customer(OTHER).await);
        let path = "/purchases/000000000000000000000000/pay";
        let pay = async |customer: &Customer, key: &str| post(customer, path, key, Some(json!({ "option": "EVM" }))).await;
        for n in 0..300 {
            assert_eq!(pay(&customer, &format!("k-{n}")).await.status(), 404, "{n}");
        }
        let refused = pay(&customer, "one-more").await;
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((86_000..=86_400).contains(&wait), "{wait}");
        assert_eq!(code(refused).await, (429, "too_many_requests".to_owned()));
        let (status, replayed, _) = read(pay(&customer, "k-0").await).await;
        assert_eq!((status, replayed), (404, true));
        assert_eq!(customer.pay("000000000000000000000000", "EVM").await.status, 404, "without a key");
        assert_eq!(pay(&other, "one-more").await.status(), 404);
    }

    async fn while_the_first_is_under_way_the_others_wait(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        charger.on("RemoteStartTransaction", Policy::Silence);
        let first = {
            let (customer, path) = (customer.clone(), start_of(&device));
            tokio::spawn(async move { read(post(&customer, &path, "start", None).await).await })
        };
        let asked = charger.asked("RemoteStartTransaction").await;
        let second = post(&customer, &start_of(&device), "start", None).await;
        assert!(second.headers().contains_key("retry-after"));
        assert_eq!(code(second).await, (409, "idempotency_in_flight".to_owned()));
        charger.send(&json!([3, asked.id, { "status": "Accepted" }]).to_string()).await;
        assert_eq!(first.await.unwrap().0, 200);
        eventually("the answer to be kept", async || {
            let (status, replayed, _) = read(post(&customer, &start_of(&device), "start", None).await).await;
            (status == 200 && replayed).then_some(())
        })
        .await;
        let transaction = charger.start(1, asked.payload["idTag"].as_str().unwrap(), 0).await;
        charger.stop(transaction, 1_000).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 1_000).await;

        // Twenty at once: one pays, all hear of the same payment.
        let path = format!("/purchases/{purchase}/pay");
        let tries: Vec<_> = (0..20)
            .map(|_| {
                let (customer, path) = (customer.clone(), path.clone());
                tokio::spawn(async move { read(post(&customer, &path, "pay", Some(json!({ "option": "EVM" }))).await).await })
            })
            .collect();
        let mut paid = Vec::new();
        for one in tries {
            let (status, _, body) = one.await.unwrap();
            match status {
                200 => paid.push(body),
                _ => assert!(body.contains("idempotency_in_flight"), "{status} {body}"),
            }
        }
        assert!(!paid.is_empty());
        assert!(paid.iter().all(|body| *body == paid[0]), "{paid:?}");
        assert_eq!(bookings(&world.operator, "payment").await.len(), 1);
    }
}

/// A gateway that is down is down for now: the key is free for the next try.
async fn what_another_try_may_mend_is_not_kept(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1_000).await;
    let (path, body) = (format!("/purchases/{purchase}/pay"), Some(json!({ "option": "QPAY" })));
    shop.sim.down().await;
    let down = post(&shop.customer, &path, "k", body.clone()).await;
    assert_eq!(code(down).await, (503, "gateway_unavailable".to_owned()));
    shop.sim.up().await.unwrap();
    let first = eventually("the gateway to be called again", async || {
        let (status, replayed, text) = read(post(&shop.customer, &path, "k", body.clone()).await).await;
        assert!(!replayed, "{text}");
        (status == 200).then_some(text)
    })
    .await;
    assert_eq!(read(post(&shop.customer, &path, "k", body).await).await, (200, true, first));
    let invoice = shop.sim.last_invoice().unwrap();
    shop.sim.pay(&invoice.invoice_id, 85_000, Kind::P2p).await.unwrap();
    shop.purchase_is(&purchase, "paid").await;
    shop.close().await;
}

on_each_engine!(what_another_try_may_mend_is_not_kept);
