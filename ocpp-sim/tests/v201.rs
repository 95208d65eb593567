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

#[tokio::test]
async fn what_happened_offline_is_told_in_order() {
    let server = Server::new(Version::V201).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    charger.plug_in(1).await;
    peer.command("RequestStartTransaction", start(1)).await;
    peer.take_where("TransactionEvent", |p| p["seqNo"] == 1).await;
    charger.go_offline().await;
    let before = charger.state().queued;
    charger.wait_until(LIMIT, |s| s.queued >= before + 3).await.unwrap();
    charger.unplug(1).await;
    let offline = charger.state();
    charger.go_online().await;
    let mut peer = server.accept().await;
    let ended = peer.take_where("TransactionEvent", |p| p["eventType"] == "Ended").await;
    assert_eq!(ended["offline"], true);
    assert_eq!(ended["triggerReason"], "EVCommunicationLost");
    assert_eq!(ended["transactionInfo"]["chargingState"], "Idle");
    let events = peer.payloads("TransactionEvent");
    assert_eq!(events.len(), offline.queued);
    let seqs: Vec<i64> = events.iter().map(|p| p["seqNo"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "{seqs:?}");
    let status = peer.command("GetTransactionStatus", json!({})).await;
    assert_eq!(status, json!({ "messagesInQueue": false }));
    assert!(peer.payloads("BootNotification").is_empty());
}

#[tokio::test]
async fn an_invalid_token_ends_the_transaction() {
    let server = Server::new(Version::V201).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    charger.plug_in(1).await;
    peer.command("RequestStartTransaction", start(1)).await;
    let call = peer.until("TransactionEvent").await;
    assert_eq!(call[3]["triggerReason"], "RemoteStart");
    // An error first: the same event comes again.
    peer.fail(&call).await;
    let again = peer.until("TransactionEvent").await;
    assert_eq!(call[3], again[3]);
    peer.answer(&again, json!({ "idTokenInfo": { "status": "Invalid" } })).await;
    let ended = peer.take_where("TransactionEvent", |p| p["eventType"] == "Ended").await;
    assert_eq!(ended["triggerReason"], "Deauthorized");
    assert_eq!(ended["transactionInfo"]["stoppedReason"], "DeAuthorized");
    charger.wait_until(LIMIT, |s| !s.connectors[0].in_transaction).await.unwrap();
}

#[tokio::test]
async fn a_reset_stops_reconnects_and_boots() {
    let server = Server::new(Version::V201).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    charger.plug_in(1).await;
    peer.command("RequestStartTransaction", start(1)).await;
    peer.take("TransactionEvent").await;
    assert_eq!(peer.command("Reset", json!({ "type": "Immediate" })).await["status"], "Accepted");
    let ended = peer.take_where("TransactionEvent", |p| p["eventType"] == "Ended").await;
    assert_eq!(ended["transactionInfo"]["stoppedReason"], "ImmediateReset");
    peer.until_closed().await;
    let mut peer = server.accept().await;
    assert_eq!(peer.boot().await["reason"], "RemoteReset");

    // The second kind waits until the transaction is over.
    peer.command("RequestStartTransaction", start(1)).await;
    peer.take("TransactionEvent").await;
    assert_eq!(peer.command("Reset", json!({ "type": "OnIdle" })).await["status"], "Scheduled");
    assert_eq!(peer.command("RequestStartTransaction", start(1)).await["status"], "Rejected");
    charger.stop_local(1).await;
    peer.until_closed().await;
    let ended = peer.payloads("TransactionEvent").last().unwrap()["transactionInfo"]["stoppedReason"].clone();
    assert_eq!(ended, "Local");
    let mut peer = server.accept().await;
    assert_eq!(peer.boot().await["reason"], "ScheduledReset");
}

#[tokio::test]
async fn variables_and_reports() {
    let server = Server::new(Version::V201).await;
    let (charger, mut peer) = server.booted(server.config("CP")).await;
    let of = |component: &str, variable: &str| json!({ "component": { "name": component }, "variable": { "name": variable } });
    let asked = json!({ "getVariableData": [
        of("SampledDataCtrlr", "TxUpdatedInterval"), of("SampledDataCtrlr", "Nonsense"), of("Nonsense", "Nonsense"),
        of("SecurityCtrlr", "BasicAuthPassword"),
    ] });
    let answer = peer.command("GetVariables", asked).await;
    let results = answer["getVariableResult"].as_array().unwrap();
    let statuses: Vec<&Value> = results.iter().map(|r| &r["attributeStatus"]).collect();
    assert_eq!(statuses, ["Accepted", "UnknownVariable", "UnknownComponent", "Rejected"]);
    assert_eq!(results[0]["attributeValue"], "0");
    let mut entry = of("SampledDataCtrlr", "TxUpdatedInterval");
    entry["attributeValue"] = json!("1");
    let answer = peer.command("SetVariables", json!({ "setVariableData": [entry] })).await;
    assert_eq!(answer["setVariableResult"][0]["attributeStatus"], "Accepted");

    let answer = peer.command("GetBaseReport", json!({ "requestId": 7, "reportBase": "FullInventory" })).await;
    assert_eq!(answer["status"], "Accepted");
    let (mut parts, mut entries) = (0, 0);
    loop {
        let report = peer.take("NotifyReport").await;
        assert_eq!((&report["requestId"], &report["seqNo"]), (&json!(7), &json!(parts)));
        parts += 1;
        entries += report["reportData"].as_array().unwrap().len();
        if report["tbc"] == false {
            break;
        }
    }
    assert!(parts > 2 && entries > 25, "{parts} parts, {entries} entries");

    let evse = json!({ "evseId": 1, "connectorId": 1 });
    assert_eq!(peer.command("UnlockConnector", evse.clone()).await["status"], "Unlocked");
    charger.plug_in(1).await;
    let answer = peer.command("RequestStartTransaction", start(1)).await;
    assert_eq!(answer["transactionId"].as_str(), charger.state().connectors[0].transaction_id.as_deref());
    assert_eq!(peer.command("UnlockConnector", evse).await["status"], "OngoingAuthorizedTransaction");
    assert_eq!(peer.command_frame("ReserveNow", json!({})).await[2], "NotImplemented");
}
