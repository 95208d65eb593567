//! Clocks that are behind while a charge runs, and those that stood still.

use crate::doubt::Doubt;
use crate::meter::odd_tests::{HOUR, NOW, behind, fold, tariff, told};
use crate::meter::{ChargingState, Dated, Heard, Meter, Point, PointKind};
use crate::units::Timestamp;

fn away(mut points: Vec<Point>) -> Vec<Point> {
    points.iter_mut().for_each(|point| point.heard.date = Dated::WhileAway);
    points
}

fn waits_at(meter: &Meter, seconds: i64) -> i64 {
    meter.usage_at(Timestamp(NOW + seconds * 1000), &tariff()).waiting_s
}

#[test]
fn the_live_figure_waits_by_our_clock() {
    let running = |by: i64| behind(by, [-3, -2, -1, 0]).into_iter().take(3).collect::<Vec<_>>();
    for by in [0, 600, 2 * HOUR] {
        let mut points = running(by);
        points.iter_mut().for_each(|point| point.at = point.at.plus_millis(-300_000));
        assert_eq!(waits_at(&fold(&points), 59), 60, "{by}");
    }
    // What was told late by a station that was away: it waits since then.
    let late = away(running(2 * HOUR));
    assert_eq!(waits_at(&fold(&late), 0), 2 * HOUR - 300);
    // How it came is not known: kept before that was.
    let unknown: Vec<_> = running(600).iter().map(|point| Point::new(point.at, point.kind, point.value)).collect();
    assert_eq!(waits_at(&fold(&unknown), 0), 300);
}

#[test]
fn energy_ahead_goes_by_our_clock_too() {
    let points = [
        told(-2 * HOUR - 600, -600, PointKind::MeterStart, 0),
        told(-2 * HOUR, 0, PointKind::Register, 900),
        told(-2 * HOUR, 0, PointKind::Power, 7200),
    ];
    let by = |s: i64| fold(&points).usage_by(Timestamp(NOW + s * 1000), &tariff(), None).energy[0].0;
    assert_eq!((by(0), by(5)), (900, 910));
}

#[test]
fn a_clock_that_was_minutes_behind_is_doubtful() {
    for by in [600, 1800, 2400, 2700] {
        let meter = fold(&behind(by, [1, 2, 3, 4]));
        let details = meter.doubts(true).details();
        assert_eq!(meter.doubts(true).first(), Some(Doubt::ClockWrong), "{by}");
        assert_eq!(
            details,
            format!("clock_wrong: by the station's clock {} s passed, by the times of receipt 0 s", by - 300)
        );
    }
    // Told as it came, within a slow line's lateness, or by a station that was away.
    for late in [behind(600, [-599, -359, -298, 0]), behind(600, [-500, -250, -190, 0]), behind(400, [1, 2, 3, 4])] {
        assert_eq!(fold(&late).doubts(true).first(), None, "{late:?}");
    }
    let mut late = away(behind(2400, [1, 2, 3, 4]));
    late[3..].iter_mut().for_each(|point| point.heard.date = Dated::ByStation);
    assert_eq!((fold(&late).waiting_s(), fold(&late).doubts(true).first()), (2100, None));
    // A queue that is still being told.
    assert_eq!(fold(&behind(2400, [1, 2, 3, 40])).doubts(true).first(), None);
    // Nothing waited, or nobody knows.
    let mut silent = behind(2400, [1, 2, 3, 4]);
    silent.remove(2);
    silent[2].value = 2400;
    assert_eq!(fold(&silent).doubts(true).first(), None);
    let mut charging = behind(2400, [1, 2, 3, 4]);
    charging[2].value = ChargingState::Charging as i64;
    assert_eq!(fold(&charging).doubts(true).first(), None);
}

/// It was out of touch from three hours ago until now; its clock stood still meanwhile.
#[test]
fn a_clock_that_stood_still_while_its_station_was_away_bills_no_hours() {
    let behind_s = 3 * HOUR;
    let mut live = away(behind(behind_s, [60 - behind_s, 300 - behind_s, 360 - behind_s, 0]));
    live.iter_mut().for_each(|point| point.heard.at = point.heard.at.plus_millis(behind_s * 1000));
    for point in &mut live[3..] {
        point.at = Timestamp(NOW + 420_000);
        point.heard = Heard { at: point.at, date: Dated::ByStation };
    }
    let meter = fold(&live);
    assert_eq!((meter.waiting_s(), meter.doubts(true).first()), (60, Some(Doubt::ClockWrong)));
    // And while it runs.
    assert_eq!(waits_at(&fold(&live[..3]), 370), 10);
}

#[test]
fn replays_of_days_keep_their_times_however_slowly_they_come() {
    // A sample every minute for two days, told one after the other at this pace; the car was full an hour before it came back.
    for pace_ms in [5, 1_000, 10_000] {
        let mut points = vec![told(-48 * HOUR, 0, PointKind::MeterStart, 0)];
        points.extend((1..47 * 60).map(|n| told(n * 60 - 48 * HOUR, 0, PointKind::Register, n * 10)));
        points.push(told(-HOUR, 0, PointKind::State, ChargingState::SuspendedEv as i64));
        for (point, n) in points.iter_mut().zip(0..) {
            point.heard = Heard { at: Timestamp(NOW + n * pace_ms), date: Dated::WhileAway };
        }
        let end = 47 * 60 * pace_ms / 1000 + 60;
        points.push(told(end, end, PointKind::End, 47 * 600 - 10));
        let meter = fold(&points);
        assert_eq!((meter.waiting_s(), meter.doubts(true).first()), (HOUR + end, None), "{pace_ms}");
    }
}
