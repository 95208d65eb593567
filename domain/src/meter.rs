//! From samples to energy and waiting: a fold over a session's points in the order of their time.
//!
//! Any order and any repetition of the same points gives the same figures: points that come in order are
//! added one by one, and when one comes late the caller folds all stored points again.

use crate::units::{Timestamp, Wh};

/// What the charger says of the car's charging: 1.6 `ChargePointStatus`, 2.0.1 `ChargingStateEnumType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChargingState {
    /// Nothing told yet.
    #[default]
    Unknown = 0,
    /// Energy flows, or may flow.
    Charging = 1,
    /// The car takes nothing: full, or paused by the car.
    SuspendedEv = 2,
    /// The charger gives nothing: load management or a fault. Never billed as waiting.
    SuspendedEvse = 3,
    /// Energy is over, the cable is still in the car (1.6 Finishing, 2.0.1 EVConnected).
    Connected = 4,
    /// No car.
    Idle = 5,
}

impl ChargingState {
    /// The state behind a stored number; unknown numbers read as `Unknown`.
    pub fn from_code(code: i64) -> Self {
        [Self::Unknown, Self::Charging, Self::SuspendedEv, Self::SuspendedEvse, Self::Connected, Self::Idle]
            .into_iter()
            .find(|state| *state as i64 == code)
            .unwrap_or_default()
    }
}

/// What a point measures. The order breaks ties between points of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl PointKind {
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
}

impl Doubt {
    /// The doubt behind a stored number.
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::MissingBaseline, Self::ImplausibleRise].into_iter().find(|doubt| *doubt as i64 == code)
    }

    /// The word the store and the operator API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingBaseline => "missing_baseline",
            Self::ImplausibleRise => "implausible_rise",
        }
    }
}

/// A register that counts in tenths of a kWh stands still for most of a minute at 7 kW, so a stretch without
/// energy counts as waiting by itself only from here on. A car that says it is full counts at once.
const QUIET_MS: i64 = 60_000;

/// Where the operator gave no maximum power: the largest plug there is (MCS, 1 MW) and more than any battery on top.
const ANY_PLUG_W: i64 = 1_000_000;
const ANY_PLUG_SLACK_WH: i64 = 100_000;
/// Where the operator did: room for a register and a clock that both round.
const KNOWN_PLUG_SLACK_WH: i64 = 200;

/// The running figures of one session. Kept in the store beside the points, so that a restart goes on from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// The register that counts as zero.
    pub baseline: Option<Wh>,
    /// The highest register accepted.
    pub register: Option<Wh>,
    /// When the highest register was read.
    pub register_at: Timestamp,
    /// The newest point folded in.
    pub last_at: Timestamp,
    /// The kind of that point, by its number.
    pub last_kind: i64,
    /// Waiting so far, milliseconds, the grace not taken off.
    pub waiting_ms: i64,
    /// How long the register has stood still while the car was said to charge, milliseconds.
    pub quiet_ms: i64,
    /// What the charger last said of charging.
    pub state: ChargingState,
    /// The last power told, W.
    pub power_w: Option<i64>,
    /// The last state of charge told, percent.
    pub soc: Option<i64>,
    /// What is doubtful.
    pub doubt: Option<Doubt>,
}

impl Meter {
    /// Folds all points of a session, in any order.
    pub fn fold(mut points: Vec<Point>, max_power_w: Option<i64>) -> Meter {
        points.sort_unstable();
        points.dedup();
        let register = |wanted: PointKind| points.iter().find(move |p| p.kind == wanted).map(|p| Wh(p.value));
        let mut meter = Meter {
            baseline: register(PointKind::MeterStart).or_else(|| register(PointKind::Begin)),
            ..Meter::default()
        };
        for point in points {
            meter.step(point, max_power_w);
        }
        meter
    }

    /// Adds a point that is newer than all before. `false`: it is not, so fold all points again.
    pub fn append(&mut self, point: Point, max_power_w: Option<i64>) -> bool {
        let newer = (point.at, point.kind as i64) > (self.last_at, self.last_kind);
        let moves_baseline =
            matches!(point.kind, PointKind::MeterStart | PointKind::Begin) && self.last_at != Timestamp(0);
        if !newer || moves_baseline {
            return false;
        }
        if matches!(point.kind, PointKind::MeterStart | PointKind::Begin) {
            self.baseline = Some(Wh(point.value));
        }
        self.step(point, max_power_w);
        true
    }

    fn step(&mut self, point: Point, max_power_w: Option<i64>) {
        let elapsed = if self.last_at == Timestamp(0) { 0 } else { point.at.since(self.last_at) };
        let rose = match point.kind {
            PointKind::MeterStart | PointKind::Begin | PointKind::Register | PointKind::End => {
                self.take_register(Wh(point.value), point.at, max_power_w)
            }
            PointKind::Power | PointKind::Soc | PointKind::State => false,
        };
        self.pass_time(elapsed, rose);
        match point.kind {
            PointKind::State => self.state = ChargingState::from_code(point.value),
            PointKind::Power => self.power_w = Some(point.value),
            PointKind::Soc => self.soc = Some(point.value),
            _ => {}
        }
        self.last_at = point.at;
        self.last_kind = point.kind as i64;
    }

    /// Whether the register rose.
    fn take_register(&mut self, value: Wh, at: Timestamp, max_power_w: Option<i64>) -> bool {
        let (Some(baseline), Some(before)) = (self.baseline, self.register) else {
            let baseline = *self.baseline.get_or_insert(value);
            // The baseline can come from a later point than this one; never count below it.
            self.register = Some(baseline);
            self.register_at = at;
            return false;
        };
        let rise = value - before;
        if rise <= Wh(0) {
            return false;
        }
        if !plausible(rise, at.since(self.register_at), max_power_w) {
            if baseline == Wh(0) && before == Wh(0) {
                self.doubt = Some(Doubt::MissingBaseline);
                self.baseline = Some(value);
                self.register = Some(value);
                self.register_at = at;
            } else {
                self.doubt = Some(Doubt::ImplausibleRise);
            }
            return false;
        }
        self.register = Some(value);
        self.register_at = at;
        true
    }

    fn pass_time(&mut self, elapsed_ms: i64, rose: bool) {
        if rose {
            self.quiet_ms = 0;
            return;
        }
        match self.waits() {
            Waits::Yes => self.waiting_ms += elapsed_ms,
            Waits::No => self.quiet_ms = 0,
            Waits::Perhaps => {
                let known = self.quiet_ms >= QUIET_MS;
                self.quiet_ms += elapsed_ms;
                if known {
                    self.waiting_ms += elapsed_ms;
                } else if self.quiet_ms >= QUIET_MS {
                    self.waiting_ms += self.quiet_ms;
                }
            }
        }
    }

    fn waits(&self) -> Waits {
        if self.energy() == Wh(0) {
            return Waits::No;
        }
        match self.state {
            ChargingState::SuspendedEv | ChargingState::Connected => Waits::Yes,
            ChargingState::SuspendedEvse | ChargingState::Idle => Waits::No,
            ChargingState::Unknown | ChargingState::Charging => match self.power_w {
                Some(watts) if watts > 0 => Waits::No,
                Some(_) | None => Waits::Perhaps,
            },
        }
    }

    /// Energy taken so far.
    pub fn energy(&self) -> Wh {
        match (self.baseline, self.register) {
            (Some(baseline), Some(register)) => register - baseline,
            _ => Wh(0),
        }
    }

    /// Whole seconds of waiting up to the newest point.
    pub fn waiting_s(&self) -> i64 {
        self.waiting_ms / 1000
    }

    /// Whole seconds of waiting up to `now`, for the live figure: a car that says it is full goes on waiting
    /// between two samples.
    pub fn waiting_s_at(&self, now: Timestamp) -> i64 {
        let since =
            if self.waits() == Waits::Yes && self.last_at != Timestamp(0) { now.since(self.last_at) } else { 0 };
        (self.waiting_ms + since) / 1000
    }
}

#[derive(PartialEq, Eq)]
enum Waits {
    Yes,
    No,
    Perhaps,
}

/// Maximum power × time + 10 %, and some slack.
fn plausible(rise: Wh, elapsed_ms: i64, max_power_w: Option<i64>) -> bool {
    let (watts, slack) = max_power_w.map_or((ANY_PLUG_W, ANY_PLUG_SLACK_WH), |watts| (watts, KNOWN_PLUG_SLACK_WH));
    let most = i128::from(watts) * i128::from(elapsed_ms) * 11 / 10 / 3_600_000 + i128::from(slack);
    i128::from(rise.0) <= most
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
