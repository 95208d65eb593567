//! OCPP 2.0.1: station messages to events, outcomes to answers, commands to CALLs.

use evm_bus::charger::ChargerRequest;
use evm_domain::{
    ChargerEvent, ChargingState, ConnectorState, NO_AUTHORIZATION, Phase, Point, PointKind, StatusReport, Timestamp,
    TransactionUpdate,
};
use rust_ocpp::v2_0_1::datatypes::id_token_type::IdTokenType;
use rust_ocpp::v2_0_1::enumerations::id_token_enum_type::IdTokenEnumType;
use rust_ocpp::v2_0_1::messages::request_start_transaction::RequestStartTransactionRequest;
use rust_ocpp::v2_0_1::messages::request_stop_transaction::RequestStopTransactionRequest;
use serde_json::{Value, json};

use super::lenient::{connector, field, format_time, integer, list, tag, text, time, told_time};
use super::{Decision, Decoded, Outcome, Version, samples};

/// Messages that are kept and answered `{}`.
const NOTED: [&str; 14] = [
    "ClearedChargingLimit",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "MeterValues",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "NotifyEvent",
    "NotifyMonitoringReport",
    "NotifyReport",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
];

/// Messages that are kept and refused with the word of their own answer.
const REFUSED: [(&str, &str); 4] = [
    ("DataTransfer", r#"{"status":"UnknownVendorId"}"#),
    ("SignCertificate", r#"{"status":"Rejected"}"#),
    ("NotifyEVChargingNeeds", r#"{"status":"Rejected"}"#),
    ("NotifyEVChargingSchedule", r#"{"status":"Rejected"}"#),
];

/// Reasons of an event whose token is that of whoever ends the transaction.
const STOPS: [&str; 4] = ["StopAuthorized", "Deauthorized", "RemoteStop", "UnlockCommand"];

pub(super) fn decode(action: &str, payload: &Value, received: Timestamp) -> Decision {
    let (event, problem) = match action {
        "Heartbeat" => return Decision::Heartbeat,
        "BootNotification" => (boot(payload), None),
        "Authorize" => (ChargerEvent::Authorize { id_tag: id_token(payload).unwrap_or_default() }, None),
        "StatusNotification" => status(payload, received),
        "TransactionEvent" => transaction_event(payload, received),
        action if NOTED.contains(&action) || REFUSED.iter().any(|(name, _)| *name == action) => {
            (ChargerEvent::Noted, None)
        }
        _ => return Decision::Unknown,
    };
    Decision::Ingest(Decoded { event, problem: problem.map(str::to_owned) })
}

/// The token, where there is one: what names nobody and may not must be refused, so an empty text is one too.
fn id_token(payload: &Value) -> Option<String> {
    let token = field(payload, "idToken")?;
    if text(token, "type").is_some_and(|kind| kind.eq_ignore_ascii_case(NO_AUTHORIZATION)) {
        return Some(NO_AUTHORIZATION.into());
    }
    Some(tag(token, "idToken").or_else(|| tag(payload, "idToken")).unwrap_or_default())
}

fn boot(payload: &Value) -> ChargerEvent {
    let station = field(payload, "chargingStation").unwrap_or(&Value::Null);
    ChargerEvent::Booted {
        vendor: text(station, "vendorName").unwrap_or_default(),
        model: text(station, "model").unwrap_or_default(),
        serial: text(station, "serialNumber"),
        firmware: text(station, "firmwareVersion"),
    }
}

fn status(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    let state = match text(payload, "connectorStatus").as_deref() {
        Some("Available") => ConnectorState::Available,
        Some("Occupied") => ConnectorState::PluggedIn,
        Some("Reserved") => ConnectorState::Reserved,
        Some("Unavailable") => ConnectorState::Unavailable,
        Some("Faulted") => ConnectorState::Faulted,
        _ => return (ChargerEvent::Noted, Some("unknown connectorStatus")),
    };
    let Some(connector) = connector(payload, "evseId") else { return (ChargerEvent::Noted, Some("no evseId")) };
    let at = time(payload, "timestamp", received);
    (ChargerEvent::Status(StatusReport { connector, state, charging: None, error: None, at }), None)
}

fn transaction_event(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    let info = field(payload, "transactionInfo").unwrap_or(&Value::Null);
    let Some(transaction) = text(info, "transactionId") else {
        return (ChargerEvent::Noted, Some("no transactionId"));
    };
    let phase = match text(payload, "eventType").as_deref() {
        Some("Started") => Phase::Started,
        Some("Ended") => Phase::Ended,
        _ => Phase::Updated,
    };
    let at = time(payload, "timestamp", received);
    let mut points = samples::points(list(payload, "meterValue"), received);
    let charging = match text(info, "chargingState").as_deref() {
        Some("Charging") => Some(ChargingState::Charging),
        Some("SuspendedEV") => Some(ChargingState::SuspendedEv),
        Some("SuspendedEVSE") => Some(ChargingState::SuspendedEvse),
        Some("EVConnected") => Some(ChargingState::Connected),
        Some("Idle") => Some(ChargingState::Idle),
        _ => None,
    };
    if let Some(state) = charging {
        points.push(Point::new(at, PointKind::State, state as i64));
    }
    let trigger = text(payload, "triggerReason");
    let reason = (phase == Phase::Ended).then(|| text(info, "stoppedReason").unwrap_or_else(|| "Local".into()));
    let update = TransactionUpdate {
        phase,
        transaction: Some(transaction),
        own_id: true,
        connector: field(payload, "evse").and_then(|evse| connector(evse, "id")).filter(|n| *n > 0),
        id_tag: id_token(payload),
        stops: phase == Phase::Ended || trigger.is_some_and(|trigger| STOPS.contains(&trigger.as_str())),
        remote_start_id: integer(info, "remoteStartId"),
        seq_no: integer(payload, "seqNo").filter(|number| *number >= 0),
        at,
        start_key: None,
        timeless: told_time(payload, "timestamp", received).is_none(),
        points,
        reason,
    };
    (ChargerEvent::Transaction(update), None)
}

pub(super) fn answer(action: &str, outcome: Outcome, now: Timestamp, heartbeat_s: u32) -> String {
    let tag = outcome.tag.map(|tag| tag.as_str(Version::V201));
    match action {
        "BootNotification" => {
            format!(r#"{{"currentTime":"{}","interval":{heartbeat_s},"status":"Accepted"}}"#, format_time(now))
        }
        "Authorize" => format!(r#"{{"idTokenInfo":{{"status":"{}"}}}}"#, tag.unwrap_or("Invalid")),
        "TransactionEvent" => match tag {
            Some(status) => format!(r#"{{"idTokenInfo":{{"status":"{status}"}}}}"#),
            None => "{}".into(),
        },
        _ => REFUSED.iter().find(|(name, _)| *name == action).map_or("{}", |(_, answer)| answer).into(),
    }
}

fn payload(typed: impl serde::Serialize) -> Value {
    serde_json::to_value(typed).unwrap_or_default()
}

pub(super) fn command(request: ChargerRequest) -> (String, Value) {
    match request {
        ChargerRequest::Start { connector, id_tag, remote_start_id } => {
            let request = RequestStartTransactionRequest {
                evse_id: i32::try_from(connector).ok(),
                remote_start_id: i32::try_from(remote_start_id).unwrap_or_default(),
                id_token: IdTokenType { id_token: id_tag, kind: IdTokenEnumType::Central, additional_info: None },
                charging_profile: None,
                group_id_token: None,
            };
            ("RequestStartTransaction".into(), payload(request))
        }
        ChargerRequest::Stop { transaction } => {
            ("RequestStopTransaction".into(), payload(RequestStopTransactionRequest { transaction_id: transaction }))
        }
        ChargerRequest::Raw { action, payload } => (action, payload),
    }
}

/// See [`super::measured`].
pub(super) const MEASURED: [(&str, &[&str]); 3] = [
    ("TxStartedMeasurands", &["Energy.Active.Import.Register"]),
    ("TxUpdatedMeasurands", &["Energy.Active.Import.Register", "Power.Active.Import", "SoC"]),
    ("TxEndedMeasurands", &["Energy.Active.Import.Register"]),
];

pub(super) fn ask_to_measure(variable: &str, measurands: &str) -> (String, Value) {
    set_sampled_data(variable, measurands)
}

/// The remoteStartId and the token of a RequestStartTransaction.
pub(super) fn tag_asked(payload: &Value) -> Option<(i64, String)> {
    Some((integer(payload, "remoteStartId")?, id_token(payload)?))
}

pub(super) fn ask_for_samples(seconds: u32) -> (String, Value) {
    set_sampled_data("TxUpdatedInterval", &seconds.to_string())
}

fn set_sampled_data(variable: &str, value: &str) -> (String, Value) {
    let payload = json!({ "setVariableData": [{
        "component": { "name": "SampledDataCtrlr" },
        "variable": { "name": variable },
        "attributeValue": value,
    }] });
    ("SetVariables".into(), payload)
}

pub(super) fn ask_for_status(transaction: &str) -> (String, Value) {
    ("GetTransactionStatus".into(), json!({ "transactionId": transaction }))
}

#[cfg(test)]
#[path = "v201_tests.rs"]
mod tests;
