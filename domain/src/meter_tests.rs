use proptest::prelude::*;

use super::*;
use crate::bands::{Band, Bands};
use crate::tariff::{Bill, price};
use crate::units::Money;

const START: i64 = 1_790_000_000_000;

fn at(seconds: i64, kind: PointKind, value: i64) -> Point {
    Point::new(Timestamp(START + seconds * 1000), kind, value)
}

fn state(seconds: i64, state: ChargingState) -> Point {
    at(seconds, PointKind::State, state as i64)
}

fn fold(points: &[Point]) -> Meter {
    Meter::fold(points.to_vec(), &Tariff::default(), None)
}

/// `START` is 22:13:20 at UTC+8; the night begins two minutes later and ends another two later.
fn night_tariff() -> Tariff {
    let night = Band { from_min: 1335, to_min: 1337, energy_price: Money(20_000), waiting_price: Some(Money(500)) };
    Tariff {
        energy_price: Money(50_000),
        waiting_price: Money(6_000),
        waiting_grace_s: 20,
        start_fee: Money(10_000),
        vat_bp: 1000,
        bands: Bands::new(vec![night]).unwrap_or_default(),
        clock: crate::WallClock::fixed(480),
        ..Tariff::default()
    }
}

/// Seconds from `START` to the night's begin and end.
const NIGHT: (i64, i64) = (100, 220);

#[test]
fn energy_is_the_highest_register_less_the_baseline() {
    use PointKind::*;
    let meter = fold(&[at(0, MeterStart, 1000), at(5, Register, 1010), at(10, Register, 1005), at(15, End, 1030)]);
    assert_eq!(meter.energy(), Wh(30));
    assert_eq!(meter.doubts(true).first(), None);
}

#[test]
fn a_begin_sample_stands_in_for_a_missing_start() {
    use PointKind::*;
    assert_eq!(fold(&[at(0, Begin, 500), at(5, Register, 520)]).energy(), Wh(20));
    assert_eq!(fold(&[at(0, Register, 500), at(5, Register, 520)]).energy(), Wh(20));
    assert_eq!(fold(&[at(0, Begin, 500), at(0, MeterStart, 490), at(5, Register, 520)]).energy(), Wh(30));
}

#[test]
fn a_begin_of_zero_beside_a_large_register_is_a_missing_baseline() {
    use PointKind::*;
    let meter = fold(&[at(0, MeterStart, 0), at(5, Register, 910_000), at(3600, Register, 917_000)]);
    assert_eq!(meter.energy(), Wh(7000));
    assert_eq!(meter.doubts(true).first(), Some(Doubt::MissingBaseline));
}

#[test]
fn a_begin_of_zero_is_no_baseline_for_a_lone_register_at_the_end_of_a_long_charge() {
    use PointKind::*;
    let meter = fold(&[at(0, MeterStart, 0), at(8 * 3600, End, 910_000)]);
    assert_eq!((meter.energy(), meter.doubts(true).first()), (Wh(0), Some(Doubt::MissingBaseline)));
    let new_meter = fold(&[at(0, MeterStart, 0), at(8 * 3600, End, 60_000)]);
    assert_eq!((new_meter.energy(), new_meter.doubts(true).first()), (Wh(60_000), None));
}

#[test]
fn a_rise_beyond_the_plug_is_held_back() {
    use PointKind::*;
    let points = [at(0, MeterStart, 1000), at(60, Register, 1100), at(120, Register, 90_000), at(180, Register, 1300)];
    let meter = Meter::fold(points.to_vec(), &Tariff::default(), Some(22_000));
    assert_eq!(meter.energy(), Wh(300));
    assert_eq!(meter.doubts(true).first(), Some(Doubt::ImplausibleRise));
}

#[test]
fn a_full_car_waits_from_the_moment_it_says_so() {
    use PointKind::*;
    let charge = [at(0, MeterStart, 0), state(1, ChargingState::Charging), at(60, Register, 100)];
    let full = state(70, ChargingState::SuspendedEv);
    let meter = fold(&[&charge[..], &[full, at(100, Register, 100)]].concat());
    assert_eq!(meter.waiting_s(), 30);
    assert_eq!(waiting_s_at(&meter, 105_500), 35);
    let unplugged = fold(&[&charge[..], &[full, at(100, End, 100), state(100, ChargingState::Idle)]].concat());
    assert_eq!(waiting_s_at(&unplugged, 900_000), 30);
}

fn waiting_s_at(meter: &Meter, ms: i64) -> i64 {
    meter.usage_at(Timestamp(START + ms), &Tariff::default()).waiting_s
}

#[test]
fn energy_is_split_at_a_bands_border_by_time() {
    use PointKind::*;
    let tariff = night_tariff();
    let energy = |points: &[Point]| Meter::fold(points.to_vec(), &tariff, None).energy_in;
    assert_eq!(tariff.slot_at(Timestamp(START + NIGHT.0 * 1000 - 1)), 0);
    assert_eq!(tariff.slot_at(Timestamp(START + NIGHT.0 * 1000)), 1);
    assert_eq!(energy(&[at(0, MeterStart, 0), at(200, Register, 100)])[..2], [Wh(50), Wh(50)]);
    // 0 to 100 s, 100 to 220 s, 220 to 300 s: each takes its share of what is left, rounded down.
    assert_eq!(energy(&[at(0, MeterStart, 0), at(300, End, 1000)])[..2], [Wh(333 + 267), Wh(400)]);
    // The register stood still until the border: all of it flowed behind it.
    assert_eq!(energy(&[at(0, MeterStart, 7), at(100, Register, 7), at(150, End, 57)])[..2], [Wh(0), Wh(50)]);
    // A rise without time belongs to its moment.
    assert_eq!(energy(&[at(100, MeterStart, 7), at(100, End, 57)])[..2], [Wh(0), Wh(50)]);
}

#[test]
fn waiting_is_split_too_and_the_grace_takes_its_first_seconds() {
    use PointKind::*;
    let tariff = night_tariff();
    let charge = [at(0, MeterStart, 0), at(70, Register, 100), state(90, ChargingState::SuspendedEv)];
    let meter = Meter::fold([&charge[..], &[at(300, Register, 100)]].concat(), &tariff, None);
    assert_eq!(meter.waiting_s(), 210, "a register that stands still for twenty seconds does not wait yet");
    assert_eq!(meter.paid_waiting_s[..2], [80, 110], "90 to 100 and 100 to 110 are free");
    let live = Meter::fold(charge.to_vec(), &tariff, None).usage_at(Timestamp(START + 300_000), &tariff);
    assert_eq!(live, meter.usage());
    // A stretch that turns out to be waiting after a minute is split where it was, not where that was known.
    let quiet = [at(50, MeterStart, 0), at(70, Register, 100), at(140, Register, 100)];
    assert_eq!(Meter::fold(quiet.to_vec(), &tariff, None).paid_waiting_s[..2], [10, 40]);
}

#[test]
fn waiting_needs_energy_first_and_never_counts_the_chargers_own_pause() {
    use PointKind::*;
    let never = fold(&[at(0, MeterStart, 0), state(1, ChargingState::SuspendedEv), at(500, Register, 0)]);
    assert_eq!(never.waiting_s(), 0);
    let paused = fold(&[
        at(0, MeterStart, 0),
        at(60, Register, 100),
        state(61, ChargingState::SuspendedEvse),
        at(999, Register, 100),
    ]);
    assert_eq!(paused.waiting_s(), 0);
}

#[test]
fn a_quiet_register_waits_only_after_a_minute_and_not_while_power_flows() {
    use PointKind::*;
    let start = [at(0, MeterStart, 0), at(10, Register, 100)];
    assert_eq!(fold(&[&start[..], &[at(50, Register, 100), at(65, Register, 200)]].concat()).waiting_s(), 0);
    assert_eq!(fold(&[&start[..], &[at(50, Register, 100), at(100, Register, 100)]].concat()).waiting_s(), 90);
    let drawing = [at(10, Power, 1400), at(200, Register, 100)];
    assert_eq!(fold(&[&start[..], &drawing].concat()).waiting_s(), 0);
}

#[test]
fn energy_that_shows_only_later_is_no_waiting() {
    use PointKind::*;
    let start = [at(0, MeterStart, 0), at(10, Register, 100)];
    // Samples every fifteen minutes: the car was full right before one, or pulled out at another.
    let full = [state(895, ChargingState::SuspendedEv), at(900, Register, 1500), at(960, Register, 1500)];
    assert_eq!(fold(&[&start[..], &full].concat()).waiting_s(), 60);
    let pulled = [state(800, ChargingState::Idle), at(800, End, 1500)];
    assert_eq!(fold(&[&start[..], &pulled].concat()).waiting_s(), 0);
    let shown = [at(400, Soc, 50), at(500, Soc, 51), at(600, Register, 900)];
    assert_eq!(fold(&[&start[..], &shown].concat()).waiting_s(), 0);
    // And where the register did stand still, all of it counts, whatever was said in between.
    let stood = [at(400, Soc, 50), at(600, Register, 100), at(700, Soc, 50), at(800, End, 100)];
    assert_eq!(fold(&[&start[..], &stood].concat()).waiting_s(), 790);
}

#[test]
fn of_two_states_in_one_moment_the_one_that_costs_less_stays() {
    use ChargingState::*;
    use PointKind::*;
    let waits = |told: [ChargingState; 2]| {
        let points =
            [at(0, MeterStart, 0), at(5, Register, 100), state(5, told[0]), state(5, told[1]), at(605, End, 100)];
        fold(&points).waiting_s()
    };
    for paying in [SuspendedEv, Connected] {
        for free in [Charging, SuspendedEvse, Idle] {
            assert_eq!((waits([paying, free]), waits([free, paying])), (0, 0), "{paying:?} {free:?}");
        }
        assert_eq!(waits([paying, Unknown]), 600);
    }
    // The store keeps the larger number of one moment, so that must be the one that counts.
    let all = [Unknown, Charging, SuspendedEv, SuspendedEvse, Connected, Idle];
    assert!(all.iter().all(|state| ChargingState::from_code(*state as i64) == *state));
    assert!([SuspendedEv, Connected].iter().all(|state| (*state as i64) < Idle as i64));
    assert!([Charging, SuspendedEvse].iter().all(|state| *state as i64 > Idle as i64));
    assert_eq!([1, 3].map(ChargingState::from_code), [Charging, SuspendedEvse], "as they were stored at first");
}

#[test]
fn a_charger_that_says_it_charges_does_not_wait() {
    use PointKind::*;
    let said = [at(0, MeterStart, 0), state(1, ChargingState::Charging), at(10, Register, 100)];
    assert_eq!(
        fold(&[&said[..], &[at(600, Register, 100), at(601, Power, 0), at(900, End, 100)]].concat()).waiting_s(),
        0
    );
}

/// 3.7 kW by a register that counts in tenths of a kWh, read every 5 s: a step every 97 s.
#[test]
fn a_coarse_register_does_not_wait_between_its_steps() {
    use PointKind::*;
    let read = |seconds: i64| at(seconds, Register, (seconds * 3700 / 3600) / 100 * 100);
    let mut points: Vec<_> = (0..360).map(|n| read(n * 5)).collect();
    points[0].kind = MeterStart;
    assert_eq!(fold(&points).waiting_s(), 0);
    let full = points[359].value;
    points.extend((360..600).map(|n| at(n * 5, Register, full)));
    let waited = fold(&points).waiting_s();
    assert!((1150..1300).contains(&waited), "full after half an hour: {waited}");
}

#[test]
fn a_register_that_falls_is_seen_by_the_operator() {
    use PointKind::*;
    let doubt = |points: &[Point]| fold(points).doubts(true).first();
    let charge = [at(0, MeterStart, 7000), at(600, Register, 9000)];
    assert_eq!(doubt(&[&charge[..], &[at(900, End, 1000)]].concat()), Some(Doubt::RegisterFell));
    assert_eq!(
        doubt(&[&charge[..], &[at(900, Register, 500), at(1000, End, 9500)]].concat()),
        Some(Doubt::RegisterFell)
    );
    assert_eq!(doubt(&[at(0, MeterStart, 999_999), at(600, End, 5000)]), Some(Doubt::RegisterFell), "began too high");
    // A 0 is a reading that failed, and two readings of one register may be rounded differently.
    assert_eq!(doubt(&[&charge[..], &[at(900, End, 0)]].concat()), None);
    assert_eq!(doubt(&[&charge[..], &[at(600, End, 8950)]].concat()), None);
    assert_eq!(Doubt::from_code(3).map(Doubt::as_str), Some("register_fell"));
}

#[test]
fn a_reading_older_than_the_start_counts_from_its_register() {
    use PointKind::*;
    for (start, max_power_w) in [(0, None), (1000, None), (1000, Some(7000))] {
        let points = [at(240, MeterStart, start), at(210, End, start + 1500), state(210, ChargingState::Idle)];
        let meter = Meter::fold(points.to_vec(), &night_tariff(), max_power_w);
        assert_eq!((meter.energy(), meter.doubts(true).first()), (Wh(1500), None), "{start} {max_power_w:?}");
        assert_eq!(meter.energy_in.iter().copied().sum::<Wh>(), Wh(1500));
    }
    let begun = [at(240, Begin, 1000), at(100, Register, 1200), at(200, Register, 1400)];
    assert_eq!(fold(&begun).energy(), Wh(400));
    let beyond = fold(&[at(240, MeterStart, 1000), at(210, End, 900_000)]);
    assert_eq!((beyond.energy(), beyond.doubts(true).first()), (Wh(0), Some(Doubt::ImplausibleRise)));
}

#[test]
fn a_begin_of_zero_is_no_baseline_for_more_than_any_plug_gives_in_the_time() {
    use PointKind::*;
    let held = fold(&[at(0, MeterStart, 0), at(10, Register, 50_000), at(3610, End, 57_000)]);
    assert_eq!((held.energy(), held.doubts(true).first()), (Wh(7000), Some(Doubt::MissingBaseline)));
    let fast = fold(&[at(0, MeterStart, 0), at(600, Register, 50_000)]);
    assert_eq!((fast.energy(), fast.doubts(true).first()), (Wh(50_000), None));
    let known = Meter::fold(vec![at(0, MeterStart, 0), at(600, Register, 3_600)], &Tariff::default(), Some(22_000));
    assert_eq!((known.energy(), known.doubts(true).first()), (Wh(3_600), None));
}

#[test]
fn a_spike_after_a_long_stand_is_held_back() {
    use PointKind::*;
    let hours = 3600;
    let full = [at(0, MeterStart, 1000), at(hours, Register, 21_000), at(4 * hours, Register, 21_000)];
    let meter = |more: &[Point]| Meter::fold([&full[..], more].concat(), &Tariff::default(), Some(22_000));
    let spike = meter(&[at(4 * hours + 10, Register, 71_000), at(4 * hours + 20, End, 21_010)]);
    assert_eq!((spike.energy(), spike.doubts(true).first()), (Wh(20_010), Some(Doubt::ImplausibleRise)));
    // A register in whole kWh stands still while a step gathers.
    let step = meter(&[at(4 * hours + 5, Register, 22_000)]);
    assert_eq!((step.energy(), step.doubts(true).first()), (Wh(21_000), None));
}

fn any_point() -> impl Strategy<Value = Point> {
    (0i64..400, 0i64..9, 0i64..3000).prop_map(|(seconds, kind, value)| {
        let kind = PointKind::from_code(kind).unwrap_or(PointKind::Register);
        at(seconds, kind, if kind == PointKind::State { value % 9 } else { value })
    })
}

fn bill(meter: &Meter) -> Bill {
    price(&night_tariff(), &meter.usage())
}

proptest! {
    #[test]
    fn order_and_repetition_change_nothing(points in prop::collection::vec(any_point(), 0..40), seed in any::<u64>()) {
        let once = fold(&points);
        let mut shuffled = points.clone();
        shuffled.extend(points.iter().copied().filter(|p| p.value % 2 == 0));
        shuffled.sort_by_key(|p| (p.at.0 ^ p.value).wrapping_mul(seed as i64 | 1));
        prop_assert_eq!(fold(&shuffled), once);
    }

    /// What ingest does: append in order, fold again when something comes late.
    #[test]
    fn appending_ends_where_folding_does(
        points in prop::collection::vec(any_point(), 0..40), plug in prop::option::of(1000i64..50_000),
    ) {
        let fold = |points: &[Point]| Meter::fold(points.to_vec(), &Tariff::default(), plug);
        let mut live = Meter::default();
        for (n, point) in points.iter().enumerate() {
            if !live.append(*point, &Tariff::default(), plug) {
                live = fold(&points[..=n]);
            }
        }
        prop_assert_eq!(live, fold(&points));
    }

    /// The store keeps one state of a moment, the one with the larger number.
    #[test]
    fn a_state_that_the_store_drops_changes_nothing(points in prop::collection::vec(any_point(), 0..40)) {
        let dropped = |point: &Point| {
            let larger = |other: &Point| (other.at, other.kind) == (point.at, point.kind) && other.value > point.value;
            point.kind == PointKind::State && points.iter().any(larger)
        };
        let kept: Vec<_> = points.iter().copied().filter(|point| !dropped(point)).collect();
        prop_assert_eq!(fold(&kept), fold(&points));
    }

    #[test]
    fn figures_are_never_negative(points in prop::collection::vec(any_point(), 0..40)) {
        let meter = fold(&points);
        prop_assert!(meter.energy() >= Wh(0));
        prop_assert!(meter.waiting_ms >= 0);
    }

    #[test]
    fn any_order_and_repetition_gives_the_same_bill(
        points in prop::collection::vec(any_point(), 0..40), seed in any::<u64>(),
    ) {
        let tariff = night_tariff();
        let once = Meter::fold(points.clone(), &tariff, None);
        let mut live = Meter::default();
        let mut told = points.clone();
        told.extend(points.iter().copied().filter(|p| p.value % 2 == 0));
        told.sort_by_key(|p| (p.at.0 ^ p.value).wrapping_mul(seed as i64 | 1));
        for (n, point) in told.iter().enumerate() {
            if !live.append(*point, &tariff, None) {
                live = Meter::fold(told[..=n].to_vec(), &tariff, None);
            }
        }
        prop_assert_eq!(bill(&live), bill(&once));
        // What came last is what is billed, and the live figure of that moment.
        prop_assert_eq!(price(&tariff, &live.usage_at(live.last_at, &tariff)), bill(&once));
    }

    #[test]
    fn bands_sum_to_the_total(points in prop::collection::vec(any_point(), 0..40), grace in 0i64..100) {
        let tariff = Tariff { waiting_grace_s: grace, ..night_tariff() };
        let meter = Meter::fold(points.clone(), &tariff, None);
        let plain = Meter::fold(points, &Tariff { waiting_grace_s: grace, ..Tariff::default() }, None);
        prop_assert_eq!((meter.energy(), meter.waiting_ms), (plain.energy(), plain.waiting_ms));
        prop_assert_eq!(meter.energy_in.iter().copied().sum::<Wh>(), meter.energy());
        prop_assert_eq!(meter.paid_waiting_s.iter().sum::<i64>(), (meter.waiting_s() - grace).max(0));
        prop_assert!(meter.energy_in.iter().all(|wh| *wh >= Wh(0)));
        let stored = plain.without_bands(&Tariff { waiting_grace_s: grace, ..Tariff::default() });
        prop_assert_eq!(stored.usage(), plain.usage());
    }

    #[test]
    fn a_higher_last_register_never_lowers_the_energy_line(
        points in prop::collection::vec(any_point(), 0..40), last in 3000i64..6000, more in 0i64..3000,
    ) {
        let with = |value| {
            let points = [&points[..], &[at(400, PointKind::End, value)]].concat();
            bill(&Meter::fold(points, &night_tariff(), None))
        };
        prop_assert!(with(last + more).energy_amount >= with(last).energy_amount);
    }

    /// Whatever comes after, a running bill never falls.
    #[test]
    fn later_points_never_lower_the_bill(points in prop::collection::vec(any_point(), 1..40), cut in any::<prop::sample::Index>()) {
        let mut points = points;
        points.sort_unstable();
        let at = cut.index(points.len());
        // A better baseline that comes late moves all figures, up or down, and so does a register after intervals.
        let stand_in = |p: &Point| matches!(p.kind, PointKind::Interval | PointKind::Net);
        let later = points.split_off(at).into_iter().filter(|p| p.kind > PointKind::Begin && !stand_in(p));
        points.retain(|point| !stand_in(point));
        let all: Vec<_> = points.iter().copied().chain(later).collect();
        let total = |points: &[Point]| bill(&Meter::fold(points.to_vec(), &night_tariff(), None)).total();
        prop_assert!(total(&all) >= total(&points));
    }
}
