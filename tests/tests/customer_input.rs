//! What customers get for input that is wrong, late, doubled or not theirs.
#![allow(clippy::unwrap_used)]

use evm_tests::api::{decimal, request};
use evm_tests::charge::{ended_by_app, stop_of};
use evm_tests::charger::Policy;
use evm_tests::{Version, on_both_engines};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::json;

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

on_both_engines! {
    async fn a_wrong_missing_or_too_long_token_is_401(world) {
        let customer = world.customer(PHONE).await;
        let long = "a".repeat(6_000);
        for path in ["/user/me", "/devices/000000000000000000000000/start", "/customer/update-info"] {
            let url = format!("{}/api/v1{path}", customer.base);
            for token in [None, Some("wrong"), Some(""), Some(long.as_str())] {
                let answer = request(&world.http, Method::POST, &url, token, Some(json!({}))).await.unwrap();
                answer.problem(401, "unauthorized");
            }
        }
        for token in ["wrong", customer.token.as_str()] {
            let url = format!("{}/admin/v1/chargers", customer.base);
            request(&world.http, Method::GET, &url, Some(token), None).await.unwrap().problem(401, "unauthorized");
        }
        let url = format!("{}/api/v1/user/me", customer.base);
        for header in ["Basic abc", "Bearer", "bearer  ", "Bearer a b"] {
            let answer = world.http.post(&url).header("authorization", header).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 401, "{header}");
        }
    }

    async fn logins_with_a_bad_phone_or_code_are_refused(world) {
        let base = format!("{}/api/v1/user", world.operator.base);
        for phone in [json!("12"), json!("+976"), json!("hello"), json!(5), json!(null), json!("+97686661488 ext 5"), json!("9".repeat(500))] {
            let body = Some(json!({ "phone": phone }));
            request(&world.http, Method::POST, &format!("{base}/otp-request"), None, body).await.unwrap().names_field("phone");
        }
        let asked = json!({ "phone": "+976 8666 1488" });
        request(&world.http, Method::POST, &format!("{base}/otp-request"), None, Some(asked)).await.unwrap().ok();
        let body = Some(json!({ "phone": PHONE, "code": "1234567" }));
        let answer = request(&world.http, Method::POST, &format!("{base}/otp-check"), None, body).await.unwrap();
        assert!((400..500).contains(&answer.status) && answer.body["code"].is_string(), "{answer:?}");
        // Written with spaces or without, it is the same customer.
        let body = Some(json!({ "phone": "+976 8666 1488", "code": "0000" }));
        let login = request(&world.http, Method::POST, &format!("{base}/otp-check"), None, body).await.unwrap().ok();
        assert_eq!(login["profile"]["phone"], PHONE);
    }

    async fn another_customers_purchase_and_device_are_not_theirs(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        other.start(&device).await.problem(409, "device_busy");
        let refused = other.post(&format!("/devices/{device}/finish"), None).await;
        assert_eq!(refused.status, 404, "{refused:?}");
        assert!(other.post("/user/me", None).await.ok()["device"].is_null());
        charger.stop(transaction, 700).await;
        charger.status(1, "Available").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 700).await;
        other.pay(&purchase, "EVM").await.problem(404, "not_found");
        for (call, body) in [("status", json!({ "invoiceId": purchase })), ("feedback", json!({ "feedback": { "score": 1, "description": "" } }))] {
            other.post(&format!("/purchases/{purchase}/{call}"), Some(body)).await.problem(404, "not_found");
        }
        assert!(other.purchases().await.is_empty());
        for id in ["000000000000000000000000", "nonsense", &"a".repeat(3_000)] {
            let answer = customer.start(id).await;
            assert!(matches!(answer.status, 400 | 404), "{id}: {answer:?}");
            let answer = customer.pay(id, "EVM").await;
            assert!(matches!(answer.status, 400 | 404), "{id}: {answer:?}");
        }
        customer.pay(&purchase, "EVM").await.ok();
    }

    async fn of_two_who_start_at_once_one_wins(world) {
        let device = world.operator.charger("CP-2", 1).await.remove(0);
        let customers = [world.rich_customer(PHONE, 50_000).await, world.rich_customer(OTHER, 50_000).await];
        let mut charger = world.raw("CP-2", Version::V16).await;
        let (first, second) = tokio::join!(customers[0].start(&device), customers[1].start(&device));
        let winner = usize::from(first.status != 200);
        let (won, lost) = if winner == 0 { (first, second) } else { (second, first) };
        won.ok();
        lost.problem(409, "device_busy");
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        charger.stop(transaction, 333).await;
        let purchase = customers[winner].finish(&device).await;
        world.billed(&purchase, 333).await;
        assert!(customers[1 - winner].purchases().await.is_empty());
    }

    async fn start_at_a_charger_that_cannot(world) {
        let devices = world.operator.charger("CP-3", 2).await;
        let customer = world.rich_customer(PHONE, 50_000).await;
        customer.start(&devices[0]).await.problem(409, "charger_offline");
        let mut charger = world.raw("CP-3", Version::V16).await;
        charger.status(1, "Faulted").await;
        charger.status(2, "Available").await;
        world.device_is(&customer, &devices[0], "Error").await;
        customer.start(&devices[0]).await.problem(409, "device_faulted");
        charger.status(1, "Unavailable").await;
        world.device_is(&customer, &devices[0], "Repair").await;
        assert_eq!(customer.start(&devices[0]).await.status, 409);
        charger.on("RemoteStartTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        customer.start(&devices[1]).await.problem(409, "start_refused");
        world.device_is(&customer, &devices[1], "Idle").await;
        // A car of somebody else, started by a card at the charger.
        charger.status(2, "Charging").await;
        world.device_is(&customer, &devices[1], "Busy").await;
        customer.start(&devices[1]).await.problem(409, "device_busy");
        charger.status(2, "Available").await;
        charger.close().await;
        world.device_is(&customer, &devices[1], "Error").await;
        customer.start(&devices[1]).await.problem(409, "charger_offline");
        assert!(customer.purchases().await.is_empty());
    }

    async fn a_silent_charger_times_out_and_may_still_begin(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V16).await;
        charger.on("RemoteStartTransaction", Policy::Silence);
        customer.start(&device).await.problem(504, "start_timeout");
        // It did hear, and begins after all: later events decide.
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 5_000).await;
        charger.stop(transaction, 5_250).await;
        charger.status(1, "Available").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 250).await;
    }

    async fn finish_twice_gives_the_same_purchase(world) {
        let device = world.operator.charger("CP-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-5", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        let (first, second) = tokio::join!(customer.finish(&device), customer.finish(&device));
        assert_eq!(first, second);
        charger.command("RemoteStopTransaction").await;
        charger.stop(transaction, 42).await;
        world.billed(&first, 42).await;
        assert_eq!(customer.finish(&device).await, first);
        charger.status(1, "Available").await;
        assert_eq!(customer.finish(&device).await, first, "after the car is gone");
        assert_eq!(customer.purchases().await.len(), 1);
    }

    async fn a_charge_that_begins_after_its_finish_is_stopped(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let charger = world.raw("CP-1", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let purchase = customer.finish(&device).await;
        assert!(customer.purchases().await.is_empty(), "nothing began, so nothing was bought");
        let begin = json!({ "connectorId": 1, "idTag": tag, "meterStart": 0, "timestamp": evm_tests::now() });
        let begun = charger.call_as("late", "StartTransaction", begin.clone()).await.ok();
        assert_eq!(begun["idTagInfo"]["status"], "Invalid");
        let asked = charger.command("RemoteStopTransaction").await;
        assert_eq!(asked["transactionId"], begun["transactionId"]);
        // Told again, because the answer was lost: the same transaction, and as little welcome.
        let again = charger.call_as("again", "StartTransaction", begin).await.ok();
        assert_eq!(again, begun);
        let end = stop_of(begun["transactionId"].as_i64().unwrap(), 20, "DeAuthorized");
        charger.call_as("end", "StopTransaction", end).await.ok();
        // What it took until then is the customer's all the same.
        world.billed(&purchase, 20).await;
        let bought = customer.purchase(&purchase).await;
        assert_eq!((decimal(&bought["amount"]), &bought["status"]), (Decimal::from(20), &json!("unpaid")));
        customer.pay(&purchase, "EVM").await.ok();
    }

    async fn paying_twice_at_once_moves_money_once(world) {
        let device = world.operator.charger("CP-6", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 10_000).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        let purchase = ended_by_app(world, &mut charger, &customer, &device, 3_000).await;
        let (one, two, three, four) = tokio::join!(
            customer.pay(&purchase, "EVM"), customer.pay(&purchase, "EVM"),
            customer.pay(&purchase, "EVM"), customer.pay(&purchase, "EVM"),
        );
        let answers = [one, two, three, four];
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
        for answer in answers.into_iter().filter(|answer| answer.status != 200) {
            answer.problem(409, "already_paid");
        }
        customer.pay(&purchase, "EVM").await.problem(409, "already_paid");
        let balance = customer.post("/user/me", None).await.ok()["profile"]["balance"].clone();
        assert_eq!(decimal(&balance), Decimal::from(7_000));
    }

    async fn paying_with_too_little_moves_nothing(world) {
        let device = world.operator.charger("CP-7", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 2_999).await;
        let mut charger = world.raw("CP-7", Version::V16).await;
        let purchase = ended_by_app(world, &mut charger, &customer, &device, 3_000).await;
        let refused = customer.pay(&purchase, "EVM").await;
        assert!(matches!(refused.status, 409 | 422), "{refused:?}");
        assert_eq!(refused.body["code"], "insufficient_balance");
        assert_eq!(customer.purchase(&purchase).await["status"], "unpaid");
        customer.start(&device).await.problem(409, "unpaid_purchase");
        for option in ["QPAY", "CARD", ""] {
            let refused = customer.pay(&purchase, option).await;
            assert!((400..500).contains(&refused.status), "{option}: {refused:?}");
        }
        assert_eq!(customer.pay(&purchase, "QPAY").await.body["code"], "payment_option_disabled");
        let refused = customer.post("/customer/replenish", Some(json!({ "amount": 1000, "option": "QPAY" }))).await;
        assert_eq!(refused.body["code"], "payment_option_disabled", "{refused:?}");
        world.operator.credit(PHONE, 1).await;
        let paid = customer.pay(&purchase, "EVM").await.ok();
        assert_eq!(decimal(&paid["newBalance"]), Decimal::ZERO);
    }

    async fn a_box_query_must_be_a_box(world) {
        let device = world.operator.charger("CP-8", 1).await.remove(0);
        let customer = world.customer(PHONE).await;
        let corners = [
            ("bottom-left-longitude", "106"), ("bottom-left-latitude", "47"),
            ("upper-right-longitude", "108"), ("upper-right-latitude", "49"),
        ];
        let path = |corners: &[(&str, &str)]| {
            let query: Vec<String> = corners.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("/devices/by-location?{}", query.join("&"))
        };
        let found = customer.get(&path(&corners)).await.ok();
        assert_eq!(found[0]["_id"], device.as_str());
        assert_eq!(found[0]["location"], json!([106.9, 47.9]));
        for (index, (name, _)) in corners.iter().enumerate() {
            let mut without = corners.to_vec();
            without.remove(index);
            customer.get(&path(&without)).await.names_field(name);
            for bad in ["here", "", "NaN", "inf", "1000", "1e400"] {
                let mut with_letters = corners;
                with_letters[index].1 = bad;
                customer.get(&path(&with_letters)).await.names_field(name);
            }
        }
        let mut turned = corners;
        turned[1].1 = "50";
        let answer = customer.get(&path(&turned)).await;
        answer.problem(400, "invalid_request");
        let example = "/devices/by-location?bottom-left-longitude=69.9&bottom-left-latitude=69.9&upper-right-longitude=127&upper-right-latitude=80";
        assert_eq!(customer.get(example).await.ok(), json!([]));
    }

    async fn bodies_that_are_no_json_or_lack_a_field(world) {
        let customer = world.customer(PHONE).await;
        for (path, body, field) in [
            ("/customer/update-info", json!({ "email": "a@b.mn" }), "name"),
            ("/customer/update-info", json!({ "name": 5, "email": "a@b.mn" }), "name"),
            ("/customer/update-notification-token", json!({}), "FCMToken"),
            ("/customer/update-notification-token", json!({ "FCMToken": "t".repeat(100_000) }), "FCMToken"),
        ] {
            customer.post(path, Some(body)).await.names_field(field);
        }
        for text in ["", "{", "[]", "\"x\"", &"[".repeat(50_000)] {
            let url = format!("{}/api/v1/customer/update-info", customer.base);
            let request = world.http.post(&url).bearer_auth(&customer.token).header("content-type", "application/json");
            let status = request.body(text.to_owned()).send().await.unwrap().status().as_u16();
            assert!(matches!(status, 400 | 413 | 422), "{status} for {}", &text[..text.len().min(20)]);
        }
        customer.post("/customer/update-info", Some(json!({ "name": "Бат", "email": "bat@example.mn" }))).await.ok();
        let profile = customer.post("/user/me", None).await.ok()["profile"].clone();
        assert_eq!((&profile["name"], &profile["email"]), (&json!("Бат"), &json!("bat@example.mn")));
        customer.post("/customer/update-notification-token", Some(json!({ "FCMToken": "abc" }))).await.ok();
    }
}
