//! OCPP 2.0.1: messages of the charging station (part 2, sections B, E, G and J).

use crate::{
    connector::{Authorization, StopReason},
    queue::Part,
    settings::Key,
    state::ConnectorStatus,
    station::Station,
};
use serde_json::{Value, json};

pub(crate) use crate::v201_commands::command;

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

pub(crate) fn boot(station: &Station, triggered: bool) -> Value {
    let config = &station.config;
    let reason = if triggered { "Triggered" } else { station.boot_reason };
    json!({
        "reason": reason,
        "chargingStation": {
            "vendorName": cut(&config.vendor, 50),
            "model": cut(&config.model, 20),
            "serialNumber": cut(&config.identity, 25),
            "firmwareVersion": cut(&config.firmware, 50),
        },
    })
}

pub(crate) fn status_name(status: ConnectorStatus) -> &'static str {
    match status {
        ConnectorStatus::Available => "Available",
        ConnectorStatus::Unavailable => "Unavailable",
        ConnectorStatus::Faulted => "Faulted",
        ConnectorStatus::Preparing
        | ConnectorStatus::Charging
        | ConnectorStatus::SuspendedEv
        | ConnectorStatus::SuspendedEvse
        | ConnectorStatus::Finishing => "Occupied",
    }
}

pub(crate) fn status(station: &Station, i: usize) -> Value {
    let connector = &station.connectors[i];
    json!({
        "timestamp": station.timestamp(),
        "connectorStatus": status_name(connector.status()),
        "evseId": connector.id,
        "connectorId": 1,
    })
}

pub(crate) fn id_token(who: &Authorization) -> Value {
    json!({ "idToken": who.id_tag, "type": who.token_type })
}

/// State of the running transaction, as TransactionEvent names it.
fn charging_state(status: ConnectorStatus) -> &'static str {
    match status {
        ConnectorStatus::Charging => "Charging",
        ConnectorStatus::SuspendedEv => "SuspendedEV",
        ConnectorStatus::SuspendedEvse => "SuspendedEVSE",
        _ => "EVConnected",
    }
}

/// One meterValue with what the list asks for; `None` where it asks for nothing.
pub(crate) fn meter_value(station: &Station, i: usize, context: &str) -> Option<Value> {
    let connector = &station.connectors[i];
    let values = [
        ("Energy.Active.Import.Register", connector.meter.register_wh(), "Outlet", "Wh"),
        ("Power.Active.Import", connector.power_w(), "Outlet", "W"),
        ("SoC", connector.soc_percent(), "EV", "Percent"),
    ];
    let periodic = context == "Sample.Periodic";
    let sampled: Vec<Value> = values
        .into_iter()
        .filter(|(measurand, ..)| !periodic || station.settings.samples(Key::SampledData, measurand))
        .filter(|(measurand, ..)| *measurand != "SoC" || connector.car.is_some())
        .map(|(measurand, value, location, unit)| {
            json!({
                "value": value,
                "context": context,
                "measurand": measurand,
                "location": location,
                "unitOfMeasure": { "unit": unit },
            })
        })
        .collect();
    (!sampled.is_empty()).then(|| json!({ "timestamp": station.timestamp(), "sampledValue": sampled }))
}

/// The parts that all three kinds of TransactionEvent have; counts the sequence number up.
fn event(station: &mut Station, i: usize, kind: &str, trigger: &str, context: &str) -> Option<Value> {
    let meter = meter_value(station, i, context);
    let (timestamp, offline) = (station.timestamp(), !station.online);
    let connector = &mut station.connectors[i];
    let state = charging_state(connector.status());
    let session = connector.session.as_mut()?;
    let seq = session.next_seq;
    session.next_seq += 1;
    session.charging_state = state;
    let mut payload = json!({
        "eventType": kind,
        "timestamp": timestamp,
        "triggerReason": trigger,
        "seqNo": seq,
        "transactionInfo": { "transactionId": session.id, "chargingState": state },
    });
    if offline {
        payload["offline"] = json!(true);
    }
    if let Some(meter) = meter {
        payload["meterValue"] = json!([meter]);
    }
    Some(payload)
}

pub(crate) fn start(station: &mut Station, i: usize, cable_last: bool) {
    let connector = &station.connectors[i];
    let Some(session) = &connector.session else { return };
    let (who, evse) = (session.who.clone(), connector.id);
    let trigger = match (cable_last, who.remote) {
        (true, _) => "CablePluggedIn",
        (false, true) => "RemoteStart",
        (false, false) => "Authorized",
    };
    let Some(mut payload) = event(station, i, "Started", trigger, "Transaction.Begin") else {
        return;
    };
    payload["evse"] = json!({ "id": evse, "connectorId": 1 });
    payload["idToken"] = id_token(&who);
    if let Some(id) = who.remote_start_id {
        payload["transactionInfo"]["remoteStartId"] = json!(id);
    }
    station.transaction_message(i, "TransactionEvent", Part::Start, payload);
}

/// An Updated event with a meter value.
pub(crate) fn update(station: &mut Station, i: usize, trigger: &str) {
    let context = match trigger {
        "MeterValuePeriodic" => "Sample.Periodic",
        "Trigger" => "Trigger",
        _ => "Other",
    };
    if let Some(payload) = event(station, i, "Updated", trigger, context) {
        station.transaction_message(i, "TransactionEvent", Part::Update, payload);
    }
}

/// Tells a charging state that the central system does not know yet.
pub(crate) fn tell_charging_state(station: &mut Station, i: usize) {
    let connector = &station.connectors[i];
    let now = charging_state(connector.status());
    if connector.session.as_ref().is_some_and(|s| s.charging_state != now) {
        update(station, i, "ChargingStateChanged");
    }
}

pub(crate) fn stop(station: &mut Station, i: usize, reason: StopReason) {
    let (trigger, stopped) = match reason {
        StopReason::Local | StopReason::Card => ("StopAuthorized", "Local"),
        StopReason::Remote => ("RemoteStop", "Remote"),
        StopReason::Unplugged => ("EVCommunicationLost", "EVDisconnected"),
        StopReason::DeAuthorized => ("Deauthorized", "DeAuthorized"),
        StopReason::SoftReset | StopReason::HardReset => ("ResetCommand", "ImmediateReset"),
        StopReason::Unlock => ("UnlockCommand", "Other"),
        StopReason::Fault => ("AbnormalCondition", "Other"),
    };
    let Some(mut payload) = event(station, i, "Ended", trigger, "Transaction.End") else {
        return;
    };
    let unplugged = reason == StopReason::Unplugged;
    payload["transactionInfo"]["chargingState"] = json!(if unplugged { "Idle" } else { "EVConnected" });
    payload["transactionInfo"]["stoppedReason"] = json!(stopped);
    if reason == StopReason::Card
        && let Some(session) = &station.connectors[i].session
    {
        payload["idToken"] = id_token(&session.who);
    }
    station.transaction_message(i, "TransactionEvent", Part::End, payload);
}
