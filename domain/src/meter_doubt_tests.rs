//! What was told contradicts itself, or tells too little: the bill stands, and somebody is to look at it.

use super::odd_tests::{HOUR, NOW, at, energy_and_doubt, fold, state, tariff};
use super::*;
use crate::tariff::price;

use ChargingState::{Charging, SuspendedEv};
use PointKind::*;

#[test]
fn a_register_that_was_read_once_measures_nothing() {
    let charging = state(-HOUR + 1, Charging);
    let over = state(-60, ChargingState::Idle);
    for lone in [
        vec![at(-HOUR, MeterStart, 1000), charging, at(-60, End, 0), over],
        vec![at(-HOUR, MeterStart, 1000), charging, over],
        vec![at(-HOUR, MeterStart, 1000), over],
        vec![charging, at(-60, End, 2000), over],
        vec![charging, at(-60, Register, 2000), over],
    ] {
        assert_eq!(energy_and_doubt(&lone), (0, Some(Doubt::NotMeasured)), "{lone:?}");
    }
    // The car never charged.
    let connected = state(-HOUR, ChargingState::Connected);
    assert_eq!(energy_and_doubt(&[connected, at(-60, End, 2000), over]), (0, None));
    assert_eq!(energy_and_doubt(&[at(-60, MeterStart, 1000), at(-30, End, 0)]), (0, None), "over at once");
    let meter = fold(&[at(-HOUR, MeterStart, 1000), charging, at(-60, End, 0), over]);
    let details = meter.doubts(true).details();
    assert_eq!(
        details,
        "not_measured: nothing was measured in 3540 s of charging; 0 Wh by power and time or intervals"
    );
}

#[test]
fn what_is_charged_before_the_first_reading_or_after_the_last_is_not_measured() {
    let begun = [at(0, MeterStart, 1000), state(1, Charging), at(300, Register, 1500)];
    let told = |more: &[Point]| energy_and_doubt(&[&begun[..], more].concat());
    assert_eq!(told(&[at(HOUR, End, 0)]), (500, Some(Doubt::NotMeasured)));
    assert_eq!(told(&[state(HOUR, ChargingState::Idle)]), (500, Some(Doubt::NotMeasured)));
    assert_eq!(told(&[at(500, End, 0)]), (500, None), "a sample was lost");
    assert_eq!(told(&[state(301, SuspendedEv), at(HOUR, End, 0)]), (500, None), "it was full");
    assert_eq!(told(&[at(HOUR, End, 2500)]), (1500, None));
    let late = [state(0, Charging), at(900, Register, 1500), at(1000, End, 2000)];
    assert_eq!(energy_and_doubt(&late), (500, Some(Doubt::NotMeasured)));
}

#[test]
fn an_hour_of_charging_that_moves_no_register_is_doubtful() {
    let charge = |said: ChargingState, more: &[Point]| {
        let ends = [at(HOUR, End, 5000), state(HOUR, ChargingState::Idle)];
        let points = [&[at(0, MeterStart, 5000), state(1, said)][..], &ends].concat();
        energy_and_doubt(&[&points[..], more].concat())
    };
    assert_eq!(charge(Charging, &[]), (0, Some(Doubt::NotMeasured)));
    assert_eq!(charge(SuspendedEv, &[]), (0, None));
    assert_eq!(charge(ChargingState::SuspendedEvse, &[]), (0, None));
    assert_eq!(charge(ChargingState::Unknown, &[]), (0, None), "read twice, and nothing says that it charged");
    let idle: Vec<_> = (0..=12).map(|n| at(n * 300, Power, 0)).collect();
    assert_eq!(charge(Charging, &idle), (0, None), "no power flowed");
    let short = [at(0, MeterStart, 5000), state(1, Charging), at(200, End, 5000), state(200, ChargingState::Idle)];
    assert_eq!(energy_and_doubt(&short), (0, None));
}

#[test]
fn a_battery_that_fills_beside_a_register_that_stands_is_doubtful() {
    let charge = |last: i64, soc: [i64; 2]| {
        let points = [at(0, MeterStart, 5000), at(60, Soc, soc[0]), at(HOUR, Soc, soc[1]), at(HOUR, End, last)];
        let meter = fold(&points);
        (meter.energy().0, meter.doubts(true).has(Doubt::SocContradicts), meter.doubts(true).details())
    };
    assert_eq!(
        charge(5001, [20, 80]),
        (1, true, "soc_contradicts: 1 Wh by the register, while the car's battery rose by 60 percent".into())
    );
    assert!(charge(5000, [20, 80]).1);
    assert_eq!(charge(5002, [20, 23]), (2, false, String::new()), "a battery's own count may jump");
    assert!(!charge(7000, [20, 80]).1, "a small battery");
    assert!(!charge(5001, [80, 20]).1);
    assert!(!charge(5000, [0, 0]).1);
}

#[test]
fn intervals_that_a_register_contradicts_are_doubtful() {
    let intervals = [at(60, Interval, 500), at(120, Interval, 700), at(180, Interval, 300)];
    let ends = |last: i64| [at(0, MeterStart, 361), at(200, End, last)];
    let told = |last: i64| energy_and_doubt(&[&ends(last)[..], &intervals].concat());
    assert_eq!(told(362), (1, Some(Doubt::IntervalsContradict)));
    assert_eq!(told(1861), (1500, None));
    assert_eq!(told(761), (400, None));
    assert_eq!(told(361), (0, Some(Doubt::NotMeasured)));
    let details = fold(&[&ends(362)[..], &intervals].concat()).doubts(true).details();
    assert_eq!(details, "intervals_contradict: 1 Wh by the register, 1500 Wh by intervals or net");
}

#[test]
fn net_energy_that_falls_a_little_is_a_register_all_the_same() {
    let net = |values: &[i64]| {
        let points: Vec<_> = values.iter().zip(1..).map(|(wh, n)| at(n * 60, Net, *wh)).collect();
        energy_and_doubt(&points)
    };
    let doubt = Some(Doubt::NoRegister);
    assert_eq!(net(&[5000, 5500, 5400]), (500, doubt));
    assert_eq!(net(&[5000, 5500, 5400, 5700]), (700, doubt));
    assert_eq!(net(&[5000, 5500, 0]), (500, doubt), "a reading that failed");
    assert_eq!(net(&[500, 700, 300]), (1500, doubt));
    // Beside a register it is held against that.
    let both = [at(0, MeterStart, 100), at(60, Net, 5000), at(120, Net, 5500), at(180, Net, 5400), at(200, End, 500)];
    assert_eq!(energy_and_doubt(&both), (400, None));
}

#[test]
fn a_charge_that_is_sampled_seldom_is_stopped_in_time_too() {
    let by = |points: &[Point], s: i64| {
        let usage = fold(points).usage_by(Timestamp(NOW + s * 1000), &tariff(), None);
        price(&tariff(), &usage).energy.0
    };
    let sampled = [at(0, MeterStart, 0), at(120, Register, 600), at(120, Power, 22_000)];
    assert_eq!(by(&sampled, 120 + 90), 600 + 550);
    assert_eq!(by(&sampled, 6000), 600 + 1100, "one and a half of the last step");
}
