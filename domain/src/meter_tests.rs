use proptest::prelude::*;

use super::*;

const START: i64 = 1_790_000_000_000;

fn at(seconds: i64, kind: PointKind, value: i64) -> Point {
    Point { at: Timestamp(START + seconds * 1000), kind, value }
}

fn state(seconds: i64, state: ChargingState) -> Point {
    at(seconds, PointKind::State, state as i64)
}

fn fold(points: &[Point]) -> Meter {
    Meter::fold(points.to_vec(), None)
}

#[test]
fn energy_is_the_highest_register_less_the_baseline() {
    use PointKind::*;
    let meter = fold(&[at(0, MeterStart, 1000), at(5, Register, 1010), at(10, Register, 1005), at(15, End, 1030)]);
    assert_eq!(meter.energy(), Wh(30));
    assert_eq!(meter.doubt, None);
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
    assert_eq!(meter.doubt, Some(Doubt::MissingBaseline));
}

#[test]
fn a_rise_beyond_the_plug_is_held_back() {
    use PointKind::*;
    let points = [at(0, MeterStart, 1000), at(60, Register, 1100), at(120, Register, 90_000), at(180, Register, 1300)];
    let meter = Meter::fold(points.to_vec(), Some(22_000));
    assert_eq!(meter.energy(), Wh(300));
    assert_eq!(meter.doubt, Some(Doubt::ImplausibleRise));
}

#[test]
fn a_full_car_waits_from_the_moment_it_says_so() {
    use PointKind::*;
    let charge = [at(0, MeterStart, 0), state(1, ChargingState::Charging), at(60, Register, 100)];
    let full = state(70, ChargingState::SuspendedEv);
    let meter = fold(&[&charge[..], &[full, at(100, Register, 100)]].concat());
    assert_eq!(meter.waiting_s(), 30);
    assert_eq!(meter.waiting_s_at(Timestamp(START + 105_500)), 35);
    let unplugged = fold(&[&charge[..], &[full, at(100, End, 100), state(100, ChargingState::Idle)]].concat());
    assert_eq!(unplugged.waiting_s_at(Timestamp(START + 900_000)), 30);
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

fn any_point() -> impl Strategy<Value = Point> {
    (0i64..400, 0i64..7, 0i64..3000).prop_map(|(seconds, kind, value)| {
        let kind = PointKind::from_code(kind).unwrap_or(PointKind::Register);
        at(seconds, kind, if kind == PointKind::State { value % 6 } else { value })
    })
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
    fn appending_ends_where_folding_does(points in prop::collection::vec(any_point(), 0..40)) {
        let mut live = Meter::default();
        for (n, point) in points.iter().enumerate() {
            if !live.append(*point, None) {
                live = fold(&points[..=n]);
            }
        }
        prop_assert_eq!(live, fold(&points));
    }

    #[test]
    fn figures_are_never_negative(points in prop::collection::vec(any_point(), 0..40)) {
        let meter = fold(&points);
        prop_assert!(meter.energy() >= Wh(0));
        prop_assert!(meter.waiting_ms >= 0);
    }
}
