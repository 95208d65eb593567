//! Answers of the QPay stand-in that leave in doubt what happened: nothing is given twice, written off or replaced for them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::decimal;
use evm_tests::engine::Engine;
use evm_tests::on_each_engine;
use evm_tests::poll::{SOON, until};
use evm_tests::qpay::{BY_ITSELF, Shop};
use qpay_sim::{Call, Fault, Kind, Options};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

on_each_engine! {
    no_refund_is_paid_twice,
    no_invoice_is_closed_in_doubt,
    a_second_payment_without_a_callback,
    an_invoice_that_is_being_asked_about_is_not_replaced,
}

/// A purchase of 850 MNT that was paid by card; gives it with its invoice and the gateway's id of the payment.
async fn paid_by_card(shop: &mut Shop) -> (String, String, String) {
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    let card = shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::Card).await.unwrap().payment_id;
    shop.ends(&purchase, &invoice, "success").await;
    (purchase, invoice, card)
}

/// Gives a purchase back, or asks how far that is: how the card payment stands.
async fn refund(shop: &Shop, purchase: &str) -> Value {
    let why = Some(json!({ "note": "broken cable" }));
    let refund = shop.world.operator.send(Method::POST, &format!("/purchases/{purchase}/refund"), why).await.ok();
    assert_eq!(decimal(&refund["toBalance"]), Decimal::ZERO, "{refund}");
    refund["cards"][0]["refund"].clone()
}

async fn no_refund_is_paid_twice(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    // The operator gave it back at the gateway, which calls that canceled.
    let (purchase, _, card) = paid_by_card(&mut shop).await;
    shop.sim.set_status(&card, "CANCELED").unwrap();
    assert_eq!(refund(&shop, &purchase).await, "refunded");
    assert_eq!(shop.sim.count(Call::Refund), 1);
    // The customer's question tells of it before the operator does.
    let (purchase, invoice, card) = paid_by_card(&mut shop).await;
    shop.sim.set_status(&card, "CANCELLED").unwrap();
    until("the flag", BY_ITSELF, async || {
        assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
        (shop.flags().await == ["", "refunded_at_gateway"]).then_some(())
    })
    .await;
    assert_eq!(refund(&shop, &purchase).await, "refunded");
    assert_eq!(shop.sim.count(Call::Refund), 1, "not asked to do it again");
    // The answer is lost, and the gateway has a word of its own for what it did.
    let (lost, _, card) = paid_by_card(&mut shop).await;
    shop.sim.fault(Call::Refund, 1, Fault::LostAnswer);
    assert_eq!(refund(&shop, &lost).await, "requested");
    shop.sim.set_status(&card, "REVERSED").unwrap();
    // Something that stands before the gateway says no.
    let (turned_away, ..) = paid_by_card(&mut shop).await;
    shop.sim.fault(Call::Refund, 1, Fault::Keyless(422));
    assert_eq!(refund(&shop, &turned_away).await, "requested");
    until("the refunds to be known", BY_ITSELF, async || {
        let known = refund(&shop, &lost).await == "refunded" && refund(&shop, &turned_away).await == "refunded";
        known.then_some(())
    })
    .await;
    assert_eq!(shop.sim.count(Call::Refund), 4, "the last one twice");
    assert_eq!(shop.balance().await, Decimal::ZERO);
    shop.close().await;
}

async fn no_invoice_is_closed_in_doubt(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 5).await;
    // At the expiry the gateway knows of no money and does not cancel; the customer pays in between.
    let first = shop.purchase(1000).await;
    let (_, at_gateway) = shop.invoice(&first).await;
    shop.sim.set_delay(Duration::from_secs(2));
    shop.sim.fault(Call::CancelInvoice, 1, Fault::Status(400));
    until("the invoice to be canceled", BY_ITSELF, async || (shop.sim.count(Call::CancelInvoice) == 1).then_some(()))
        .await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.purchase_is(&first, "paid").await;
    shop.sim.heal();
    // Something that stands before the gateway answers in its place.
    let second = shop.purchase(1000).await;
    let (_, at_gateway) = shop.invoice(&second).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.sim.fault(Call::Check, 1, Fault::Keyless(422));
    shop.sim.fault(Call::CancelInvoice, 1, Fault::Keyless(422));
    shop.purchase_is(&second, "paid").await;
    assert_eq!(shop.flags().await, ["", ""]);
    shop.close().await;
}

async fn a_second_payment_without_a_callback(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay(&at_gateway.invoice_id, 85_000, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    until("the customer's question to find it", SOON, async || {
        assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
        (shop.flags().await == ["", "surplus"]).then_some(())
    })
    .await;
    assert_eq!(shop.balance().await, Decimal::from(850));
    shop.close().await;
}

async fn an_invoice_that_is_being_asked_about_is_not_replaced(engine: Engine) {
    let mut shop = Shop::open_with(engine, Options::default(), 5).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    shop.sim.set_delay(Duration::from_secs(2));
    until("the question at the expiry", SOON, async || (shop.sim.count(Call::Check) == 1).then_some(())).await;
    shop.customer.pay(&purchase, "QPAY").await.problem(409, "already_paid");
    assert_eq!((shop.sim.count(Call::CreateInvoice), shop.sim.count(Call::Check)), (1, 1));
    shop.sim.heal();
    assert_eq!(shop.status(&purchase, &invoice).await.0, "success");
    assert_eq!(shop.balance().await, Decimal::ZERO);
    shop.close().await;
}
