//! Purchases to be paid: charges that were settled by the store's own rules, and the balance that just pays for them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use evm_domain::ledger::credit_by_operator;
use evm_domain::{CustomerId, Money, Point, PointKind, PurchaseId, SeqNos, Session, SessionId, Status, Timestamp};
use evm_store::devices::Device;
use evm_store::ledger::{self, Booking};
use evm_store::sessions::{self, NewSession};
use evm_store::{Store, chargers, customers, devices, new_id, now, purchases, readings, settle};

use super::login::Customer;
use crate::register;

/// Devices at which the customers charged, one charge at a time each; a transaction books one of each.
const DEVICES: usize = 500;
/// Energy of a charge, Wh.
const ENERGY: i64 = 1000;
/// How long a charge lasted.
const LASTED_MS: i64 = 600_000;
/// Purchases of one customer that are looked through.
const PAGE: i64 = 1000;

/// A purchase and who pays it.
pub(crate) struct Due {
    pub(crate) purchase: PurchaseId,
    pub(crate) bearer: Arc<str>,
}

/// Makes so many purchases, each of the next customer, and credits what they cost.
pub(crate) async fn prepare(store: &Store, customers: &[Customer], count: usize) -> anyhow::Result<Vec<Due>> {
    let places = places(store).await?;
    let mut due = Vec::with_capacity(count);
    let mut owed: HashMap<CustomerId, Money> = HashMap::new();
    let mut payers = customers.iter().cycle().take(count).peekable();
    while payers.peek().is_some() {
        let now = now();
        // The places first: a zip takes from its second only where the first has one.
        let some = places.iter().zip(payers.by_ref());
        let some: Vec<_> = some.map(|(place, payer)| (payer, session(payer.id, place))).collect();
        let new: Vec<_> = some.iter().zip(&places).map(|((_, session), place)| new_session(session, place)).collect();
        let mut db = store.begin().await?;
        let kept = sessions::insert(&mut db, &new, now).await?;
        ensure!(kept.len() == new.len(), "a customer or a device has another charge under way");
        let (payers, mut ended): (Vec<_>, Vec<_>) = some.into_iter().unzip();
        let mut told = Vec::with_capacity(2 * ended.len());
        for session in &mut ended {
            let points = points(session, now);
            told.extend(points.map(|point| (session.id, point)));
            session.fold(points.into());
            session.ended_at = Some(now);
        }
        readings::insert(&mut db, &told).await?;
        settle::settle(&mut db, &mut ended.iter_mut().collect::<Vec<_>>(), now).await?;
        sessions::save(&mut db, &ended.iter().collect::<Vec<_>>(), now).await?;
        db.commit().await?;
        for (payer, session) in payers.into_iter().zip(ended) {
            *owed.entry(payer.id).or_default() += session.bill().total();
            due.push(Due { purchase: session.purchase, bearer: payer.bearer.clone() });
        }
    }
    let mut db = store.begin().await?;
    for (customer, amount) in owed {
        let booking = Booking {
            key: format!("credit:{}", new_id()),
            kind: "credit",
            customer: Some(customer),
            purchase: None,
            note: None,
            postings: credit_by_operator(amount),
        };
        ledger::post(&mut db, booking, now()).await?;
    }
    db.commit().await?;
    Ok(due)
}

/// How many purchases of these customers are paid. All balances are used up by that.
pub(crate) async fn paid(store: &Store, payers: &[Customer]) -> anyhow::Result<usize> {
    let mut db = store.read().await?;
    let mut paid = 0;
    for payer in payers {
        let (total, page) = purchases::page(&mut db, Some(payer.id), 0, PAGE).await?;
        ensure!(total < PAGE, "a customer has {total} purchases");
        paid += page.iter().filter(|purchase| purchase.status == "paid" && purchase.paid == purchase.amount).count();
        let customer = customers::by_id(&mut db, payer.id).await?.context("a customer is gone")?;
        ensure!(customer.balance == Money::ZERO, "{} are left of a balance", customer.balance);
    }
    Ok(paid)
}

async fn places(store: &Store) -> anyhow::Result<Vec<Device>> {
    let mut places = Vec::with_capacity(DEVICES);
    let mut db = store.begin().await?;
    for n in 0..DEVICES {
        let identity = format!("bench-pay-{n:06}");
        let charger = chargers::upsert(&mut db, &identity, None, 0, None, now()).await?;
        devices::register(&mut db, charger, &[register::device(identity, 1, 1_069_000_000, 479_000_000)], now())
            .await?;
        places.push(devices::of_charger(&mut db, charger).await?.pop().context("a device is missing")?);
    }
    db.commit().await?;
    Ok(places)
}

fn session(customer: CustomerId, place: &Device) -> Session {
    Session {
        id: SessionId(new_id()),
        purchase: PurchaseId(new_id()),
        charger: place.charger,
        connector: place.connector,
        device: Some(place.id),
        customer: Some(customer),
        tariff: place.tariff.clone(),
        max_power_w: place.max_power_w,
        status: Status::Active,
        id_tag: None,
        remote_start_id: None,
        transaction: None,
        started_at: Some(now().plus_millis(-LASTED_MS)),
        ended_at: None,
        stop_reason: None,
        review: None,
        refused: false,
        lost_at: None,
        seq_nos: SeqNos::default(),
        meter: evm_domain::Meter::default(),
    }
}

fn new_session(session: &Session, place: &Device) -> NewSession {
    NewSession { session: session.clone(), tariff_id: Some(place.tariff_id.clone()), start_key: None, told_as: None }
}

fn points(session: &Session, ended: Timestamp) -> [Point; 2] {
    let point = |at, kind, value| Point::new(at, kind, value);
    [point(session.started_at.unwrap_or(ended), PointKind::MeterStart, 0), point(ended, PointKind::End, ENERGY)]
}
