//! When a charge was: its begin and its end bound it in time, whatever is told under its id, and the end's register is its
//! last.

use crate::event::{Phase, TransactionUpdate};
use crate::meter::{ChargingState, Dated, Doubt, Meter, Point, PointKind};
use crate::point::settle_moments;
use crate::registers::ROUNDED_WH;
use crate::session::Session;
use crate::units::{Timestamp, Wh};

/// A clock that is set in mid-charge may date an end by so much before the begin.
const CLOCK_SET_MS: i64 = 5 * 60_000;
/// The registers of a begin or an end may be read by so much beside it.
const BESIDE_MS: i64 = 60_000;

/// Why a message does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Another end was told before it.
    EndedBefore,
    /// It is dated before the begin.
    BeforeBegin,
    /// It is dated after the end.
    AfterEnd,
}

impl Misfit {
    /// The words that are kept beside the frame.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndedBefore => "stopped before",
            Self::BeforeBegin => "dated before the begin",
            Self::AfterEnd => "dated after the end",
        }
    }
}

/// Stations stamp whole seconds, so bounds hold to the second.
fn second(at: Timestamp) -> i64 {
    at.0.div_euclid(1000)
}

impl Session {
    /// On which side of the charge a moment lies, where it is not within it.
    pub fn side_of(&self, at: Timestamp) -> Option<Misfit> {
        // Where the begin told no time that can be believed, it may have been long before it was received.
        let began = self.started_at.filter(|_| !self.meter.rest.begin_undated);
        let (from, to) = match (began, self.ended_at) {
            // The clock was set meanwhile.
            (Some(began), Some(ended)) => (Some(began.min(ended)), Some(began.max(ended))),
            bounds => bounds,
        };
        if to.is_some_and(|to| second(at) > second(to)) {
            return Some(Misfit::AfterEnd);
        }
        from.is_some_and(|from| second(at) < second(from)).then_some(Misfit::BeforeBegin)
    }

    /// Why a point does not count. A register that is told as that of the begin counts as that, whenever it was read; the time
    /// of receipt says nothing of the begin.
    fn misfit_of(&self, point: &Point) -> Option<Misfit> {
        let undated = point.heard.date == Dated::AtReceipt;
        self.side_of(point.at).filter(|side| match side {
            Misfit::BeforeBegin => !undated && !matches!(point.kind, PointKind::MeterStart | PointKind::Begin),
            // Where messages are numbered, what belongs before the end may be dated a little after it.
            _ => self.seq_nos.is_empty() || point.kind != PointKind::Register || !self.is_just_after_end(point.at),
        })
    }

    /// Whether a moment lies a little after the end.
    pub fn is_just_after_end(&self, at: Timestamp) -> bool {
        self.ended_at.is_some_and(|ended| at > ended && at.since(ended) <= BESIDE_MS)
    }

    /// Whether an update is one that is missing before the end by its number, and dated a little after that.
    pub(crate) fn is_missing(&self, update: &TransactionUpdate) -> bool {
        let before_last = |number: i64| self.seq_nos.last().is_some_and(|last| number < last);
        let missing = update.seq_no.is_some_and(|number| before_last(number) && !self.seq_nos.contains(number));
        missing && self.is_just_after_end(update.at)
    }

    /// Why a message does not count, or not all of it: it is answered, and kept for review. Its points are those of
    /// [`points_of`].
    pub fn misfit(&self, update: &TransactionUpdate, points: &[Point]) -> Option<Misfit> {
        if update.phase == Phase::Ended {
            // 1.6 numbers nothing, so the first one counts.
            let told = self.ended_at.filter(|_| !self.is_end_replaced_by(update));
            if told.is_some_and(|ended| !update.own_id && ended != update.at) {
                return Some(Misfit::EndedBefore);
            }
            if !self.may_end(update) {
                return Some(Misfit::BeforeBegin);
            }
        }
        let of_event = self.side_of(update.at).filter(|_| update.own_id && self.is_beside_event(update));
        of_event.or_else(|| points.iter().find_map(|point| self.misfit_of(point)))
    }

    /// Whether nothing of a message counts.
    pub fn is_beside(&self, update: &TransactionUpdate, points: &[Point]) -> bool {
        match update.phase {
            Phase::Started => false,
            Phase::Updated if !update.own_id => points.iter().all(|point| self.misfit_of(point).is_some()),
            Phase::Updated => self.is_beside_event(update),
            Phase::Ended => self.misfit(update, points) == Some(Misfit::EndedBefore) || !self.may_end(update),
        }
    }

    /// Whether an event of 2.0.1, which has a moment of its own, lies outside.
    fn is_beside_event(&self, update: &TransactionUpdate) -> bool {
        update.phase == Phase::Updated && self.side_of(update.at).is_some() && !self.is_missing(update)
    }

    /// Takes note of points of which none counts. `true`: they are a reason to look at the session that was not known.
    pub fn set_aside(&mut self, points: &[Point]) -> bool {
        let known = self.meter.told_doubts;
        points.iter().for_each(|point| self.note_beside(point));
        known != self.meter.told_doubts
    }

    /// Whether it can be the end of this charge. By our own number of it, or by its number among the messages, a clock that
    /// was set is told from a stop of another time.
    pub(crate) fn may_end(&self, update: &TransactionUpdate) -> bool {
        let Some(began) = self.started_at.filter(|began| second(update.at) < second(*began)) else { return true };
        if self.ended_at == Some(update.at) {
            return true;
        }
        let fell = end_registers(update).max().zip(self.meter.baseline).is_some_and(|(end, baseline)| end < baseline);
        // An end that is dated within the charge is the better one.
        if self.ended_at.is_some_and(|ended| second(ended) >= second(began)) {
            return false;
        }
        let is_last = !update.own_id || update.seq_no > self.seq_nos.last();
        let clock_set = self.meter.rest.begin_undated || began.since(update.at) <= CLOCK_SET_MS;
        is_last && clock_set && !fell
    }

    /// Whether an end names the register that this one ended with, or none.
    pub fn says_the_same(&self, update: &TransactionUpdate) -> bool {
        end_registers(update).all(|end| self.meter.register == Some(end))
    }

    /// Whether its end so far is dated before its begin. That may be a clock that was set, or a stop of another time: it holds
    /// until an end is told that is dated after the begin.
    pub fn ends_before_begin(&self) -> bool {
        let began = self.started_at.filter(|_| !self.meter.rest.begin_undated);
        self.ended_at.zip(began).is_some_and(|(ended, began)| second(ended) < second(began))
    }

    /// Whether an end takes the place of one that is dated before the begin.
    pub(crate) fn is_end_replaced_by(&self, update: &TransactionUpdate) -> bool {
        let after_begin = self.started_at.is_some_and(|began| second(update.at) >= second(began));
        update.phase == Phase::Ended && after_begin && self.ends_before_begin()
    }

    /// Adds a point to the running figures. `false`: it came late, so load all points and [`Session::fold`] them.
    pub fn append(&mut self, point: Point) -> bool {
        if self.misfit_of(&point).is_some() {
            self.note_beside(&point);
            self.meter.kept += 1;
            return true;
        }
        let counted = self.meter.register.unwrap_or_default();
        let after_end = self.side_of(point.at).is_some() || Wh(point.value) > counted;
        let above_end = self.ended_at.is_some() && point.kind == PointKind::Register && after_end;
        let takes_back = point.kind == PointKind::End && Wh(point.value) < counted;
        !above_end && !takes_back && self.meter.append(point, &self.tariff, self.max_power_w)
    }

    /// Makes the running figures anew from all points of the session, in any order.
    pub fn fold(&mut self, points: Vec<Point>) {
        self.fold_on(Meter::default(), points);
    }

    /// [`Session::fold`] onto figures that older points were folded into by [`Session::fold_older`].
    pub fn fold_on(&mut self, base: Meter, points: Vec<Point>) {
        let (mut counted, mut beside) = self.within(points);
        let fold = |points: &[Point]| base.fold_on(points.to_vec(), &self.tariff, self.max_power_w);
        let mut meter = match self.last_register(&base, &counted) {
            None => fold(&counted),
            Some((baseline, end)) => {
                let undated = |point: &Point| point.heard.date == Dated::AtReceipt;
                let until_end = |point: &Point| undated(point) || self.side_of(point.at) != Some(Misfit::AfterEnd);
                let (until, after) = counted.into_iter().partition(until_end);
                (counted, beside) = (until, [beside, after].concat());
                let told = fold(&counted);
                // Of two registers neither bounds the other.
                if told.energy() <= Wh(end.value) - baseline || told.reads_two() {
                    told
                } else {
                    self.cap(base, counted, end)
                }
            }
        };
        if base.last_at != Timestamp(0) && self.side_of(base.last_at) == Some(Misfit::AfterEnd) {
            // What was dated after the end is no longer told from the rest.
            meter.told_doubts.raise(Doubt::TooManyReadings, [1, meter.kept]);
        }
        meter.rest.begin_undated |= self.meter.rest.begin_undated;
        for doubt in [Doubt::RoseAfterEnd, Doubt::EndsContradict] {
            meter.told_doubts.keep(doubt, &self.meter.told_doubts);
        }
        self.meter = meter;
        for point in &beside {
            self.note_beside(point);
        }
    }

    /// Whether a point counts, as far as is known.
    pub fn counts(&self, point: &Point) -> bool {
        self.misfit_of(point).is_none()
    }

    /// Figures of points that are the oldest of the session's, to fold the others on.
    pub fn fold_older(&self, base: Meter, points: Vec<Point>) -> Meter {
        base.fold_on(self.within(points).0, &self.tariff, self.max_power_w)
    }

    /// Parts points into those that count, and those that do not. What has no time of its own counts where it was received
    /// before the end was, and was before it, whatever time the end was dated.
    fn within(&self, points: Vec<Point>) -> (Vec<Point>, Vec<Point>) {
        let is_end = |point: &&Point| Some(point.at) == self.ended_at && point.kind == PointKind::State;
        let end_heard = points.iter().find(is_end).map(|point| point.heard.at);
        let before_end = |point: &Point| {
            point.heard.date == Dated::AtReceipt && end_heard.is_some_and(|heard| point.heard.at <= heard)
        };
        let just_before = self.ended_at.map(|ended| ended.plus_millis(-1));
        let (mut counted, mut beside, mut moved) = (Vec::with_capacity(points.len()), Vec::new(), false);
        for point in points {
            if before_end(&point) {
                // Of one moment the larger value stays; intervals add up.
                let latest = just_before.filter(|_| !matches!(point.kind, PointKind::Interval | PointKind::Net));
                let at = latest.map_or(point.at, |latest| point.at.min(latest));
                moved |= at != point.at;
                counted.push(Point { at, ..point });
            } else if self.misfit_of(&point).is_none() {
                counted.push(point);
            } else {
                beside.push(point);
            }
        }
        if moved {
            settle_moments(&mut counted);
        }
        (counted, beside)
    }

    /// The figures without what lies above the end's register.
    fn cap(&self, mut base: Meter, mut counted: Vec<Point>, end: Point) -> Meter {
        let ended = self.ended_at.unwrap_or(end.at);
        let above = |point: &Point| is_reading(point) && point.value > end.value;
        let fell = |point: &Point| second(point.at) < second(ended) && point.value > end.value + ROUNDED_WH;
        let highest = counted.iter().filter(|point| above(point) && fell(point)).map(|point| point.value).max();
        let highest = highest.max(base.register.map(|wh| wh.0).filter(|wh| *wh > end.value + ROUNDED_WH));
        counted.retain(|point| !above(point));
        base.lower_to(Wh(end.value));
        let mut meter = base.fold_on(counted, &self.tariff, self.max_power_w);
        if let Some(highest) = highest {
            meter.told_doubts.raise(Doubt::RegisterFell, [highest, end.value]);
        }
        meter
    }

    /// The register of the end, and that of the begin, where it can be one: not below the begin's, and no mere copy of that.
    /// What is told beside it cannot be more.
    fn last_register(&self, base: &Meter, points: &[Point]) -> Option<(Wh, Point)> {
        let ended = self.ended_at?;
        let ends = || points.iter().filter(|point| point.kind == PointKind::End && point.value > 0);
        let end = ends().filter(|end| end.at <= ended).max().or_else(|| ends().min())?;
        let told = |kind| points.iter().filter(move |point| point.kind == kind).min().map(|point| point.value);
        let readings = || points.iter().filter(|point| is_reading(point));
        let first = || readings().min().map(|point| point.value);
        let from_base = base.baseline.map(|wh| wh.0);
        let baseline =
            from_base.or_else(|| told(PointKind::MeterStart)).or_else(|| told(PointKind::Begin)).or_else(first)?;
        let highest = readings().map(|point| point.value).max().max(base.register.map(|wh| wh.0))?;
        let is_copy = end.value == baseline && highest > baseline + ROUNDED_WH;
        (end.value >= baseline && !is_copy).then_some((Wh(baseline), *end))
    }

    /// What rises after the end is nobody's, and worth a look; so is another end that says otherwise.
    fn note_beside(&mut self, point: &Point) {
        let Some(Wh(last)) = self.meter.register else { return };
        let (side, above) = (self.side_of(point.at), point.value > last.saturating_add(ROUNDED_WH));
        if is_reading(point) && side == Some(Misfit::AfterEnd) && above {
            self.meter.told_doubts.raise(Doubt::RoseAfterEnd, [last, point.value]);
        } else if point.kind == PointKind::End && (above || side != Some(Misfit::BeforeBegin)) {
            self.note_other_end(Wh(point.value));
        }
    }

    /// Takes note of the register of another end than the one that was told before. A 0 is a reading that failed, and some
    /// repeat that of the begin.
    pub(crate) fn note_other_end(&mut self, Wh(told): Wh) {
        let Some(Wh(last)) = self.meter.register else { return };
        if told > 0 && Some(Wh(told)) != self.meter.baseline && told.abs_diff(last) > ROUNDED_WH.unsigned_abs() {
            self.meter.told_doubts.raise(Doubt::EndsContradict, [last, told]);
        }
    }
}

/// The registers of an end. A 0 is a reading that failed.
pub(crate) fn end_registers(update: &TransactionUpdate) -> impl Iterator<Item = Wh> {
    let ends = update.points.iter().filter(|point| point.kind == PointKind::End && point.value > 0);
    ends.map(|point| Wh(point.value))
}

fn is_reading(point: &Point) -> bool {
    matches!(point.kind, PointKind::Register | PointKind::End)
}

/// An update's points, in order, with the one that closes the last stretch of time at the end. The registers of a begin and
/// of an end are read a little beside it; of one moment the larger of two values stays, as in the store.
pub fn points_of(update: &TransactionUpdate) -> Vec<Point> {
    let mut points = update.points.clone();
    let beside = |at: Timestamp| match update.phase {
        Phase::Started => at < update.at && update.at.since(at) <= BESIDE_MS,
        Phase::Ended => at > update.at && at.since(update.at) <= BESIDE_MS,
        Phase::Updated => false,
    };
    if update.phase == Phase::Ended {
        add_up(&mut points, update.at, beside);
    }
    let reads = |point: &Point| point.kind.is_register() || point.kind == PointKind::Net;
    points.iter_mut().filter(|point| reads(point) && beside(point.at)).for_each(|point| point.at = update.at);
    if update.phase == Phase::Started
        && !points.iter().any(|point| matches!(point.kind, PointKind::Begin | PointKind::MeterStart))
        && let Some(first) = points.iter_mut().filter(|point| point.kind == PointKind::Register).min()
    {
        first.kind = PointKind::Begin;
    }
    if update.phase == Phase::Ended {
        if points.iter().all(|point| point.kind != PointKind::End)
            && let Some(last) = points.iter_mut().filter(|point| point.kind == PointKind::Register).max()
        {
            last.kind = PointKind::End;
        }
        // It is there already, with how it came, where a station told the update.
        let is_there = |end: &Point| points.iter().any(|p| (p.at, p.kind, p.value) == (end.at, end.kind, end.value));
        let closing = closing(update).filter(|end| !is_there(end));
        points.extend(closing);
    }
    settle_moments(&mut points);
    points
}

/// What an end closes: the last stretch of time.
pub fn closing(update: &TransactionUpdate) -> Option<Point> {
    let idle = Point::new(update.at, PointKind::State, ChargingState::Idle as i64);
    (update.phase == Phase::Ended).then_some(idle)
}

/// Energies since the sample before that are told a little past the end are the end's, all of them.
fn add_up(points: &mut Vec<Point>, at: Timestamp, beside: impl Fn(Timestamp) -> bool) {
    let is_late = |point: &Point| point.kind == PointKind::Interval && beside(point.at);
    let mut late: Vec<Point> = points.iter().filter(|point| is_late(point)).copied().collect();
    points.retain(|point| !is_late(point));
    settle_moments(&mut late);
    let Some(first) = late.first() else { return };
    let sum = late.iter().fold(0_i64, |sum, point| sum.saturating_add(point.value));
    match points.iter_mut().find(|point| (point.at, point.kind) == (at, PointKind::Interval)) {
        Some(point) => point.value = point.value.saturating_add(sum),
        None => points.push(Point { at, value: sum, ..*first }),
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
