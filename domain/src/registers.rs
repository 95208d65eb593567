//! Which register bills a charge, and how much of a rise can be right.

use std::cmp::Ordering;

use crate::doubt::Doubt;
use crate::meter::Meter;
use crate::point::{Dated, Point, PointKind};
use crate::tariff::Tariff;
use crate::units::{Timestamp, Wh};

/// Where the operator gave no maximum power: the largest plug there is (MCS, 1 MW) and more than any battery on top.
pub(crate) const ANY_PLUG_W: i64 = 1_000_000;
const ANY_PLUG_SLACK_WH: i64 = 100_000;
/// Where a charge began at 0, only so much on top: more may be what the register stood at.
const FROM_NOTHING_SLACK_WH: i64 = 10_000;
/// Where the operator did: room for a register and a clock that both round.
const KNOWN_PLUG_SLACK_WH: i64 = 200;
/// The coarsest register counts in whole kWh; it stands still while a step gathers.
pub(crate) const COARSEST_STEP_WH: i64 = 1000;
/// Two readings of one register may differ by this much: tenths of a kWh in one, Wh in the other.
pub(crate) const ROUNDED_WH: i64 = 100;

/// A register beside the one that is billed: some stations read the meter of their life at the start and the end, and count
/// from 0 in between, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) baseline: Wh,
    pub(crate) register: Wh,
    /// When it was last read.
    pub(crate) at: Timestamp,
    /// Only the end may be read at it.
    pub(crate) ends_only: bool,
}

/// What a point says of the register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Rose(Wh),
    Level,
    /// It is none, or none that can be believed.
    Nothing,
}

impl Meter {
    pub(crate) fn take_register(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> Reading {
        let (value, at) = (Wh(point.value), point.at);
        let baseline = *self.baseline.get_or_insert(value);
        // The baseline can come from a later point than the first, where a clock was set: then no time is known.
        let first = self.register.is_none();
        if first {
            (self.register_at, self.level_at) = (at, at);
        }
        let before = *self.register.get_or_insert(baseline);
        let undated = point.heard.date == Dated::AtReceipt;
        let max_power_w = max_power_w.filter(|_| !first && !self.rest.loose && !undated);
        if self.is_of_aside(point, before) {
            return self.take_aside(point, tariff, max_power_w);
        }
        let rise = value - before;
        match rise.cmp(&Wh(0)) {
            Ordering::Less => {
                if rise < Wh(-ROUNDED_WH) {
                    self.fall(point, before);
                }
                return Reading::Nothing;
            }
            // Without a register, a 0 says nothing.
            Ordering::Equal if !self.rest.has_register && self.rest.stand_in.energy() > Wh(0) => {
                return Reading::Nothing;
            }
            Ordering::Equal => {
                self.level_at = at;
                self.rest.loose = undated;
                return Reading::Level;
            }
            Ordering::Greater => {}
        }
        let from_nothing = baseline == Wh(0) && before == Wh(0);
        let flowed_from = if rise <= Wh(COARSEST_STEP_WH) { self.register_at } else { self.level_at };
        let most = most_wh(at.since(flowed_from), max_power_w, from_nothing);
        if i128::from(rise.0) > most {
            if from_nothing {
                self.told_doubts.raise_anew(Doubt::MissingBaseline, [0, value.0]);
                if point.kind != PointKind::End {
                    let began_at = self.register_at;
                    self.rest.aside = Some(Aside { baseline: Wh(0), register: Wh(0), at: began_at, ends_only: true });
                }
                self.baseline = Some(value);
                self.register = Some(value);
                (self.register_at, self.level_at) = (at, at);
                return Reading::Nothing;
            }
            return self.refuse_rise(rise, most);
        }
        self.register = Some(value);
        self.rest.loose = undated;
        self.rise(rise, at, tariff)
    }

    fn rise(&mut self, rise: Wh, at: Timestamp, tariff: &Tariff) -> Reading {
        self.spread(rise, at, tariff);
        self.step_ms = at.since(self.register_at);
        (self.register_at, self.level_at) = (at, at);
        Reading::Rose(rise)
    }

    /// A register below the one that is billed. Before anything rose it may be another one.
    fn fall(&mut self, point: Point, before: Wh) {
        let sampled = matches!(point.kind, PointKind::Begin | PointKind::Register);
        // A 0 is a reading that failed.
        let tells = point.value > 0 || point.kind == PointKind::Begin;
        if sampled && tells && self.rest.aside.is_none() && self.energy() == Wh(0) {
            let value = Wh(point.value);
            self.rest.aside = Some(Aside { baseline: value, register: value, at: point.at, ends_only: false });
        } else if point.value > 0 && matches!(point.kind, PointKind::Register | PointKind::End) {
            self.told_doubts.raise(Doubt::RegisterFell, [before.0, point.value]);
        }
    }

    /// Of two registers a reading is of the higher one that is not above it.
    fn is_of_aside(&self, point: Point, billed: Wh) -> bool {
        let Some(aside) = self.rest.aside else { return false };
        let reaches = |register: Wh| Wh(point.value) - register >= Wh(-ROUNDED_WH);
        let may = !aside.ends_only || (point.kind == PointKind::End && point.value > 0);
        may && reaches(aside.register) && (!reaches(billed) || aside.register > billed)
    }

    /// A reading of the register that is not billed. Whichever says more is billed.
    fn take_aside(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> Reading {
        let Some(mut aside) = self.rest.aside else { return Reading::Nothing };
        let (value, at) = (Wh(point.value), point.at);
        let rise = value - aside.register;
        if rise <= Wh(0) {
            return Reading::Level;
        }
        let most = most_wh(at.since(aside.at), max_power_w, false);
        if i128::from(rise.0) > most {
            return self.refuse_rise(rise, most);
        }
        (aside.register, aside.at) = (value, at);
        let more = aside.register - aside.baseline - self.energy();
        if more <= Wh(0) {
            self.rest.aside = Some(aside);
            (self.register_at, self.level_at) = (at, at);
            return Reading::Rose(rise);
        }
        let billed = Aside {
            baseline: self.baseline.unwrap_or_default(),
            register: self.register.unwrap_or_default(),
            at: self.register_at,
            ends_only: false,
        };
        if aside.ends_only {
            // The start of 0 was right: it was another register's.
            self.told_doubts.settle(Doubt::MissingBaseline);
        }
        (self.baseline, self.register, self.rest.aside) = (Some(aside.baseline), Some(aside.register), Some(billed));
        self.rise(more, at, tariff)
    }

    /// Energy told without a register. Kept in any case, billed only where there is none.
    pub(crate) fn take_stand_in(&mut self, point: Point, tariff: &Tariff, max_power_w: Option<i64>) -> Reading {
        let first = self.level_at == Timestamp(0);
        if first {
            (self.register_at, self.level_at) = (point.at, point.at);
        }
        let loose = first || self.rest.loose || point.heard.date == Dated::AtReceipt;
        let most = most_wh(point.at.since(self.register_at), max_power_w.filter(|_| !loose), false);
        let mut stand_in = self.rest.stand_in;
        let rise = stand_in.take(point);
        if i128::from(rise.0) > most {
            return self.refuse_rise(rise, most);
        }
        self.rest.stand_in = stand_in;
        if self.rest.has_register {
            return Reading::Nothing;
        }
        if rise == Wh(0) {
            self.level_at = point.at;
            return Reading::Level;
        }
        self.rise(rise, point.at, tariff)
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

    /// More than can have flowed: it is not billed.
    fn refuse_rise(&mut self, rise: Wh, most: i128) -> Reading {
        self.told_doubts.raise(Doubt::ImplausibleRise, [rise.0, i64::try_from(most).unwrap_or(i64::MAX)]);
        Reading::Nothing
    }

    /// Whether the station reads two registers, and both rose.
    pub(crate) fn reads_two(&self) -> bool {
        self.rest.aside.is_some_and(|aside| aside.register > aside.baseline)
    }

    /// Takes back what lies above a register, from outside the bands first.
    pub(crate) fn lower_to(&mut self, register: Wh) {
        let Some(mut above) = self.register.map(|told| told - register).filter(|above| *above > Wh(0)) else { return };
        self.register = Some(register);
        for energy in &mut self.energy_in {
            let taken = above.min(*energy);
            (*energy, above) = (*energy - taken, above - taken);
        }
    }
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
