//! Purchases given back in parts and paid in parts: what is left is exact, and what cannot be is refused by its field.
#![allow(clippy::unwrap_used)]

use evm_tests::api::decimal;
use evm_tests::charge::{begin_16, bookings, ended_at_charger};
use evm_tests::qpay::{BY_ITSELF, Shop};
use evm_tests::{Answer, Engine, Phone, Version, World, on_both_engines, on_each_engine, until};
use qpay_sim::{Call, Kind};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";

fn mnt(text: &str) -> Decimal {
    text.parse().unwrap()
}

async fn refund(world: &World, purchase: &str, body: Value) -> Answer {
    world.operator.send(Method::POST, &format!("/purchases/{purchase}/refund"), Some(body)).await
}

async fn refund_part(world: &World, purchase: &str, amount: Value) -> Answer {
    refund(world, purchase, json!({ "note": "broken cable", "amount": amount })).await
}

/// A refund with a key: status, whether it was given before, and the body as it came.
async fn refund_with_key(world: &World, purchase: &str, key: &str, amount: u32) -> (u16, bool, String) {
    let url = format!("{}/admin/v1/purchases/{purchase}/refund", world.operator.base);
    let request = world.http.post(&url).bearer_auth(&world.operator.token).header("idempotency-key", key);
    let response = request.json(&json!({ "note": "broken cable", "amount": amount })).send().await.unwrap();
    let replayed = response.headers().contains_key("idempotent-replayed");
    (response.status().as_u16(), replayed, response.text().await.unwrap())
}

/// Status, what is paid, due and given back.
fn standing(purchase: &Value) -> (String, [Decimal; 3]) {
    let figures = ["paid", "due", "refunded"].map(|name| decimal(&purchase[name]));
    (purchase["status"].as_str().unwrap().to_owned(), figures)
}

fn standing_of(status: &str, figures: [&str; 3]) -> (String, [Decimal; 3]) {
    (status.to_owned(), figures.map(mnt))
}

/// What the book holds of revenue and of VAT.
async fn earned(world: &World) -> (Decimal, Decimal) {
    let (mut revenue, mut vat) = (Decimal::ZERO, Decimal::ZERO);
    for transaction in world.operator.all("/ledger").await {
        for posting in transaction["postings"].as_array().unwrap() {
            match posting["account"].as_str().unwrap() {
                "revenue_energy" | "revenue_waiting" => revenue += decimal(&posting["amount"]),
                "vat" => vat += decimal(&posting["amount"]),
                _ => {}
            }
        }
    }
    (revenue, vat)
}

async fn parts_of_a_purchase_add_up_to_the_whole(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_VAT_RATE", "10")]).await;
    let customer = world.rich_customer(PHONE, 1_000).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let purchase = ended_at_charger(&mut world, &mut charger, &customer, &device, 1_000).await;
    refund_part(&world, &purchase, json!(100)).await.problem(409, "not_refundable");
    assert_eq!(standing(&customer.purchase(&purchase).await), standing_of("unpaid", ["0", "1000", "0"]));
    customer.pay(&purchase, "EVM").await.ok();
    assert_eq!(earned(&world).await, (mnt("909.09"), mnt("90.91")));

    let bad =
        [json!(0), json!(-5), json!(0.001), json!(99.999), json!(1000.01), json!("100"), json!(null), json!([100])];
    for amount in bad {
        refund_part(&world, &purchase, amount).await.names_field("amount");
    }
    refund(&world, &purchase, json!({ "note": "x", "amuont": 100 })).await.names_field("amuont");
    refund(&world, &purchase, json!({ "amount": 100 })).await.names_field("note");
    assert_eq!(bookings(&world.operator, "refund").await.len(), 0, "nothing moved");

    let first = refund_part(&world, &purchase, json!(100)).await.ok();
    assert_eq!(decimal(&first["amount"]), mnt("100"));
    assert_eq!((decimal(&first["refunded"]), decimal(&first["left"])), (mnt("100"), mnt("900")));
    assert_eq!((decimal(&first["toBalance"]), &first["cards"]), (mnt("100"), &json!([])));
    assert_eq!(standing(&customer.purchase(&purchase).await), standing_of("paid", ["1000", "0", "100"]));
    assert_eq!(earned(&world).await, (mnt("818.18"), mnt("81.82")));
    refund_part(&world, &purchase, json!(333.33)).await.ok();
    refund_part(&world, &purchase, json!(566.68)).await.names_field("amount");
    refund_part(&world, &purchase, json!(1e2)).await.ok();
    let rest = refund(&world, &purchase, json!({ "note": "all of it" })).await.ok();
    assert_eq!((decimal(&rest["amount"]), decimal(&rest["refunded"])), (mnt("466.67"), mnt("1000")));
    assert_eq!(standing(&customer.purchase(&purchase).await), standing_of("refunded", ["1000", "0", "1000"]));
    assert_eq!(earned(&world).await, (Decimal::ZERO, Decimal::ZERO));
    refund_part(&world, &purchase, json!(0.01)).await.names_field("amount");
    let again = refund(&world, &purchase, json!({ "note": "all of it" })).await.ok();
    assert_eq!(decimal(&again["amount"]), mnt("1000"), "as it stands");
    let statement = customer.get("/customer/statement").await.ok();
    assert_eq!(
        (decimal(&statement["closing"]["balance"]), decimal(&statement["closing"]["owed"])),
        (mnt("1000"), mnt("0"))
    );
    let refunds = bookings(&world.operator, "refund").await;
    assert_eq!(refunds.len(), 4);
    assert!(refunds.iter().all(|booking| booking["purchaseId"] == purchase.as_str()), "{refunds:?}");
    world.finish().await;
}

on_both_engines! {
    async fn two_at_once_and_the_same_twice(world) {
        let customer = world.rich_customer(PHONE, 1_000).await;
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let mut charger = world.raw("CP-1", Version::V16).await;
        let purchase = ended_at_charger(world, &mut charger, &customer, &device, 1_000).await;
        customer.pay(&purchase, "EVM").await.ok();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (operator, path) = (world.operator.clone(), format!("/purchases/{purchase}/refund"));
            let body = json!({ "note": "broken cable", "amount": 300 });
            all.spawn(async move { operator.send(Method::POST, &path, Some(body)).await.status });
        }
        let mut all = all.join_all().await;
        all.sort_unstable();
        assert_eq!(all, [200, 200, 200, 400, 400, 400, 400, 400, 400, 400]);
        let (status, replayed, first) = refund_with_key(world, &purchase, "k", 40).await;
        assert_eq!((status, replayed), (200, false), "{first}");
        assert_eq!(refund_with_key(world, &purchase, "k", 40).await, (200, true, first.clone()));
        assert_eq!(refund_with_key(world, &purchase, "k", 50).await.0, 422);
        world.program.kill().await;
        world.program.restart().await;
        assert_eq!(refund_with_key(world, &purchase, "k", 40).await, (200, true, first));
        assert_eq!(standing(&customer.purchase(&purchase).await), standing_of("paid", ["1000", "0", "940"]));
        assert_eq!(bookings(&world.operator, "refund").await.len(), 4);
    }

    /// What the charger tells after the customer left corrects the bill, and a part that was given back stays so.
    async fn a_correction_meets_a_part_that_was_given_back(world) {
        let customer = world.rich_customer(PHONE, 2_000).await;
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let mut charger = world.raw("CP-1", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
        charger.meter(1, transaction, 1_600).await;
        charger.close().await;
        world.device_is(&customer, &device, "Error").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 600).await;
        customer.pay(&purchase, "EVM").await.ok();
        refund_part(world, &purchase, json!(200)).await.ok();
        let mut charger = world.raw("CP-1", Version::V16).await;
        charger.stop(transaction, 2_000).await;
        world.billed(&purchase, 1_000).await;
        assert_eq!(standing(&customer.purchase(&purchase).await), standing_of("unpaid", ["600", "400", "200"]));
        refund_part(world, &purchase, json!(401)).await.names_field("amount");
        customer.pay(&purchase, "EVM").await.ok();
        let rest = refund(world, &purchase, json!({ "note": "all of it" })).await.ok();
        assert_eq!(decimal(&rest["amount"]), mnt("800"));
        let me = customer.post("/user/me", None).await.ok();
        assert_eq!(decimal(&me["profile"]["balance"]), mnt("2000"));
        charger.status(1, "Available").await;
    }
}

async fn of_a_card_payment_a_part_becomes_balance(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(2000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    let whole = shop.sim.pay(&at_gateway.invoice_id, 100_000, Kind::Card).await.unwrap().payment_id;
    shop.sim.pay(&at_gateway.invoice_id, 70_000, Kind::Card).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    let part = refund_part(&shop.world, &purchase, json!(600)).await.ok();
    assert_eq!(
        (decimal(&part["toBalance"]), &part["cards"]),
        (mnt("600"), &json!([])),
        "the gateway gives no part back"
    );
    assert_eq!((shop.balance().await, shop.sim.count(Call::Refund)), (mnt("600"), 0));
    let rest = refund(&shop.world, &purchase, json!({ "note": "all of it" })).await.ok();
    assert_eq!((decimal(&rest["amount"]), decimal(&rest["toBalance"])), (mnt("1100"), mnt("100")));
    assert_eq!(
        rest["cards"],
        json!([{ "paymentId": whole, "amount": 1000, "refund": "refunded" }]),
        "which it covers whole"
    );
    assert_eq!((shop.balance().await, shop.sim.count(Call::Refund)), (mnt("700"), 1));
    assert_eq!(standing(&shop.customer.purchase(&purchase).await), standing_of("refunded", ["1700", "0", "1700"]));
    shop.close().await;
}

/// A charge that ended a little above the balance.
async fn paid_in_parts(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let phone = Phone::connect(&shop.customer).await;
    let pay_part = async |shop: &Shop, purchase: &str, option: &str| {
        let body = json!({ "option": option, "partial": true });
        shop.customer.post(&format!("/purchases/{purchase}/pay"), Some(body)).await
    };
    let purchase = shop.purchase(1195).await;
    pay_part(&shop, &purchase, "EVM").await.problem(409, "insufficient_balance");
    shop.world.operator.credit(PHONE, 1_000).await;
    shop.customer.pay(&purchase, "EVM").await.problem(409, "insufficient_balance");
    pay_part(&shop, &purchase, "QPAY").await.names_field("partial");
    let path = format!("/purchases/{purchase}/pay");
    let odd = json!({ "option": "EVM", "amount": 5 });
    shop.customer.post(&path, Some(odd)).await.names_field("amount");
    let paid = pay_part(&shop, &purchase, "EVM").await.ok();
    assert_eq!(decimal(&paid["newBalance"]), Decimal::ZERO);
    assert_eq!((decimal(&paid["paid"]), decimal(&paid["due"])), (mnt("1000"), mnt("15.75")));
    phone.hears("PAYMENT", |event| event["status"] == "success" && event["amount"] == 1000).await;
    assert_eq!(standing(&shop.customer.purchase(&purchase).await), standing_of("unpaid", ["1000", "15.75", "0"]));
    assert_eq!(shop.status(&purchase, &purchase).await.0, "pending");
    pay_part(&shop, &purchase, "EVM").await.problem(409, "insufficient_balance");

    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    assert_eq!(at_gateway.amount, 1_600, "the rest, in whole tögrög");
    shop.sim.pay(&at_gateway.invoice_id, 1_600, Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &invoice, "success").await;
    assert_eq!(standing(&shop.customer.purchase(&purchase).await), standing_of("paid", ["1015.75", "0", "0"]));
    shop.balance_is("0.25").await;

    // With an invoice of the whole open, the part makes it outdated.
    let second = shop.purchase(1000).await;
    let (first_invoice, first_at_gateway) = shop.invoice(&second).await;
    shop.world.operator.credit(PHONE, 400).await;
    pay_part(&shop, &second, "EVM").await.ok();
    assert_eq!(shop.status(&second, &first_invoice).await.0, "canceled");
    until("the invoice to be canceled at the gateway", BY_ITSELF, async || {
        shop.sim.invoice(&first_at_gateway.invoice_id).unwrap().canceled.then_some(())
    })
    .await;
    shop.world.operator.credit(PHONE, 450).await;
    let whole = pay_part(&shop, &second, "EVM").await.ok();
    assert_eq!((decimal(&whole["newBalance"]), &whole["due"]), (mnt("0.25"), &Value::Null));
    assert_eq!(standing(&shop.customer.purchase(&second).await), standing_of("paid", ["850", "0", "0"]));
    shop.close().await;
}

on_each_engine!(parts_of_a_purchase_add_up_to_the_whole, of_a_card_payment_a_part_becomes_balance, paid_in_parts);
