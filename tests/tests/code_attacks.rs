//! Codes under attack: nothing that a stranger does keeps a phone's owner out, and no code is guessed.
#![allow(clippy::unwrap_used)]

use evm_tests::sms::SmsGateway;
use evm_tests::{Engine, World, on_each_engine};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
/// Where the owner was logged in before.
const HOME: &str = "203.0.113.7";

struct Attacked {
    world: World,
    gateway: SmsGateway,
}

impl Attacked {
    async fn start(engine: Engine, more: &[(&str, &str)]) -> Self {
        let gateway = SmsGateway::start().await;
        let url = format!("{}/v1/sms/send", gateway.url);
        let settings = [
            ("EVM_OTP_DEV_CODE", ""),
            ("EVM_SMS_DRIVER", "callpro"),
            ("EVM_SMS_URL", &url),
            ("EVM_SMS_KEY", "key-of-the-sms-gateway"),
            ("EVM_SMS_FROM", "72001234"),
            ("EVM_TRUSTED_PROXIES", "127.0.0.1"),
        ];
        let world = World::start_on(engine, None, &[&settings[..], more].concat()).await;
        Self { world, gateway }
    }

    async fn post(&self, path: &str, from: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v1/user/{path}", self.world.operator.base);
        let mut request = self.world.http.post(&url).header("x-forwarded-for", from).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    async fn ask(&self, phone: &str, from: &str) -> u16 {
        self.post("otp-request", from, None, json!({ "phone": phone })).await.0
    }

    async fn check(&self, from: &str, code: &str) -> (u16, Value) {
        self.post("otp-check", from, None, json!({ "phone": PHONE, "code": code })).await
    }

    /// The newest code that was sent to this phone, the `number`th of all.
    async fn code(&self, number: usize) -> String {
        self.gateway.message(number).await.code()
    }

    /// Logs the owner in at home, with the first code of all, which was asked for from here; gives the token.
    async fn login(&self, from: &str) -> String {
        assert_eq!(self.ask(PHONE, from).await, 200);
        let (status, login) = self.check(HOME, &self.code(0).await).await;
        assert_eq!(status, 200, "{login}");
        login["token"].as_str().unwrap().to_owned()
    }
}

fn wrong(code: &str) -> &'static str {
    if code == "123456" { "654321" } else { "123456" }
}

async fn a_hundred_guesses_from_everywhere_find_nothing_and_hold_up_nobody(engine: Engine) {
    let attacked = Attacked::start(engine, &[]).await;
    attacked.login("192.0.2.200").await;
    // The owner asks where they were before, and another time from a place where they never were.
    for (asked, from) in [(1, HOME), (2, "198.51.100.200")] {
        assert_eq!(attacked.ask(PHONE, from).await, 200, "{from}");
        let code = attacked.code(asked).await;
        let mut answers = Vec::new();
        for number in 0..100 {
            let stranger = format!("2001:db8:{number:x}::1");
            answers.push(attacked.check(&stranger, wrong(&code)).await.0);
        }
        assert!(answers.iter().all(|status| [422, 429].contains(status)), "{answers:?}");
        // The right one does not help strangers any more.
        for stranger in ["2001:db8:ffff::1", "192.0.2.9", "2001:db8:1::1"] {
            let (status, _) = attacked.check(stranger, &code).await;
            assert!([422, 429].contains(&status), "{status}");
        }
        for _ in 0..4 {
            assert_eq!(attacked.check(from, wrong(&code)).await.0, 422);
        }
        assert_eq!(attacked.check(from, &code).await.0, 200, "from {from}");
    }
    attacked.world.finish().await;
}

async fn codes_of_strangers_neither_end_the_owners_nor_use_them_up(engine: Engine) {
    let attacked = Attacked::start(engine, &[]).await;
    let token = attacked.login(HOME).await;
    // The minute between two codes ends with a login.
    assert_eq!((attacked.ask(PHONE, HOME).await, attacked.ask(PHONE, HOME).await), (200, 429));
    // With the token of a login another phone's place counts for itself.
    let (status, _) = attacked.post("otp-request", "192.0.2.1", Some(&token), json!({ "phone": PHONE })).await;
    assert_eq!(status, 200);
    let code = attacked.code(2).await;
    // One stranger alone leaves room for another place; all of them together do not keep the owner out.
    let mut sent = 0;
    for number in 0..12 {
        sent += usize::from(attacked.ask(PHONE, &format!("2001:db8:1:{number:x}::1")).await == 200);
    }
    assert_eq!(sent, 3, "one network and its neighbours");
    for number in 0..12 {
        sent += usize::from(attacked.ask(PHONE, &format!("198.18.{number}.1")).await == 200);
    }
    assert_eq!(sent, 4, "all strangers");
    for number in 0..6 {
        attacked.check(&format!("198.18.{number}.1"), wrong(&code)).await;
    }
    // Any code that came is good where the owner is known.
    assert_eq!(attacked.check(HOME, &code).await.0, 200);
    let last = attacked.code(6).await;
    assert_eq!(attacked.check(HOME, &last).await.0, 200);
    attacked.world.finish().await;
}

async fn one_network_uses_up_nobody_elses_codes(engine: Engine) {
    let attacked = Attacked::start(engine, &[("EVM_SMS_PER_HOUR", "60")]).await;
    attacked.login(HOME).await;
    let phone = |number: u32| format!("+9769911{number:04}");
    let mut numbers = 0..;
    let mut storm = async |prefix: &str, asks: u32| {
        let mut sent = 0;
        for number in 0..asks {
            let from = format!("{prefix}:{number:x}::1");
            sent += u32::from(attacked.ask(&phone(numbers.next().unwrap()), &from).await == 200);
        }
        sent
    };
    // A /48 has a tenth, at least 10; a provider's /32 a fourth.
    assert_eq!(storm("2001:db8:1", 30).await, 10);
    assert_eq!(storm("2001:db8:2", 30).await, 5);
    assert_eq!(storm("2001:db8:3", 5).await, 0);
    assert_eq!(attacked.ask(&phone(9_000), "192.0.2.1").await, 200, "who was never seen");
    // Three fourths are all that strangers get: the owner's own are kept.
    let mut sent = 0;
    for number in 0..60 {
        sent += u32::from(attacked.ask(&phone(5_000 + number), &format!("10.{number}.0.1")).await == 200);
    }
    assert_eq!(sent, 45 - 1 - 15 - 1);
    assert_eq!(attacked.ask(&phone(9_001), "192.0.2.77").await, 429);
    assert_eq!(attacked.ask(PHONE, HOME).await, 200);
    attacked.world.finish().await;
}

on_each_engine! {
    a_hundred_guesses_from_everywhere_find_nothing_and_hold_up_nobody,
    codes_of_strangers_neither_end_the_owners_nor_use_them_up,
    one_network_uses_up_nobody_elses_codes,
}
