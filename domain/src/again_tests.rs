use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::bounds::points_of;
use crate::meter::Point;
use crate::session::tests::{event, session};
use crate::units::Money;

/// What the ingest does with messages of one id: sessions with their readings, as the store keeps them.
#[derive(Default)]
struct Told(Vec<(Session, Points)>);

/// What was told of a charge.
type Points = BTreeMap<(Timestamp, PointKind), i64>;

impl Told {
    fn new_one(&mut self) -> usize {
        self.0.push((Session { id_tag: None, ..session() }, BTreeMap::new()));
        self.0.len() - 1
    }

    fn keep(&mut self, n: usize, points: &[Point]) {
        for point in points {
            let value = self.0[n].1.entry((point.at, point.kind)).or_insert(point.value);
            *value = point.value.max(*value);
        }
    }

    fn fold(&mut self, n: usize) {
        let (session, readings) = &mut self.0[n];
        session.fold(readings.iter().map(|(&(at, kind), &value)| Point::new(at, kind, value)).collect());
    }

    fn part(&mut self, near: usize, update: &TransactionUpdate) -> usize {
        let share = share(&self.0[near].0, update);
        let other = self.new_one();
        let (moved, left) = std::mem::take(&mut self.0[near].1)
            .into_iter()
            .partition(|((at, _), _)| *at >= share.from && *at < share.until);
        (self.0[other].1, self.0[near].1) = (moved, left);
        if share.end {
            self.0[other].0.ended_at = self.0[near].0.ended_at.take();
        }
        self.fold(near);
        self.fold(other);
        other
    }

    fn tell(&mut self, update: &TransactionUpdate) {
        let sessions: Vec<_> = self.0.iter().map(|(session, _)| session).collect();
        let n = match Some(&sessions).filter(|all| !all.is_empty()).map(|all| whose(all, update)) {
            None => self.new_one(),
            Some(Whose::Of(n) | Whose::Beside(n)) => n,
            Some(Whose::EndsEarlier(n)) => {
                self.part(n, update);
                n
            }
            Some(Whose::Another { near }) => self.part(near, update),
        };
        let points = points_of(update);
        self.keep(n, &points);
        let session = &mut self.0[n].0;
        if session.is_beside(update, &points) {
            session.set_aside(&points);
            return;
        }
        // The desk loads the readings where something came late; this one always does.
        let live = session.apply(update, &points);
        let appended = session.bill();
        self.fold(n);
        if !live.fold_again {
            assert_eq!(appended, self.0[n].0.bill(), "{update:?}");
        }
    }

    fn bills(&self) -> Vec<(Timestamp, Option<Timestamp>, Money)> {
        let begun = self.0.iter().filter_map(|(s, _)| Some((s.started_at?, s.ended_at, s.bill().energy_amount)));
        let mut all: Vec<_> = begun.collect();
        all.sort_unstable();
        all
    }
}

fn told(events: &[TransactionUpdate]) -> Told {
    let mut told = Told::default();
    events.iter().for_each(|event| told.tell(event));
    told
}

/// A charge of an id, and what is told of it at moments within and beside it.
fn charge(begin: (i64, i64), end: (i64, i64), samples: &[(i64, i64)]) -> Vec<TransactionUpdate> {
    use PointKind::*;
    let mut all = vec![event(Phase::Started, 0, begin.0, &[(Begin, begin.1)])];
    for (n, &(seconds, wh)) in (1..).zip(samples) {
        all.push(event(Phase::Updated, n, seconds, &[(Register, wh)]));
    }
    let last = i64::try_from(samples.len()).unwrap_or_default() + 1;
    all.push(event(Phase::Ended, last, end.0, &[(End, end.1)]));
    all
}

const HOURS: i64 = 3600;

fn two_charges() -> Vec<TransactionUpdate> {
    let one = charge((0, 1000), (HOURS / 6, 2000), &[(100, 1300), (500, 1900)]);
    let two = charge((4 * HOURS, 50_000), (4 * HOURS + 600, 51_000), &[(4 * HOURS + 90, 50_200)]);
    [one, two].concat()
}

#[test]
fn an_id_used_again_in_its_order_is_two_charges() {
    let all = told(&two_charges());
    let amounts: Vec<_> = all.bills().into_iter().map(|(.., amount)| amount).collect();
    assert_eq!(amounts, [Money(50_000), Money(50_000)]);
    assert_eq!(all.0.len(), 2);
}

#[test]
fn what_is_told_after_the_end_is_no_other_charge() {
    let mut all = charge((0, 1000), (600, 2000), &[]);
    all.push(event(Phase::Updated, 9, 900, &[(PointKind::Register, 5000)]));
    all.push(event(Phase::Ended, 10, 620, &[(PointKind::End, 6000)]));
    let told = told(&all);
    assert_eq!(told.0.len(), 1);
    assert_eq!(told.bills()[0].2, Money(50_000));
    assert_eq!(told.0[0].0.doubts().first(), Some(crate::Doubt::RoseAfterEnd));
}

#[test]
fn what_is_told_after_the_end_again_and_before_the_end_was_is_no_other_charge() {
    let late = [(PointKind::Register, 2400), (PointKind::Register, 2500)];
    for count in 1..=late.len() {
        let mut all = charge((0, 1000), (600, 2000), &[(100, 1300)]);
        let end = all.pop().into_iter();
        let late = (3..).zip(&late[..count]).map(|(n, point)| event(Phase::Updated, n, 600 + 100 * n, &[*point]));
        let late: Vec<_> = late.collect();
        all.extend(late.iter().cloned().chain(end).chain(late.clone()).chain(late.clone()));
        let told = told(&all);
        assert_eq!((told.0.len(), told.bills()[0].2), (1, Money(50_000)), "{count}");
        assert!(told.0[0].0.seq_nos.last() == Some(2) && !told.0[0].0.seq_nos.has_gap());
    }
}

#[test]
fn its_own_token_told_late_is_no_other_charge() {
    let own = Session { id_tag: Some("TAG".into()), remote_start_id: Some(5), ..session() };
    let mut over = own.clone();
    for update in charge((0, 1000), (600, 2000), &[]) {
        over.apply(&update, &points_of(&update));
    }
    let late = event(Phase::Updated, 2, 900, &[]);
    let named = |tag: Option<&str>, number| TransactionUpdate {
        id_tag: tag.map(str::to_owned),
        remote_start_id: number,
        ..late.clone()
    };
    for update in [named(None, None), named(Some("TAG"), None), named(None, Some(5)), named(Some("OTHER"), Some(5))] {
        assert_eq!(whose(&[&over], &update), Whose::Beside(0), "{update:?}");
    }
    let stops = TransactionUpdate { stops: true, ..named(Some("OTHER"), None) };
    assert_eq!(whose(&[&over], &stops), Whose::Beside(0), "who ends it");
    let by_card = Session { remote_start_id: None, ..over.clone() };
    assert_eq!(whose(&[&by_card], &named(None, Some(9))), Whose::Beside(0), "of a start that we did not send");
    let told_before = TransactionUpdate { seq_no: Some(1), ..late.clone() };
    for update in [named(Some("OTHER"), None), named(None, Some(6)), told_before] {
        assert_eq!(whose(&[&over], &update), Whose::Another { near: 0 }, "{update:?}");
    }
}

#[test]
fn a_begin_told_again_while_its_charge_runs_is_no_other_charge() {
    use PointKind::*;
    let again = event(Phase::Started, 0, 900, &[(Begin, 1000)]);
    for (n, samples) in [&[][..], &[(100, 1500), (200, 1600)], &[(100, 1500), (950, 1600)]].into_iter().enumerate() {
        let mut all = charge((0, 1000), (1200, 2000), samples);
        all.insert(samples.len().min(2), again.clone());
        let told = told(&all);
        assert_eq!(told.bills().iter().map(|bill| bill.2).collect::<Vec<_>>(), [Money(50_000)], "{n}");
        assert_eq!(told.0[0].0.doubts().first(), None, "{n}");
    }
    let mut running = session();
    for update in &charge((0, 1000), (1200, 2000), &[(100, 1500)])[..2] {
        running.apply(update, &points_of(update));
    }
    assert_eq!(whose(&[&running], &again), Whose::Of(0));
    // The register has moved on; it is told with a number of its own.
    let others = [event(Phase::Started, 0, 900, &[(Begin, 1500)]), event(Phase::Started, 7, 900, &[(Begin, 1000)])];
    for update in &others {
        assert_eq!(whose(&[&running], update), Whose::Another { near: 0 }, "{update:?}");
    }
    // After a boot it may be another of the same register, unless that has risen.
    running.lost_at = Some(Timestamp(1));
    assert_eq!(whose(&[&running], &again), Whose::Of(0));
    running.meter.register = running.meter.baseline;
    assert_eq!(whose(&[&running], &again), Whose::Another { near: 0 });
}

#[test]
fn a_charge_keeps_its_end_where_the_next_one_of_its_id_is_said_to_begin_before_it() {
    for (second, counts_anew) in [(600, false), (599, false), (590, false), (400, false), (599, true), (600, true)] {
        let begin = if counts_anew { 0 } else { 1100 };
        let first =
            charge((0, if counts_anew { 0 } else { 1000 }), (600, begin + if counts_anew { 100 } else { 0 }), &[]);
        let told = told(&[first, charge((second, begin), (1200, begin + 250), &[(900, begin + 50)])].concat());
        let amounts: Vec<_> = told.bills().into_iter().map(|(.., amount)| amount).collect();
        assert_eq!(amounts, [Money(5_000), Money(12_500)], "{second} {counts_anew}");
    }
}

#[test]
fn an_end_of_last_week_ends_nothing() {
    let mut all = charge((0, 5000), (300, 8000), &[(100, 6000), (200, 7000)]);
    all.insert(2, event(Phase::Ended, 2, -7 * 24 * HOURS, &[(PointKind::End, 900)]));
    assert_eq!(told(&all).bills().iter().map(|bill| bill.2).collect::<Vec<_>>(), [Money(150_000)]);
}

proptest! {
    #[test]
    fn an_id_used_again_is_two_bills_in_any_order_and_any_repetition(
        order in Just((0..8usize).flat_map(|n| [n, n]).collect::<Vec<_>>()).prop_shuffle(), twice in any::<u8>(),
    ) {
        let events = two_charges();
        let mut seen = 0u8;
        let mut told = Told::default();
        for n in order.into_iter().filter(|n| *n < events.len()) {
            let bit = 1u8 << n;
            if seen & bit == 0 || twice & bit != 0 {
                told.tell(&events[n]);
            }
            seen |= bit;
        }
        let amounts: Vec<_> = told.bills().into_iter().map(|(.., amount)| amount).collect();
        prop_assert_eq!(amounts, [Money(50_000), Money(50_000)]);
    }
}
