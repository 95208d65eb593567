//! OCPP 1.6J: station messages to events, outcomes to answers, commands to CALLs.

use evm_bus::charger::ChargerRequest;
use evm_domain::{
    ChargerEvent, ChargingState, ConnectorState, NO_AUTHORIZATION, Phase, Point, PointKind, StatusReport, Timestamp,
    TransactionUpdate,
};
use rust_ocpp::v1_6::messages::change_configuration::ChangeConfigurationRequest;
use rust_ocpp::v1_6::messages::remote_start_transaction::RemoteStartTransactionRequest;
use rust_ocpp::v1_6::messages::remote_stop_transaction::RemoteStopTransactionRequest;
use serde_json::Value;

use super::lenient::{connector, format_time, integer, list, tag, text, time, told_time};
use super::{Decision, Decoded, Outcome, Version, samples};

/// Messages that are kept and answered `{}`.
const NOTED: [&str; 5] = [
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "SecurityEventNotification",
    "SignedFirmwareStatusNotification",
];

pub(super) fn decode(action: &str, payload: &Value, received: Timestamp) -> Decision {
    let (event, problem) = match action {
        "Heartbeat" => return Decision::Heartbeat,
        "BootNotification" => (boot(payload), None),
        "Authorize" => (ChargerEvent::Authorize { id_tag: who(payload) }, None),
        "StatusNotification" => status(payload, received),
        "StartTransaction" => start(payload, received),
        "MeterValues" => meter_values(payload, received),
        "StopTransaction" => stop(payload, received),
        "DataTransfer" | "SignCertificate" => (ChargerEvent::Noted, None),
        action if NOTED.contains(&action) => (ChargerEvent::Noted, None),
        _ => return Decision::Unknown,
    };
    Decision::Ingest(Decoded { event, problem: problem.map(str::to_owned) })
}

/// Who starts: an empty tag names nobody.
fn who(payload: &Value) -> String {
    tag(payload, "idTag").unwrap_or_else(|| NO_AUTHORIZATION.into())
}

fn boot(payload: &Value) -> ChargerEvent {
    let serial = text(payload, "chargePointSerialNumber").or_else(|| text(payload, "chargeBoxSerialNumber"));
    ChargerEvent::Booted {
        vendor: text(payload, "chargePointVendor").unwrap_or_default(),
        model: text(payload, "chargePointModel").unwrap_or_default(),
        serial,
        firmware: text(payload, "firmwareVersion"),
    }
}

fn status(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    use ChargingState as C;
    use ConnectorState as S;
    let (state, charging, problem) = match text(payload, "status").as_deref() {
        Some("Available") => (S::Available, Some(C::Idle), None),
        Some("Preparing") => (S::Preparing, None, None),
        Some("Charging") => (S::Occupied, Some(C::Charging), None),
        Some("SuspendedEV") => (S::Occupied, Some(C::SuspendedEv), None),
        Some("SuspendedEVSE") => (S::Occupied, Some(C::SuspendedEvse), None),
        Some("Finishing") => (S::Finishing, Some(C::Connected), None),
        Some("Reserved") => (S::Reserved, None, None),
        Some("Unavailable") => (S::Unavailable, Some(C::SuspendedEvse), None),
        Some("Faulted") => (S::Faulted, Some(C::SuspendedEvse), None),
        _ => return (ChargerEvent::Noted, Some("unknown status")),
    };
    let Some(connector) = connector(payload, "connectorId") else {
        return (ChargerEvent::Noted, Some("no connectorId"));
    };
    let error = text(payload, "errorCode").filter(|code| code != "NoError");
    let at = time(payload, "timestamp", received);
    (ChargerEvent::Status(StatusReport { connector, state, charging, error, at }), problem)
}

fn update(phase: Phase, at: Timestamp) -> TransactionUpdate {
    TransactionUpdate {
        phase,
        transaction: None,
        own_id: false,
        connector: None,
        id_tag: None,
        stops: false,
        remote_start_id: None,
        seq_no: None,
        at,
        start_key: None,
        timeless: false,
        points: Vec::new(),
        reason: None,
    }
}

fn start(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    let mut update = update(Phase::Started, time(payload, "timestamp", received));
    update.connector = connector(payload, "connectorId").filter(|n| *n > 0).or(Some(1));
    update.id_tag = Some(who(payload));
    let meter_start = integer(payload, "meterStart");
    // The same start told again is the same transaction (1.6 section 4.8), whatever its message id.
    let raw = |name| text(payload, name).unwrap_or_default();
    update.timeless = told_time(payload, "timestamp", received).is_none();
    update.start_key = Some(
        [raw("connectorId"), raw("timestamp"), raw("idTag"), raw("meterStart")].join("|").chars().take(300).collect(),
    );
    if let Some(value) = meter_start.filter(|value| samples::is_believable(*value)) {
        update.points.push(Point::new(update.at, PointKind::MeterStart, value));
    }
    let problem = if update.points.is_empty() { Some("no meterStart") } else { None };
    (ChargerEvent::Transaction(update), problem)
}

fn meter_values(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    let mut update = update(Phase::Updated, received);
    update.transaction = transaction(payload);
    // KEBA reports a charge on connector 0; without a transaction that is the station's main meter.
    update.connector = match connector(payload, "connectorId") {
        Some(0) if update.transaction.is_none() => return (ChargerEvent::Noted, None),
        told => told.map(|n| n.max(1)),
    };
    update.points = samples::points(list(payload, "meterValue"), received);
    if update.points.is_empty() {
        return (ChargerEvent::Noted, None);
    }
    (ChargerEvent::Transaction(update), None)
}

fn stop(payload: &Value, received: Timestamp) -> (ChargerEvent, Option<&'static str>) {
    let mut update = update(Phase::Ended, time(payload, "timestamp", received));
    update.transaction = transaction(payload);
    (update.id_tag, update.stops) = (tag(payload, "idTag"), true);
    update.reason = Some(text(payload, "reason").unwrap_or_else(|| "Local".into()));
    update.points = samples::points(list(payload, "transactionData"), received);
    let meter_stop = integer(payload, "meterStop").filter(|value| samples::is_believable(*value));
    if let Some(value) = meter_stop {
        update.points.push(Point::new(update.at, PointKind::End, value));
    }
    (ChargerEvent::Transaction(update), if meter_stop.is_some() { None } else { Some("no meterStop") })
}

/// Transaction ids of ours are positive; 0 and −1 stand for a start that never reached us.
fn transaction(payload: &Value) -> Option<String> {
    integer(payload, "transactionId").filter(|id| *id > 0).map(|id| id.to_string())
}

pub(super) fn answer(action: &str, outcome: Outcome, now: Timestamp, heartbeat_s: u32) -> String {
    let tag = outcome.tag.map(|tag| tag.as_str(Version::V16));
    match action {
        "BootNotification" => {
            format!(r#"{{"status":"Accepted","currentTime":"{}","interval":{heartbeat_s}}}"#, format_time(now))
        }
        "Authorize" => format!(r#"{{"idTagInfo":{{"status":"{}"}}}}"#, tag.unwrap_or("Invalid")),
        "StartTransaction" => format!(
            r#"{{"transactionId":{},"idTagInfo":{{"status":"{}"}}}}"#,
            outcome.transaction.unwrap_or_default(),
            tag.unwrap_or("Invalid")
        ),
        "DataTransfer" => r#"{"status":"UnknownVendorId"}"#.into(),
        "SignCertificate" => r#"{"status":"Rejected"}"#.into(),
        // No idTagInfo for a stop: `null` there sends some stations into an endless retry.
        _ => "{}".into(),
    }
}

fn payload(typed: impl serde::Serialize) -> Value {
    serde_json::to_value(typed).unwrap_or_default()
}

pub(super) fn command(request: ChargerRequest) -> (String, Value) {
    match request {
        ChargerRequest::Start { connector, id_tag, .. } => {
            let request =
                RemoteStartTransactionRequest { connector_id: Some(connector), id_tag, charging_profile: None };
            ("RemoteStartTransaction".into(), payload(request))
        }
        ChargerRequest::Stop { transaction } => {
            let request = RemoteStopTransactionRequest { transaction_id: transaction.parse().unwrap_or_default() };
            ("RemoteStopTransaction".into(), payload(request))
        }
        ChargerRequest::Raw { action, payload } => (action, payload),
    }
}

/// See [`super::measured`].
pub(super) const MEASURED: [(&str, &[&str]); 2] = [
    ("MeterValuesSampledData", &["Energy.Active.Import.Register", "Power.Active.Import", "SoC"]),
    ("StopTxnSampledData", &["Energy.Active.Import.Register"]),
];

pub(super) fn ask_to_measure(key: &str, measurands: &str) -> (String, Value) {
    let request = ChangeConfigurationRequest { key: key.into(), value: measurands.into() };
    ("ChangeConfiguration".into(), payload(request))
}

pub(super) fn ask_for_samples(seconds: u32) -> (String, Value) {
    let request = ChangeConfigurationRequest { key: "MeterValueSampleInterval".into(), value: seconds.to_string() };
    ("ChangeConfiguration".into(), payload(request))
}

#[cfg(test)]
#[path = "v16_tests.rs"]
mod tests;
