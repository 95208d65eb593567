//! Charges on hand-made chargers, step by step, and what the operator sees of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Customer, Operator};
use crate::charger::{RawCharger, Version, at, now};
use crate::poll::eventually;
use crate::script::Script;
use crate::world::World;

/// A start by the app that a 1.6 charger begins; gives the transaction's id.
pub async fn begin_16(customer: &Customer, charger: &mut RawCharger, device: &str, meter_start: i64) -> i64 {
    customer.start(device).await.ok();
    let (tag, _) = charger.remote_start().await;
    charger.start(1, &tag, meter_start).await
}

/// A whole charge of this energy at a 1.6 charger, ended by the app; gives the purchase.
pub async fn ended_by_app(
    world: &mut World,
    charger: &mut RawCharger,
    customer: &Customer,
    device: &str,
    wh: i64,
) -> String {
    let transaction = begin_16(customer, charger, device, 1_000).await;
    charger.meter(1, transaction, 1_000 + wh).await;
    let purchase = customer.finish(device).await;
    charger.command("RemoteStopTransaction").await;
    charger.stop(transaction, 1_000 + wh).await;
    charger.status(1, "Available").await;
    world.billed(&purchase, wh).await;
    purchase
}

/// A whole charge of this energy at a 1.6 charger, ended there; gives the purchase.
pub async fn ended_at_charger(
    world: &mut World,
    charger: &mut RawCharger,
    customer: &Customer,
    device: &str,
    wh: i64,
) -> String {
    let transaction = begin_16(customer, charger, device, 1_000).await;
    charger.stop(transaction, 1_000 + wh).await;
    charger.status(1, "Available").await;
    let purchase = customer.finish(device).await;
    world.billed(&purchase, wh).await;
    purchase
}

/// A start by the app that a 2.0.1 station begins, as event 0 of this transaction.
pub async fn begin_201(customer: &Customer, charger: &mut RawCharger, device: &str, transaction: &str, wh: i64) {
    customer.start(device).await.ok();
    let started = started_event(charger, transaction, wh).await;
    let answer = charger.call("TransactionEvent", started).await.ok();
    assert_eq!(answer["idTokenInfo"]["status"], "Accepted", "{answer}");
}

/// The event that begins what was asked for from afar: event 0, with the token and the remoteStartId.
pub async fn started_event(charger: &RawCharger, transaction: &str, wh: i64) -> Value {
    let (token, remote_start_id) = charger.remote_start().await;
    let mut started = transaction_event("Started", transaction, 0, wh);
    started["idToken"] = json!({ "idToken": token, "type": "Central" });
    started["transactionInfo"]["remoteStartId"] = remote_start_id.into();
    started
}

/// 1.6 MeterValues of one moment with these sampled values.
pub fn meter_values(connector: u32, transaction: i64, ago: Duration, sampled: Value) -> Value {
    json!({
        "connectorId": connector, "transactionId": transaction,
        "meterValue": [{ "timestamp": at(ago), "sampledValue": sampled }],
    })
}

/// 1.6 StopTransaction.
pub fn stop_of(transaction: i64, meter_stop: i64, reason: &str) -> Value {
    json!({ "transactionId": transaction, "meterStop": meter_stop, "timestamp": now(), "reason": reason })
}

/// The sessions of a charger, newest first, as the operator sees them.
pub async fn sessions_of(operator: &Operator, identity: &str) -> Vec<Value> {
    let mut all = operator.all("/sessions").await;
    all.retain(|session| session["identity"] == identity);
    all
}

/// Waits until the newest session of a charger is in this status, and gives it.
pub async fn session_is(operator: &Operator, identity: &str, status: &str) -> Value {
    eventually(&format!("a {status} session at {identity}"), async || {
        sessions_of(operator, identity).await.first().filter(|session| session["status"] == status).cloned()
    })
    .await
}

/// Waits until a message of a charger `fits`, and gives it as it was kept.
pub async fn kept_message(operator: &Operator, identity: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a kept message of {identity}"), async || {
        let all = operator.get(&format!("/chargers/{identity}/messages?limit=200")).await.ok();
        all.as_array().unwrap().iter().find(|message| fits(message)).cloned()
    })
    .await
}

/// The newest message of a charger with this action, as it was kept.
pub async fn newest_message(operator: &Operator, identity: &str, action: &str) -> Value {
    kept_message(operator, identity, |message| message["action"] == action).await
}

/// The ledger's bookings of this kind.
pub async fn bookings(operator: &Operator, kind: &str) -> Vec<Value> {
    let mut all = operator.all("/ledger").await;
    all.retain(|booking| booking["kind"] == kind);
    all
}

/// A simulated charger with waits short enough for tests, which delivers 7 kW a hundred times over.
pub fn sim_config(tap: &crate::tap::Tap, identity: &str, version: Version) -> ocpp_sim::ChargerConfig {
    let version = match version {
        Version::V16 => ocpp_sim::Version::V16,
        Version::V201 => ocpp_sim::Version::V201,
    };
    ocpp_sim::ChargerConfig {
        speed: 100,
        sample_interval: Duration::from_secs(1),
        reconnect_min: Duration::from_millis(100),
        reconnect_max: Duration::from_millis(500),
        message_retry_interval: Duration::from_secs(1),
        ..ocpp_sim::ChargerConfig::new(format!("ws://{}/ocpp", tap.addr), identity, version)
    }
}

/// A 2.0.1 TransactionEvent on EVSE 1 with one register sample in Wh.
pub fn transaction_event(kind: &str, transaction: &str, seq_no: i64, wh: i64) -> Value {
    let trigger = match kind {
        "Started" => "RemoteStart",
        "Ended" => "RemoteStop",
        _ => "MeterValuePeriodic",
    };
    let context = match kind {
        "Started" => "Transaction.Begin",
        "Ended" => "Transaction.End",
        _ => "Sample.Periodic",
    };
    json!({
        "eventType": kind, "timestamp": now(), "triggerReason": trigger, "seqNo": seq_no,
        "transactionInfo": { "transactionId": transaction, "chargingState": "Charging" },
        "evse": { "id": 1, "connectorId": 1 },
        "meterValue": [{ "timestamp": now(), "sampledValue": [{
            "value": wh, "measurand": "Energy.Active.Import.Register", "context": context,
            "unitOfMeasure": { "unit": "Wh" },
        }] }],
    })
}

/// A start by the app that the charger is sent, and whose names the frames carry from then on.
pub async fn asked_for(script: &mut Script, customer: &Customer, charger: &RawCharger, device: &str) {
    customer.start(device).await.ok();
    let (tag, remote) = charger.remote_start().await;
    script.set("TAG", tag);
    script.set("REMOTE", remote);
}
