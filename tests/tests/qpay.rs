//! Paying through QPay, whose stand-in misbehaves in every way: what was really paid is credited once, and nothing hangs.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::api::{decimal, request};
use evm_tests::engine::Engine;
use evm_tests::poll::{SOON, until};
use evm_tests::qpay::{BY_ITSELF, Shop};
use evm_tests::{Answer, Phone, on_each_engine};
use qpay_sim::{Call, Fault, Kind, Options};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::json;

on_each_engine! {
    a_purchase_is_paid,
    a_balance_is_topped_up,
    callbacks_twice_and_a_hundred_at_once,
    a_callback_before_the_invoices_own_answer,
    no_callback_at_all,
    forged_callbacks,
    tokens_that_end_in_the_middle,
    half_paid_and_paid_twice,
    paid_after_it_was_canceled,
    a_slow_gateway_and_a_lost_invoice,
    a_gateway_that_talks_nonsense,
    a_gateway_that_is_down_for_a_minute,
    paid_from_the_balance_while_an_invoice_is_open,
    refunds_to_card_and_balance,
    a_gateway_that_refuses_a_refund,
    many_ask_for_one_invoice,
}

const MINUTE: Duration = Duration::from_secs(60);

fn mnt(text: &str) -> Decimal {
    text.parse().unwrap()
}

async fn a_purchase_is_paid(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let options = shop.customer.get("/payment-options").await.ok();
    assert_eq!((&options[1]["option"], &options[1]["disabled"]), (&json!("QPAY"), &json!(false)));
    let phone = Phone::connect(&shop.customer).await;
    let purchase = shop.purchase(1234).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    assert_eq!(at_gateway.amount, 104_900, "whole tögrög");
    assert!(at_gateway.callback_url.starts_with(&shop.world.program.http), "{}", at_gateway.callback_url);
    assert_eq!(shop.invoice(&purchase).await.0, invoice, "the same while it is open");
    assert_eq!(shop.status(&purchase, &invoice).await, ("pending".into(), mnt("1048.9")));
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "pending");

    let paid = shop.sim.pay(&at_gateway.invoice_id, 104_900, Kind::P2p).await.unwrap();
    let answer = paid.answer.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "SUCCESS"));
    let event = phone.hears("PAYMENT", |event| event["status"] == "success").await;
    assert_eq!(decimal(&event["amount"]), mnt("1048.9"));
    let bought = shop.customer.purchase(&purchase).await;
    assert_eq!((&bought["status"], &bought["option"]), (&json!("paid"), &json!("QPAY")));
    assert_eq!(shop.status(&purchase, &invoice).await, ("success".into(), mnt("1048.9")));
    assert_eq!(shop.balance().await, mnt("0.1"));
    shop.customer.pay(&purchase, "QPAY").await.problem(409, "already_paid");
    shop.customer.pay(&purchase, "EVM").await.problem(409, "already_paid");
    let payments = shop.payments().await;
    assert_eq!((payments.len(), &payments[0]["paymentId"]), (1, &json!(paid.payment_id)));
    assert_eq!((decimal(&payments[0]["fee"]), decimal(&payments[0]["applied"])), (mnt("10.49"), mnt("1048.9")));
    assert_eq!(shop.sim.count(Call::Token), 1, "one token for all");
    not_the_others(&shop, &purchase, &invoice).await;
    shop.close().await;
}

/// Another customer sees neither the invoice nor the purchase.
async fn not_the_others(shop: &Shop, purchase: &str, invoice: &str) {
    let other = shop.world.customer("+97699112233").await;
    let question = Some(json!({ "invoiceId": invoice }));
    other.pay(purchase, "QPAY").await.problem(404, "not_found");
    other.post(&format!("/purchases/{purchase}/status"), question.clone()).await.problem(404, "not_found");
    other.post("/customer/replenishment", question.clone()).await.problem(404, "not_found");
    shop.customer.post("/customer/replenishment", question).await.problem(404, "not_found");
    for odd in ["", "x", "000000000000000000000000"] {
        let question = Some(json!({ "invoiceId": odd }));
        shop.customer.post(&format!("/purchases/{purchase}/status"), question).await.problem(404, "not_found");
    }
}

async fn a_balance_is_topped_up(engine: Engine) {
    let shop = Shop::open(engine).await;
    let phone = Phone::connect(&shop.customer).await;
    for bad in [json!(0), json!(-5), json!(100.5), json!(100_000_001), json!(null)] {
        shop.ask_top_up(bad).await.names_field("amount");
    }
    let other = json!({ "amount": 100, "option": "CASH" });
    shop.customer.post("/customer/replenish", Some(other)).await.problem(422, "payment_option_disabled");
    let (invoice, at_gateway) = shop.top_up(10_069).await;
    assert_eq!(at_gateway.amount, 1_006_900);
    assert_eq!(shop.replenishment(&invoice).await, ("pending".into(), mnt("10069")));
    shop.sim.pay(&at_gateway.invoice_id, 1_006_900, Kind::Card).await.unwrap().answer.unwrap();
    let event = phone.hears("REPLENISHMENT", |_| true).await;
    assert_eq!(event, json!({ "status": "success", "amount": 10069 }));
    let body = Some(json!({ "invoiceId": invoice }));
    for path in ["/customer/replenishment", "/customer/replenishment/"] {
        assert_eq!(shop.customer.post(path, body.clone()).await.ok(), json!({ "status": "success", "amount": 10069 }));
    }
    assert_eq!(shop.balance().await, mnt("10069"));
    assert!(phone.heard("PAYMENT").is_empty());
    shop.close().await;
}

async fn callbacks_twice_and_a_hundred_at_once(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    let payment = shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    let answers = shop.sim.call_back_at_once(&at_gateway.invoice_id, &payment, 100).await.unwrap();
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "SUCCESS"));
    }
    shop.purchase_is(&purchase, "paid").await;
    for _ in 0..2 {
        let answer = shop.sim.call_back(&at_gateway.invoice_id, &payment).await.unwrap().unwrap();
        assert_eq!(answer.body, "SUCCESS");
    }
    assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
    until("the last callback to be looked at", SOON, async || {
        let asked = shop.sim.seen().iter().filter(|seen| seen.call == Call::Check && seen.status.is_some()).count();
        (asked >= 2).then_some(())
    })
    .await;
    assert!(shop.sim.count(Call::Check) <= 6, "asked {} times for 102 callbacks", shop.sim.count(Call::Check));
    assert_eq!(shop.payments().await.len(), 1);
    shop.close().await;
}

async fn a_callback_before_the_invoices_own_answer(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    shop.sim.pay_before_answering(2);
    let (_, at_gateway) = shop.top_up(500).await;
    assert_eq!(shop.sim.invoice(&at_gateway.invoice_id).unwrap().paid(), 50_000);
    shop.balance_is("500").await;
    let purchase = shop.purchase(1000).await;
    let answer = shop.customer.pay(&purchase, "QPAY").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    shop.purchase_is(&purchase, "paid").await;
    assert_eq!(shop.payments().await.len(), 2);
    shop.close().await;
}

async fn no_callback_at_all(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 12).await;
    let purchase = shop.purchase(1000).await;
    let (_, at_gateway) = shop.invoice(&purchase).await;
    let (top_up, other) = shop.top_up(700).await;
    shop.sim.pay_silently(&other.invoice_id, 70_000, Kind::P2p).unwrap();
    assert_eq!(shop.replenishment(&top_up).await.0, "success", "the customer's question finds it");
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    let asked = shop.sim.count(Call::Check);
    shop.purchase_is(&purchase, "paid").await;
    assert_eq!(shop.sim.count(Call::Check), asked + 1, "found once, at the expiry");
    assert!(!shop.sim.invoice(&at_gateway.invoice_id).unwrap().canceled);
    shop.close().await;
}

async fn forged_callbacks(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    let (_, others) = shop.top_up(400).await;
    let payment = shop.sim.pay_silently(&others.invoice_id, 40_000, Kind::P2p).unwrap();
    // Of another invoice, and made up.
    for named in [payment.as_str(), "1", "x%00y", "999999999999999"] {
        let answer = shop.sim.call_back(&at_gateway.invoice_id, named).await.unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "SUCCESS"));
    }
    let base = format!("{}/api/v1/payments/qpay/callback", shop.customer.base);
    for token in ["0".repeat(40), "x".into(), "a".repeat(5000), invoice.clone(), at_gateway.invoice_id.clone()] {
        let url = format!("{base}/{token}?qpay_payment_id={payment}");
        let answer: Answer = request(&shop.world.http, Method::GET, &url, None, None).await.unwrap();
        answer.problem(404, "not_found");
    }
    until("the callbacks to be looked at", SOON, async || (shop.sim.count(Call::Check) > 0).then_some(())).await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "pending");
    assert_eq!(shop.payments().await.len(), 0, "the other invoice was not asked about");
    shop.sim.pay_with_status(&at_gateway.invoice_id, 85_000, Kind::P2p, "NEW").unwrap();
    let dollars = shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.sim.set_currency(&dollars, "USD").unwrap();
    shop.sim.call_back(&at_gateway.invoice_id, &dollars).await.unwrap().unwrap();
    let asked = shop.sim.count(Call::Check);
    until("the callback to be looked at", SOON, async || (shop.sim.count(Call::Check) > asked).then_some(())).await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "pending");
    shop.sim.set_currency(&dollars, "MNT").unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    shop.sim.call_back(&others.invoice_id, &payment).await.unwrap().unwrap();
    shop.balance_is("400").await;
    shop.close().await;
}

async fn tokens_that_end_in_the_middle(engine: Engine) {
    let options = Options { absolute_expiry: false, ..Options::default() };
    let mut shop = Shop::open_with(engine, options, 3600).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.expire_tokens();
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.purchase_is(&purchase, "paid").await;
    assert_eq!((shop.sim.count(Call::Token), shop.sim.count(Call::Refresh)), (1, 1));
    shop.sim.expire_tokens();
    shop.sim.expire_refresh_tokens();
    let (_, top_up) = shop.top_up(100).await;
    shop.sim.refuse_tokens(true);
    shop.sim.pay(&top_up.invoice_id, 10_000, Kind::P2p).await.unwrap().answer.unwrap();
    let refused = shop.ask_top_up(json!(100)).await;
    refused.problem(502, "gateway_refused");
    shop.sim.heal();
    shop.balance_is("100").await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
    shop.close().await;
}

async fn half_paid_and_paid_twice(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay(&at_gateway.invoice_id, 42_500, Kind::P2p).await.unwrap().answer.unwrap();
    until("the half to come in", SOON, async || (shop.payments().await.len() == 1).then_some(())).await;
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "pending");
    assert_eq!(shop.invoice(&purchase).await.0, invoice, "the rest goes on the same invoice");
    assert_eq!(shop.status(&purchase, &invoice).await.0, "pending");
    shop.sim.pay(&at_gateway.invoice_id, 42_500, Kind::Card).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    assert_eq!(shop.flags().await, ["", ""]);
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.balance_is("850").await;
    let (top_up, other) = shop.top_up(100).await;
    shop.sim.pay(&other.invoice_id, 25_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.balance_is("1100").await;
    assert_eq!(shop.replenishment(&top_up).await.0, "success");
    assert_eq!(shop.flags().await, ["", "", "surplus", "surplus"]);
    let flagged = shop.world.operator.get("/gateway-payments?flagged=true").await.ok();
    assert_eq!(flagged["total"], 2);
    shop.close().await;
}

async fn paid_after_it_was_canceled(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 4).await;
    let phone = Phone::connect(&shop.customer).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    phone.hears("PAYMENT", |event| event["status"] == "fail").await;
    assert!(shop.sim.invoice(&at_gateway.invoice_id).unwrap().canceled, "nobody should pay it any more");
    assert_eq!(shop.status(&purchase, &invoice).await, ("canceled".into(), mnt("850")));
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "unpaid");
    // Banks are late.
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.balance_is("850").await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "canceled");
    assert_eq!(shop.flags().await, ["late"]);
    phone.hears("REPLENISHMENT", |event| event["amount"] == 850).await;
    // Half of it before the expiry: that half is paid, the rest is due again.
    shop.customer.pay(&purchase, "EVM").await.ok();
    let second = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&second).await;
    shop.sim.pay(&at_gateway.invoice_id, 40_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&second, &invoice, "canceled").await;
    let (invoice, at_gateway) = shop.invoice(&second).await;
    assert_eq!(at_gateway.amount, 45_000, "what is still due");
    shop.sim.pay(&at_gateway.invoice_id, 45_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&second, &invoice, "success").await;
    shop.close().await;
}

async fn a_slow_gateway_and_a_lost_invoice(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    shop.sim.fault(Call::CreateInvoice, 1, Fault::Slow(Duration::from_secs(12)));
    shop.customer.pay(&purchase, "QPAY").await.problem(504, "gateway_no_answer");
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "unpaid");
    shop.sim.fault(Call::CreateInvoice, 1, Fault::LostAnswer);
    shop.customer.pay(&purchase, "QPAY").await.problem(504, "gateway_no_answer");
    let lost = shop.sim.last_invoice().unwrap();
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    assert_ne!(lost.sender_invoice_no, at_gateway.sender_invoice_no, "a number of its own");
    // Somebody found the lost one and paid it: its callback leads to it, if not at once.
    shop.sim.fault(Call::GetPayment, 1, Fault::Keyless(403));
    let paid = shop.sim.pay(&lost.invoice_id, 85_000, Kind::P2p).await.unwrap();
    assert_eq!(paid.answer.unwrap().body, "SUCCESS");
    shop.balance_is("850").await;
    assert_eq!(shop.status(&purchase, &lost.sender_invoice_no).await.0, "error");
    shop.sim.set_delay(Duration::from_secs(2));
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    assert_eq!(shop.flags().await, ["late", ""]);
    shop.sim.heal();
    shop.close().await;
}

async fn a_gateway_that_talks_nonsense(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    for (fault, status, code) in [
        (Fault::Status(500), 504, "gateway_no_answer"),
        (Fault::NotJson, 504, "gateway_no_answer"),
        (Fault::Cut, 504, "gateway_no_answer"),
        (Fault::Status(400), 502, "gateway_refused"),
    ] {
        shop.sim.fault(Call::CreateInvoice, 1, fault);
        shop.customer.pay(&purchase, "QPAY").await.problem(status, code);
    }
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    // Tries included, the gateway answers none of the first questions.
    for fault in [Fault::Status(500), Fault::NotJson, Fault::TooLarge] {
        shop.sim.fault(Call::Check, 3, fault);
    }
    assert_eq!(shop.status(&purchase, &invoice).await.0, "pending");
    assert!(shop.payments().await.is_empty());
    shop.purchase_is(&purchase, "paid").await;
    assert_eq!(shop.payments().await.len(), 1);
    shop.close().await;
}

async fn a_gateway_that_is_down_for_a_minute(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 20).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.sim.down().await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "pending");
    shop.ask_top_up(json!(100)).await.problem(503, "gateway_unavailable");
    // A minute, so beyond the expiry: money may have come, so it must not be written off.
    let since = Instant::now();
    until("a minute to pass and the gateway to be asked", MINUTE * 2, async || {
        let log = shop.world.program.log();
        (log.matches("nothing new of an invoice").count() >= 2 && since.elapsed() > MINUTE).then_some(())
    })
    .await;
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "pending");
    shop.sim.up().await.unwrap();
    shop.purchase_is(&purchase, "paid").await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
    shop.close().await;
}

async fn paid_from_the_balance_while_an_invoice_is_open(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.customer.pay(&purchase, "EVM").await.problem(409, "insufficient_balance");
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "pending");
    shop.world.operator.credit(evm_tests::qpay::PHONE, 2000).await;
    let paid = shop.customer.pay(&purchase, "EVM").await.ok();
    assert_eq!(decimal(&paid["newBalance"]), mnt("1150"));
    until("the invoice to be canceled at the gateway", SOON, async || {
        shop.sim.invoice(&at_gateway.invoice_id).unwrap().canceled.then_some(())
    })
    .await;
    assert_eq!(shop.status(&purchase, &invoice).await.0, "canceled");
    assert_eq!(shop.status(&purchase, &purchase).await.0, "success");
    // Money that the gateway has already pays, not the balance.
    let second = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&second).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.customer.pay(&second, "EVM").await.problem(409, "already_paid");
    assert_eq!((shop.balance().await, shop.status(&second, &invoice).await.0.as_str()), (mnt("1150"), "success"));
    // And with the gateway down, the balance pays; what comes in becomes balance.
    let third = shop.purchase(1000).await;
    let (_, at_gateway) = shop.invoice(&third).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.sim.down().await;
    shop.customer.pay(&third, "EVM").await.ok();
    shop.sim.up().await.unwrap();
    shop.balance_is("1150").await;
    assert_eq!(shop.flags().await, ["", "late"]);
    shop.close().await;
}

async fn refunds_to_card_and_balance(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(2000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    let refund = |purchase: &str| format!("/purchases/{purchase}/refund");
    let why = || Some(json!({ "note": "broken cable" }));
    let operator = shop.world.operator.clone();
    operator.send(Method::POST, &refund(&purchase), why()).await.problem(409, "not_refundable");
    operator.send(Method::POST, &refund("000000000000000000000000"), why()).await.problem(404, "not_found");
    operator.send(Method::POST, &refund(&purchase), Some(json!({ "note": " " }))).await.names_field("note");
    let card = shop.sim.pay(&at_gateway.invoice_id, 100_000, Kind::Card).await.unwrap().payment_id;
    shop.sim.pay(&at_gateway.invoice_id, 70_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    // The gateway does it, but its answer is lost: it is not asked to give the money away a second time.
    shop.sim.fault(Call::Refund, 1, Fault::LostAnswer);
    let first = operator.send(Method::POST, &refund(&purchase), why()).await.ok();
    assert_eq!((decimal(&first["amount"]), decimal(&first["toBalance"])), (mnt("1700"), mnt("700")));
    assert_eq!(first["cards"], json!([{ "paymentId": card, "amount": 1000, "refund": "requested" }]));
    assert_eq!(shop.balance().await, mnt("700"));
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "refunded");
    until("the refund to be known", BY_ITSELF, async || {
        let again = operator.send(Method::POST, &refund(&purchase), why()).await.ok();
        (again["cards"][0]["refund"] == "refunded").then_some(())
    })
    .await;
    assert_eq!(shop.sim.count(Call::Refund), 1);
    assert_eq!(shop.balance().await, mnt("700"));
    shop.customer.pay(&purchase, "EVM").await.problem(409, "already_paid");
    let third = shop.purchase(100).await;
    shop.customer.pay(&third, "EVM").await.ok();
    operator.send(Method::POST, &refund(&third), why()).await.ok();
    assert_eq!(shop.balance().await, mnt("700"));
    shop.close().await;
}

async fn a_gateway_that_refuses_a_refund(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::Card).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    shop.sim.fault(Call::Refund, 1, Fault::Status(400));
    let path = format!("/purchases/{purchase}/refund");
    let body = Some(json!({ "note": "broken cable" }));
    let refunded = shop.world.operator.send(Method::POST, &path, body).await.ok();
    assert_eq!((&refunded["cards"][0]["refund"], decimal(&refunded["toBalance"])), (&json!("balance"), mnt("850")));
    assert_eq!((shop.balance().await, shop.flags().await), (mnt("850"), vec!["refund_failed".to_owned()]));
    shop.close().await;
}

async fn many_ask_for_one_invoice(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (customer, purchase) = (shop.customer.clone(), purchase.clone());
        all.spawn(async move { customer.pay(&purchase, "QPAY").await.ok() });
    }
    let answers = all.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(shop.sim.count(Call::CreateInvoice), 1);
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (customer, path) = (shop.customer.clone(), format!("/purchases/{purchase}/status"));
        let question = Some(json!({ "invoiceId": invoice }));
        all.spawn(async move { customer.post(&path, question).await.ok()["status"].clone() });
    }
    assert!(all.join_all().await.iter().all(|status| status == "success"));
    assert_eq!(shop.sim.count(Call::Check), 1, "one question for all of them");
    shop.close().await;
}
