//! A 2.0.1 charger over a real socket.
#![allow(clippy::unwrap_used)]

mod support;
use ocpp_sim::Version;
use serde_json::{Value, json};
use support::{LIMIT, Server};

fn start(evse: u32) -> Value {
    json!({ "evseId": evse, "remoteStartId": 5, "idToken": { "idToken": "ABC", "type": "Central" } })
}

#[tokio::test]
async fn remote_start_to_remote_stop() {
    let server = Server::new(Version::V201).await;
    let (charger, mut peer) = server.booted(server.config("CP-2")).await;
    assert_eq!(peer.payloads("BootNotification")[0]["reason"], "PowerUp");
    assert_eq!(peer.take("StatusNotification").await["connectorStatus"], "Available");
    // Before the cable: accepted, and it waits.
    let answer = peer.command("RequestStartTransaction", start(1)).await;
    assert_eq!(answer, json!({ "status": "Accepted" }));
    charger.plug_in(1).await;
    let started = peer.take("TransactionEvent").await;
    assert_eq!(started["eventType"], "Started");
    assert_eq!(started["triggerReason"], "CablePluggedIn");
    assert_eq!(started["seqNo"], 0);
    assert_eq!(started["transactionInfo"]["remoteStartId"], 5);
    assert_eq!(started["evse"], json!({ "id": 1, "connectorId": 1 }));
    assert_eq!(started["idToken"], json!({ "idToken": "ABC", "type": "Central" }));
    let id = started["transactionInfo"]["transactionId"].clone();
    assert_eq!(id.as_str().unwrap().len(), 36);
    assert_eq!(peer.payloads("StatusNotification").last().unwrap()["connectorStatus"], "Occupied");
    let updated = peer.take("TransactionEvent").await;
    assert_eq!(updated["triggerReason"], "MeterValuePeriodic");
    assert_eq!(updated["evse"], Value::Null);
    charger.wait_until(LIMIT, |s| s.connectors[0].session_wh > 100).await.unwrap();
    let status = peer.command("GetTransactionStatus", json!({ "transactionId": id })).await;
    assert_eq!(status["ongoingIndicator"], true);
    assert_eq!(peer.command("RequestStopTransaction", json!({ "transactionId": id })).await["status"], "Accepted");
    let ended = peer.take_where("TransactionEvent", |p| p["eventType"] == "Ended").await;
    assert_eq!(ended["triggerReason"], "RemoteStop");
    assert_eq!(ended["transactionInfo"]["stoppedReason"], "Remote");
    assert_eq!(ended["meterValue"][0]["sampledValue"][0]["value"], json!(charger.state().connectors[0].meter_wh));
    for (seq, event) in (0i64..).zip(peer.payloads("TransactionEvent")) {
        assert_eq!(event["seqNo"], json!(seq), "{event}");
        assert_eq!(event["transactionInfo"]["transactionId"], id);
    }
    charger.unplug(1).await;
    assert_eq!(peer.take("StatusNotification").await["connectorStatus"], "Available");
    charger.shutdown().await;
    peer.until_closed().await;
}
