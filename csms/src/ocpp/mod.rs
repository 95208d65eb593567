//! OCPP, and where it ends: frames in, [`ChargerEvent`]s out; answers and commands back. Nothing behind this
//! folder knows a version.

pub(crate) mod frame;
mod lenient;
pub(crate) mod payload;
mod reach;
mod samples;
pub(crate) mod schema;
pub(crate) mod secrets;
mod v16;
mod v201;

use evm_bus::charger::ChargerRequest;
use evm_domain::{ChargerEvent, Timestamp};
use serde_json::Value;

pub(crate) use lenient::format_time;
pub(crate) use reach::{Reach, apart};

/// The version that a connection speaks, fixed by its subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// OCPP 1.6J.
    V16,
    /// OCPP 2.0.1.
    V201,
}

impl Version {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V16 => "1.6",
            Self::V201 => "2.0.1",
        }
    }

    pub(crate) fn subprotocol(self) -> &'static str {
        match self {
            Self::V16 => "ocpp1.6",
            Self::V201 => "ocpp2.0.1",
        }
    }

    /// In the order in which they are preferred.
    pub(crate) const ALL: [Version; 2] = [Version::V201, Version::V16];
}

/// A CALL, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// What it tells.
    pub(crate) event: ChargerEvent,
    /// What was odd in it; kept with the raw frame for review.
    pub(crate) problem: Option<String>,
}

/// What a CALL asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A sign of life: answered from memory, not kept.
    Heartbeat,
    /// To be ingested, then answered.
    Ingest(Decoded),
    /// The version has no such message from a station: CALLERROR NotImplemented.
    Unknown,
}

/// What the store made of an event, for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// The 1.6 transaction id given at a start.
    pub(crate) transaction: Option<i32>,
    /// Whether the tag may charge; `None` where the message named none.
    pub(crate) tag: Option<TagStatus>,
}

/// Whether a tag may charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagStatus {
    Accepted,
    Invalid,
    ConcurrentTx,
    Blocked,
    /// The operator's rules of credit say no.
    NoCredit,
}

impl TagStatus {
    /// The word of `AuthorizationStatus` (1.6) or `AuthorizationStatusEnumType` (2.0.1).
    pub(crate) fn as_str(self, version: Version) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::ConcurrentTx => "ConcurrentTx",
            Self::NoCredit if version == Version::V201 => "NoCredit",
            Self::Blocked | Self::NoCredit => "Blocked",
        }
    }
}

/// Whether a message grows with the charge that it tells of: StopTransaction and MeterValues of 1.6, TransactionEvent of 2.0.1.
pub(crate) fn may_be_long(action: &str) -> bool {
    ["StopTransaction", "MeterValues", "TransactionEvent"].contains(&action)
}

/// Reads a CALL from the station as leniently as can be.
pub(crate) fn decode(version: Version, action: &str, payload: &Value, reach: &Reach) -> Decision {
    let mut decision = match version {
        Version::V16 => v16::decode(action, payload, reach.received),
        Version::V201 => v201::decode(action, payload, reach.received),
    };
    if let Decision::Ingest(Decoded { event: ChargerEvent::Transaction(update), .. }) = &mut decision {
        reach.stamp(update);
    }
    decision
}

/// The connector of an EVSE that a StatusNotification of 2.0.1 tells of.
pub(crate) fn plug(payload: &Value) -> Option<u32> {
    lenient::connector(payload, "connectorId")
}

/// The CALLRESULT's payload for an ingested CALL.
pub(crate) fn answer(version: Version, action: &str, outcome: Outcome, now: Timestamp, heartbeat_s: u32) -> String {
    match version {
        Version::V16 => v16::answer(action, outcome, now, heartbeat_s),
        Version::V201 => v201::answer(action, outcome, now, heartbeat_s),
    }
}

/// The answer to a Heartbeat.
pub(crate) fn heartbeat_answer(now: Timestamp) -> String {
    format!(r#"{{"currentTime":"{}"}}"#, format_time(now))
}

/// Action and payload of a command in the connection's version.
pub(crate) fn command(version: Version, request: ChargerRequest) -> (String, Value) {
    match version {
        Version::V16 => v16::command(request),
        Version::V201 => v201::command(request),
    }
}

/// The remoteStartId and the tag of a command to begin a transaction. In 1.6 the station tells the tag itself back.
pub(crate) fn tag_asked(version: Version, action: &str, payload: &Value) -> Option<(i64, String)> {
    match version {
        Version::V201 if action == "RequestStartTransaction" => v201::tag_asked(payload),
        _ => None,
    }
}

/// Asks whether messages of this transaction wait at the station. 1.6 has no such question, and no numbers to miss one by.
pub(crate) fn ask_for_status(transaction: &str) -> (String, Value) {
    v201::ask_for_status(transaction)
}

/// Asks the station to measure this: the values of a list that it is told by name.
pub(crate) fn ask_to_measure(version: Version, list: &str, measurands: &str) -> (String, Value) {
    match version {
        Version::V16 => v16::ask_to_measure(list, measurands),
        Version::V201 => v201::ask_to_measure(list, measurands),
    }
}

/// The lists of measurands that a station is set to, and what should be in each.
pub(crate) fn measured(version: Version) -> &'static [(&'static str, &'static [&'static str])] {
    match version {
        Version::V16 => &v16::MEASURED,
        Version::V201 => &v201::MEASURED,
    }
}

/// What the station said to [`ask_to_measure`].
pub(crate) fn measures(version: Version, answer: &Value) -> Measures {
    let status = match version {
        Version::V16 => lenient::text(answer, "status"),
        Version::V201 => {
            lenient::list(answer, "setVariableResult").first().and_then(|one| lenient::text(one, "attributeStatus"))
        }
    };
    match status.as_deref() {
        Some("Accepted" | "RebootRequired") => Measures::Yes,
        Some("NotSupported" | "UnknownComponent" | "UnknownVariable" | "NotSupportedAttributeType") => Measures::Never,
        _ => Measures::No,
    }
}

/// Whether a station took a list of measurands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measures {
    Yes,
    /// Not this list.
    No,
    /// It has no such list, or none that can be set.
    Never,
}

/// Asks for a sample every `seconds` while a customer watches.
pub(crate) fn ask_for_samples(version: Version, seconds: u32) -> (String, Value) {
    match version {
        Version::V16 => v16::ask_for_samples(seconds),
        Version::V201 => v201::ask_for_samples(seconds),
    }
}
