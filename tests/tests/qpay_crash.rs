//! The program dies between every two steps of pay, callback, top-up, cancel and refund: after the next start the same end.
#![allow(clippy::unwrap_used)]

use evm_tests::api::{decimal, request};
use evm_tests::engine::Engine;
use evm_tests::on_each_engine;
use evm_tests::poll::until;
use evm_tests::qpay::{BY_ITSELF, PHONE, Shop};
use qpay_sim::{Call, Invoice, Kind, Options};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

on_each_engine! {
    pay_from_the_balance,
    pay_through_the_gateway,
    the_callback_and_what_follows,
    a_top_up,
    an_expiry,
    a_refund,
    a_part_given_back_with_a_key,
}

/// Whoever asks meets a program that dies, so the answer may never come.
async fn ask(shop: &Shop, path: &str, body: Value) {
    let url = format!("{}/api/v1{path}", shop.customer.base);
    let http = evm_tests::world::client();
    request(&http, Method::POST, &url, Some(&shop.customer.token), Some(body)).await;
}

/// The program dies at a point while `deed` is done, and is started again.
async fn dies_at(shop: &mut Shop, point: &str, deed: impl AsyncFnOnce(&Shop)) {
    shop.world.program.stop().await;
    shop.world.program.set("EVM_FAILPOINTS_ALLOWED", "1");
    shop.world.program.set("EVM_FAILPOINT", point);
    let died = format!("name=\"{point}\"");
    if shop.world.program.try_restart().await {
        deed(shop).await;
        shop.world.program.dies().await;
        assert!(shop.world.program.log().contains(&died), "it did not die at {point}");
        shop.world.program.set("EVM_FAILPOINT", "");
        shop.world.program.restart().await;
    } else {
        // It published what an earlier deed had left, and died of that before it was ready.
        assert!(shop.world.program.log().contains(&died), "it did not die at {point}");
        shop.world.program.set("EVM_FAILPOINT", "");
        shop.world.program.restart().await;
        deed(shop).await;
    }
    shop.reconnect().await;
}

/// Pays with QPAY until it works, as a customer does who gets no answer.
async fn invoice(shop: &Shop, purchase: &str) -> (String, Invoice) {
    until("pay to work again", BY_ITSELF, async || {
        (shop.customer.pay(purchase, "QPAY").await.status == 200).then_some(())
    })
    .await;
    shop.invoice(purchase).await
}

async fn pay_from_the_balance(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    shop.world.operator.credit(PHONE, 10_000).await;
    let mut left = Decimal::from(10_000);
    for point in ["pay.booked", "pay.committed", "relay.published"] {
        let purchase = shop.purchase(1000).await;
        let path = format!("/purchases/{purchase}/pay");
        dies_at(&mut shop, point, async |shop| ask(shop, &path, json!({ "option": "EVM" })).await).await;
        let again = shop.customer.pay(&purchase, "EVM").await;
        match point {
            "pay.booked" => drop(again.ok()),
            _ => drop(again.problem(409, "already_paid")),
        }
        left -= Decimal::from(850);
        assert_eq!(shop.balance().await, left, "{point}");
        assert_eq!(shop.customer.purchase(&purchase).await["status"], "paid", "{point}");
    }
    shop.close().await;
}

async fn pay_through_the_gateway(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    for point in ["invoice.stored", "invoice.committed", "invoice.made", "invoice.opened"] {
        let purchase = shop.purchase(1000).await;
        let path = format!("/purchases/{purchase}/pay");
        dies_at(&mut shop, point, async |shop| ask(shop, &path, json!({ "option": "QPAY" })).await).await;
        let (invoice, at_gateway) = invoice(&shop, &purchase).await;
        shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
        shop.ends(&purchase, &invoice, "success").await;
        assert_eq!(shop.customer.purchase(&purchase).await["status"], "paid", "{point}");
    }
    assert_eq!(shop.sim.count(Call::CreateInvoice), 5, "only one that was made was lost");
    assert_eq!(shop.payments().await.len(), 4);
    assert_eq!(shop.balance().await, Decimal::ZERO);
    shop.close().await;
}

async fn the_callback_and_what_follows(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let points =
        ["callback.noted", "check.claimed", "check.answered", "settle.posted", "settle.booked", "settle.committed"];
    for point in points {
        let purchase = shop.purchase(1000).await;
        let (_, at_gateway) = shop.invoice(&purchase).await;
        dies_at(&mut shop, point, async |shop| {
            shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap();
        })
        .await;
        // Nobody asks and nobody calls back again.
        shop.purchase_is(&purchase, "paid").await;
    }
    assert_eq!(shop.payments().await.len(), points.len());
    assert_eq!(shop.balance().await, Decimal::ZERO);
    shop.close().await;
}

async fn a_top_up(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    for point in ["invoice.stored", "invoice.committed", "invoice.made"] {
        let body = json!({ "amount": 100, "option": "QPAY" });
        dies_at(&mut shop, point, async |shop| ask(shop, "/customer/replenish", body).await).await;
        shop.top_up(100).await;
    }
    let mut balance = Decimal::ZERO;
    for point in ["invoice.opened", "callback.noted", "settle.posted", "settle.committed", "relay.published"] {
        let at_gateway = if point == "invoice.opened" {
            let body = json!({ "amount": 100, "option": "QPAY" });
            dies_at(&mut shop, point, async |shop| ask(shop, "/customer/replenish", body).await).await;
            let at_gateway = shop.sim.last_invoice().unwrap();
            shop.sim.pay(&at_gateway.invoice_id, 10_000, Kind::P2p).await.unwrap().answer.unwrap();
            at_gateway
        } else {
            let (_, at_gateway) = shop.top_up(100).await;
            dies_at(&mut shop, point, async |shop| {
                shop.sim.pay(&at_gateway.invoice_id, 10_000, Kind::P2p).await.unwrap();
            })
            .await;
            at_gateway
        };
        balance += Decimal::from(100);
        shop.balance_is(&balance.to_string()).await;
        assert_eq!(shop.replenishment(&at_gateway.sender_invoice_no).await.0, "success", "{point}");
    }
    shop.close().await;
}

async fn an_expiry(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 6).await;
    let purchase = shop.purchase(1000).await;
    for point in ["check.answered", "settle.committed", "cancel.answered"] {
        let (ours, at_gateway) = invoice(&shop, &purchase).await;
        dies_at(&mut shop, point, async |_| {}).await;
        shop.purchase_is(&purchase, "unpaid").await;
        assert!(shop.sim.invoice(&at_gateway.invoice_id).unwrap().canceled, "{point}");
        assert_eq!(shop.status(&purchase, &ours).await.0, "canceled", "{point}");
    }
    shop.close().await;
}

async fn a_refund(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    for point in ["refund.booked", "refund.committed", "refund.answered"] {
        let purchase = shop.purchase(1000).await;
        let (invoice, at_gateway) = shop.invoice(&purchase).await;
        shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::Card).await.unwrap().answer.unwrap();
        shop.ends(&purchase, &invoice, "success").await;
        let url = format!("{}/admin/v1/purchases/{purchase}/refund", shop.customer.base);
        let token = shop.world.operator.token.clone();
        let body = || Some(json!({ "note": "broken cable" }));
        dies_at(&mut shop, point, async |shop| {
            request(&shop.world.http, Method::POST, &url, Some(&token), body()).await;
        })
        .await;
        if point == "refund.booked" {
            assert_eq!(shop.customer.purchase(&purchase).await["status"], "paid", "nothing was booked");
            request(&shop.world.http, Method::POST, &url, Some(&token), body()).await.unwrap().ok();
        }
        until("the refund to be done", BY_ITSELF, async || {
            let again = request(&shop.world.http, Method::POST, &url, Some(&token), body()).await.unwrap().ok();
            assert_eq!(decimal(&again["amount"]), Decimal::from(850));
            (again["cards"][0]["refund"] == "refunded").then_some(())
        })
        .await;
        let at_gateway = shop.sim.invoice(&at_gateway.invoice_id).unwrap();
        assert_eq!(at_gateway.payments[0].status, "REFUNDED", "{point}");
    }
    assert_eq!(shop.sim.count(Call::Refund), 3, "the gateway gave each out once");
    assert_eq!(shop.balance().await, Decimal::ZERO);
    shop.close().await;
}

/// A POST of the operator with a key; who meets a program that dies gets no answer.
async fn refund_part(shop: &Shop, purchase: &str, amount: u32) -> Option<Value> {
    let operator = &shop.world.operator;
    let request = operator.http.post(format!("{}/admin/v1/purchases/{purchase}/refund", operator.base));
    let request = request.bearer_auth(&operator.token).header("idempotency-key", format!("{purchase}-{amount}"));
    let response = request.json(&json!({ "note": "broken cable", "amount": amount })).send().await.ok()?;
    (response.status() == 200).then_some(())?;
    serde_json::from_str(&response.text().await.ok()?).ok()
}

async fn a_part_given_back_with_a_key(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let mut balance = Decimal::ZERO;
    for point in ["refund.booked", "refund.committed", "refund.answered"] {
        let purchase = shop.purchase(1000).await;
        let (invoice, at_gateway) = shop.invoice(&purchase).await;
        shop.sim.pay(&at_gateway.invoice_id, 40_000, Kind::Card).await.unwrap().answer.unwrap();
        shop.sim.pay(&at_gateway.invoice_id, 45_000, Kind::P2p).await.unwrap().answer.unwrap();
        shop.ends(&purchase, &invoice, "success").await;
        dies_at(&mut shop, point, async |shop| drop(refund_part(shop, &purchase, 500).await)).await;
        // The key of a request that died is free again only after a while; that of one that was booked has its answer.
        if point == "refund.booked" {
            assert_eq!(refund_part(&shop, &purchase, 500).await, None);
            assert_eq!(decimal(&shop.customer.purchase(&purchase).await["refunded"]), Decimal::ZERO);
            refund_part(&shop, &purchase, 499).await.unwrap();
            balance += Decimal::from(99);
        } else {
            let again = refund_part(&shop, &purchase, 500).await.unwrap();
            assert_eq!(decimal(&again["amount"]), Decimal::from(500), "{point}");
            balance += Decimal::from(100);
        }
        until("the card to have its money", BY_ITSELF, async || {
            (shop.sim.invoice(&at_gateway.invoice_id).unwrap().payments[0].status == "REFUNDED").then_some(())
        })
        .await;
        assert_eq!(shop.balance().await, balance, "{point}");
        let bought = shop.customer.purchase(&purchase).await;
        let back = if point == "refund.booked" { 499 } else { 500 };
        assert_eq!((&bought["status"], decimal(&bought["refunded"])), (&json!("paid"), Decimal::from(back)), "{point}");
    }
    until("the refunds to be known", BY_ITSELF, async || {
        let known = shop.payments().await.iter().filter(|payment| payment["refund"] == "refunded").count();
        (known == 3).then_some(())
    })
    .await;
    assert_eq!(shop.sim.count(Call::Refund), 3, "the gateway gave each out once");
    shop.close().await;
}
