//! What an operator or an app may mistype, and what every answer carries.
#![allow(clippy::unwrap_used)]

use evm_tests::api::{decimal, request};
use evm_tests::{Engine, Version, World, charge, on_both_engines, on_each_engine};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";

fn device(number: &str) -> Value {
    json!({
        "deviceNumber": number, "connector": 1, "location": [106.9177, 47.9189], "price": 650, "waitingPrice": 50,
        "waitingGrace": 600, "startFee": 200, "minimum": 500, "cap": 50_000, "maxPower": 22_000, "outOfService": true,
        "bands": [{ "from": "22:00", "to": "06:00", "price": 420, "waitingPrice": 20 }],
    })
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

/// A browser is told to keep to TLS where the API is behind it.
async fn strict_transport_security_goes_with_tls(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_PUBLIC_URL", "https://api.example.mn")]).await;
    for path in ["/livez", "/nowhere", "/docs/"] {
        let answer = world.http.get(format!("{}{path}", world.operator.base)).send().await.unwrap();
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000", "{path}");
    }
    world.finish().await;
}

on_each_engine! {
    strict_transport_security_goes_with_tls,
}

on_both_engines! {
    async fn fields_that_nobody_knows_are_refused_by_name(world) {
        let device_id = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 10_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let purchase = charge::ended_at_charger(world, &mut charger, &customer, &device_id, 1_000).await;
        let (put, post) = (Method::PUT, Method::POST);
        let band = |name: &str| json!([{ "from": "22:00", "to": "06:00", "price": 1, name: 5 }]);
        for (method, path, body, field) in [
            (&put, "/chargers/CP-1".to_owned(), json!({ "passwort": "0123456789abcdef" }), "passwort"),
            (&put, "/chargers/NEW".to_owned(), json!({ "devices": [], "Devices": [] }), "Devices"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "devices": [with(device("D"), "prize", json!(1))] }), "devices[0].prize"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "devices": [with(device("D"), "bands", band("wait"))] }), "devices[0].bands[0].wait"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "identity": "CP-2" }), "identity"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "passwordSet": true }), "passwordSet"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "devices": [with(device("D"), "_id", json!("x"))] }), "devices[0]._id"),
            (&put, "/chargers/CP-1".to_owned(), json!({ "devices": [with(device("D"), "vatRate", json!(7))] }), "devices[0].vatRate"),
            (&post, format!("/customers/{PHONE}/credit"), json!({ "amount": 5, "note": "x", "currency": "USD" }), "currency"),
            (&post, format!("/purchases/{purchase}/refund"), json!({ "note": "x", "reason": null }), "reason"),
            (&put, format!("/customers/{PHONE}/cards/04AB"), json!({ "block": true }), "block"),
        ] {
            world.operator.send(method.clone(), &path, Some(body)).await.names_field(field);
        }
        for (path, body, field) in [
            (format!("/purchases/{purchase}/pay"), json!({ "option": "EVM", "amount": 1 }), "amount"),
            ("/customer/replenish".to_owned(), json!({ "amount": 100, "option": "QPAY", "bonus": 5 }), "bonus"),
            (format!("/devices/{device_id}/start"), json!({ "connector": 2 }), "connector"),
            (format!("/devices/{device_id}/finish"), json!({ "amount": 2 }), "amount"),
        ] {
            customer.post(&path, Some(body)).await.names_field(field);
        }
        // None of it happened, and the same without the unknown field does.
        assert_eq!(customer.purchase(&purchase).await["status"], "unpaid");
        world.operator.get("/chargers/NEW").await.problem(404, "not_found");
        assert_eq!(world.operator.get("/chargers/CP-1").await.ok()["devices"][0]["deviceNumber"], "CP-1-1");
        customer.post(&format!("/devices/{device_id}/finish"), Some(json!({}))).await.ok();
        customer.pay(&purchase, "EVM").await.ok();
        // Where no money moves, apps that are out there may say more than they must.
        let url = format!("{}/api/v1/user/otp-request", world.operator.base);
        let body = json!({ "phone": PHONE, "deviceId": "x" });
        request(&world.http, Method::POST, &url, None, Some(body)).await.unwrap().ok();
        customer.post("/customer/update-info", Some(json!({ "name": "A", "email": "", "age": 5 }))).await.ok();
    }

    async fn query_parameters_that_nobody_knows_are_refused_by_name(world) {
        world.operator.charger("CP-1", 1).await;
        let customer = world.customer(PHONE).await;
        for path in ["/purchases", "/sessions", "/customers", "/chargers", "/gateway-payments", "/ledger", "/reconciliation",
            "/chargers/CP-1", "/chargers/CP-1/messages"] {
            world.operator.get(&format!("{path}?phone=%2B97686661488")).await.names_field("phone");
        }
        world.operator.get("/sessions?status=active&Status=x").await.names_field("Status");
        world.operator.get("/ledger?account=cash&page-size=1&format=json&from=2026-01-01T00:00:00Z").await.ok();
        for path in ["/purchases?page=1&size=5", "/customer/statement?size=5", "/user/sessions?size=1", "/payment-options?size"] {
            customer.get(path).await.names_field("size");
        }
        customer.post("/user/me?size=1", None).await.names_field("size");
        customer.post("/customer/replenishment/?size=1", Some(json!({ "invoiceId": "x" }))).await.names_field("size");
        // Who calls comes first.
        let url = format!("{}/admin/v1/purchases?phone=1", world.operator.base);
        request(&world.http, Method::GET, &url, None, None).await.unwrap().problem(401, "unauthorized");
    }

    async fn what_a_chargers_put_leaves_out_stays_and_get_shows_all(world) {
        let path = "/chargers/CP-1";
        let put = async |body: Value| world.operator.send(Method::PUT, path, Some(body)).await;
        let whole = json!({
            "password": "correct-horse-17", "securityProfile": 2, "withoutSubprotocol": "1.6",
            "timeZone": "Europe/Berlin", "freeCharging": true, "devices": [device("D-1"), with(device("D-2"), "connector", json!(2))],
        });
        put(whole).await.ok();
        let first = world.operator.get(path).await.ok();
        for (field, value) in [
            ("passwordSet", json!(true)), ("securityProfile", json!(2)), ("withoutSubprotocol", json!("1.6")),
            ("timeZone", json!("Europe/Berlin")), ("freeCharging", json!(true)),
        ] {
            assert_eq!(first[field], value, "{first}");
        }
        for (field, value) in device("D-1").as_object().unwrap() {
            assert_eq!(&first["devices"][0][field], value, "{field} in {first}");
        }
        assert!(!first.to_string().contains("correct-horse"));

        // There and back changes nothing.
        put(first.clone()).await.ok();
        assert_eq!(world.operator.get(path).await.ok(), first);
        put(json!({})).await.ok();
        assert_eq!(world.operator.get(path).await.ok(), first);

        // Only new prices; one that comes without bands holds all day.
        let bands = json!([{ "from": "22:00", "to": "06:00", "price": 421 }]);
        let prices = json!([
            { "deviceNumber": "D-1", "connector": 1, "price": 700, "waitingPrice": 60, "bands": bands },
            { "deviceNumber": "D-2", "connector": 2, "price": 710, "waitingPrice": 61 },
        ]);
        put(json!({ "devices": prices })).await.ok();
        let mut expected = first.clone();
        for (n, price, waiting, bands) in [(0, 700, 60, bands), (1, 710, 61, json!([]))] {
            expected["devices"][n]["bands"] = bands;
            expected["devices"][n]["price"] = json!(price);
            expected["devices"][n]["waitingPrice"] = json!(waiting);
        }
        assert_eq!(world.operator.get(path).await.ok(), expected);

        let waiting = json!([{ "deviceNumber": "D-1", "connector": 1, "waitingPrice": 60 }, { "deviceNumber": "D-2", "connector": 2 }]);
        put(json!({ "devices": waiting })).await.ok();
        assert_eq!(world.operator.get(path).await.ok(), expected);

        // Null takes away; a device that is left out of a list leaves the map.
        let bare = json!({ "deviceNumber": "D-1", "connector": 1, "cap": null, "maxPower": null, "bands": [], "outOfService": false });
        put(json!({ "withoutSubprotocol": null, "devices": [bare] })).await.ok();
        let left = world.operator.get(path).await.ok();
        assert_eq!(left["devices"].as_array().unwrap().len(), 1, "{left}");
        for field in ["cap", "maxPower"] {
            assert_eq!(left["devices"][0][field], Value::Null, "{left}");
        }
        assert_eq!((&left["withoutSubprotocol"], &left["devices"][0]["outOfService"]), (&Value::Null, &json!(false)));
        assert_eq!((&left["devices"][0]["bands"], decimal(&left["devices"][0]["startFee"])), (&json!([]), Decimal::from(200)));
        assert_eq!((&left["securityProfile"], &left["passwordSet"]), (&json!(2), &json!(true)));

        // Profiles 0 and 1 follow the password, the others need it.
        put(json!({ "password": null })).await.names_field("password");
        put(json!({ "password": null, "securityProfile": 0 })).await.ok();
        put(json!({ "password": "correct-horse-18" })).await.ok();
        assert_eq!(world.operator.get(path).await.ok()["securityProfile"], 1);
        put(json!({ "password": null })).await.ok();
        let bare = world.operator.get(path).await.ok();
        assert_eq!((&bare["securityProfile"], &bare["passwordSet"]), (&json!(0), &json!(false)));
        // What is new must say where it stands and what it costs.
        for field in ["location", "price", "waitingPrice"] {
            let mut new = device("D-9");
            new.as_object_mut().unwrap().remove(field);
            put(json!({ "devices": [with(new, "connector", json!(9))] })).await.names_field(&format!("devices[0].{field}"));
        }
    }

    async fn a_cards_put_needs_no_body_and_keeps_what_it_leaves_out(world) {
        let device_id = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 10_000).await;
        let path = format!("/customers/{PHONE}/cards/04AABBCC");
        let put = async |body: Option<Value>| world.operator.send(Method::PUT, &path, body).await.ok();
        put(None).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let authorize = json!({ "idTag": "04AABBCC" });
        let mut status = async || {
            charger.call("Authorize", authorize.clone()).await.ok()["idTagInfo"]["status"].as_str().unwrap().to_owned()
        };
        assert_eq!(status().await, "Accepted");
        put(Some(json!({ "blocked": true }))).await;
        assert_ne!(status().await, "Accepted");
        put(None).await;
        put(Some(json!({}))).await;
        assert_ne!(status().await, "Accepted", "it stays blocked");
        put(Some(json!({ "blocked": false }))).await;
        assert_eq!(status().await, "Accepted");
        world.device_is(&customer, &device_id, "Idle").await;
    }

    async fn every_answer_carries_the_headers_of_owasp(world) {
        let customer = world.customer(PHONE).await;
        let base = world.operator.base.clone();
        for (path, token) in [
            ("/livez", ""), ("/nowhere", ""), ("/docs/", ""), ("/docs/index.css", ""), ("/openapi.json", ""),
            ("/admin/v1/chargers", ""), ("/admin/v1/chargers?phone=1", world.operator.token.as_str()),
            ("/admin/v1/ledger?format=csv", world.operator.token.as_str()),
            ("/api/v1/customer/statement?format=csv", customer.token.as_str()), ("/api/v1/user/me", customer.token.as_str()),
            ("/api/v1/events", customer.token.as_str()),
        ] {
            let answer = world.http.get(format!("{base}{path}")).bearer_auth(token).send().await.unwrap();
            let headers = answer.headers();
            for (name, value) in [
                ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer"),
                ("cache-control", "no-store"), ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"), ("cross-origin-embedder-policy", "require-corp"),
            ] {
                assert_eq!(headers[name], value, "{name} of {path}");
            }
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            // The page with the calls runs its own scripts, and nothing else runs any.
            assert_eq!(policy.contains("script-src 'self';"), path.starts_with("/docs"), "{path}: {policy}");
            assert!(headers.contains_key("permissions-policy"));
            assert!(!headers.contains_key("strict-transport-security"), "over plain HTTP");
        }
        let page = world.http.get(format!("{base}/docs/")).send().await.unwrap().text().await.unwrap();
        let scripts: Vec<&str> = page.split("<script").skip(1).collect();
        assert!(!scripts.is_empty() && scripts.iter().all(|script| script.starts_with(" src=\"./")), "{page}");

        let preflight = world.http.request(Method::OPTIONS, format!("{base}/admin/v1/chargers/CP-1"))
            .header("origin", "https://app.example.mn")
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key")
            .send().await.unwrap();
        let methods = preflight.headers()["access-control-allow-methods"].to_str().unwrap().to_owned();
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        let allowed = preflight.headers()["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(allowed.contains("idempotency-key") && allowed.contains("authorization"), "{allowed}");
        let document: Value = world.http.get(format!("{base}/openapi.json")).send().await.unwrap().json().await.unwrap();
        let pay = &document["paths"]["/api/v1/purchases/{id}/pay"]["post"]["parameters"];
        let key = pay.as_array().unwrap().iter().find(|one| one["name"] == "Idempotency-Key").unwrap();
        assert!(key["example"].is_null() && key["examples"].is_null() && key["schema"]["example"].is_null(), "{key}");
    }
}
