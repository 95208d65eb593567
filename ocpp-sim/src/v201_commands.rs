//! OCPP 2.0.1: the charging station's answers to the central system (part 2).

use crate::{
    connector::{Authorization, StopReason},
    link::Answer,
    settings::{Access, Key, Kind, MEASURANDS, SetError, Settings, Spec},
    station::{Purpose, Station},
    v201,
};
use serde_json::{Value, json};

/// Entries in one NotifyReport.
const REPORT_PART: usize = 10;

fn missing(what: &str) -> (&'static str, String) {
    ("FormatViolation", format!("{what} is missing or no good"))
}

fn text<'a>(payload: &'a Value, name: &str) -> Result<&'a str, (&'static str, String)> {
    payload[name].as_str().ok_or_else(|| missing(name))
}

fn integer(payload: &Value, name: &str) -> Result<i64, (&'static str, String)> {
    payload[name].as_i64().ok_or_else(|| missing(name))
}

fn status_of(status: &str) -> Answer {
    Ok(json!({ "status": status }))
}

/// Answers a command, and does what it says.
pub(crate) fn command(station: &mut Station, action: &str, payload: &Value) -> Answer {
    match action {
        "RequestStartTransaction" => request_start(station, payload),
        "RequestStopTransaction" => request_stop(station, payload),
        "GetTransactionStatus" => transaction_status(station, payload),
        "GetVariables" => get_variables(station, payload),
        "SetVariables" => set_variables(station, payload),
        "GetBaseReport" => base_report(station, payload),
        "Reset" => reset(station, payload),
        "UnlockConnector" => unlock(station, payload),
        "ChangeAvailability" => change_availability(station, payload),
        "TriggerMessage" => trigger(station, payload),
        "ClearCache" => {
            station.known_tags.clear();
            let enabled = station.settings.is_on(Key::AuthCache);
            status_of(if enabled { "Accepted" } else { "Rejected" })
        }
        "DataTransfer" => {
            text(payload, "vendorId")?;
            status_of("UnknownVendorId")
        }
        other => Err(("NotImplemented", format!("{other} is not implemented"))),
    }
}

fn request_start(station: &mut Station, payload: &Value) -> Answer {
    let remote_start_id = integer(payload, "remoteStartId")?;
    let id_tag = text(&payload["idToken"], "idToken")?.to_owned();
    let token_type = text(&payload["idToken"], "type")?.to_owned();
    if id_tag.chars().count() > 36 {
        return Err(missing("idToken"));
    }
    let asked = match &payload["evseId"] {
        Value::Null => None,
        id => Some(id.as_i64().ok_or_else(|| missing("evseId"))?),
    };
    let resetting = station.reset.is_some();
    let evse = station.connector_for(asked);
    let Some(i) = evse.filter(|_| station.is_accepted() && !resetting) else {
        return status_of("Rejected");
    };
    let who = Authorization { id_tag, token_type, remote_start_id: Some(remote_start_id), remote: true };
    station.remote_start(i, who);
    let session = station.connectors[i].session.as_ref();
    match session.and_then(|s| s.id.as_deref()) {
        Some(id) => Ok(json!({ "status": "Accepted", "transactionId": id })),
        None => status_of("Accepted"),
    }
}

/// Index of the connector and our number of the running transaction with this id.
fn running(station: &Station, id: &str) -> Option<(usize, u64)> {
    station.connectors.iter().enumerate().find_map(|(i, c)| {
        let session = c.session.as_ref()?;
        (session.id.as_deref() == Some(id)).then_some((i, session.number))
    })
}

fn request_stop(station: &mut Station, payload: &Value) -> Answer {
    let id = text(payload, "transactionId")?;
    match running(station, id).filter(|_| station.is_accepted()) {
        Some((i, _)) => {
            station.end_session(i, StopReason::Remote);
            status_of("Accepted")
        }
        None => status_of("Rejected"),
    }
}

fn transaction_status(station: &Station, payload: &Value) -> Answer {
    match &payload["transactionId"] {
        Value::Null => Ok(json!({ "messagesInQueue": station.queue.len() > 0 })),
        Value::String(id) => Ok(json!({
            "ongoingIndicator": running(station, id).is_some(),
            "messagesInQueue": station.queue.has_transaction(id),
        })),
        _ => Err(missing("transactionId")),
    }
}

/// Finds the variable that an entry names; otherwise the status that says what is wrong.
fn lookup(settings: &Settings, entry: &Value) -> Result<usize, &'static str> {
    let (component, variable) = (&entry["component"], &entry["variable"]);
    let name = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let component_name = name(component, "name");
    if !settings.has_component(&component_name) || !component["evse"].is_null() {
        return Err("UnknownComponent");
    }
    let found = settings.find(&component_name, &name(variable, "name"), &name(variable, "instance"));
    let index = found.ok_or("UnknownVariable")?;
    match entry["attributeType"].as_str() {
        None | Some("Actual") => Ok(index),
        Some(_) => Err("NotSupportedAttributeType"),
    }
}

fn entries<'a>(payload: &'a Value, name: &str) -> Result<&'a Vec<Value>, (&'static str, String)> {
    let entries = payload[name].as_array().filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| missing(name))?;
    for entry in entries {
        text(&entry["component"], "name")?;
        text(&entry["variable"], "name")?;
    }
    Ok(entries)
}

/// One entry of an answer: what was asked about, and how it went.
fn outcome(entry: &Value, status: &str) -> Value {
    let mut outcome = json!({
        "attributeStatus": status,
        "component": entry["component"],
        "variable": entry["variable"],
    });
    if !entry["attributeType"].is_null() {
        outcome["attributeType"] = entry["attributeType"].clone();
    }
    outcome
}

fn get_variables(station: &Station, payload: &Value) -> Answer {
    let settings = &station.settings;
    let results: Vec<Value> = entries(payload, "getVariableData")?
        .iter()
        .map(|entry| match lookup(settings, entry) {
            Ok(index) if settings.spec(index).access == Access::Write => outcome(entry, "Rejected"),
            Ok(index) => {
                let mut outcome = outcome(entry, "Accepted");
                outcome["attributeValue"] = json!(settings.value(index));
                outcome
            }
            Err(status) => outcome(entry, status),
        })
        .collect();
    Ok(json!({ "getVariableResult": results }))
}

fn set_variables(station: &mut Station, payload: &Value) -> Answer {
    let mut results = Vec::new();
    for entry in entries(payload, "setVariableData")? {
        let value = text(entry, "attributeValue")?;
        let status = match lookup(&station.settings, entry) {
            Ok(index) => match station.settings.set(index, value) {
                Ok(key) => {
                    if let Some(key) = key {
                        station.setting_changed(key);
                    }
                    "Accepted"
                }
                Err(SetError::ReadOnly | SetError::BadValue) => "Rejected",
            },
            Err(status) => status,
        };
        results.push(outcome(entry, status));
    }
    Ok(json!({ "setVariableResult": results }))
}

fn report_entry(spec: &Spec, value: &str) -> Value {
    let mut variable = json!({ "name": spec.name });
    if !spec.instance.is_empty() {
        variable["instance"] = json!(spec.instance);
    }
    let mutability = match spec.access {
        Access::Read => "ReadOnly",
        Access::ReadWrite => "ReadWrite",
        Access::Write => "WriteOnly",
    };
    let mut attribute = json!({ "mutability": mutability });
    if spec.access != Access::Write {
        attribute["value"] = json!(value);
    }
    let mut characteristics = json!({ "supportsMonitoring": false });
    match spec.kind {
        Kind::Int(min, max) => {
            characteristics["dataType"] = json!("integer");
            characteristics["minLimit"] = json!(min);
            characteristics["maxLimit"] = json!(max);
        }
        Kind::Bool => characteristics["dataType"] = json!("boolean"),
        Kind::Measurands => {
            characteristics["dataType"] = json!("MemberList");
            characteristics["valuesList"] = json!(MEASURANDS.join(","));
        }
        Kind::Text(_) | Kind::HexKey | Kind::Password => characteristics["dataType"] = json!("string"),
    }
    json!({
        "component": { "name": spec.component },
        "variable": variable,
        "variableAttribute": [attribute],
        "variableCharacteristics": characteristics,
    })
}

fn base_report(station: &mut Station, payload: &Value) -> Answer {
    let request_id = integer(payload, "requestId")?;
    let changeable_only = match text(payload, "reportBase")? {
        "FullInventory" => false,
        "ConfigurationInventory" => true,
        "SummaryInventory" => return status_of("NotSupported"),
        _ => return Err(missing("reportBase")),
    };
    let rows: Vec<Value> = station
        .settings
        .rows()
        .filter(|(spec, _)| !changeable_only || spec.access != Access::Read)
        .map(|(spec, value)| report_entry(spec, value))
        .collect();
    let parts = rows.chunks(REPORT_PART).count();
    for (seq, part) in rows.chunks(REPORT_PART).enumerate() {
        let report = json!({
            "requestId": request_id,
            "generatedAt": station.timestamp(),
            "seqNo": seq,
            "tbc": seq + 1 < parts,
            "reportData": part,
        });
        station.call("NotifyReport", report, Purpose::Other, true);
    }
    status_of("Accepted")
}

fn reset(station: &mut Station, payload: &Value) -> Answer {
    if !payload["evseId"].is_null() {
        return status_of("Rejected");
    }
    let busy = station.connectors.iter().any(|c| c.session.is_some());
    match text(payload, "type")? {
        "Immediate" => {
            station.begin_reset(StopReason::SoftReset, "RemoteReset", false);
            status_of("Accepted")
        }
        "OnIdle" => {
            station.begin_reset(StopReason::SoftReset, "ScheduledReset", true);
            status_of(if busy { "Scheduled" } else { "Accepted" })
        }
        _ => Err(missing("type")),
    }
}

fn unlock(station: &mut Station, payload: &Value) -> Answer {
    let (evse, connector) = (integer(payload, "evseId")?, integer(payload, "connectorId")?);
    match station.index(evse).filter(|_| connector == 1) {
        Some(i) if station.connectors[i].session.is_some() => status_of("OngoingAuthorizedTransaction"),
        Some(_) => status_of("Unlocked"),
        None => status_of("UnknownConnector"),
    }
}

fn change_availability(station: &mut Station, payload: &Value) -> Answer {
    let operative = match text(payload, "operationalStatus")? {
        "Operative" => true,
        "Inoperative" => false,
        _ => return Err(missing("operationalStatus")),
    };
    let which = match &payload["evse"] {
        Value::Null => None,
        evse => match station.index(integer(evse, "id")?) {
            Some(i) => Some(i),
            None => return status_of("Rejected"),
        },
    };
    let scheduled = station.change_availability(which, operative);
    status_of(if scheduled { "Scheduled" } else { "Accepted" })
}

fn trigger(station: &mut Station, payload: &Value) -> Answer {
    let which = match &payload["evse"] {
        Value::Null => 0..station.connectors.len(),
        evse => match station.index(integer(evse, "id")?) {
            Some(i) => i..i + 1,
            None => return status_of("Rejected"),
        },
    };
    match text(payload, "requestedMessage")? {
        "BootNotification" if station.is_accepted() => return status_of("Rejected"),
        "BootNotification" => station.send_boot(true),
        "Heartbeat" => station.send_heartbeat(true),
        "StatusNotification" => which.for_each(|i| station.tell(i, true)),
        "MeterValues" => which.for_each(|i| {
            if let Some(value) = v201::meter_value(station, i, "Trigger") {
                let payload = json!({ "evseId": station.connectors[i].id, "meterValue": [value] });
                station.call("MeterValues", payload, Purpose::Other, true);
            }
        }),
        "TransactionEvent" => {
            let busy = |i: &usize| station.connectors[*i].session.is_some();
            let which: Vec<usize> = which.filter(busy).collect();
            if which.is_empty() {
                return status_of("Rejected");
            }
            which.into_iter().for_each(|i| v201::update(station, i, "Trigger"));
        }
        "FirmwareStatusNotification" => {
            station.call("FirmwareStatusNotification", json!({ "status": "Idle" }), Purpose::Other, true);
        }
        "LogStatusNotification" => {
            station.call("LogStatusNotification", json!({ "status": "Idle" }), Purpose::Other, true);
        }
        _ => return status_of("NotImplemented"),
    }
    status_of("Accepted")
}
