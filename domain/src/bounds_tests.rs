use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

use crate::meter::{ChargingState, Heard};
use crate::session::tests::{event, numbered, session};
use crate::tariff::Bill;

const START: i64 = 1_790_000_000_000;

/// A charge that begins at 0 s with 1000 Wh and ends at 600 s with 2000 Wh, told in this order.
fn told(updates: &[TransactionUpdate]) -> Session {
    let mut session = session();
    let mut readings: BTreeMap<(Timestamp, PointKind), Point> = BTreeMap::new();
    for update in updates {
        let points = points_of(update);
        for point in &points {
            let kept = readings.entry((point.at, point.kind)).or_insert(*point);
            kept.value = point.value.max(kept.value);
        }
        if session.is_beside(update, &points) {
            session.set_aside(&points);
        } else if session.apply(update, &points).fold_again {
            session.fold(readings.values().copied().collect());
        }
    }
    session
}

fn misfit(session: &Session, update: &TransactionUpdate) -> Option<Misfit> {
    session.misfit(update, &points_of(update))
}

fn is_beside(session: &Session, update: &TransactionUpdate) -> bool {
    session.is_beside(update, &points_of(update))
}

fn start() -> TransactionUpdate {
    numbered(Phase::Started, 0, &[(PointKind::MeterStart, 1000)])
}

fn sample(seconds: i64, wh: i64) -> TransactionUpdate {
    numbered(Phase::Updated, seconds, &[(PointKind::Register, wh)])
}

fn stop(seconds: i64, wh: i64) -> TransactionUpdate {
    numbered(Phase::Ended, seconds, &[(PointKind::End, wh)])
}

fn energy(updates: &[TransactionUpdate]) -> i64 {
    told(updates).bill().energy.0
}

#[test]
fn what_is_dated_after_the_end_does_not_count() {
    let late = [start(), sample(500, 1800), stop(600, 2000), sample(900, 2000), sample(1200, 5000)];
    assert_eq!(energy(&late), 1000);
    assert_eq!(told(&late).doubts().first(), Some(Doubt::RoseAfterEnd));
    assert_eq!(told(&late[..4]).doubts().first(), None, "a register that stands still is no wonder");
    // Told before the end was known.
    assert_eq!(energy(&[start(), sample(1200, 5000), stop(600, 2000)]), 1000);
    let told = told(&late[..3]);
    assert_eq!(misfit(&told, &late[4]), Some(Misfit::AfterEnd));
    assert!(is_beside(&told, &late[4]) && !is_beside(&told, &sample(400, 1500)));
}

#[test]
fn what_came_without_a_time_came_before_an_end_that_is_dated_a_little_behind() {
    use PointKind::*;
    let received = |mut update: TransactionUpdate, seconds: i64, dated: bool| {
        let heard = Timestamp(START + seconds * 1000);
        let date = if dated { Dated::ByStation } else { Dated::AtReceipt };
        update.timeless = !dated && update.phase == Phase::Started;
        update.points.iter_mut().for_each(|point| point.heard = Heard { at: heard, date });
        update
    };
    // Without a context of their own, as many stations send them.
    let kinds = [(Register, Register), (Begin, End)];
    for (begin, end) in kinds {
        for behind in [0, 1, 2, 30] {
            let mut ended = event(Phase::Ended, 3, 10 - behind, &[(end, 2200)]);
            ended.points.push(Point::new(ended.at, State, ChargingState::Idle as i64));
            let all = [
                received(event(Phase::Started, 0, 9, &[(begin, 1000)]), 9, false),
                received(event(Phase::Updated, 1, 10, &[(Register, 1900)]), 10, false),
                received(event(Phase::Updated, 2, 10, &[(State, ChargingState::SuspendedEv as i64)]), 10, false),
                received(ended, 11, true),
            ];
            let told = told(&all);
            assert_eq!((told.bill().energy.0, told.doubts().first()), (1200, None), "{begin:?}, {behind} s behind");
        }
    }
}

#[test]
fn what_rose_after_the_end_is_a_doubt_in_any_order() {
    use PointKind::*;
    let all = [
        event(Phase::Started, 0, 0, &[(Begin, 1000)]),
        event(Phase::Ended, 1, 600, &[(End, 1024)]),
        event(Phase::Updated, 2, 610, &[(Register, 1252)]),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 0], [2, 0, 1], [1, 2, 0]] {
        let told = told(&order.map(|n: usize| all[n].clone()));
        assert_eq!((told.bill().energy.0, told.doubts().first()), (24, Some(Doubt::RoseAfterEnd)), "{order:?}");
    }
}

#[test]
fn an_end_that_does_not_count_and_says_otherwise_is_a_doubt() {
    let (begin, week) = ([start(), sample(300, 1500)], -7 * 24 * 3600);
    let doubt = |more: &[TransactionUpdate]| told(&[&begin[..], more].concat()).doubts().first();
    let contradicts = Some(Doubt::EndsContradict);
    for (ends, wanted) in [
        (vec![stop(week, 20_000)], contradicts),
        (vec![stop(week, 20_000), sample(400, 1800), stop(600, 2000)], contradicts),
        (vec![stop(week, 900), stop(600, 2000)], None),
        (vec![stop(week, 1500), stop(600, 2000)], None),
        (vec![stop(600, 2000), stop(600, 2000), stop(590, 2050)], None),
        (vec![stop(600, 2000), stop(590, 5000)], contradicts),
        (vec![stop(600, 2000), stop(700, 1700)], contradicts),
        (vec![stop(600, 2000), stop(700, 5000)], Some(Doubt::RoseAfterEnd)),
        // What failed, and what repeats the begin.
        (vec![stop(600, 2000), stop(700, 0), stop(700, 1000)], None),
    ] {
        assert_eq!(doubt(&ends), wanted, "{ends:?}");
    }
    assert_eq!(told(&[&begin[..], &[stop(week, 20_000)]].concat()).bill().energy.0, 500);
    let same_moment = |second| {
        let ends = [2000, second].map(|wh| event(Phase::Ended, 9, 600, &[(PointKind::End, wh)]));
        told(&[event(Phase::Started, 0, 0, &[(PointKind::Begin, 1000)]), ends[0].clone(), ends[1].clone()])
    };
    assert_eq!(same_moment(5000).doubts().first(), contradicts);
    assert_eq!(same_moment(2000).doubts().first(), None);
}

#[test]
fn what_is_dated_up_to_the_end_counts_however_late() {
    let no_register = numbered(Phase::Ended, 600, &[]);
    assert_eq!(energy(&[start(), no_register.clone(), sample(599, 1990), sample(300, 1500)]), 990);
    // Stations stamp whole seconds.
    let mut same_second = sample(600, 1995);
    same_second.points[0].at = same_second.points[0].at.plus_millis(900);
    assert_eq!(energy(&[start(), no_register, same_second]), 995);
}

#[test]
fn what_is_dated_before_the_begin_does_not_count() {
    assert_eq!(energy(&[start(), sample(-60, 900), sample(-30, 5000), stop(600, 2000)]), 1000);
    assert_eq!(misfit(&told(&[start()]), &sample(-60, 900)), Some(Misfit::BeforeBegin));
}

#[test]
fn the_ends_register_is_the_last() {
    // In the second of the end, and before it: samples of after the end, or of another register.
    assert_eq!(energy(&[start(), sample(600, 2385), stop(600, 2000)]), 1000);
    assert_eq!(energy(&[start(), stop(600, 2000), sample(600, 2385)]), 1000);
    let before = [start(), sample(300, 2500), stop(600, 2000)];
    assert_eq!((energy(&before), told(&before).doubts().first()), (1000, Some(Doubt::RegisterFell)));
    assert_eq!(told(&[start(), sample(300, 2050), stop(600, 2000)]).doubts().first(), None, "rounded otherwise");
    // Failed, of another register, or a copy of the begin's: the samples say more.
    for other in [0, 900, 1000] {
        assert_eq!(energy(&[start(), sample(300, 2500), stop(600, other)]), 1500, "{other}");
    }
}

#[test]
fn an_end_dated_before_the_begin_is_none() {
    let last_week = stop(-7 * 24 * 3600, 900);
    let all = [start(), sample(100, 2000), last_week.clone(), sample(200, 3000), stop(300, 4000)];
    assert_eq!(energy(&all), 3000);
    assert_eq!(misfit(&told(&all[..2]), &last_week), Some(Misfit::BeforeBegin));
    assert!(is_beside(&told(&all[..2]), &last_week));
    // A clock that was set meanwhile.
    let told = told(&[start(), sample(-90, 1200), stop(-60, 1500)]);
    assert_eq!((told.bill().energy.0, told.ended_at.is_some()), (500, true));
    assert!(misfit(&told, &stop(-60, 1500)).is_none());
}

#[test]
fn an_end_dated_before_the_begin_gives_way_to_one_after_it() {
    for early in [stop(-10, 1500), stop(-60, 0), stop(-10, 4000)] {
        let all = [start(), sample(100, 2000), early.clone(), sample(200, 3000), stop(300, 4000)];
        assert_eq!(energy(&all), 3000, "{early:?}");
        assert_eq!(misfit(&told(&all), &early), Some(Misfit::EndedBefore));
        assert_eq!(misfit(&told(&all), &stop(400, 5000)), Some(Misfit::EndedBefore));
    }
    let ended = |number, seconds, wh| event(Phase::Ended, number, seconds, &[(PointKind::End, wh)]);
    let started = event(Phase::Started, 0, 0, &[(PointKind::Begin, 1000)]);
    assert_eq!(energy(&[started.clone(), ended(1, -10, 1500), ended(2, 300, 4000)]), 3000);
    assert_eq!(energy(&[started, ended(2, 300, 4000), ended(3, -10, 1500)]), 3000);
}

#[test]
fn energies_told_a_little_past_the_end_add_up() {
    let interval = |seconds: i64, wh| Point::new(Timestamp(START + seconds * 1000), PointKind::Interval, wh);
    let mut end = numbered(Phase::Ended, 600, &[]);
    end.points = vec![interval(500, 500), interval(610, 700), interval(630, 300)];
    let started = numbered(Phase::Started, 0, &[]);
    assert_eq!(energy(&[started.clone(), end.clone()]), 1500);
    end.points.push(interval(600, 100));
    assert_eq!(energy(&[started, end]), 1600);
}

#[test]
fn of_two_stops_the_first_counts_and_of_two_ended_events_the_earliest() {
    assert_eq!(energy(&[start(), stop(600, 2000), stop(300, 1500)]), 1000);
    assert_eq!(misfit(&told(&[start(), stop(600, 2000)]), &stop(700, 9000)), Some(Misfit::EndedBefore));
    let ended = |seconds, wh| event(Phase::Ended, 9, seconds, &[(PointKind::End, wh)]);
    assert_eq!(energy(&[start(), ended(600, 2000), ended(590, 1990)]), 990);
    assert_eq!(energy(&[start(), ended(590, 1990), ended(600, 2000)]), 990);
}

#[test]
fn what_is_numbered_before_the_end_may_be_dated_a_little_after_it() {
    use PointKind::*;
    let started = event(Phase::Started, 0, 0, &[(Begin, 1000)]);
    let updated = |number, seconds, wh| event(Phase::Updated, number, seconds, &[(Register, wh)]);
    let silent = event(Phase::Ended, 3, 600, &[]);
    assert_eq!(energy(&[started.clone(), silent.clone(), updated(1, 601, 1400), updated(2, 602, 1900)]), 900);
    assert_eq!(energy(&[started.clone(), updated(1, 601, 1400), updated(2, 602, 1900), silent.clone()]), 900);
    assert_eq!(energy(&[started.clone(), silent, updated(4, 602, 1900)]), 0, "told on after the end");
    let ended = event(Phase::Ended, 3, 600, &[(End, 1700)]);
    let late = told(&[started.clone(), ended.clone(), updated(2, 602, 1200), updated(1, 601, 1900)]);
    assert_eq!((late.bill().energy.0, late.doubts().first()), (700, Some(Doubt::RoseAfterEnd)));
    assert_eq!(energy(&[started, updated(1, 601, 1900), ended]), 700);
}

#[test]
fn registers_told_beside_the_begin_and_the_end_are_theirs() {
    use PointKind::*;
    let at = |mut update: TransactionUpdate, seconds: i64| {
        update.points.iter_mut().for_each(|point| point.at = point.at.plus_millis(seconds * 1000));
        update
    };
    let began = at(event(Phase::Started, 0, 0, &[(Begin, 1000)]), -3);
    // The last register of an end is its register, whatever it is called.
    let ended = at(event(Phase::Ended, 2, 600, &[(Register, 2000)]), 4);
    assert_eq!(energy(&[began, event(Phase::Updated, 1, 600, &[(Register, 2300)]), ended]), 1000);
}

/// Without a time that can be believed: dated by its receipt.
fn undated(received: i64, update: TransactionUpdate) -> TransactionUpdate {
    let at = Timestamp(START + received * 1000);
    let mut update = TransactionUpdate { at, timeless: update.phase == Phase::Started, ..update };
    for point in &mut update.points {
        (point.at, point.heard) = (at, crate::Heard { at, date: Dated::AtReceipt });
    }
    update
}

/// Received so many seconds after the start, with the closing point that the ingest adds.
fn heard(received: i64, mut update: TransactionUpdate) -> TransactionUpdate {
    update.points.extend(closing(&update));
    let at = Timestamp(START + received * 1000);
    update.points.iter_mut().for_each(|point| point.heard = crate::Heard { at, date: Dated::ByStation });
    update
}

#[test]
fn an_end_may_be_dated_before_a_begin_that_had_no_time() {
    // Replayed at 9000 s by a station that learned the time after its start.
    for (ended, phase) in [(8999, 0), (8000, 1), (-7200, 2)] {
        let told = told(&[undated(9000, start()), undated(9001, sample(0, 1800)), heard(9002, stop(ended, 2000))]);
        assert_eq!((told.bill().energy.0, told.ended_at.is_some()), (1000, true), "{phase}");
        let silent = [undated(9000, start()), undated(9001, sample(0, 1800)), heard(9002, stop(ended, 0))];
        assert_eq!(energy(&silent), 800, "{phase}");
        // What is dated meanwhile counts, and what comes after the end does not.
        let dated = [
            undated(9000, start()),
            sample(ended - 10, 1900),
            heard(9002, stop(ended, 0)),
            undated(9009, sample(0, 2500)),
        ];
        assert_eq!(energy(&dated), 900, "{phase}");
    }
    let started = undated(9000, event(Phase::Started, 0, 0, &[(PointKind::Begin, 1000)]));
    let ended = |number| heard(9002, event(Phase::Ended, number, 8000, &[(PointKind::End, 2000)]));
    assert_eq!(told(&[started.clone(), ended(1)]).bill().energy.0, 1000);
    assert!(is_beside(&told(std::slice::from_ref(&started)), &ended(0)), "numbered before it");
    // A clock that was set by seconds, where messages are numbered.
    let started = event(Phase::Started, 0, 0, &[(PointKind::Begin, 1000)]);
    let ended = event(Phase::Ended, 1, -20, &[(PointKind::End, 2000)]);
    assert_eq!(energy(&[started, ended]), 1000);
}

proptest! {
    #[test]
    fn an_end_and_any_order_and_repetition_give_the_same_bill(
        samples in prop::collection::vec((-200i64..900, 900i64..4000), 0..12), last in 0i64..4000, seed in any::<u64>(),
    ) {
        let mut all = vec![event(Phase::Started, 0, 0, &[(PointKind::Begin, 1000)])];
        for (n, (seconds, wh)) in (1..).zip(samples) {
            all.push(event(Phase::Updated, n, seconds, &[(PointKind::Register, wh)]));
        }
        all.push(event(Phase::Ended, 99, 600, &[(PointKind::End, last)]));
        let once: Bill = told(&all).bill();
        all.extend(all.clone().into_iter().filter(|update| update.seq_no.is_some_and(|n| n % 2 == 0)));
        all.sort_by_key(|update| (update.at.0 ^ update.seq_no.unwrap_or_default()).wrapping_mul(seed as i64 | 1));
        prop_assert_eq!(told(&all).bill(), once);
    }

    /// 1.6 numbers nothing: whatever is told around it in any order, the first stop counts.
    #[test]
    fn the_first_stop_counts_in_any_order(
        samples in prop::collection::vec((0i64..600, 1000i64..2000), 0..8), later in prop::collection::vec((601i64..900, 2000i64..4000), 1..4),
        seed in any::<u64>(),
    ) {
        let mut all: Vec<_> = samples.iter().map(|(seconds, wh)| sample(*seconds, *wh)).collect();
        all.extend(later.iter().map(|(seconds, wh)| sample(*seconds, *wh)));
        all.push(start());
        all.extend(all.clone());
        all.sort_by_key(|update| (update.at.0 ^ 0x55).wrapping_mul(seed as i64 | 1));
        let first = usize::try_from(seed % (all.len() as u64 + 1)).unwrap_or_default();
        all.insert(first, stop(600, 2000));
        for (seconds, wh) in later {
            all.push(stop(seconds, wh));
        }
        prop_assert_eq!(energy(&all), 1000);
    }

    /// Older points may become figures before the end is told.
    #[test]
    fn folded_on_and_folded_anew_give_the_same_bill(
        samples in prop::collection::vec((-200i64..900, 900i64..4000), 2..12), last in 0i64..4000,
    ) {
        let updates: Vec<_> = samples.iter().map(|(seconds, wh)| sample(*seconds, *wh)).collect();
        let all: Vec<_> = std::iter::once(start()).chain(updates).collect();
        let mut points: Vec<Point> = all.iter().flat_map(points_of).collect();
        points.sort_unstable();
        let begun = told(&all);
        let end = stop(600, last);
        let middle = points[points.len() / 2].at.min(end.at);
        let (older, mut newer): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| point.at < middle);
        let base = begun.fold_older(Meter::default(), older);
        newer.extend(points_of(&end));
        let mut on = begun.clone();
        on.apply(&end, &points_of(&end));
        on.fold_on(base, newer);
        prop_assert_eq!(on.bill().energy, told(&[&all[..], &[end]].concat()).bill().energy);
    }

    /// A clock that is set in mid-charge, forward or back, and receipts that bear it out or not: the start first, as its answer
    /// gives the number (1.6), the start and the stop again and again, the rest in any order.
    #[test]
    fn a_clock_that_jumps_and_a_start_told_again_after_the_stop_give_the_same_bill_in_any_order(
        samples in prop::collection::vec((0i64..600, any::<bool>(), 0i64..600), 0..10),
        behind in prop::sample::select(vec![0i64, 120, 7200, 90_000, -60, -200]), set_at in 0i64..700,
        (numbers, is_away) in any::<(bool, bool)>(), order in prop::collection::vec(any::<u64>(), 40),
    ) {
        let all = jumping(&samples, behind, set_at, numbers, is_away);
        let once = told(&all);
        let twice = all.iter().enumerate().flat_map(|(n, update)| vec![update; 1 + usize::from(order[n] % 3 == 0)]);
        let mut rest: Vec<_> = twice.skip(1).cloned().zip(&order).collect();
        rest.sort_by_key(|(_, key)| **key);
        let mut again = vec![all[0].clone()];
        again.extend(rest.into_iter().map(|(update, _)| update));
        again.extend([all[0].clone(), all[all.len() - 1].clone(), all[0].clone()]);
        let shuffled = told(&again);
        prop_assert_eq!(shuffled.bill(), once.bill());
        prop_assert_eq!((shuffled.started_at, shuffled.ended_at), (once.started_at, once.ended_at));
        // No years, whatever the clock says: what receipts bear out, a lateness that is nobody's fault apart.
        prop_assert!(is_away || once.bill().waiting_s <= 600 + 600 + 45 * 60, "{}", once.bill().waiting_s);
    }
}

/// A charge of ten minutes whose station's clock is `behind` until `set_at`, each message of it received some time after.
fn jumping(
    samples: &[(i64, bool, i64)],
    behind: i64,
    set_at: i64,
    numbers: bool,
    is_away: bool,
) -> Vec<TransactionUpdate> {
    let message = |phase, n: usize, second: i64, delay: i64, (kind, value)| {
        let dated = if second < set_at { second - behind } else { second };
        let number = i64::try_from(n).unwrap_or_default();
        let update = if numbers {
            event(phase, number, dated, &[(kind, value)])
        } else {
            numbered(phase, dated, &[(kind, value)])
        };
        let mut update = heard(second + delay, update);
        if is_away && second < set_at {
            update.points.iter_mut().for_each(|point| point.heard.date = Dated::WhileAway);
        }
        update
    };
    let begin = if numbers { PointKind::Begin } else { PointKind::MeterStart };
    let mut all = vec![message(Phase::Started, 0, 0, 0, (begin, 1000))];
    let mut moments: Vec<_> = samples.to_vec();
    moments.sort_unstable();
    moments.dedup_by_key(|(second, ..)| *second);
    for (n, (second, is_state, delay)) in (1..).zip(moments) {
        let told = if is_state {
            (PointKind::State, ChargingState::SuspendedEv as i64)
        } else {
            (PointKind::Register, 1000 + second)
        };
        all.push(message(Phase::Updated, n, second, delay, told));
    }
    all.push(message(Phase::Ended, all.len(), 600, 0, (PointKind::End, 1700)));
    all
}
