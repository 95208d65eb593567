//! Logging in with codes by SMS, and out again.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::api::{Answer, request};
use evm_tests::sms::{Mood, SmsGateway};
use evm_tests::{Engine, Phone, World, eventually, on_both_engines, on_each_engine};
use reqwest::Method;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// A world without the development code, whose codes go to this gateway.
async fn world(engine: Engine, gateway: &SmsGateway, more: &[(&str, &str)]) -> World {
    let url = format!("{}/v1/sms/send", gateway.url);
    let settings = [
        ("EVM_OTP_DEV_CODE", ""),
        ("EVM_SMS_DRIVER", "callpro"),
        ("EVM_SMS_URL", &url),
        ("EVM_SMS_KEY", "key-of-the-sms-gateway"),
        ("EVM_SMS_FROM", "72001234"),
    ];
    World::start_on(engine, None, &[&settings[..], more].concat()).await
}

async fn call(world: &World, path: &str, body: Value) -> Answer {
    let url = format!("{}/api/v1/user/{path}", world.operator.base);
    request(&world.http, Method::POST, &url, None, Some(body)).await.unwrap()
}

async fn ask(world: &World, phone: &str) -> Answer {
    call(world, "otp-request", json!({ "phone": phone })).await
}

async fn check(world: &World, phone: &str, code: &str) -> Answer {
    call(world, "otp-check", json!({ "phone": phone, "code": code })).await
}

/// The status and `Retry-After` of a request for a code, made by a client at this address.
async fn ask_from(world: &World, phone: &str, headers: &[(&str, &str)]) -> (u16, Option<u64>) {
    let url = format!("{}/api/v1/user/otp-request", world.operator.base);
    let request = world.http.post(&url).json(&json!({ "phone": phone }));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), wait)
}

/// A code that is not this one.
fn wrong(code: &str) -> &'static str {
    if code == "123456" { "654321" } else { "123456" }
}

async fn a_code_by_sms_logs_in_once(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[]).await;
    let unknown = ask(&world, "+976 8666 1488").await;
    assert_eq!((unknown.status, &unknown.body), (200, &Value::Null));
    let message = gateway.message(0).await;
    assert_eq!((message.method.as_str(), message.uri.path()), ("POST", "/v1/sms/send"));
    assert_eq!(message.headers["x-api-key"], "key-of-the-sms-gateway");
    let body = message.json();
    assert_eq!((&body["from"], &body["to"]), (&json!("72001234"), &json!("86661488")));
    let text = body["text"].as_str().unwrap();
    assert!(text.is_ascii() && text.len() <= 160 && text.contains(&message.code()), "{text}");

    check(&world, PHONE, wrong(&message.code())).await.problem(422, "wrong_code");
    check(&world, PHONE, "0000").await.problem(422, "wrong_code");
    check(&world, OTHER, &message.code()).await.problem(422, "wrong_code");
    let login = check(&world, "0097686661488", &format!(" {} ", message.code())).await.ok();
    assert_eq!(login["profile"]["phone"], PHONE);
    check(&world, PHONE, &message.code()).await.problem(422, "wrong_code");
    let shown = world.http.post(format!("{}/api/v1/user/me", world.operator.base));
    let me = shown.bearer_auth(login["token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(me.status().as_u16(), 200);
    world.finish().await;
}

async fn five_wrong_tries_kill_a_code(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[]).await;
    ask(&world, PHONE).await.ok();
    let code = gateway.message(0).await.code();
    for _ in 0..5 {
        check(&world, PHONE, wrong(&code)).await.problem(422, "wrong_code");
    }
    check(&world, PHONE, &code).await.problem(422, "wrong_code");
    assert!(world.operator.all("/customers").await.is_empty(), "nobody came in");
    world.finish().await;
}

/// Who guesses while there is nothing to guess keeps nobody out.
async fn wrong_codes_without_a_code_lock_no_phone(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[]).await;
    for _ in 0..30 {
        check(&world, PHONE, "123456").await.problem(422, "wrong_code");
    }
    ask(&world, PHONE).await.ok();
    check(&world, PHONE, &gateway.message(0).await.code()).await.ok();
    // All the same an address has its limit.
    let tried = async || check(&world, OTHER, "123456").await.status;
    let mut last = 0;
    for _ in 0..40 {
        last = tried().await;
    }
    assert_eq!(last, 429);
    world.finish().await;
}

async fn another_code_takes_a_minute_and_says_so(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[("EVM_SMS_PER_HOUR", "3")]).await;
    assert_eq!(ask_from(&world, PHONE, &[]).await, (200, None));
    let (status, wait) = ask_from(&world, PHONE, &[]).await;
    assert!(status == 429 && (50..=60).contains(&wait.unwrap()), "{status} {wait:?}");
    // What was refused neither killed the code nor went out.
    let code = gateway.message(0).await.code();
    check(&world, PHONE, &code).await.ok();
    assert_eq!(gateway.taken().len(), 1);
    // Everybody together has a limit too.
    for phone in [OTHER, "+97699112234"] {
        assert_eq!(ask_from(&world, phone, &[]).await, (200, None));
    }
    let (status, wait) = ask_from(&world, "+97699112235", &[]).await;
    assert!(status == 429 && (3_500..=3_600).contains(&wait.unwrap()), "{status} {wait:?}");
    world.finish().await;
}

async fn an_address_asks_for_ten_codes_an_hour(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[("EVM_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let phone = |number: u32| format!("+976991122{number:02}");
    let client = [("x-forwarded-for", "203.0.113.1, 198.51.100.7")];
    for number in 0..10 {
        assert_eq!(ask_from(&world, &phone(number), &client).await, (200, None));
    }
    let (status, wait) = ask_from(&world, &phone(10), &client).await;
    assert!(status == 429 && (3_500..=3_600).contains(&wait.unwrap()), "{status} {wait:?}");
    // What the client itself writes before the proxy's own entry changes nothing, another client is another one.
    let same = [("x-forwarded-for", "203.0.113.2, 198.51.100.7")];
    assert_eq!(ask_from(&world, &phone(10), &same).await.0, 429);
    assert_eq!(ask_from(&world, &phone(10), &[("forwarded", "for=\"[2001:db8::1]:99\"")]).await.0, 200);
    world.finish().await;
}

async fn nobody_is_believed_who_is_no_trusted_proxy(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let world = world(engine, &gateway, &[]).await;
    for number in 0..11 {
        let client = format!("203.0.113.{number}");
        let (status, _) = ask_from(&world, &format!("+976991122{number:02}"), &[("x-forwarded-for", &client)]).await;
        assert_eq!(status, if number < 10 { 200 } else { 429 });
    }
    world.finish().await;
}

async fn a_gateway_in_a_mood_holds_nobody_up(engine: Engine) {
    let gateway = SmsGateway::start().await;
    let url = format!("{}/send?to={{to_e164}}&key={{key}}", gateway.url);
    let http = [
        ("EVM_SMS_DRIVER", "http"),
        ("EVM_SMS_URL", url.as_str()),
        ("EVM_SMS_KEY", "a&b=c"),
        ("EVM_SMS_METHOD", "PUT"),
        ("EVM_SMS_HEADERS", "X-Id: {id} | Content-Type: application/x-www-form-urlencoded"),
        ("EVM_SMS_BODY", "number={to_national}&text={text}"),
        ("EVM_SMS_TEXT", "50% \"off\" & {code}"),
    ];
    let world = world(engine, &gateway, &http).await;
    gateway.be([Mood::Status(500), Mood::Status(429), Mood::Status(200)]);
    ask(&world, PHONE).await.ok();
    let third = gateway.message(2).await;
    assert_eq!(third.method.as_str(), "PUT");
    assert_eq!(third.uri.query(), Some("to=%2B97686661488&key=a%26b%3Dc"));
    let first = gateway.message(0).await;
    assert_eq!(
        (&first.headers["x-id"], &first.body),
        (&third.headers["x-id"], &third.body),
        "a try is the same message"
    );
    let code = third.code();
    let form = format!("number=86661488&text=50%25%20%22off%22%20%26%20{code}");
    assert_eq!(third.body, form);
    check(&world, PHONE, &code).await.ok();

    // What is refused is not sent again, and a gateway that hangs is not waited for.
    gateway.be([Mood::Status(400), Mood::Slow(Duration::from_secs(30))]);
    ask(&world, OTHER).await.ok();
    gateway.message(3).await;
    let began = Instant::now();
    ask(&world, "+97699112234").await.ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let last = gateway.message(4).await;
    assert!(last.uri.query().unwrap().contains("112234"), "{last:?}");
    assert_eq!(gateway.taken().len(), 5);
    world.finish().await;
}

on_each_engine! {
    a_code_by_sms_logs_in_once,
    five_wrong_tries_kill_a_code,
    wrong_codes_without_a_code_lock_no_phone,
    another_code_takes_a_minute_and_says_so,
    an_address_asks_for_ten_codes_an_hour,
    nobody_is_believed_who_is_no_trusted_proxy,
    a_gateway_in_a_mood_holds_nobody_up,
}

on_both_engines! {
    async fn wrong_codes_for_a_phone_are_bounded_with_the_development_code_too(world) {
        for _ in 0..15 {
            check(world, PHONE, "9999").await.problem(422, "wrong_code");
        }
        check(world, PHONE, "9999").await.problem(429, "too_many_requests");
        check(world, PHONE, "0000").await.problem(429, "too_many_requests");
        check(world, OTHER, "0000").await.ok();
    }

    async fn a_logout_ends_the_login_and_no_other(world) {
        let (phone, tablet) = (world.customer(PHONE).await, world.customer(PHONE).await);
        let other = world.customer(OTHER).await;
        let listening = Phone::connect(&phone).await;
        let stays = Phone::connect(&tablet).await;
        let sessions = phone.get("/user/sessions").await.ok();
        let sessions = sessions.as_array().unwrap();
        let current: Vec<bool> = sessions.iter().map(|session| session["current"].as_bool().unwrap()).collect();
        assert_eq!(current, [false, true], "newest first");
        assert_eq!(sessions[1]["id"], phone.login["nats"]["user"]);
        for time in ["createdAt", "lastSeen"] {
            assert!(sessions[0][time].as_str().unwrap().ends_with('Z'), "{sessions:?}");
        }

        phone.post("/user/logout", None).await.ok();
        phone.post("/user/me", None).await.problem(401, "unauthorized");
        phone.post("/user/logout", None).await.problem(401, "unauthorized");
        Phone::connect_as(&phone.login["nats"]).await.refused().await;
        listening.ended().await;
        assert!(!stays.has_ended(), "another login of the same customer");
        tablet.post("/user/me", None).await.ok();
        assert_eq!(tablet.get("/user/sessions").await.ok().as_array().unwrap().len(), 1);
        Phone::connect(&tablet).await;

        // One login can end another of the same customer, and nobody else's.
        let again = world.customer(PHONE).await;
        let id = tablet.login["nats"]["user"].as_str().unwrap();
        let end = async |customer: &evm_tests::Customer, id: &str| {
            customer.send(Method::DELETE, &format!("/user/sessions/{id}"), None).await
        };
        for missing in [other.login["nats"]["user"].as_str().unwrap(), "nonsense", "%00"] {
            end(&again, missing).await.problem(404, "not_found");
        }
        end(&other, id).await.problem(404, "not_found");
        end(&again, id).await.ok();
        end(&again, id).await.problem(404, "not_found");
        tablet.post("/user/me", None).await.problem(401, "unauthorized");
        other.post("/user/me", None).await.ok();
        eventually("one login", async || {
            (again.get("/user/sessions").await.ok().as_array().unwrap().len() == 1).then_some(())
        }).await;
    }
}
