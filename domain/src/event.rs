//! What chargers tell, without a protocol version: the OCPP decoders end here.

use crate::meter::{ChargingState, Point};
use crate::units::Timestamp;

/// The tag of a start that names nobody (2.0.1 idToken `NoAuthorization`, 1.6 an empty idTag). Others are in upper case, so no
/// card is called so.
pub const NO_AUTHORIZATION: &str = "NoAuthorization";

/// One message from a charger that changes something. What only proves life has no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargerEvent {
    /// The station started or restarted (BootNotification).
    Booted {
        /// Who built it.
        vendor: String,
        /// Its model.
        model: String,
        /// Its serial number, where told.
        serial: Option<String>,
        /// Its firmware, where told.
        firmware: Option<String>,
    },
    /// A connector's state (StatusNotification).
    Status(StatusReport),
    /// A card or an app's tag asks whether it may charge (Authorize).
    Authorize {
        /// The tag as sent, cleaned of control bytes.
        id_tag: String,
    },
    /// A transaction begins, goes on or ends.
    Transaction(TransactionUpdate),
    /// Kept with its raw frame and nothing else.
    Noted,
}

/// A connector's state as told by the station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// 1.6 connectorId or 2.0.1 evse id; 0 is the station as a whole.
    pub connector: u32,
    /// The state.
    pub state: ConnectorState,
    /// What the charger says of its charging, where the state tells it (1.6 only).
    pub charging: Option<ChargingState>,
    /// The error code beside the state, where there is one.
    pub error: Option<String>,
    /// When, repaired.
    pub at: Timestamp,
}

/// The states of a connector, joined from OCPP 1.6 `ChargePointStatus` and 2.0.1 `ConnectorStatusEnumType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorState {
    /// Free.
    Available,
    /// A car is plugged in or a card was shown; nothing charges yet.
    Preparing,
    /// In use.
    Occupied,
    /// A car is plugged in (2.0.1 `Occupied`): whether it charges, or has charged, is the transaction's to tell.
    PluggedIn,
    /// The charge is over and the cable is still in the car.
    Finishing,
    /// Held for somebody.
    Reserved,
    /// Out of service.
    Unavailable,
    /// Broken.
    Faulted,
}

impl ConnectorState {
    /// The word the store and the operator API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Preparing => "preparing",
            Self::Occupied => "occupied",
            Self::PluggedIn => "plugged_in",
            Self::Finishing => "finishing",
            Self::Reserved => "reserved",
            Self::Unavailable => "unavailable",
            Self::Faulted => "faulted",
        }
    }
}

/// Which part of a transaction an update tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// StartTransaction, or TransactionEvent Started.
    Started,
    /// MeterValues within a transaction, or TransactionEvent Updated.
    Updated,
    /// StopTransaction, or TransactionEvent Ended.
    Ended,
}

/// One message about a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionUpdate {
    /// Beginning, middle or end.
    pub phase: Phase,
    /// The transaction's id; `None` where the central system gives the number (1.6 start) or the charger forgot it.
    pub transaction: Option<String>,
    /// Whether the charger makes its own transaction ids (2.0.1), so that an id never heard of is a transaction
    /// whose beginning is late, and not a mistake.
    pub own_id: bool,
    /// 1.6 connectorId or 2.0.1 evse id, where told.
    pub connector: Option<u32>,
    /// The tag, where told.
    pub id_tag: Option<String>,
    /// Whether the tag is that of whoever ends it, and says nothing of who began it.
    pub stops: bool,
    /// The 2.0.1 remoteStartId, where told.
    pub remote_start_id: Option<i64>,
    /// Its number among the transaction's messages (2.0.1), where told.
    pub seq_no: Option<i64>,
    /// When, repaired.
    pub at: Timestamp,
    /// What makes a repeated start the same start: built from the raw values, so that a repaired time does not change it.
    pub start_key: Option<String>,
    /// Whether no time was told that can be believed, so that two starts of the same key may be two charges.
    pub timeless: bool,
    /// Meter values and charging states, in any order.
    pub points: Vec<Point>,
    /// Why it ended, in the words of OCPP.
    pub reason: Option<String>,
}

impl TransactionUpdate {
    /// The tag that it was begun with, where told. Whoever ends it does not pay for it.
    pub fn begun_by(&self) -> Option<&String> {
        self.id_tag.as_ref().filter(|_| !self.stops)
    }
}
