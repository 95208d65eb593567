//! What can be seen of a charger from outside: its state and its events.

use serde::Serialize;
use std::fmt;

/// State of a connector, in the words of OCPP 1.6 (section 7.7). A 2.0.1 charger tells the central system
/// `Occupied` for every state between Preparing and Finishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ConnectorStatus {
    /// Nobody there.
    Available,
    /// A cable or an authorised user, but no transaction yet.
    Preparing,
    /// Energy flows.
    Charging,
    /// The car takes no energy.
    #[serde(rename = "SuspendedEV")]
    SuspendedEv,
    /// The charger gives no energy.
    #[serde(rename = "SuspendedEVSE")]
    SuspendedEvse,
    /// The transaction is over, the cable still plugged in.
    Finishing,
    /// Taken out of service.
    Unavailable,
    /// Out of order.
    Faulted,
}

impl ConnectorStatus {
    /// The spelling of OCPP 1.6.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectorStatus::Available => "Available",
            ConnectorStatus::Preparing => "Preparing",
            ConnectorStatus::Charging => "Charging",
            ConnectorStatus::SuspendedEv => "SuspendedEV",
            ConnectorStatus::SuspendedEvse => "SuspendedEVSE",
            ConnectorStatus::Finishing => "Finishing",
            ConnectorStatus::Unavailable => "Unavailable",
            ConnectorStatus::Faulted => "Faulted",
        }
    }
}

impl fmt::Display for ConnectorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One connector as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectorState {
    /// Connector number (1.6) or EVSE number (2.0.1), from 1.
    pub id: u32,
    /// Its status.
    pub status: ConnectorStatus,
    /// Whether a car is plugged in.
    pub plugged_in: bool,
    /// Whether a transaction runs, be its id known or not.
    pub in_transaction: bool,
    /// Id of the running transaction; with 1.6 known only after the central system's answer.
    pub transaction_id: Option<String>,
    /// The card of the running transaction.
    pub id_tag: Option<String>,
    /// Register of the meter, Wh.
    pub meter_wh: i64,
    /// Energy of the running transaction, or of the last one, Wh.
    pub session_wh: i64,
    /// Energy delivered in all transactions since the charger was made, Wh.
    pub delivered_wh: i64,
    /// Power that flows now, W.
    pub power_w: i64,
    /// State of charge of the car, percent; 0 without a car.
    pub soc_percent: i64,
}

/// A charger as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChargerState {
    /// Whether the socket is open.
    pub online: bool,
    /// Whether the central system accepted the BootNotification.
    pub booted: bool,
    /// HTTP status of the last refused handshake, until a connection succeeds.
    pub refused: Option<u16>,
    /// The connectors, in order from number 1.
    pub connectors: Vec<ConnectorState>,
    /// Text frames sent.
    pub frames_out: u64,
    /// Text frames received.
    pub frames_in: u64,
    /// Transaction messages not yet answered.
    pub queued: usize,
    /// Transaction messages given up after the last attempt, or for want of room.
    pub lost: u64,
}

impl ChargerState {
    /// The connector of this number.
    pub fn connector(&self, id: u32) -> Option<&ConnectorState> {
        self.connectors.iter().find(|c| c.id == id)
    }
}

/// Something that happened, for people and for scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the variants' own lines say what their fields are")]
pub enum SimEvent {
    /// The socket is open.
    Connected,
    /// The socket is gone.
    Disconnected { reason: String },
    /// No connection: the HTTP status where the server answered one, the reason in words.
    ConnectionFailed { status: Option<u16>, reason: String },
    /// BootNotification was accepted, with the heartbeat interval that now holds.
    BootAccepted { interval_s: u64 },
    /// BootNotification was answered Pending or Rejected; the next try in so many seconds.
    BootRefused { status: String, retry_s: u64 },
    /// A connector has a new status.
    StatusChanged { connector: u32, status: ConnectorStatus },
    /// A car was plugged in.
    PluggedIn { connector: u32 },
    /// The car was unplugged.
    Unplugged { connector: u32 },
    /// A card or a remote start was accepted.
    Authorized { connector: u32, id_tag: String },
    /// A card was refused, or what was asked is not possible now.
    Refused { connector: u32, reason: String },
    /// Nobody plugged in within the connection time-out.
    TimedOut { connector: u32 },
    /// A transaction began (the id is not known yet in 1.6).
    TransactionStarted { connector: u32, id_tag: String, transaction_id: Option<String>, meter_wh: i64 },
    /// The central system answered the start.
    TransactionConfirmed { connector: u32, transaction_id: String, status: String },
    /// A meter sample: energy of the transaction so far and power.
    Sample { connector: u32, wh: i64, power_w: i64, meter_wh: i64 },
    /// A transaction ended.
    TransactionStopped { connector: u32, transaction_id: Option<String>, energy_wh: i64, reason: String },
    /// The central system sent a command, and what it was answered (a status, or an error code).
    CommandReceived { action: String, answer: String },
    /// A transaction message failed and will be sent again.
    MessageRetried { action: String, attempt: u32, wait_s: u64 },
    /// A transaction message was given up.
    MessageLost { action: String },
    /// The charger restarts.
    Resetting { reason: String },
}

impl fmt::Display for SimEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SimEvent::*;
        match self {
            Connected => write!(f, "connected"),
            Disconnected { reason } => write!(f, "disconnected: {reason}"),
            ConnectionFailed { reason, .. } => write!(f, "no connection: {reason}"),
            BootAccepted { interval_s } => write!(f, "boot accepted, heartbeat every {interval_s} s"),
            BootRefused { status, retry_s } => write!(f, "boot {status}, again in {retry_s} s"),
            StatusChanged { connector, status } => write!(f, "[{connector}] {status}"),
            PluggedIn { connector } => write!(f, "[{connector}] plugged in"),
            Unplugged { connector } => write!(f, "[{connector}] unplugged"),
            Authorized { connector, id_tag } => write!(f, "[{connector}] {id_tag} authorised"),
            Refused { connector, reason } => write!(f, "[{connector}] refused: {reason}"),
            TimedOut { connector } => write!(f, "[{connector}] nobody plugged in"),
            TransactionStarted { connector, id_tag, meter_wh, .. } => {
                write!(f, "[{connector}] transaction of {id_tag} starts at {meter_wh} Wh")
            }
            TransactionConfirmed { connector, transaction_id, status } => {
                write!(f, "[{connector}] transaction {transaction_id} {status}")
            }
            Sample { connector, wh, power_w, .. } => write!(f, "[{connector}] {wh} Wh at {power_w} W"),
            TransactionStopped { connector, energy_wh, reason, .. } => {
                write!(f, "[{connector}] transaction stopped ({reason}), {energy_wh} Wh")
            }
            CommandReceived { action, answer } => write!(f, "command {action}: {answer}"),
            MessageRetried { action, attempt, wait_s } => {
                write!(f, "{action} failed {attempt} times, again in {wait_s} s")
            }
            MessageLost { action } => write!(f, "{action} given up"),
            Resetting { reason } => write!(f, "resetting ({reason})"),
        }
    }
}
