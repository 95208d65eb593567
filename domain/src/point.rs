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
            Self::Power => 4,
            Self::Soc => 5,
            Self::State => 6,
        }
    }

    /// The kind behind a stored number.
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::MeterStart, Self::Begin, Self::Register, Self::Power, Self::Soc, Self::State, Self::End]
            .into_iter()
            .find(|kind| *kind as i64 == code)
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
}

/// Why a session's figures want a human eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The start register was 0 beside a much larger one: the first real register became the baseline.
    MissingBaseline = 1,
    /// A register rose by more than the connector can deliver; the rise was not billed.
    ImplausibleRise = 2,
    /// A register lies clearly below what was read before: reset, exchanged, or begun too high. What follows may be missing.
    RegisterFell = 3,
}

impl Doubt {
    /// The doubt behind a stored number.
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::MissingBaseline, Self::ImplausibleRise, Self::RegisterFell]
            .into_iter()
            .find(|doubt| *doubt as i64 == code)
    }

    /// The word the store and the operator API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingBaseline => "missing_baseline",
            Self::ImplausibleRise => "implausible_rise",
            Self::RegisterFell => "register_fell",
        }
    }
}
