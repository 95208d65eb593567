//! The facts that a charge is billed from.

use std::cmp::Ordering;

use crate::units::Timestamp;

/// What the charger says of the car's charging: 1.6 `ChargePointStatus`, 2.0.1 `ChargingStateEnumType`.
///
/// Of two told for one moment (stations stamp whole seconds) the larger number stays, in whatever order they came: those
/// that may be waiting come first, so in doubt the customer does not pay. Numbers 1 and 3 were in use before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChargingState {
    /// Nothing told yet.
    #[default]
    Unknown = 0,
    /// The car takes nothing: full, or paused by the car.
    SuspendedEv = 2,
    /// Energy is over, the cable is still in the car (1.6 Finishing, 2.0.1 EVConnected).
    Connected = 4,
    /// No car.
    Idle = 5,
    /// The charger gives nothing: load management or a fault. Never billed as waiting.
    SuspendedEvse = 7,
    /// Energy flows, or may flow.
    Charging = 8,
}

impl ChargingState {
    /// The state behind a stored number; unknown numbers read as `Unknown`.
    pub fn from_code(code: i64) -> Self {
        match code {
            2 => Self::SuspendedEv,
            4 => Self::Connected,
            5 => Self::Idle,
            3 | 7 => Self::SuspendedEvse,
            1 | 8 => Self::Charging,
            _ => Self::Unknown,
        }
    }
}

/// What a point measures. Of one moment, registers come before what the charger says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// The register at the start as StartTransaction told it, Wh. The best baseline.
    MeterStart = 0,
    /// A register sample of context `Transaction.Begin`, Wh. The second best.
    Begin = 1,
    /// A register sample, Wh.
    Register = 2,
    /// Power drawn, W.
    Power = 3,
    /// State of charge of the car, percent. Shown, never billed.
    Soc = 4,
    /// A [`ChargingState`], by its number.
    State = 5,
    /// The register at the end, Wh.
    End = 6,
    /// Energy since the sample before, Wh: the stand-in where no register is told.
    Interval = 7,
    /// A register that counts what went in less what came back, Wh; a stand-in too.
    Net = 8,
}

impl Ord for PointKind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for PointKind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PointKind {
    fn rank(self) -> u8 {
        match self {
            Self::MeterStart => 0,
            Self::Begin => 1,
            Self::Register => 2,
            Self::End => 3,
            Self::Interval => 4,
            Self::Net => 5,
            Self::Power => 6,
            Self::Soc => 7,
            Self::State => 8,
        }
    }

    /// Whether it is a register of imported energy.
    pub fn is_register(self) -> bool {
        matches!(self, Self::MeterStart | Self::Begin | Self::Register | Self::End)
    }

    /// The kind behind a stored number.
    pub fn from_code(code: i64) -> Option<Self> {
        #[rustfmt::skip]
        let all = [
            Self::MeterStart, Self::Begin, Self::Register, Self::Power, Self::Soc, Self::State, Self::End, Self::Interval, Self::Net,
        ];
        all.into_iter().find(|kind| *kind as i64 == code)
    }
}

/// How a message came to us: what its date can be held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Heard {
    /// When it was received; 0 where that was not kept.
    pub at: Timestamp,
    /// What is known of its date.
    pub date: Dated,
}

/// What is known of a message's date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Dated {
    /// The station's word.
    #[default]
    ByStation = 0,
    /// The station's word of a time when it was out of touch: it comes late for that reason.
    WhileAway = 1,
    /// None that can be believed; the time of receipt stands for it.
    AtReceipt = 2,
}

impl Dated {
    /// What stands behind a stored number; unknown numbers read as the station's word.
    pub fn from_code(code: i64) -> Self {
        match code {
            1 => Self::WhileAway,
            2 => Self::AtReceipt,
            _ => Self::ByStation,
        }
    }
}

/// One fact at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// When, repaired.
    pub at: Timestamp,
    /// What.
    pub kind: PointKind,
    /// How much, in the unit of its kind.
    pub value: i64,
    /// How it came to us.
    pub heard: Heard,
}

impl Point {
    /// A fact of which it is not known how it came.
    pub fn new(at: Timestamp, kind: PointKind, value: i64) -> Self {
        Self { at, kind, value, heard: Heard::default() }
    }
}

/// Puts points in order; of two values of one kind and moment the larger stays, and how the first came, as in the store.
pub(crate) fn settle_moments(points: &mut Vec<Point>) {
    points.sort_unstable();
    points.dedup_by(|later, kept| {
        let same = (later.at, later.kind) == (kept.at, kept.kind);
        if same {
            kept.value = later.value;
        }
        same
    });
}
