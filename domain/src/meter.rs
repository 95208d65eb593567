//! From samples to energy and waiting: a fold over a session's points in the order of their time.
//!
//! Any order and any repetition of the same points gives the same figures: points that come in order are
//! added one by one, and when one comes late the caller folds all stored points again.

use crate::bands::SLOTS;
use crate::charged::{Charged, Untold};
use crate::clock::{Clock, Jump};
pub use crate::doubt::{Doubt, Doubts};
use crate::drawn::{Drawn, is_far_more};
use crate::point::settle_moments;
pub use crate::point::{ChargingState, Dated, Heard, Point, PointKind};
use crate::registers::{ANY_PLUG_W, Aside, COARSEST_STEP_WH, ROUNDED_WH, Reading};
use crate::stand_in::StandIn;
use crate::tariff::{Tariff, Usage};
use crate::units::{Timestamp, Wh};

/// A stretch between readings of one register counts as waiting by itself, where the charger says nothing, only from here
/// on, and only where it is this many times as long as the last step took: coarse registers stand still between their
/// steps. A car that says it is full counts at once.
const QUIET_MS: i64 = 60_000;
const QUIET_STEPS: i64 = 3;

/// So much that was told and not billed is no rounding.
const LEAST_TOLD_WH: i64 = 30;
/// A charger that says for so long that it charges, beside a register of 0 or one that was not read twice, measures nothing.
const LONG_S: i64 = 60;
/// So long a charge may go on beside its readings, where it has some: samples get lost.
const LONG_UNREAD_S: i64 = 5 * 60;
/// So far ahead it is looked at most, and where samples are rarer one and a half of the last step: what was told longer ago
/// may hold no longer.
const AHEAD_MS: i64 = 60_000;
/// The least that a car charges with: 6 A at 230 V.
const LEAST_POWER_W: i64 = 1380;

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
    /// What is doubtful of what was told so far; [`Meter::doubts`] says all.
    pub told_doubts: Doubts,
    /// The time of the first point.
    pub first_at: Timestamp,
    /// What is remembered besides.
    pub rest: Rest,
    /// How many points were folded in that are kept.
    pub kept: i64,
    /// How many came too late to be looked at.
    pub left_out: i64,
}

/// What a meter remembers besides its figures; kept as [`Meter::rest_text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rest {
    /// Another register than the one that is billed, where the station reads two.
    pub(crate) aside: Option<Aside>,
    /// Whether a register above 0 was told: then nothing else bills.
    pub(crate) has_register: bool,
    /// Whether nobody knows how much time passed since the register was last read.
    pub(crate) loose: bool,
    /// Whether a register was told without a time that can be believed.
    pub(crate) undated: bool,
    /// What was told of energy without a register.
    pub(crate) stand_in: StandIn,
    /// What was told of power.
    pub(crate) drawn: Drawn,
    /// What the station's clock is held against.
    pub(crate) clock: Clock,
    /// What was told of charging besides.
    pub(crate) charged: Charged,
    /// Whether the begin told no time that can be believed.
    pub(crate) begin_undated: bool,
}

impl Meter {
    /// Folds all points of a session, in any order.
    pub fn fold(points: Vec<Point>, tariff: &Tariff, max_power_w: Option<i64>) -> Meter {
        Meter::default().fold_on(points, tariff, max_power_w)
    }

    /// Folds points, in any order, onto figures that older ones were folded into.
    pub fn fold_on(mut self, mut points: Vec<Point>, tariff: &Tariff, max_power_w: Option<i64>) -> Meter {
        settle_moments(&mut points);
        let register = |wanted: PointKind| points.iter().find(move |p| p.kind == wanted).map(|p| Wh(p.value));
        if self.last_at == Timestamp(0) {
            self.baseline = register(PointKind::MeterStart).or_else(|| register(PointKind::Begin));
        }
        self.kept = i64::try_from(points.len()).unwrap_or(i64::MAX);
        self.rest.has_register |= points.iter().any(|point| point.kind.is_register() && point.value > 0);
        for point in points {
            self.step(point, tariff, max_power_w);
        }
        self
    }

    /// Adds a point that is newer than all before. `false`: it is not, so fold all points again.
    pub fn append(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> bool {
        let newer = (point.at, Some(point.kind)) > (self.last_at, PointKind::from_code(self.last_kind));
        let moves_baseline =
            matches!(point.kind, PointKind::MeterStart | PointKind::Begin) && self.last_at != Timestamp(0);
        let is_register = point.kind.is_register() && point.value > 0;
        if !newer || moves_baseline || (is_register && !self.rest.has_register && self.rest.stand_in.energy() > Wh(0)) {
            return false;
        }
        self.rest.has_register |= is_register;
        self.kept += 1;
        if matches!(point.kind, PointKind::MeterStart | PointKind::Begin) {
            self.baseline = Some(Wh(point.value));
        }
        self.step(point, tariff, max_power_w);
        true
    }

    fn step(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) {
        if self.last_at == Timestamp(0) {
            self.first_at = point.at;
        }
        let (waited_ms, since_ms) = (self.waiting_ms, point.at.since(self.last_at));
        let jump = self.set_clock(point, tariff);
        let level_at = self.level_at;
        // A 0 below is a reading that failed.
        let is_read = point.kind.is_register() && (point.value > 0 || self.register.unwrap_or_default() == Wh(0));
        let first_read = self.register.is_none();
        let reading = match point.kind {
            PointKind::Interval | PointKind::Net => self.take_stand_in(point, tariff, max_power_w),
            kind if kind.is_register() => self.take_register(point, tariff, max_power_w),
            _ => Reading::Nothing,
        };
        if self.last_at != Timestamp(0) {
            self.pass_time(point.at, reading, level_at, tariff);
        }
        if let Jump::Perhaps { borne_ms } = jump
            && self.waiting_ms > waited_ms
        {
            self.told_doubts.raise(Doubt::ClockWrong, [since_ms / 1000, borne_ms / 1000]);
        }
        if is_read {
            self.rest.charged.read(first_read);
        }
        self.rest.charged.take(point);
        self.rest.drawn.take(point);
        match point.kind {
            PointKind::State => self.state = ChargingState::from_code(point.value),
            PointKind::Power => self.power_w = Some(point.value),
            PointKind::Soc => self.soc = Some(point.value),
            _ => {}
        }
        self.last_at = point.at;
        self.last_kind = point.kind as i64;
    }

    /// Where the station's clock was set since the last point, all that is remembered by the old one moves along, so that only
    /// the time that the receipts bear out has passed. Nobody knows how long energy had to flow. Where it may have been set, what
    /// was told stays.
    fn set_clock(&mut self, point: Point, tariff: &Tariff) -> Jump {
        let waits = self.waits() != Waits::No;
        let dated_s = point.at.since(self.last_at) / 1000;
        let jump = self.rest.clock.take(point, self.last_at);
        if let Jump::Set { by: set_by } = jump {
            let aside_at = self.rest.aside.as_mut().map(|aside| &mut aside.at);
            let remembered = [&mut self.last_at, &mut self.level_at, &mut self.register_at, &mut self.first_at];
            for at in remembered.into_iter().chain(aside_at).filter(|at| **at != Timestamp(0)) {
                *at = at.plus_millis(set_by);
            }
            self.rest.drawn.pause();
            self.rest.loose = true;
            if waits || !tariff.bands.is_empty() {
                let borne_s = point.at.since(self.last_at) / 1000;
                self.told_doubts.raise(Doubt::ClockWrong, [dated_s, borne_s]);
            }
        }
        let undated = point.heard.date == Dated::AtReceipt;
        self.rest.undated |= undated && point.kind.is_register();
        self.rest.begin_undated |= undated && point.kind == PointKind::MeterStart;
        jump
    }

    /// `level_at`: up to when the register was known to stand before this point.
    fn pass_time(&mut self, at: Timestamp, reading: Reading, level_at: Timestamp, tariff: &Tariff) {
        self.rest.charged.pass(self.state, at.since(self.last_at));
        match (self.waits(), reading) {
            (Waits::Yes, Reading::Rose(rise)) if self.energy() > rise => {
                // Only so much of the stretch can have been charging, at the least power.
                let watts = self.power_w.filter(|watts| *watts > 0).unwrap_or(LEAST_POWER_W);
                let charging_ms = i128::from(rise.0) * 3_600_000 / i128::from(watts);
                let charging_ms = i64::try_from(charging_ms).unwrap_or(i64::MAX);
                self.wait(self.last_at.plus_millis(charging_ms), at, tariff);
            }
            (_, Reading::Rose(_)) => {}
            (Waits::Yes, _) => self.wait(self.last_at, at, tariff),
            (Waits::Perhaps, _) => {
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
            (Waits::No, _) => {}
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
        let by_register = match (self.baseline, self.register) {
            (Some(baseline), Some(register)) => register - baseline,
            _ => Wh(0),
        };
        by_register + self.without_register()
    }

    /// The part of the energy that no register told.
    pub fn without_register(&self) -> Wh {
        if self.rest.has_register { Wh(0) } else { self.rest.stand_in.energy() }
    }

    /// All that is doubtful. Once it is over, that also is what the figures as a whole do not bear out.
    pub fn doubts(&self, over: bool) -> Doubts {
        self.doubts_beside(over, Untold::default())
    }

    /// [`Meter::doubts`] of a charge of which not all was told.
    pub(crate) fn doubts_beside(&self, over: bool, untold: Untold) -> Doubts {
        let mut doubts = self.told_doubts;
        if !over {
            return doubts;
        }
        let (energy, drawn) = (self.energy().0, self.rest.drawn.energy().0);
        let charged = &self.rest.charged;
        let charging_s = charged.charging_ms.saturating_add(untold.ms) / 1000;
        let rounding_wh = self.rounding_wh();
        if self.without_register() > Wh(0) {
            doubts.raise(Doubt::NoRegister, [energy, drawn]);
        } else if energy == 0 {
            let told = drawn.max(self.rest.stand_in.energy().0);
            // A station that says nothing at all of energy may have given some, and so may one whose last word it is that it charges.
            let silent = self.register.is_none() && charged.charging_ms > 0;
            let unread = !self.rest.has_register && charging_s >= LONG_S;
            let once = charged.unmeasured_s() + untold.ms / 1000 >= LONG_S;
            let cut_off = untold.cut_off && matches!(self.state, ChargingState::Charging | ChargingState::Unknown);
            let stood = charged.was_said(self.rest.drawn.covered_ms);
            if told >= LEAST_TOLD_WH || silent || unread || once || stood || cut_off {
                doubts.raise(Doubt::NotMeasured, [told, charging_s]);
            }
        } else {
            if self.rest.drawn.contradicts(energy, rounding_wh, self.last_at.since(self.first_at)) {
                doubts.raise(Doubt::PowerContradicts, [energy, drawn]);
            }
            if is_far_more(self.rest.stand_in.energy().0, energy, rounding_wh) {
                doubts.raise(Doubt::IntervalsContradict, [energy, self.rest.stand_in.energy().0]);
            }
            if charged.unmeasured_s() > LONG_UNREAD_S {
                doubts.raise(Doubt::NotMeasured, [drawn, charged.unmeasured_s()]);
            }
        }
        let held_back_wh = if energy == 0 { 0 } else { rounding_wh };
        if let Some(rise) = charged.soc_beyond(self.soc, energy + held_back_wh) {
            doubts.raise(Doubt::SocContradicts, [energy, rise]);
        }
        if self.rest.undated && self.waiting_s() >= LONG_S {
            doubts.raise(Doubt::ClockWrong, [0, self.waiting_s()]);
        }
        if let Some(aside) = self.rest.aside.filter(|aside| !aside.ends_only) {
            let other = (aside.register - aside.baseline).0;
            if other * 2 + ROUNDED_WH < energy {
                doubts.raise(Doubt::TwoRegisters, [energy, other]);
            }
        }
        doubts
    }

    /// How much a coarse register may hold back.
    fn rounding_wh(&self) -> i64 {
        let of = |step: i64| [self.baseline, self.register].into_iter().flatten().all(|wh| wh.0 % step == 0);
        [COARSEST_STEP_WH, ROUNDED_WH].into_iter().find(|step| of(*step)).unwrap_or(0)
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
    /// samples, by our clock and not by the station's, which may be wrong.
    pub fn usage_at(&self, now: Timestamp, tariff: &Tariff) -> Usage {
        let mut until = *self;
        if self.waits() == Waits::Yes && self.last_at != Timestamp(0) {
            until.wait(self.last_at, self.rest.clock.stations(now, self.last_at), tariff);
        }
        until.usage()
    }

    /// What will have been used at a later moment, if it goes on as it did: by the power last told, else as on average.
    pub fn usage_by(&self, at: Timestamp, tariff: &Tariff, max_power_w: Option<i64>) -> Usage {
        let mut usage = self.usage_at(at, tariff);
        let flows = matches!(self.state, ChargingState::Charging | ChargingState::Unknown);
        let known_ms = self.level_at.since(self.first_at);
        let average = || match known_ms {
            AHEAD_MS.. => i64::try_from(i128::from(self.energy().0) * 3_600_000 / i128::from(known_ms)).unwrap_or(0),
            _ => 0,
        };
        if flows && self.level_at != Timestamp(0) {
            let watts = self.power_w.unwrap_or_else(average).min(max_power_w.unwrap_or(ANY_PLUG_W));
            let most_ms = AHEAD_MS.max(self.step_ms.saturating_mul(3) / 2);
            let ahead_ms = self.rest.clock.stations(at, self.last_at).since(self.level_at).min(most_ms);
            usage.energy[tariff.slot_at(at)] += Wh(watts * ahead_ms / 3_600_000);
        }
        usage
    }

    /// Puts all figures outside the bands: where a tariff has none, they are not stored apart.
    pub fn without_bands(mut self, tariff: &Tariff) -> Self {
        (self.energy_in, self.paid_waiting_s) = ([Wh(0); SLOTS], [0; SLOTS]);
        self.energy_in[0] = self.energy();
        self.paid_waiting_s[0] = (self.waiting_s() - tariff.waiting_grace_s).max(0);
        self
    }
}

#[derive(PartialEq, Eq)]
enum Waits {
    Yes,
    No,
    Perhaps,
}

#[cfg(test)]
#[path = "meter_doubt_tests.rs"]
mod doubt_tests;
#[cfg(test)]
#[path = "meter_odd_tests.rs"]
pub(crate) mod odd_tests;
#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
