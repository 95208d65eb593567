//! What is asked of a charger over the bus, and what comes back. JSON, without a protocol version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command for the node that holds the charger's socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargerRequest {
    /// Begin a charge (RemoteStartTransaction, RequestStartTransaction).
    Start {
        /// 1.6 connectorId or 2.0.1 evse id.
        connector: u32,
        /// The tag issued for the session.
        id_tag: String,
        /// The 2.0.1 remoteStartId.
        remote_start_id: i64,
    },
    /// End a transaction (RemoteStopTransaction, RequestStopTransaction).
    Stop {
        /// The transaction's id.
        transaction: String,
    },
    /// Any command of the charger's version, checked against its schema before it goes out.
    Raw {
        /// The OCPP action.
        action: String,
        /// Its payload.
        payload: Value,
    },
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargerReply {
    /// The charger answered Accepted to a start or a stop.
    Accepted,
    /// The charger answered something else to a start or a stop: its own word.
    Refused(String),
    /// The charger's CALLRESULT to a raw command.
    Result(Value),
    /// The charger's CALLERROR.
    Error {
        /// The OCPP error code.
        code: String,
        /// Its description.
        description: String,
        /// Its details.
        details: Value,
    },
    /// The charger's version has no such command.
    UnknownAction,
    /// The payload does not fit the command's schema; nothing was sent.
    Invalid {
        /// JSON pointer to the misfit, empty for the payload as a whole.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The charger did not answer in time.
    NoAnswer,
    /// The connection ended, or never was ready, before the command went out or was answered.
    Disconnected,
}
