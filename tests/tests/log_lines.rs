//! A whole story with every log line there is, and none of them holds a secret.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use evm_tests::api::{Answer, request};
use evm_tests::fcm::Fcm;
use evm_tests::sms::SmsGateway;
use evm_tests::sse::EventStream;
use evm_tests::{Engine, Phone, RawCharger, World, on_each_engine};
use reqwest::Method;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const CHARGER_PASSWORD: &str = "password-of-the-charger";
const NEW_PASSWORD: &str = "6e65772d70617373776f7264";
const SMS_KEY: &str = "key-of-the-sms-gateway";
const PUSH_TOKEN: &str = "push-token-of-the-phone";
const CARD: &str = "CARD-77-OF-BAT";

/// How a secret may stand in a line: as it is, as bytes, in a Basic login, in a query.
fn forms(secret: &str) -> Vec<String> {
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("CP-1:{secret}"));
    vec![secret.to_owned(), hex, bytes, basic, secret.replace('+', "%2B")]
}

async fn call(world: &World, path: &str, body: Value) -> Answer {
    let url = format!("{}/api/v1/user/{path}", world.operator.base);
    request(&world.http, Method::POST, &url, None, Some(body)).await.unwrap()
}

async fn no_line_holds_a_secret(engine: Engine) {
    let (gateway, fcm) = (SmsGateway::start().await, Fcm::start().await);
    let url = format!("{}/send?key={{key}}&to={{to_e164}}&text={{text}}", gateway.url);
    let settings = [
        ("EVM_OTP_DEV_CODE", ""),
        ("EVM_SMS_DRIVER", "http"),
        ("EVM_SMS_URL", url.as_str()),
        ("EVM_SMS_METHOD", "GET"),
        ("EVM_SMS_KEY", SMS_KEY),
        ("RUST_LOG", "trace"),
    ];
    let mut world = World::start_on(engine, None, &[&settings[..], &fcm.settings()].concat()).await;
    let mut secrets: Vec<(&str, String)> = vec![
        ("the operator's token", world.operator.token.clone()),
        ("the SMS gateway's key", SMS_KEY.into()),
        ("the charger's password", CHARGER_PASSWORD.into()),
        ("the charger's new password", NEW_PASSWORD.into()),
        ("a phone", PHONE.into()),
        ("a phone", PHONE[4..].into()),
        ("a push token", PUSH_TOKEN.into()),
    ];
    let key = serde_json::from_str::<Value>(&fcm.credentials).unwrap()["private_key"].as_str().unwrap().to_owned();
    secrets.extend(key.lines().filter(|line| line.len() == 64).map(|line| ("the push key", line.to_owned())));
    if let Some((_, password)) =
        world.store_url().split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'))
    {
        secrets.push(("the database's password", password.to_owned()));
    }

    // A login by SMS, with a wrong code first.
    call(&world, "otp-request", json!({ "phone": PHONE })).await.ok();
    let code = gateway.message(0).await.code();
    call(&world, "otp-check", json!({ "phone": PHONE, "code": "98765432" })).await.problem(422, "wrong_code");
    call(&world, "otp-check", json!({ "phone": "98765433", "code": "1" })).await.names_field("phone");
    let login = call(&world, "otp-check", json!({ "phone": PHONE, "code": code })).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    secrets.push(("a code", code));
    secrets.push(("a wrong code", "98765432".into()));
    secrets.push(("a phone", "98765433".into()));
    secrets.push(("a login's token", text(&login["token"])));
    secrets.push(("an event password", text(&login["nats"]["pass"])));
    let customer = evm_tests::Customer {
        base: world.operator.base.clone(),
        phone: PHONE.into(),
        token: text(&login["token"]),
        login,
        http: world.http.clone(),
    };
    customer.post("/customer/update-notification-token", Some(json!({ "FCMToken": PUSH_TOKEN }))).await.ok();
    let phone = Phone::connect(&customer).await;
    let stream = EventStream::open(&customer, None).await;

    // A charge on a charger with a password, to the receipt.
    let registered = json!({
        "password": CHARGER_PASSWORD,
        "devices": [{ "deviceNumber": "CP-1-1", "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 0 }],
    });
    let registered = world.operator.send(Method::PUT, "/chargers/CP-1", Some(registered)).await.ok();
    let device = text(&registered["devices"][0]["_id"]);
    world.operator.credit(PHONE, 50_000).await;
    let card = json!({ "phone": PHONE });
    world.operator.send(Method::PUT, &format!("/cards/{CARD}"), Some(card)).await;
    let mut charger = RawCharger::try_connect(&world.tap, "CP-1", &["ocpp1.6"], Some(CHARGER_PASSWORD)).await.unwrap();
    let wrong = RawCharger::try_connect(&world.tap, "CP-1", &["ocpp1.6"], Some("another-wrong-password")).await;
    assert!(wrong.is_err());
    secrets.push(("a wrong password", "another-wrong-password".into()));
    charger.boot().await;
    charger.status(1, "Available").await;
    customer.start(&device).await.ok();
    let (tag, _) = charger.remote_start().await;
    secrets.push(("the token of a start", tag.clone()));
    let transaction = charger.start(1, &tag, 0).await;
    charger.meter(1, transaction, 1_000).await;
    phone.hears("CHARGING", |_| true).await;
    // A new password that the charger is told.
    let told = json!({ "key": "AuthorizationKey", "value": NEW_PASSWORD });
    world.operator.command("CP-1", "ChangeConfiguration", told).await.ok();
    let purchase = customer.finish(&device).await;
    charger.command("RemoteStopTransaction").await;
    charger.stop(transaction, 1_000).await;
    charger.status(1, "Available").await;
    world.billed(&purchase, 1_000).await;
    customer.pay(&purchase, "EVM").await.ok();
    stream.hears("of the payment", |event| event.name == "PAYMENT").await;
    fcm.takes(PUSH_TOKEN, "PAYMENT").await;
    customer.post("/user/logout", None).await.ok();
    stream.ended().await;

    world.audit().await;
    world.program.stop().await;
    let log = world.program.log();
    assert!(log.contains("TRACE") && log.lines().count() > 100, "this is no whole log");
    let mut found = Vec::new();
    for line in log.lines() {
        for (what, secret) in &secrets {
            if forms(secret).iter().any(|form| line.contains(form)) {
                found.push(format!("{what} in: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{} lines hold secrets:\n{}", found.len(), found[..found.len().min(40)].join("\n"));
    world.program.restart().await;
    world.finish().await;
}

on_each_engine! { no_line_holds_a_secret }
