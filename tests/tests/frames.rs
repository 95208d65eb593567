//! Frames and handshakes that no good charger sends.
#![allow(clippy::unwrap_used)]

use evm_tests::charge::{begin_16, session_is};
use evm_tests::{RawCharger, Version, World, now, on_both_engines};
use serde_json::{Value, json};

/// The charger still gets its Heartbeat answered.
async fn lives(charger: &mut RawCharger) {
    assert!(charger.call("Heartbeat", json!({})).await.ok()["currentTime"].is_string());
}

async fn nonsense(world: &mut World, version: Version) {
    world.operator.charger("CP-1", 1).await;
    let mut charger = world.raw("CP-1", version).await;
    for text in [
        "",
        " ",
        "hello",
        "{",
        "[",
        "null",
        "{}",
        "[]",
        "[2]",
        "[2,\"a\"]",
        "[2,\"b\",\"Heartbeat\"]",
        "[7,\"c\",\"Heartbeat\",{}]",
        "[\"2\",\"d\",\"Heartbeat\",{}]",
        "[2,5,\"Heartbeat\",{}]",
        "[2,\"e\",6,{}]",
        "[3,\"never-asked\",{}]",
        "[4,\"never-asked\",\"GenericError\",\"\",{}]",
        "[3]",
        "[4,null]",
        "[2,\"f\",\"Heartbeat\",[]]",
        "\u{0}",
    ] {
        charger.send(text).await;
        lives(&mut charger).await;
    }
    charger.send(&format!("[2,\"{}\",\"Heartbeat\",{{}}]", "i".repeat(300))).await;
    lives(&mut charger).await;
    assert!(!charger.is_closed());
    assert_eq!(world.tap.conversations("CP-1").len(), 1, "one connection bore it all");
}

on_both_engines! {
    async fn what_is_no_json_or_no_call_does_not_end_the_connection_1_6(world) {
        nonsense(world, Version::V16).await;
    }

    async fn what_is_no_json_or_no_call_does_not_end_the_connection_2_0_1(world) {
        nonsense(world, Version::V201).await;
    }

    async fn an_unknown_action_is_not_implemented(world) {
        world.operator.charger("CP-2", 1).await;
        for version in [Version::V16, Version::V201] {
            let mut charger = world.raw("CP-2", version).await;
            assert_eq!(charger.call("Teleport", json!({})).await.error(), "NotImplemented");
            let long = "X".repeat(500);
            assert_eq!(charger.call(&long, json!({})).await.error(), "NotImplemented");
            lives(&mut charger).await;
        }
    }

    async fn a_too_large_frame_ends_the_connection_and_nothing_else(world) {
        world.operator.charger("CP-3", 1).await;
        world.operator.charger("CP-4", 1).await;
        let mut other = world.raw("CP-4", Version::V16).await;
        let charger = world.raw("CP-3", Version::V16).await;
        let huge = json!([2, "huge", "DataTransfer", { "vendorId": "v", "data": "x".repeat(20 << 20) }]);
        charger.send(&huge.to_string()).await;
        charger.closed().await;
        lives(&mut other).await;
        let mut again = world.raw("CP-3", Version::V16).await;
        lives(&mut again).await;
    }

    async fn a_stop_with_the_samples_of_a_day_is_taken(world) {
        let device = world.operator.charger("CP-7", 1).await.remove(0);
        let customer = world.rich_customer("+97686661488", 50_000).await;
        let mut charger = world.raw("CP-7", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let samples: Vec<Value> = (0..15_000)
            .map(|n| {
                json!({ "timestamp": now(), "sampledValue": [{
                    "value": (n / 10).to_string(), "context": "Sample.Periodic", "format": "Raw", "unit": "Wh",
                    "measurand": "Energy.Active.Import.Register", "location": "Outlet",
                }] })
            })
            .collect();
        let stop = json!({
            "transactionId": transaction, "meterStop": 1_500, "timestamp": now(), "transactionData": samples,
        });
        assert!(stop.to_string().len() > 2 << 20);
        charger.call("StopTransaction", stop).await.ok();
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 1_500).await;
    }

    async fn an_unreadable_payload_ends_no_charge(world) {
        let device = world.operator.charger("CP-8", 1).await.remove(0);
        let customer = world.rich_customer("+97686661488", 50_000).await;
        let mut charger = world.raw("CP-8", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let text = format!("[2,\"deep\",\"StopTransaction\",{{\"x\":{deep}}}]");
        assert_eq!(charger.ask("deep", &text).await.error(), "FormationViolation");
        assert_eq!(session_is(&world.operator, "CP-8", "active").await["transactionId"], transaction.to_string());
        // Half a character in a text is no reason to lose a stop.
        let at = now();
        let text = format!(
            "[2,\"half\",\"StopTransaction\",{{\"transactionId\":{transaction},\"meterStop\":700,\
             \"timestamp\":\"{at}\",\"reason\":\"Other\\ud83d\"}}]"
        );
        charger.ask("half", &text).await.ok();
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 700).await;
    }

    async fn a_message_id_used_before_is_a_new_call(world) {
        world.operator.charger("CP-5", 1).await;
        let mut charger = world.raw("CP-5", Version::V16).await;
        for _ in 0..3 {
            charger.call_as("same", "Heartbeat", json!({})).await.ok();
        }
        // Another message under an old id is not taken for the old one.
        let status = json!({ "connectorId": 1, "errorCode": "GroundFailure", "status": "Faulted", "timestamp": now() });
        charger.call_as("same", "StatusNotification", status).await.ok();
        let customer = world.customer("+97686661488").await;
        let device = world.operator.get("/chargers/CP-5").await.ok();
        assert_eq!(device["identity"], "CP-5", "{device}");
        evm_tests::eventually("the fault to be seen", async || {
            let corners = "bottom-left-longitude=0&bottom-left-latitude=0&upper-right-longitude=179&upper-right-latitude=89";
            let found = customer.get(&format!("/devices/by-location?{corners}")).await.ok();
            (found[0]["state"] == "Error").then_some(())
        }).await;
        lives(&mut charger).await;
    }

    async fn readable_but_wrong_payloads_are_answered(world) {
        world.operator.charger("CP-6", 1).await;
        let mut charger = world.raw("CP-6", Version::V16).await;
        for (action, payload) in [
            ("Heartbeat", Value::Null),
            ("StatusNotification", json!({ "connectorId": "1", "errorCode": "Strange", "status": "Available" })),
            ("StatusNotification", json!({ "connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": "1970-01-01T00:00:00" })),
            ("StatusNotification", json!({ "connectorId": 1, "errorCode": "NoError", "status": "Available", "info": "i".repeat(900), "more": [1] })),
            ("BootNotification", json!({ "chargePointVendor": "V".repeat(90), "chargePointModel": "M", "iccid": null })),
            ("MeterValues", json!({ "connectorId": 0, "meterValue": { "timestamp": now(), "sampledValue": { "value": 5 } } })),
            ("MeterValues", json!({ "connectorId": 1, "transactionId": 999_999, "meterValue": [] })),
            ("Authorize", json!({ "idTag": "nobody\u{1}" })),
            ("DataTransfer", json!({ "vendorId": "somebody", "data": "{}" })),
            ("FirmwareStatusNotification", json!({ "status": "Installed" })),
            ("DiagnosticsStatusNotification", json!({ "status": "Idle" })),
        ] {
            charger.call(action, payload).await.ok();
        }
    }

    async fn handshakes_that_are_refused(world) {
        world.operator.charger("CP-7", 1).await;
        let body = json!({ "password": "0123456789abcdef", "devices": [{
            "deviceNumber": "S-1", "connector": 1, "location": [106.9, 47.9], "price": 500, "waitingPrice": 0,
        }] });
        let answer = world.operator.send(reqwest::Method::PUT, "/chargers/SAFE-1", Some(body)).await;
        answer.ok();
        let tap = &world.tap;
        let refused = async |identity: &str, password: Option<&str>| {
            RawCharger::try_connect(tap, identity, &["ocpp1.6"], password).await.err()
        };
        assert_eq!(refused("NOBODY", None).await, Some(404));
        assert_eq!(refused(&"x".repeat(300), None).await, Some(404));
        assert_eq!(refused("%00", None).await, Some(404));
        assert_eq!(refused("SAFE-1", None).await, Some(401));
        assert_eq!(refused("SAFE-1", Some("0123456789abcdee")).await, Some(401));
        assert_eq!(refused("SAFE-1", Some("")).await, Some(401));
        assert_eq!(refused("SAFE-1", Some("0123456789abcdef")).await, None);
        // A 1.6 key is set as hexadecimal digits, and shown as the bytes that they stand for.
        let body = json!({ "password": "3031323334353637383961626364656667", "devices": [] });
        world.operator.send(reqwest::Method::PUT, "/chargers/SAFE-2", Some(body)).await.ok();
        assert_eq!(refused("SAFE-2", Some("0123456789abcdefg")).await, None);
        assert_eq!(refused("SAFE-2", Some("0123456789abcdefh")).await, Some(401));
        // The identity may come percent-encoded.
        assert_eq!(refused("CP%2D7", None).await, None);
        // No version in common: the handshake ends well, without one, and the connection is closed.
        assert_eq!(refused("CP-7", None).await, None);
        assert_eq!(RawCharger::try_connect(tap, "CP-7", &["ocpp9.9"], None).await.err(), Some(0), "the client refuses that");
        evm_tests::eventually("the close without a version", async || {
            let last = tap.conversations("CP-7").pop()?;
            (last.version.is_none() && last.status == Some(101) && last.close_code == Some(Some(1002))).then_some(())
        }).await;
        // The newest version in common is taken.
        let both = RawCharger::try_connect(tap, "CP-7", &["ocpp2.0.1", "ocpp1.6"], None).await.unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(both.version, Version::V201);
    }
}
