//! Readings of a session are bounded: the bill stays the same, and a late one costs no more than the look at those that are
//! kept; on both engines.
#![allow(clippy::unwrap_used)]

mod common;

use evm_domain::{ChargingState, Doubt, Money, Point, PointKind, Session, SessionId, Status, Timestamp, Wh};
use evm_store::devices::{self, NewDevice};
use evm_store::sessions::{self, NewRequest};
use evm_store::{Db, Store, chargers, customers, now, readings};

common::on_both!(
    a_bill_is_the_same_however_few_readings_are_kept,
    a_reading_before_those_that_are_kept_is_for_review,
    packed_readings_bill_and_move_as_ever,
    a_reading_that_comes_while_others_are_packed_is_kept,
);

const BEGIN: i64 = 1_790_000_000_000;
const KEPT: i64 = 100;

async fn request(db: &mut Db) -> SessionId {
    let charger = chargers::upsert(db, "CP-1", None, 0, None, now()).await.unwrap();
    let device =
        NewDevice { device_number: "N-1".into(), connector: 1, waiting_price: Money(6000), ..NewDevice::default() };
    devices::register(db, charger, &[device], now()).await.unwrap();
    let device = devices::of_charger(db, charger).await.unwrap().remove(0);
    let customer = customers::of_phone(db, "+97686661488", now()).await.unwrap().id;
    let request =
        NewRequest { device: device.id, customer, charger, connector: 1, tariff_id: device.tariff_id, now: now() };
    sessions::request(db, &request).await.unwrap().id
}

fn point(n: i64, kind: PointKind, value: i64) -> Point {
    Point::new(Timestamp(BEGIN + n * 5_000), kind, value)
}

/// An hour of charging with a pause, sampled every 5 s.
fn charge() -> Vec<Point> {
    let mut points =
        vec![point(0, PointKind::MeterStart, 1000), point(0, PointKind::State, ChargingState::Charging as i64)];
    for n in 1..720 {
        let pause = (300..400).contains(&n);
        let wh = 1000 + 10 * if n < 300 { n } else { (n - 100).max(300) };
        points.push(point(n, PointKind::Register, wh));
        points.push(point(n, PointKind::Power, if pause { 0 } else { 7200 }));
        let state = if pause { ChargingState::SuspendedEv } else { ChargingState::Charging };
        points.push(point(n, PointKind::State, state as i64));
    }
    points
}

/// What the writer does with points of one message.
async fn tell(db: &mut Db, session: &mut Session, points: &[Point]) {
    let late = !points.iter().all(|point| session.append(*point));
    let told: Vec<_> = points.iter().map(|point| (session.id, *point)).collect();
    readings::insert(db, &told).await.unwrap();
    if late {
        readings::fold(db, session).await.unwrap();
    }
    if session.meter.kept > KEPT {
        readings::thin(db, session).await.unwrap();
    }
}

async fn a_bill_is_the_same_however_few_readings_are_kept(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let id = request(&mut db).await;
    let mut session = sessions::by_id(&mut db, id).await.unwrap().unwrap();
    let points = charge();
    let mut whole = session.clone();
    whole.fold(points.clone());
    // Now and then two messages come the wrong way round, and one comes again.
    for (n, told) in points.chunks(6).enumerate() {
        let (first, second) = told.split_at(told.len() / 2);
        if n % 7 == 3 {
            tell(&mut db, &mut session, second).await;
            tell(&mut db, &mut session, first).await;
        } else {
            tell(&mut db, &mut session, told).await;
        }
        tell(&mut db, &mut session, second).await;
        let kept = readings::of(&mut db, id).await.unwrap().len();
        assert!(kept <= 110, "{kept} readings");
    }
    assert_eq!(session.bill(), whole.bill());
    assert_eq!((session.meter.energy(), session.meter.waiting_s()), (Wh(6190), 500));
    assert_eq!(session.doubts(), whole.doubts());
    readings::fold(&mut db, &mut session).await.unwrap();
    assert_eq!(session.bill(), whole.bill());
}

async fn a_reading_before_those_that_are_kept_is_for_review(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let id = request(&mut db).await;
    let mut session = sessions::by_id(&mut db, id).await.unwrap().unwrap();
    tell(&mut db, &mut session, &charge()).await;
    let bill = session.bill();
    while session.meter.kept > KEPT {
        readings::thin(&mut db, &mut session).await.unwrap();
    }
    // What was told before, and what can change nothing.
    tell(&mut db, &mut session, &charge()[1..2]).await;
    tell(&mut db, &mut session, &[point(2, PointKind::Power, 5)]).await;
    assert_eq!(session.bill(), bill);
    for n in 0..3 {
        let late =
            Point { at: Timestamp(BEGIN + 777 + n), ..point(0, PointKind::State, ChargingState::SuspendedEv as i64) };
        tell(&mut db, &mut session, &[late]).await;
    }
    assert_eq!(session.bill(), bill);
    assert!(session.doubts().has(Doubt::TooManyReadings));
    assert!(readings::of(&mut db, id).await.unwrap().len() <= 100, "late ones are not kept");
}

async fn packed_readings_bill_and_move_as_ever(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let id = request(&mut db).await;
    let mut session = sessions::by_id(&mut db, id).await.unwrap().unwrap();
    let told = charge();
    let rows: Vec<_> = told[..150].iter().map(|point| (id, *point)).collect();
    readings::insert(&mut db, &rows).await.unwrap();
    readings::fold(&mut db, &mut session).await.unwrap();
    let soon = now().plus_millis(1000);
    assert_eq!(readings::pack_old(&mut db, soon, 10).await.unwrap(), 0, "it is not over");
    session.status = Status::Finished;
    sessions::save(&mut db, &[&session], now()).await.unwrap();
    assert_eq!(readings::pack_old(&mut db, now().plus_millis(-60_000), 10).await.unwrap(), 0, "it is too young");
    let before = readings::of(&mut db, id).await.unwrap();
    assert_eq!(readings::pack_old(&mut db, soon, 10).await.unwrap(), 1);
    assert_eq!(readings::pack_old(&mut db, soon, 10).await.unwrap(), 0, "there is nothing left");
    assert_eq!(readings::of(&mut db, id).await.unwrap(), before);
    // What is told again changes nothing, what is told late counts, and is packed with the rest.
    let late = point(-5, PointKind::Register, 400);
    let again = Point { value: before[7].value + 3, ..before[7] };
    readings::insert(&mut db, &[(id, before[5]), (id, again), (id, late)]).await.unwrap();
    let mut after = before.clone();
    after[7].value += 3;
    after.insert(0, late);
    for round in 0..2 {
        assert_eq!(readings::of(&mut db, id).await.unwrap(), after, "{round}");
        readings::pack_old(&mut db, soon, 10).await.unwrap();
    }
    let mut folded = session.clone();
    readings::fold(&mut db, &mut folded).await.unwrap();
    let mut wanted = session.clone();
    wanted.fold(after.clone());
    assert_eq!(folded.bill(), wanted.bill());
    // Some go to another session.
    let other = SessionId(evm_store::new_id());
    assert!(readings::hand_over(&mut db, id, other, after[50].at, after[100].at).await.unwrap());
    let moved = |point: &&Point| point.at >= after[50].at && point.at < after[100].at;
    let (there, here): (Vec<&Point>, Vec<&Point>) = after.iter().partition(moved);
    assert_eq!(readings::of(&mut db, other).await.unwrap().iter().collect::<Vec<_>>(), there);
    assert_eq!(readings::of(&mut db, id).await.unwrap().iter().collect::<Vec<_>>(), here);
    readings::pack_old(&mut db, soon, 10).await.unwrap();
    // The older half becomes figures.
    let mut thinned = folded.clone();
    readings::thin(&mut db, &mut thinned).await.unwrap();
    let kept = readings::of(&mut db, id).await.unwrap();
    assert!(kept.len() < here.len() && kept.last() == here.last().copied());
    let mut refolded = thinned.clone();
    readings::fold(&mut db, &mut refolded).await.unwrap();
    let mut wanted = session.clone();
    wanted.fold(here.into_iter().copied().collect());
    assert_eq!(refolded.bill(), wanted.bill());
}

async fn a_reading_that_comes_while_others_are_packed_is_kept(store: Store, _url: String) {
    if matches!(store, Store::Sqlite { .. }) {
        // Writers take turns there.
        return;
    }
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let id = request(&mut db).await;
    sessions::fail(&mut db, id, "not_begun", now()).await.unwrap();
    let rows = [point(1, PointKind::Register, 10), point(2, PointKind::Register, 20)].map(|point| (id, point));
    readings::insert(&mut db, &rows).await.unwrap();
    db.commit().await.unwrap();
    let mut packing = store.begin().await.unwrap();
    assert_eq!(readings::pack_old(&mut packing, now().plus_millis(1000), 10).await.unwrap(), 1);
    let mut db = store.begin().await.unwrap();
    readings::insert(&mut db, &[(id, point(3, PointKind::Register, 30))]).await.unwrap();
    assert_eq!(readings::of(&mut db, id).await.unwrap().len(), 3, "none of it is seen half");
    db.commit().await.unwrap();
    packing.commit().await.unwrap();
    let kept = readings::of(&mut store.read().await.unwrap(), id).await.unwrap();
    assert_eq!(kept.iter().map(|point| point.value).collect::<Vec<_>>(), [10, 20, 30]);
}
