//! Push messages through Firebase.
#![allow(clippy::unwrap_used)]

use evm_tests::charge::ended_by_app;
use evm_tests::fcm::{Fcm, Says};
use evm_tests::{Customer, Engine, RawCharger, Version, World, eventually, on_each_engine};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

struct Setting {
    world: World,
    device: String,
    charger: RawCharger,
}

impl Setting {
    async fn new(engine: Engine, fcm: &Fcm) -> Self {
        let world = World::start_on(engine, None, &fcm.settings()).await;
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let charger = world.raw("CP-1", Version::V16).await;
        Self { world, device, charger }
    }

    /// A customer with money and this push token.
    async fn customer(&self, phone: &str, token: &str) -> Customer {
        let customer = self.world.rich_customer(phone, 50_000).await;
        give(&customer, token).await;
        customer
    }

    /// One charge of 1 kWh; gives its purchase, not yet paid.
    async fn charge(&mut self, customer: &Customer) -> String {
        ended_by_app(&mut self.world, &mut self.charger, customer, &self.device, 1_000).await
    }

    async fn charge_and_pay(&mut self, customer: &Customer) {
        let purchase = self.charge(customer).await;
        customer.pay(&purchase, "EVM").await.ok();
    }
}

async fn give(customer: &Customer, token: &str) {
    customer.post("/customer/update-notification-token", Some(json!({ "FCMToken": token }))).await.ok();
}

fn statuses(came: &[(Value, u16)]) -> Vec<u16> {
    came.iter().map(|(_, status)| *status).collect()
}

/// The ids of the events that came, each once.
fn events(came: &[(Value, u16)]) -> std::collections::BTreeSet<String> {
    came.iter().map(|(message, _)| message["data"]["eventId"].as_str().unwrap().to_owned()).collect()
}

async fn a_phone_is_told_of_the_end_of_a_charge_and_of_a_payment(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let customer = setting.customer(PHONE, "phone-1").await;
    let silent = setting.world.rich_customer(OTHER, 50_000).await;
    setting.charge_and_pay(&silent).await;
    setting.charge_and_pay(&customer).await;
    let ended = fcm.takes("phone-1", "CHARGING").await;
    assert_eq!(ended["notification"], json!({ "title": "Charge ended", "body": "1 kWh, 1000 MNT" }));
    assert_eq!((&ended["data"]["energy"], &ended["data"]["amount"]), (&json!("1"), &json!("1000")));
    let paid = fcm.takes("phone-1", "PAYMENT").await;
    assert_eq!((&paid["data"]["status"], &paid["data"]["amount"]), (&json!("success"), &json!("1000")));
    assert_eq!(paid["android"]["notification"]["tag"], paid["data"]["eventId"]);
    assert_eq!(fcm.came("phone-1").len(), 2, "the figures while charging are no push messages");
    assert_eq!(fcm.sign_ins(), 1, "one token for all");
    setting.world.finish().await;
}

async fn dead_tokens_are_dropped_and_no_others(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let dead = [
        ("gone", Says::fcm_error(404, "UNREGISTERED")),
        ("of-another-app", Says::fcm_error(403, "SENDER_ID_MISMATCH")),
        ("no-token", Says::fcm_error(400, "INVALID_ARGUMENT")),
    ];
    for (number, (token, says)) in dead.into_iter().enumerate() {
        let customer = setting.customer(&format!("+9769911223{number}"), token).await;
        fcm.say(token, [says]);
        let purchase = setting.charge(&customer).await;
        eventually("the token's end", async || {
            (setting.world.program.log().matches("leads nowhere").count() > number).then_some(())
        })
        .await;
        customer.pay(&purchase, "EVM").await.ok();
    }
    let customer = setting.world.rich_customer(PHONE, 50_000).await;
    for (token, fine) in [
        ("fine-1", Says::fcm_error(400, "INVALID_ARGUMENT").bad_request()),
        ("fine-2", Says::status(404)),
        ("fine-3", Says::status(400)),
    ] {
        give(&customer, token).await;
        fcm.say(token, [fine]);
        setting.charge_and_pay(&customer).await;
        fcm.takes(token, "PAYMENT").await;
        let came = fcm.came(token);
        assert_eq!(came.len(), 2, "what is refused is not sent again: {came:?}");
        assert_eq!(statuses(&came)[1], 200);
    }
    for token in ["gone", "of-another-app", "no-token"] {
        assert_eq!(fcm.came(token).len(), 1, "{token}");
    }
    setting.world.finish().await;
}

async fn what_passes_is_sent_again_when_firebase_says(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let customer = setting.customer(PHONE, "phone-1").await;
    fcm.say(
        "phone-1",
        [Says::fcm_error(429, "QUOTA_EXCEEDED").retry_after(1), Says::status(503).retry_after(1), Says::status(200)],
    );
    setting.charge(&customer).await;
    fcm.takes("phone-1", "CHARGING").await;
    let came = fcm.came("phone-1");
    assert_eq!(statuses(&came), [429, 503, 200]);
    assert_eq!(events(&came).len(), 1, "one event, told until it was taken");
    setting.world.finish().await;
}

async fn a_refused_access_token_is_renewed(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let customer = setting.customer(PHONE, "phone-1").await;
    let purchase = setting.charge(&customer).await;
    fcm.takes("phone-1", "CHARGING").await;
    fcm.forget_tokens();
    customer.pay(&purchase, "EVM").await.ok();
    fcm.takes("phone-1", "PAYMENT").await;
    assert_eq!((fcm.sign_ins(), fcm.came("phone-1").len()), (2, 2));
    setting.world.finish().await;
}

async fn a_crash_loses_no_push_message(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let customer = setting.customer(PHONE, "phone-1").await;
    fcm.say("phone-1", [Says::status(503).retry_after(2)]);
    let purchase = setting.charge(&customer).await;
    eventually("the first try", async || (!fcm.came("phone-1").is_empty()).then_some(())).await;
    customer.pay(&purchase, "EVM").await.ok();
    setting.world.program.kill().await;
    setting.world.program.restart().await;
    fcm.takes("phone-1", "CHARGING").await;
    fcm.takes("phone-1", "PAYMENT").await;
    assert_eq!(events(&fcm.came("phone-1")).len(), 2);
    setting.world.finish().await;
}

async fn a_token_belongs_to_its_newest_customer_and_goes_with_its_login(engine: Engine) {
    let fcm = Fcm::start().await;
    let mut setting = Setting::new(engine, &fcm).await;
    let first = setting.customer(PHONE, "shared-phone").await;
    let second = setting.customer(OTHER, "shared-phone").await;
    setting.charge_and_pay(&first).await;
    setting.charge_and_pay(&second).await;
    fcm.takes("shared-phone", "PAYMENT").await;
    assert_eq!(fcm.came("shared-phone").len(), 2, "the second customer's only");
    second.post("/user/logout", None).await.ok();
    let second = setting.world.customer(OTHER).await;
    setting.charge_and_pay(&second).await;
    give(&second, "new-phone").await;
    setting.charge_and_pay(&second).await;
    fcm.takes("new-phone", "PAYMENT").await;
    assert_eq!(fcm.came("shared-phone").len(), 2, "logged out");
    for bad in ["", "two words", "línea", &"t".repeat(2_049)] {
        let body = json!({ "FCMToken": bad });
        second.post("/customer/update-notification-token", Some(body)).await.names_field("FCMToken");
    }
    setting.world.finish().await;
}

on_each_engine! {
    a_phone_is_told_of_the_end_of_a_charge_and_of_a_payment,
    dead_tokens_are_dropped_and_no_others,
    what_passes_is_sent_again_when_firebase_says,
    a_refused_access_token_is_renewed,
    a_crash_loses_no_push_message,
    a_token_belongs_to_its_newest_customer_and_goes_with_its_login,
}
