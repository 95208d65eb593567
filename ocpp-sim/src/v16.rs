//! OCPP 1.6J: messages of the charge point, and its answers to the central system (edition 2, sections 4 to 7).

use crate::{
    connector::{Authorization, StopReason},
    link::Answer,
    queue::Part,
    settings::{Access, Key, SetError},
    station::{Purpose, Registration, Station},
};
use serde_json::{Map, Value, json};

const ERROR_CODES: [&str; 16] = [
    "ConnectorLockFailure",
    "EVCommunicationError",
    "GroundFailure",
    "HighTemperature",
    "InternalError",
    "LocalListConflict",
    "NoError",
    "OtherError",
    "OverCurrentFailure",
    "OverVoltage",
    "PowerMeterFailure",
    "PowerSwitchFailure",
    "ReaderFailure",
    "ResetFailure",
    "UnderVoltage",
    "WeakSignal",
];

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

pub(crate) fn boot(station: &Station) -> Value {
    let config = &station.config;
    json!({
        "chargePointVendor": cut(&config.vendor, 20),
        "chargePointModel": cut(&config.model, 20),
        "chargePointSerialNumber": cut(&config.identity, 25),
        "firmwareVersion": cut(&config.firmware, 50),
    })
}

/// StatusNotification of a connector, or of the charge point as a whole (connector 0).
pub(crate) fn status(station: &Station, i: Option<usize>) -> Value {
    let timestamp = station.timestamp();
    let Some(connector) = i.map(|i| &station.connectors[i]) else {
        let status = if station.operative { "Available" } else { "Unavailable" };
        return json!({ "connectorId": 0, "errorCode": "NoError", "status": status, "timestamp": timestamp });
    };
    let status = connector.status().as_str();
    let base = json!({ "connectorId": connector.id, "status": status, "timestamp": timestamp });
    let mut payload = base;
    match connector.fault.as_deref() {
        None => payload["errorCode"] = json!("NoError"),
        Some(code) if ERROR_CODES.contains(&code) && code != "NoError" => payload["errorCode"] = json!(code),
        Some(other) => {
            payload["errorCode"] = json!("OtherError");
            if !other.is_empty() {
                payload["info"] = json!(cut(other, 50));
            }
        }
    }
    payload
}

pub(crate) fn reason_name(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Local | StopReason::Card => "Local",
        StopReason::Remote => "Remote",
        StopReason::Unplugged => "EVDisconnected",
        StopReason::DeAuthorized => "DeAuthorized",
        StopReason::SoftReset => "SoftReset",
        StopReason::HardReset => "HardReset",
        StopReason::Unlock => "UnlockCommand",
        StopReason::Fault => "Other",
    }
}

pub(crate) fn start(station: &mut Station, i: usize) {
    let connector = &station.connectors[i];
    let Some(session) = &connector.session else { return };
    let payload = json!({
        "connectorId": connector.id,
        "idTag": session.who.id_tag,
        "meterStart": session.start_wh,
        "timestamp": session.started_at,
    });
    station.transaction_message(i, "StartTransaction", Part::Start, payload);
}

/// The measurands of this list, as 1.6 writes them.
fn sampled_values(station: &Station, i: usize, list: Key, context: &str) -> Vec<Value> {
    let connector = &station.connectors[i];
    let values = [
        ("Energy.Active.Import.Register", connector.meter.register_wh(), "Outlet", "Wh"),
        ("Power.Active.Import", connector.power_w(), "Outlet", "W"),
        ("SoC", connector.soc_percent(), "EV", "Percent"),
    ];
    values
        .into_iter()
        .filter(|(measurand, ..)| station.settings.samples(list, measurand))
        .filter(|(measurand, ..)| *measurand != "SoC" || connector.car.is_some())
        .map(|(measurand, value, location, unit)| {
            json!({
                "value": value.to_string(),
                "context": context,
                "format": "Raw",
                "measurand": measurand,
                "location": location,
                "unit": unit,
            })
        })
        .collect()
}

fn meter_values(station: &Station, i: usize, context: &str) -> Option<Value> {
    let values = sampled_values(station, i, Key::SampledData, context);
    (!values.is_empty()).then(|| {
        json!({
            "connectorId": station.connectors[i].id,
            "meterValue": [{ "timestamp": station.timestamp(), "sampledValue": values }],
        })
    })
}

pub(crate) fn sample(station: &mut Station, i: usize) {
    if let Some(payload) = meter_values(station, i, "Sample.Periodic") {
        station.transaction_message(i, "MeterValues", Part::Update, payload);
    }
}

pub(crate) fn stop(station: &mut Station, i: usize, reason: StopReason) {
    let connector = &station.connectors[i];
    let Some(session) = &connector.session else { return };
    let mut payload = json!({
        "meterStop": connector.meter.register_wh(),
        "timestamp": station.timestamp(),
        "reason": reason_name(reason),
    });
    if reason == StopReason::Card {
        payload["idTag"] = json!(session.who.id_tag);
    }
    let values = sampled_values(station, i, Key::StopData, "Transaction.End");
    if !values.is_empty() {
        payload["transactionData"] = json!([{ "timestamp": station.timestamp(), "sampledValue": values }]);
    }
    station.transaction_message(i, "StopTransaction", Part::End, payload);
}

fn formation(what: &str) -> (&'static str, String) {
    ("FormationViolation", format!("{what} is missing or no good"))
}

fn text<'a>(payload: &'a Value, name: &str) -> Result<&'a str, (&'static str, String)> {
    payload[name].as_str().ok_or_else(|| formation(name))
}

fn integer(payload: &Value, name: &str) -> Result<i64, (&'static str, String)> {
    payload[name].as_i64().ok_or_else(|| formation(name))
}

fn status_of(status: &str) -> Answer {
    Ok(json!({ "status": status }))
}

/// Answers a command, and does what it says.
pub(crate) fn command(station: &mut Station, action: &str, payload: &Value) -> Answer {
    match action {
        "RemoteStartTransaction" => remote_start(station, payload),
        "RemoteStopTransaction" => remote_stop(station, payload),
        "ChangeConfiguration" => change_configuration(station, payload),
        "GetConfiguration" => get_configuration(station, payload),
        "ChangeAvailability" => change_availability(station, payload),
        "UnlockConnector" => unlock(station, payload),
        "Reset" => {
            let reason = match text(payload, "type")? {
                "Soft" => StopReason::SoftReset,
                "Hard" => StopReason::HardReset,
                _ => return Err(formation("type")),
            };
            station.begin_reset(reason, "RemoteReset", false);
            status_of("Accepted")
        }
        "ClearCache" => {
            station.known_tags.clear();
            let enabled = station.settings.is_on(Key::AuthCache);
            status_of(if enabled { "Accepted" } else { "Rejected" })
        }
        "TriggerMessage" => trigger(station, payload),
        "DataTransfer" => {
            text(payload, "vendorId")?;
            status_of("UnknownVendorId")
        }
        other => Err(("NotImplemented", format!("{other} is not implemented"))),
    }
}

fn remote_start(station: &mut Station, payload: &Value) -> Answer {
    let id_tag = text(payload, "idTag")?.to_owned();
    let asked = match &payload["connectorId"] {
        Value::Null => None,
        id => Some(id.as_i64().ok_or_else(|| formation("connectorId"))?),
    };
    if id_tag.chars().count() > 20 {
        return Err(formation("idTag"));
    }
    let resetting = station.reset.is_some();
    let connector = station.connector_for(asked);
    let Some(i) = connector.filter(|_| station.is_accepted() && !resetting) else {
        return status_of("Rejected");
    };
    let who = Authorization { id_tag, token_type: "Central".to_owned(), remote_start_id: None, remote: true };
    station.remote_start(i, who);
    status_of("Accepted")
}

fn remote_stop(station: &mut Station, payload: &Value) -> Answer {
    let id = integer(payload, "transactionId")?.to_string();
    let running = station.connectors.iter().position(|c| {
        let session = c.session.as_ref();
        session.is_some_and(|s| s.id.as_deref() == Some(&id))
    });
    match running.filter(|_| station.registration == Registration::Accepted) {
        Some(i) => {
            station.end_session(i, StopReason::Remote);
            status_of("Accepted")
        }
        None => status_of("Rejected"),
    }
}

fn change_configuration(station: &mut Station, payload: &Value) -> Answer {
    let (key, value) = (text(payload, "key")?, text(payload, "value")?);
    let Some(index) = station.settings.find("", key, "") else {
        return status_of("NotSupported");
    };
    match station.settings.set(index, value) {
        Ok(key) => {
            if let Some(key) = key {
                station.setting_changed(key);
            }
            status_of("Accepted")
        }
        Err(SetError::ReadOnly | SetError::BadValue) => status_of("Rejected"),
    }
}

fn get_configuration(station: &Station, payload: &Value) -> Answer {
    let asked: Vec<&str> = match &payload["key"] {
        Value::Null => Vec::new(),
        Value::Array(keys) => keys.iter().filter_map(Value::as_str).collect(),
        _ => return Err(formation("key")),
    };
    let settings = &station.settings;
    let readable = |name: &str| settings.rows().find(|(spec, _)| spec.name.eq_ignore_ascii_case(name));
    let known: Vec<Value> = settings
        .rows()
        .filter(|(spec, _)| asked.is_empty() || asked.iter().any(|a| a.eq_ignore_ascii_case(spec.name)))
        .map(|(spec, value)| {
            let mut entry = json!({ "key": spec.name, "readonly": spec.access == Access::Read });
            if spec.access != Access::Write {
                entry["value"] = json!(value);
            }
            entry
        })
        .collect();
    let unknown: Vec<String> = asked.iter().filter(|name| readable(name).is_none()).map(|name| cut(name, 50)).collect();
    let mut answer = Map::new();
    if !known.is_empty() {
        answer.insert("configurationKey".to_owned(), Value::Array(known));
    }
    if !unknown.is_empty() {
        answer.insert("unknownKey".to_owned(), json!(unknown));
    }
    Ok(Value::Object(answer))
}

fn change_availability(station: &mut Station, payload: &Value) -> Answer {
    let operative = match text(payload, "type")? {
        "Operative" => true,
        "Inoperative" => false,
        _ => return Err(formation("type")),
    };
    let which = match integer(payload, "connectorId")? {
        0 => None,
        id => match station.index(id) {
            Some(i) => Some(i),
            None => return status_of("Rejected"),
        },
    };
    let scheduled = station.change_availability(which, operative);
    status_of(if scheduled { "Scheduled" } else { "Accepted" })
}

fn unlock(station: &mut Station, payload: &Value) -> Answer {
    match station.index(integer(payload, "connectorId")?) {
        Some(i) => {
            station.end_session(i, StopReason::Unlock);
            status_of("Unlocked")
        }
        None => status_of("NotSupported"),
    }
}

fn trigger(station: &mut Station, payload: &Value) -> Answer {
    let which = match &payload["connectorId"] {
        Value::Null => 0..station.connectors.len(),
        id => match id.as_i64().and_then(|id| station.index(id)) {
            Some(i) => i..i + 1,
            None => return status_of("Rejected"),
        },
    };
    let idle = json!({ "status": "Idle" });
    match text(payload, "requestedMessage")? {
        "BootNotification" => station.send_boot(true),
        "Heartbeat" => station.send_heartbeat(true),
        "StatusNotification" if payload["connectorId"].is_null() => station.tell_all(true),
        "StatusNotification" => which.for_each(|i| station.tell(i, true)),
        "MeterValues" => which.for_each(|i| triggered_values(station, i)),
        "FirmwareStatusNotification" => station.call("FirmwareStatusNotification", idle, Purpose::Other, true),
        "DiagnosticsStatusNotification" => {
            station.call("DiagnosticsStatusNotification", idle, Purpose::Other, true);
        }
        _ => return status_of("NotImplemented"),
    }
    status_of("Accepted")
}

fn triggered_values(station: &mut Station, i: usize) {
    let Some(mut payload) = meter_values(station, i, "Trigger") else { return };
    let session = station.connectors[i].session.as_ref();
    if let Some(id) = session.and_then(|s| s.id.as_ref()?.parse::<i64>().ok()) {
        payload["transactionId"] = json!(id);
    }
    station.call("MeterValues", payload, Purpose::Other, true);
}
