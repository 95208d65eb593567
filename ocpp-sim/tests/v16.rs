//! A 1.6 charger over a real socket.
#![allow(clippy::unwrap_used)]

mod support;
use ocpp_sim::{Charger, ConnectorStatus, SimEvent, Version};
use serde_json::json;
use std::time::Duration;
use support::{LIMIT, Server};

#[tokio::test]
async fn remote_start_to_remote_stop() {
    let server = Server::new(Version::V16).await;
    let mut config = server.config("CP 1");
    config.password = Some("secret:1".to_owned());
    let (charger, mut peer) = server.booted(config).await;
    assert_eq!(server.door.lock().unwrap().path, "/ocpp/CP%201");
    assert_eq!(server.door.lock().unwrap().authorization.as_deref(), Some("Basic Q1AgMTpzZWNyZXQ6MQ=="));
    assert_eq!(peer.take("StatusNotification").await["connectorId"], 0);
    assert_eq!(peer.take("StatusNotification").await["status"], "Available");

    charger.plug_in(1).await;
    assert_eq!(peer.take("StatusNotification").await["status"], "Preparing");
    let start = json!({ "connectorId": 1, "idTag": "ABC" });
    assert_eq!(peer.command("RemoteStartTransaction", start.clone()).await["status"], "Accepted");
    let started = peer.take("StartTransaction").await;
    assert_eq!((&started["idTag"], &started["meterStart"]), (&json!("ABC"), &json!(1_000)));
    assert_eq!(peer.take("StatusNotification").await["status"], "Charging");
    assert_eq!(peer.command("RemoteStartTransaction", start).await["status"], "Rejected");
    let values = peer.take("MeterValues").await;
    assert_eq!(values["transactionId"], 77);
    let sampled = values["meterValue"][0]["sampledValue"].as_array().unwrap();
    assert_eq!(sampled.len(), 3);
    assert_eq!(sampled[0]["measurand"], "Energy.Active.Import.Register");

    charger.wait_until(LIMIT, |s| s.connectors[0].session_wh > 100).await.unwrap();
    assert_eq!(peer.command("RemoteStopTransaction", json!({ "transactionId": 78 })).await["status"], "Rejected");
    assert_eq!(peer.command("RemoteStopTransaction", json!({ "transactionId": 77 })).await["status"], "Accepted");
    let stopped = peer.take("StopTransaction").await;
    assert_eq!((&stopped["transactionId"], &stopped["reason"]), (&json!(77), &json!("Remote")));
    let connector = charger.state().connectors[0].clone();
    assert_eq!(stopped["meterStop"], json!(connector.meter_wh));
    assert_eq!(connector.session_wh, connector.meter_wh - 1_000);
    assert_eq!(peer.take("StatusNotification").await["status"], "Finishing");
    charger.unplug(1).await;
    assert_eq!(peer.take("StatusNotification").await["status"], "Available");
    let state = charger.wait_until(LIMIT, |s| s.queued == 0).await.unwrap();
    assert_eq!(state.connectors[0].status, ConnectorStatus::Available);
    charger.shutdown().await;
    peer.until_closed().await;
}

#[tokio::test]
async fn a_card_starts_and_stops() {
    let server = Server::new(Version::V16).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    charger.present_card(1, "CARD").await;
    assert_eq!(peer.take("Authorize").await, json!({ "idTag": "CARD" }));
    peer.take_where("StatusNotification", |p| p["status"] == "Preparing").await;
    charger.plug_in(1).await;
    assert_eq!(peer.take("StartTransaction").await["idTag"], "CARD");
    charger.wait_status(1, ConnectorStatus::Charging, LIMIT).await.unwrap();
    charger.present_card(1, "OTHER").await;
    assert!(charger.state().connectors[0].in_transaction);
    charger.present_card(1, "CARD").await;
    let stop = peer.take("StopTransaction").await;
    assert_eq!((&stop["reason"], &stop["idTag"]), (&json!("Local"), &json!("CARD")));

    // A refused card starts nothing.
    let mut events = charger.subscribe();
    charger.present_card(1, "BAD").await;
    let call = peer.until("Authorize").await;
    peer.answer(&call, json!({ "idTagInfo": { "status": "Blocked" } })).await;
    loop {
        if let SimEvent::Refused { reason, .. } = events.recv().await.unwrap() {
            assert_eq!(reason, "Blocked");
            break;
        }
    }
    assert!(!charger.state().connectors[0].in_transaction);
}

#[tokio::test]
async fn an_invalid_id_tag_ends_the_transaction() {
    let server = Server::new(Version::V16).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    charger.plug_in(1).await;
    peer.command("RemoteStartTransaction", json!({ "idTag": "X" })).await;
    let call = peer.until("StartTransaction").await;
    peer.answer(&call, json!({ "transactionId": 5, "idTagInfo": { "status": "Invalid" } })).await;
    let stop = peer.take("StopTransaction").await;
    assert_eq!((&stop["reason"], &stop["transactionId"]), (&json!("DeAuthorized"), &json!(5)));
    charger.wait_status(1, ConnectorStatus::Finishing, LIMIT).await.unwrap();

    // With the setting off the transaction stays, without energy.
    let set = json!({ "key": "StopTransactionOnInvalidId", "value": "false" });
    assert_eq!(peer.command("ChangeConfiguration", set).await["status"], "Accepted");
    charger.unplug(1).await;
    charger.plug_in(1).await;
    peer.command("RemoteStartTransaction", json!({ "idTag": "X" })).await;
    let call = peer.until("StartTransaction").await;
    peer.answer(&call, json!({ "transactionId": 6, "idTagInfo": { "status": "ConcurrentTx" } })).await;
    charger.wait_status(1, ConnectorStatus::SuspendedEvse, LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_happened_offline_is_told_in_order() {
    let server = Server::new(Version::V16).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    peer.take_where("StatusNotification", |p| p["connectorId"] == 1).await;
    charger.go_offline().await;
    assert!(!charger.state().online);
    charger.plug_in(1).await;
    charger.present_card(1, "CARD").await;
    charger.wait_until(LIMIT, |s| s.queued >= 3).await.unwrap();
    charger.unplug(1).await;
    let offline = charger.state();
    assert_eq!(offline.connectors[0].status, ConnectorStatus::Available);
    charger.go_online().await;
    let mut peer = server.accept().await;
    let start = peer.take("StartTransaction").await;
    let stop = peer.take("StopTransaction").await;
    assert_eq!(stop["transactionId"], 77);
    assert_eq!(stop["reason"], "EVDisconnected");
    assert_eq!(start["meterStart"], 1_000);
    assert_eq!(stop["meterStop"], json!(offline.connectors[0].meter_wh));
    let told: Vec<&str> = peer.seen.iter().map(|(action, _)| action.as_str()).filter(|a| *a != "Heartbeat").collect();
    assert_eq!(told.len(), offline.queued, "no boot, and no status that did not change: {told:?}");
    assert_eq!((told[0], told.last().copied()), ("StartTransaction", Some("StopTransaction")));
    let times: Vec<&str> = peer
        .seen
        .iter()
        .filter_map(|(_, p)| p["timestamp"].as_str().or(p["meterValue"][0]["timestamp"].as_str()))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(peer.payloads("MeterValues").iter().all(|p| p["transactionId"] == 77));
    charger.wait_until(LIMIT, |s| s.queued == 0).await.unwrap();
}

#[tokio::test]
async fn a_refused_message_is_sent_again_then_given_up() {
    let server = Server::new(Version::V16).await;
    let mut config = server.config("CP");
    config.sample_interval = Duration::ZERO;
    let (charger, mut peer) = server.booted(config).await;
    charger.plug_in(1).await;
    charger.present_card(1, "CARD").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let call = peer.until("StartTransaction").await;
        ids.push(call[1].clone());
        peer.fail(&call).await;
    }
    peer.take("StartTransaction").await;
    assert_ne!(ids[0], ids[1], "message ids are unique");
    let starts = peer.payloads("StartTransaction");
    assert!(starts[0] == starts[1] && starts[1] == starts[2]);
    charger.wait_until(LIMIT, |s| s.connectors[0].transaction_id.as_deref() == Some("77")).await.unwrap();
    charger.stop_local(1).await;
    for _ in 0..3 {
        let call = peer.until("StopTransaction").await;
        peer.fail(&call).await;
    }
    let state = charger.wait_until(LIMIT, |s| s.queued == 0).await.unwrap();
    assert_eq!(state.lost, 1);
}

#[tokio::test]
async fn a_reset_stops_reconnects_and_boots() {
    let server = Server::new(Version::V16).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    for (kind, reason) in [("Soft", "SoftReset"), ("Hard", "HardReset")] {
        charger.plug_in(1).await;
        charger.present_card(1, "CARD").await;
        peer.take("StartTransaction").await;
        assert_eq!(peer.command("Reset", json!({ "type": kind })).await["status"], "Accepted");
        peer.until_closed().await;
        let before = peer.payloads("StopTransaction").len();
        assert_eq!(before, usize::from(kind == "Soft"), "a hard reset does not wait");
        let stopped = peer.payloads("StopTransaction").first().map(|p| p["reason"].clone());
        peer = server.accept().await;
        peer.boot().await;
        let stopped = match stopped {
            Some(stopped) => stopped,
            None => peer.take("StopTransaction").await["reason"].clone(),
        };
        assert_eq!(stopped, reason);
        peer.take_where("StatusNotification", |p| p["status"] == "Preparing").await;
        charger.unplug(1).await;
        peer.take_where("StatusNotification", |p| p["status"] == "Available" && p["connectorId"] == 1).await;
    }
}

#[tokio::test]
async fn configuration_is_read_and_changed() {
    let server = Server::new(Version::V16).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    let all = peer.command("GetConfiguration", json!({})).await;
    assert!(all["configurationKey"].as_array().unwrap().len() > 20);
    assert!(all.get("unknownKey").is_none());
    let some = peer.command("GetConfiguration", json!({ "key": ["HeartbeatInterval", "Nonsense"] })).await;
    assert_eq!(some["configurationKey"], json!([{ "key": "HeartbeatInterval", "readonly": false, "value": "300" }]));
    assert_eq!(some["unknownKey"], json!(["Nonsense"]));
    let mut set = async |key: &str, value: &str| {
        let answer = peer.command("ChangeConfiguration", json!({ "key": key, "value": value })).await;
        answer["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(set("Nonsense", "1").await, "NotSupported");
    assert_eq!(set("NumberOfConnectors", "9").await, "Rejected");
    assert_eq!(set("MeterValuesSampledData", "Energy.Active.Import.Register").await, "Accepted");
    assert_eq!(set("StopTxnSampledData", "Energy.Active.Import.Register").await, "Accepted");
    charger.plug_in(1).await;
    peer.command("RemoteStartTransaction", json!({ "idTag": "X" })).await;
    let values = peer.take("MeterValues").await;
    assert_eq!(values["meterValue"][0]["sampledValue"].as_array().unwrap().len(), 1);
    charger.stop_local(1).await;
    let stop = peer.take("StopTransaction").await;
    assert_eq!(stop["transactionData"][0]["sampledValue"][0]["context"], "Transaction.End");
    assert_eq!(stop["transactionData"][0]["sampledValue"][0]["value"], json!(stop["meterStop"].to_string()));

    // A new key takes effect at once, on a new connection.
    let key = json!({ "key": "AuthorizationKey", "value": "41".repeat(16) });
    assert_eq!(peer.command("ChangeConfiguration", key).await["status"], "Accepted");
    peer.until_closed().await;
    server.accept().await;
    let expected = "Basic Q1A6QUFBQUFBQUFBQUFBQUFBQQ==";
    assert_eq!(server.door.lock().unwrap().authorization.as_deref(), Some(expected));
}

#[tokio::test]
async fn the_very_first_event_is_heard() {
    let server = Server::new(Version::V16).await;
    let (charger, mut events) = Charger::spawn_watched(server.config("CP"));
    let _peer = server.accept().await;
    charger.wait_until(LIMIT, |s| s.online).await.unwrap();
    assert_eq!(events.try_recv(), Ok(SimEvent::Connected));
    assert!(charger.subscribe().try_recv().is_err());
}

#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let server = Server::new(Version::V16).await;
    server.door.lock().unwrap().refuse = Some(401);
    let charger = Charger::spawn(server.config("CP"));
    for _ in 0..3 {
        assert!(server.handshake().await.is_none());
        charger.wait_until(LIMIT, |s| s.refused == Some(401)).await.unwrap();
    }
    server.door.lock().unwrap().refuse = None;
    let mut peer = loop {
        // A handshake that was already under way may still have been refused.
        if let Some(peer) = server.handshake().await {
            break support::Peer::new(peer);
        }
    };
    peer.boot().await;
    let state = charger.wait_until(LIMIT, |s| s.booted).await.unwrap();
    assert_eq!(state.refused, None);
    drop(charger);
    peer.until_closed().await;
}
