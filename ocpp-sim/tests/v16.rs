//! A 1.6 charger over a real socket.
#![allow(clippy::unwrap_used)]

mod support;
use ocpp_sim::{ConnectorStatus, Version};
use serde_json::json;
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
