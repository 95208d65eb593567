//! From samples to energy and waiting: a fold over a session's points in the order of their time.
//!
//! Any order and any repetition of the same points gives the same figures: points that come in order are
//! added one by one, and when one comes late the caller folds all stored points again.

use std::cmp::Ordering;

use crate::bands::SLOTS;
use crate::tariff::{Tariff, Usage};
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

/// A register that counts in tenths of a kWh stands still for most of a minute at 7 kW, so a stretch between readings of
/// one register counts as waiting by itself only from here on. A car that says it is full counts at once.
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
    /// When the highest register was first read.
    pub register_at: Timestamp,
    /// When it was last read: what comes on top flowed after this, and until here nothing did.
    pub level_at: Timestamp,
    /// Energy outside the tariff's bands, and in each of them.
    pub energy_in: [Wh; SLOTS],
    /// The newest point folded in.
    pub last_at: Timestamp,
    /// The kind of that point, by its number.
    pub last_kind: i64,
    /// Waiting so far, milliseconds, the grace not taken off.
    pub waiting_ms: i64,
    /// Whole seconds of waiting beyond the grace, outside the tariff's bands and in each of them.
    pub paid_waiting_s: [i64; SLOTS],
    /// How long no rise was seen while the car was said to charge, milliseconds, up to the newest point.
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
    pub fn fold(mut points: Vec<Point>, tariff: &Tariff, max_power_w: Option<i64>) -> Meter {
        points.sort_unstable();
        points.dedup();
        let register = |wanted: PointKind| points.iter().find(move |p| p.kind == wanted).map(|p| Wh(p.value));
        let mut meter = Meter {
            baseline: register(PointKind::MeterStart).or_else(|| register(PointKind::Begin)),
            ..Meter::default()
        };
        for point in points {
            meter.step(point, tariff, max_power_w);
        }
        meter
    }

    /// Adds a point that is newer than all before. `false`: it is not, so fold all points again.
    pub fn append(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> bool {
        let newer = (point.at, Some(point.kind)) > (self.last_at, PointKind::from_code(self.last_kind));
        let moves_baseline =
            matches!(point.kind, PointKind::MeterStart | PointKind::Begin) && self.last_at != Timestamp(0);
        if !newer || moves_baseline {
            return false;
        }
        if matches!(point.kind, PointKind::MeterStart | PointKind::Begin) {
            self.baseline = Some(Wh(point.value));
        }
        self.step(point, tariff, max_power_w);
        true
    }

    fn step(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) {
        let level_at = self.level_at;
        let reading = match point.kind {
            PointKind::MeterStart | PointKind::Begin | PointKind::Register | PointKind::End => {
                self.take_register(Wh(point.value), point.at, tariff, max_power_w)
            }
            PointKind::Power | PointKind::Soc | PointKind::State => Reading::Nothing,
        };
        if self.last_at != Timestamp(0) {
            self.pass_time(point.at, reading, level_at, tariff);
        }
        match point.kind {
            PointKind::State => self.state = ChargingState::from_code(point.value),
            PointKind::Power => self.power_w = Some(point.value),
            PointKind::Soc => self.soc = Some(point.value),
            _ => {}
        }
        self.last_at = point.at;
        self.last_kind = point.kind as i64;
    }

    fn take_register(&mut self, value: Wh, at: Timestamp, tariff: &Tariff, max_power_w: Option<i64>) -> Reading {
        let (Some(baseline), Some(before)) = (self.baseline, self.register) else {
            let baseline = *self.baseline.get_or_insert(value);
            // The baseline can come from a later point than this one; never count below it.
            self.register = Some(baseline);
            (self.register_at, self.level_at) = (at, at);
            return Reading::Nothing;
        };
        let rise = value - before;
        match rise.cmp(&Wh(0)) {
            Ordering::Less => return Reading::Nothing,
            Ordering::Equal => {
                self.level_at = at;
                return Reading::Level;
            }
            Ordering::Greater => {}
        }
        let from_nothing = baseline == Wh(0) && before == Wh(0);
        // In a few hours the largest plug could give what any register stands at, so a step from 0 gets no time.
        let elapsed = if from_nothing && max_power_w.is_none() { 0 } else { at.since(self.register_at) };
        if !plausible(rise, elapsed, max_power_w) {
            if from_nothing {
                self.doubt = Some(Doubt::MissingBaseline);
                self.baseline = Some(value);
                self.register = Some(value);
                (self.register_at, self.level_at) = (at, at);
            } else {
                self.doubt = Some(Doubt::ImplausibleRise);
            }
            return Reading::Nothing;
        }
        self.spread(rise, at, tariff);
        self.register = Some(value);
        (self.register_at, self.level_at) = (at, at);
        Reading::Rose
    }

    /// Puts a rise where it flowed: evenly over the time since the register last stood still. Each piece takes its share
    /// of what is left, so that all of it is given out and a larger rise gives no band less.
    fn spread(&mut self, rise: Wh, at: Timestamp, tariff: &Tariff) {
        if tariff.bands.is_empty() || at <= self.level_at {
            self.energy_in[tariff.slot_at(at)] += rise;
            return;
        }
        let (mut from, mut left) = (self.level_at, rise);
        for (slot, end) in tariff.pieces(from, at) {
            let share = i128::from(left.0) * i128::from(end.since(from)) / i128::from(at.since(from));
            let share = Wh(i64::try_from(share).unwrap_or(left.0));
            self.energy_in[slot] += share;
            left = left - share;
            from = end;
        }
    }

    /// `level_at`: up to when the register was known to stand before this point.
    fn pass_time(&mut self, at: Timestamp, reading: Reading, level_at: Timestamp, tariff: &Tariff) {
        let waits = if reading == Reading::Rose { Waits::No } else { self.waits() };
        match waits {
            Waits::Yes => self.wait(self.last_at, at, tariff),
            Waits::Perhaps => {
                let known_ms = self.quiet_ms - self.last_at.since(level_at);
                self.quiet_ms += at.since(self.last_at);
                // Only the next reading tells whether energy flowed until what comes between two of them.
                if reading == Reading::Level && self.quiet_ms >= QUIET_MS {
                    let from = if known_ms >= QUIET_MS { level_at } else { at.plus_millis(-self.quiet_ms) };
                    self.wait(from, at, tariff);
                }
                return;
            }
            Waits::No => {}
        }
        self.quiet_ms = 0;
    }

    /// Counts waiting, always in the order of time: each whole second where it is completed, the grace first.
    fn wait(&mut self, mut from: Timestamp, to: Timestamp, tariff: &Tariff) {
        let paid = |waiting_ms: i64| (waiting_ms / 1000 - tariff.waiting_grace_s).max(0);
        for (slot, end) in tariff.pieces(from, to) {
            let before = paid(self.waiting_ms);
            self.waiting_ms += end.since(from);
            self.paid_waiting_s[slot] += paid(self.waiting_ms) - before;
            from = end;
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

    /// What is to be priced, up to the newest point.
    pub fn usage(&self) -> Usage {
        Usage { energy: self.energy_in, waiting_s: self.waiting_s(), paid_waiting_s: self.paid_waiting_s }
    }

    /// What is to be priced up to `now`, for the live figure: a car that says it is full goes on waiting between two
    /// samples.
    pub fn usage_at(&self, now: Timestamp, tariff: &Tariff) -> Usage {
        let mut until = *self;
        if self.waits() == Waits::Yes && self.last_at != Timestamp(0) {
            until.wait(self.last_at, now, tariff);
        }
        until.usage()
    }

    /// Puts all figures outside the bands: where a tariff has none, they are not stored apart.
    pub fn without_bands(mut self, tariff: &Tariff) -> Self {
        (self.energy_in, self.paid_waiting_s) = ([Wh(0); SLOTS], [0; SLOTS]);
        self.energy_in[0] = self.energy();
        self.paid_waiting_s[0] = (self.waiting_s() - tariff.waiting_grace_s).max(0);
        self
    }
}

/// What a point says of the register.
#[derive(PartialEq, Eq)]
enum Reading {
    Rose,
    Level,
    /// It is none, or none that can be believed.
    Nothing,
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
