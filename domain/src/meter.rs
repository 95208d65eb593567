//! From samples to energy and waiting: a fold over a session's points in the order of their time.
//!
//! Any order and any repetition of the same points gives the same figures: points that come in order are
//! added one by one, and when one comes late the caller folds all stored points again.

use std::cmp::Ordering;

use crate::bands::SLOTS;
pub use crate::point::{ChargingState, Doubt, Point, PointKind};
use crate::tariff::{Tariff, Usage};
use crate::units::{Timestamp, Wh};

/// A stretch between readings of one register counts as waiting by itself, where the charger says nothing, only from here
/// on, and only where it is this many times as long as the last step took: coarse registers stand still between their
/// steps. A car that says it is full counts at once.
const QUIET_MS: i64 = 60_000;
const QUIET_STEPS: i64 = 3;

/// Where the operator gave no maximum power: the largest plug there is (MCS, 1 MW) and more than any battery on top.
const ANY_PLUG_W: i64 = 1_000_000;
const ANY_PLUG_SLACK_WH: i64 = 100_000;
/// Where a charge began at 0, only so much on top: more may be what the register stood at.
const FROM_NOTHING_SLACK_WH: i64 = 10_000;
/// Where the operator did: room for a register and a clock that both round.
const KNOWN_PLUG_SLACK_WH: i64 = 200;
/// The coarsest register counts in whole kWh; it stands still while a step gathers.
const COARSEST_STEP_WH: i64 = 1000;
/// Two readings of one register may differ by this much: tenths of a kWh in one, Wh in the other.
const ROUNDED_WH: i64 = 100;

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
    /// How long the last step of the register took, milliseconds.
    pub step_ms: i64,
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
    /// How long no rise was seen while nothing was said of charging, milliseconds, up to the newest point.
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
                self.take_register(point, tariff, max_power_w)
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

    fn take_register(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> Reading {
        let (value, at) = (Wh(point.value), point.at);
        let baseline = *self.baseline.get_or_insert(value);
        // The baseline can come from a later point than the first, where a clock was set: then no time is known.
        let first = self.register.is_none();
        if first {
            (self.register_at, self.level_at) = (at, at);
        }
        let before = *self.register.get_or_insert(baseline);
        let rise = value - before;
        match rise.cmp(&Wh(0)) {
            Ordering::Less => {
                // A 0 is a reading that failed.
                let tells = matches!(point.kind, PointKind::Register | PointKind::End) && value > Wh(0);
                if tells && rise < Wh(-ROUNDED_WH) {
                    self.doubt.get_or_insert(Doubt::RegisterFell);
                }
                return Reading::Nothing;
            }
            Ordering::Equal => {
                self.level_at = at;
                return Reading::Level;
            }
            Ordering::Greater => {}
        }
        let from_nothing = baseline == Wh(0) && before == Wh(0);
        let flowed_from = if rise <= Wh(COARSEST_STEP_WH) { self.register_at } else { self.level_at };
        let most = most_wh(at.since(flowed_from), max_power_w.filter(|_| !first), from_nothing);
        if i128::from(rise.0) > most {
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
        self.step_ms = at.since(self.register_at);
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
                let least_ms = QUIET_MS.max(self.step_ms * QUIET_STEPS);
                // Only the next reading tells whether energy flowed until what comes between two of them.
                if reading == Reading::Level && self.quiet_ms >= least_ms {
                    let from = if known_ms >= least_ms { level_at } else { at.plus_millis(-self.quiet_ms) };
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
            ChargingState::SuspendedEvse | ChargingState::Idle | ChargingState::Charging => Waits::No,
            ChargingState::Unknown => match self.power_w {
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

/// The most that can have flowed: maximum power × time + 10 %, and some slack.
fn most_wh(elapsed_ms: i64, max_power_w: Option<i64>, from_nothing: bool) -> i128 {
    let by = |watts: i64, slack: i64| i128::from(watts) * i128::from(elapsed_ms) * 11 / 36_000_000 + i128::from(slack);
    match max_power_w {
        Some(watts) => by(watts, KNOWN_PLUG_SLACK_WH),
        // In a few hours the largest plug could give what any register stands at.
        None if from_nothing => by(ANY_PLUG_W, FROM_NOTHING_SLACK_WH).min(ANY_PLUG_SLACK_WH.into()),
        None => by(ANY_PLUG_W, ANY_PLUG_SLACK_WH),
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
