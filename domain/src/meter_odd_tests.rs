//! Stations whose clocks or registers are not what they should be.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tariff::price;
use crate::units::Money;

pub(crate) const NOW: i64 = 1_790_000_000_000;
pub(crate) const HOUR: i64 = 3600;

pub(crate) fn tariff() -> Tariff {
    Tariff { energy_price: Money(100_000), waiting_price: Money(5_000), ..Tariff::default() }
}

/// Dated and received so many seconds after now.
pub(crate) fn told(dated: i64, received: i64, kind: PointKind, value: i64) -> Point {
    let heard = Heard { at: Timestamp(NOW + received * 1000), date: Dated::ByStation };
    Point { heard, ..at(dated, kind, value) }
}

pub(crate) fn at(seconds: i64, kind: PointKind, value: i64) -> Point {
    Point::new(Timestamp(NOW + seconds * 1000), kind, value)
}

pub(crate) fn state(seconds: i64, state: ChargingState) -> Point {
    at(seconds, PointKind::State, state as i64)
}

pub(crate) fn fold(points: &[Point]) -> Meter {
    Meter::fold(points.to_vec(), &tariff(), None)
}

pub(crate) fn energy_and_doubt(points: &[Point]) -> (i64, Option<Doubt>) {
    let meter = fold(points);
    (meter.energy().0, meter.doubts(true).first())
}

/// A charge whose clock is behind until its last message.
pub(crate) fn behind(by: i64, received: [i64; 4]) -> Vec<Point> {
    use PointKind::*;
    vec![
        told(-by, received[0], MeterStart, 1000),
        told(240 - by, received[1], Register, 2000),
        told(300 - by, received[2], State, ChargingState::SuspendedEv as i64),
        told(0, received[3], End, 2000),
        told(0, received[3], State, ChargingState::Idle as i64),
    ]
}

#[test]
fn waiting_over_a_clock_that_was_set_is_what_the_receipts_bear_out() {
    for by in [HOUR, 2 * HOUR, 24 * HOUR, 400 * 24 * HOUR] {
        let meter = fold(&behind(by, [1, 2, 3, 4]));
        assert_eq!((meter.energy(), meter.waiting_s()), (Wh(1000), 0), "{by}");
        assert!(meter.doubts(true).has(Doubt::ClockWrong), "{by}");
        // It had been waiting for ten minutes, by our clock.
        let meter = fold(&behind(by + 900, [-900, -660, -600, 0]));
        assert_eq!((meter.energy(), meter.waiting_s()), (Wh(1000), 600), "{by}");
        assert!(meter.doubts(true).has(Doubt::ClockWrong), "{by}");
    }
}

#[test]
fn what_comes_late_from_a_queue_keeps_its_times() {
    // Two days ago, told in one go; and by a station that was out of touch meanwhile.
    let queued: Vec<_> = behind(2 * HOUR, [0; 4])
        .into_iter()
        .map(|point| Point { at: point.at.plus_millis(-48 * HOUR * 1000), ..point })
        .collect();
    let waited = 2 * HOUR - 300;
    let meter = fold(&queued);
    assert_eq!((meter.waiting_s(), meter.doubts(true).first()), (waited, None));
    let mut away = behind(2 * HOUR, [1, 2, 3, 4]);
    away[..3].iter_mut().for_each(|point| point.heard.date = Dated::WhileAway);
    let meter = fold(&away);
    assert_eq!((meter.waiting_s(), meter.doubts(true).first()), (waited, None));
    // One message that comes hours late says nothing of the clock.
    let mut late = behind(2 * HOUR, [-2 * HOUR, 240 - 2 * HOUR, 5, 5]);
    late.push(told(-60, 6, PointKind::Register, 2000));
    let meter = fold(&late);
    assert_eq!((meter.waiting_s(), meter.doubts(true).first()), (waited, None));
}

#[test]
fn energy_that_flowed_while_the_clock_was_set_is_billed() {
    use PointKind::*;
    for kind in [ChargingState::Charging, ChargingState::Unknown] {
        let points =
            [told(-2 * HOUR, 1, MeterStart, 1000), told(-2 * HOUR, 1, State, kind as i64), told(0, 2, End, 11_000)];
        let meter = Meter::fold(points.to_vec(), &tariff(), Some(22_000));
        assert_eq!(meter.energy(), Wh(10_000), "{kind:?}");
    }
    // And where nothing has a time that can be believed.
    let at_receipt = |ms: i64, kind, value| Point {
        at: Timestamp(NOW + ms),
        heard: Heard { at: Timestamp(NOW + ms), date: Dated::AtReceipt },
        ..at(0, kind, value)
    };
    let points = [at_receipt(0, MeterStart, 1000), at_receipt(90, End, 11_000)];
    assert_eq!(Meter::fold(points.to_vec(), &tariff(), Some(22_000)).energy(), Wh(10_000));
}

#[test]
fn a_small_rise_while_the_car_is_full_takes_off_what_it_needs() {
    use PointKind::*;
    let charge = [at(0, MeterStart, 1000), at(300, Register, 2000), state(400, ChargingState::SuspendedEv)];
    let waited = |more: &[Point]| fold(&[&charge[..], more].concat()).waiting_s();
    assert_eq!(waited(&[at(1000, End, 2001)]), 597, "1 Wh at 1380 W");
    assert_eq!(waited(&[at(900, Register, 2001), at(1000, End, 2001)]), 597);
    assert_eq!(waited(&[at(500, Power, 3600), at(900, Register, 2100), at(1000, End, 2100)]), 500, "100 s at 3.6 kW");
    assert_eq!(waited(&[at(1000, End, 2500)]), 0);
}

#[test]
fn without_a_register_intervals_bill_and_are_doubtful() {
    use PointKind::*;
    let intervals = [at(60, Interval, 500), at(120, Interval, 700), at(180, Interval, 300)];
    let none = [at(0, MeterStart, 0), at(200, End, 0)];
    let told = [&none[..], &intervals].concat();
    assert_eq!(energy_and_doubt(&told), (1500, Some(Doubt::NoRegister)));
    let twice = [&told[..], &intervals].concat();
    assert_eq!(energy_and_doubt(&twice), (1500, Some(Doubt::NoRegister)));
    assert_eq!(energy_and_doubt(&intervals), (1500, Some(Doubt::NoRegister)), "2.0.1");
    // Any register is better.
    let register = [at(0, MeterStart, 0), at(200, End, 1400)];
    assert_eq!(energy_and_doubt(&[&register[..], &intervals].concat()), (1400, None));
    let stands = [at(0, MeterStart, 70), at(200, End, 70)];
    assert_eq!(energy_and_doubt(&[&stands[..], &intervals].concat()), (0, Some(Doubt::NotMeasured)));
    let net = |values: [i64; 3]| values.iter().zip(1..).map(|(wh, n)| at(n * 60, Net, *wh)).collect::<Vec<_>>();
    assert_eq!(energy_and_doubt(&net([500, 1200, 1500])), (1000, Some(Doubt::NoRegister)));
    assert_eq!(energy_and_doubt(&net([500, 700, 300])), (1500, Some(Doubt::NoRegister)));
}

#[test]
fn a_register_of_a_life_beside_a_count_of_the_charge() {
    use PointKind::*;
    let samples = [at(60, Register, 104), at(120, Register, 228), at(180, Register, 353)];
    let start = [at(0, MeterStart, 4_076_000)];
    let running = [&start[..], &samples].concat();
    assert_eq!(fold(&running).energy(), Wh(249));
    assert_eq!(fold(&running).doubts(false).first(), None);
    assert_eq!(fold(&running).doubts(true).first(), Some(Doubt::TwoRegisters));
    let ended = [&running[..], &[at(181, End, 4_076_353)]].concat();
    for power in [None, Some(22_000)] {
        let meter = Meter::fold(ended.clone(), &tariff(), power);
        assert_eq!((meter.energy(), meter.doubts(true).first()), (Wh(353), None));
    }
    // A young meter, whose whole life a car can take; and a count that its begin tells of.
    let young = [&[at(0, MeterStart, 50_000)], &samples[..], &[at(181, End, 50_353)]].concat();
    assert_eq!(energy_and_doubt(&young), (353, None));
    let begun = [&start[..], &[at(0, Begin, 0)], &samples].concat();
    assert_eq!(fold(&begun).energy(), Wh(353));
    // The other way round.
    let life: Vec<_> = samples.iter().map(|point| Point { value: point.value + 4_076_000, ..*point }).collect();
    let other = [&[at(0, MeterStart, 0)], &life[..], &[at(181, End, 353)]].concat();
    assert_eq!(energy_and_doubt(&other), (353, None));
}

#[test]
fn power_and_register_that_contradict_each_other_are_doubtful() {
    use PointKind::*;
    let charge = |first: i64, last: i64, watts: i64| {
        let powers = (0..=6).map(|n| at(n * 60, Power, watts));
        let ends = [at(0, MeterStart, first), at(380, End, last), state(380, ChargingState::Idle)];
        energy_and_doubt(&powers.chain(ends).collect::<Vec<_>>())
    };
    assert_eq!(charge(361, 362, 9451), (1, Some(Doubt::PowerContradicts)));
    assert_eq!(charge(361, 1361, 9451), (1000, None));
    assert_eq!(charge(361, 761, 9451), (400, None), "less than told, but no other unit");
    assert_eq!(charge(361, 361, 9451), (0, Some(Doubt::NotMeasured)));
    assert_eq!(charge(0, 0, 9451), (0, Some(Doubt::NotMeasured)));
    assert_eq!(charge(361, 361, 0), (0, None));
    assert_eq!(charge(361, 20_361, 9451), (20_000, Some(Doubt::PowerContradicts)));
    assert_eq!(charge(361, 1361, 9), (1000, None), "told in kW");
    // A register in whole kWh holds back up to one.
    assert_eq!(charge(361_000, 362_000, 9451), (1000, None));
    let meter = fold(&[at(0, MeterStart, 361), at(60, Power, 9451), at(380, End, 362)]);
    assert_eq!(meter.doubts(true).details(), "power_contradicts: 1 Wh by the register, 840 Wh by power and time");
}

#[test]
fn a_charge_that_nobody_measured_is_doubtful() {
    let silent = [state(0, ChargingState::Charging), state(20, ChargingState::Idle)];
    assert_eq!(energy_and_doubt(&silent), (0, Some(Doubt::NotMeasured)));
    let plugged_in = [state(0, ChargingState::Connected), state(900, ChargingState::Idle)];
    assert_eq!(energy_and_doubt(&plugged_in), (0, None));
    let no_register = [at(0, PointKind::MeterStart, 0), state(1, ChargingState::Charging), at(600, PointKind::End, 0)];
    assert_eq!(energy_and_doubt(&no_register), (0, Some(Doubt::NotMeasured)));
}

#[test]
fn a_charge_is_stopped_before_it_costs_too_much() {
    use PointKind::*;
    let by = |points: &[Point], s: i64| {
        let usage = fold(points).usage_by(Timestamp(NOW + s * 1000), &tariff(), None);
        price(&tariff(), &usage).energy.0
    };
    let powered = [at(0, MeterStart, 0), at(600, Register, 900), at(600, Power, 7200)];
    assert_eq!(by(&powered, 605), 910);
    assert_eq!(by(&powered, 6000), 900 + 1800, "one and a half of the last step at most");
    let often = [&powered[..2], &[at(605, Register, 910), at(605, Power, 7200)]].concat();
    assert_eq!(by(&often, 6000), 910 + 120, "a minute at most");
    let average = [at(0, MeterStart, 0), at(600, Register, 900)];
    assert_eq!(by(&average, 610), 915);
    assert_eq!(by(&[at(0, MeterStart, 0), at(1, Register, 900)], 10), 900, "one second says nothing");
    let full = [&powered[..], &[state(601, ChargingState::SuspendedEv)]].concat();
    assert_eq!(by(&full, 610), 900);
}

/// Points of a station whose clock may be set once, received in any delay.
fn any_told() -> impl Strategy<Value = Vec<Point>> {
    let point = (0i64..20_000, 0i64..9, 0i64..3000, 0i64..4000);
    (prop::collection::vec(point, 0..40), 0i64..20_000, prop::sample::select(vec![0, 7200, 90_000])).prop_map(
        |(points, set_at, behind)| {
            let told = |(s, kind, value, delay): (i64, i64, i64, i64)| {
                let kind = PointKind::from_code(kind).unwrap();
                let dated = if s < set_at { s - behind } else { s };
                told(dated, s + delay, kind, if kind == PointKind::State { value % 9 } else { value })
            };
            points.into_iter().map(told).collect()
        },
    )
}

/// The same, where the station was out of touch for some of the time.
fn any_told_away() -> impl Strategy<Value = Vec<Point>> {
    (any_told(), 0i64..20_000).prop_map(|(mut points, back_at)| {
        let away = |point: &&mut Point| point.at < Timestamp(NOW + back_at * 1000);
        points.iter_mut().filter(away).for_each(|point| point.heard.date = Dated::WhileAway);
        points
    })
}

proptest! {
    /// What the store has been told counts, not in which order it was.
    #[test]
    fn a_clock_that_is_set_gives_the_same_bill_in_any_order(points in any_told_away(), seed in any::<u64>()) {
        let once = fold(&points);
        let mut told = points.clone();
        told.extend(points.iter().copied().filter(|p| p.value % 2 == 0));
        told.sort_by_key(|p| (p.at.0 ^ p.value).wrapping_mul(seed as i64 | 1));
        let mut live = Meter::default();
        for (n, point) in told.iter().enumerate() {
            if !live.append(*point, &tariff(), None) {
                live = fold(&told[..=n]);
            }
        }
        prop_assert_eq!(live, once);
    }

    /// Nobody waits for longer than it took by our own clock, an hour's lateness apart.
    #[test]
    fn no_more_waiting_than_receipts_bear_out(points in any_told()) {
        let waited = fold(&points).waiting_s();
        prop_assert!(waited <= 20_000 + 4000 + 2700, "{}", waited);
    }

    #[test]
    fn a_meter_reads_back(points in any_told_away()) {
        let meter = fold(&points);
        prop_assert_eq!(Meter::from_text(&meter.to_text()), Ok(meter));
        let mut rest = Meter { baseline: meter.baseline, register: meter.register, ..Meter::default() };
        rest.read_rest(Some(&meter.rest_text())).unwrap();
        prop_assert_eq!(rest.rest_text(), meter.rest_text());
    }

    /// Older points may become figures: nothing changes by that.
    #[test]
    fn folding_on_older_figures_gives_the_same_bill(points in any_told_away(), cut in any::<prop::sample::Index>()) {
        let start = told(-100_000, -100_000, PointKind::MeterStart, 1);
        let mut points: Vec<_> = points.into_iter().filter(|p| p.kind > PointKind::Begin).chain([start]).collect();
        points.sort_unstable();
        let middle = points[cut.index(points.len())].at;
        let (older, newer): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.at < middle);
        let base = Meter::from_text(&fold(&older).to_text()).unwrap();
        let on = base.fold_on(newer, &tariff(), None);
        let all = fold(&points);
        prop_assert_eq!((on.usage(), on.doubts(true)), (all.usage(), all.doubts(true)));
    }
}
