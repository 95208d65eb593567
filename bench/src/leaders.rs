//! What one node does for all: a round of live figures over all running charges, and the relay of events from the outbox. What is
//! measured is the store's part, without the publishing: the size at which one node is no longer enough.

use std::time::Instant;

use evm_domain::{Point, PointKind, Session, Status};
use evm_store::outbox::{self, Event};
use evm_store::sessions::{self, Live, NewRequest};
use evm_store::{Store, chargers, customers, devices};

use crate::bench::{Bench, Engine};
use crate::load::Latencies;
use crate::register::device;
use crate::table::{Row, Table, grouped};

/// Charges that run.
const CHARGES: u32 = 5_000;
/// Charges a charger.
const PER_CHARGER: u32 = 10;
/// Charges a transaction.
const CHUNK: u32 = 1000;
/// Rounds that are measured.
const ROUNDS: u32 = 7;
/// Charges that are read at once, as the leader does.
const PAGE: i64 = 1000;

/// Events that wait in the outbox.
const EVENTS: u32 = 20_000;
/// Events that are relayed at once.
const RELAYED: i64 = 200;

/// Measures both on each database.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for engine in &bench.engines {
        eprintln!("live figures of {} running charges on {}", grouped(CHARGES.into()), engine.name);
        rounds(engine, table).await?;
        eprintln!("{} events of the outbox on {}", grouped(EVENTS.into()), engine.name);
        relay(engine, table).await?;
    }
    Ok(())
}

async fn rounds(engine: &Engine, table: &mut Table) -> anyhow::Result<()> {
    let store = engine.open().await?;
    begin(&store).await?;
    let mut rounds = Latencies::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        anyhow::ensure!(round(&store).await? == CHARGES, "not all of the charges run");
        rounds.add(begun.elapsed());
    }
    let ended: Vec<Session> =
        all(&store).await?.into_iter().map(|session| Session { status: Status::Finished, ..session }).collect();
    for some in ended.chunks(500) {
        let mut db = store.begin().await?;
        sessions::save(&mut db, &some.iter().collect::<Vec<_>>(), evm_store::now()).await?;
        db.commit().await?;
    }
    let micros = rounds.percentile(50);
    let figure = format!("{}/s", grouped(u64::from(CHARGES) * 1_000_000 / micros.max(1)));
    let (p50, p99) = (Some(micros), Some(rounds.percentile(99)));
    table.add(Row { what: "live round", count: CHARGES, who: engine.name.into(), figure, p50, p99, ..Row::default() });
    store.close().await;
    Ok(())
}

/// Takes all events out of the outbox, as the relay does.
async fn relay(engine: &Engine, table: &mut Table) -> anyhow::Result<()> {
    let store = engine.open().await?;
    let mut db = store.begin().await?;
    let now = evm_store::now();
    let customer = customers::of_phone(&mut db, "+97689000000", now).await?.id;
    let payload = "x".repeat(300);
    for n in (0..EVENTS).step_by(500) {
        let event = |n: u32| {
            let event_id = format!("{}-{n}", evm_store::new_id());
            Event { customer, name: "PAYMENT", event_id, payload: payload.clone() }
        };
        outbox::add(&mut db, &(n..n + 500).map(event).collect::<Vec<_>>(), now).await?;
    }
    db.commit().await?;
    let (begun, mut count) = (Instant::now(), 0);
    loop {
        let waiting = outbox::waiting(&mut store.read().await?, RELAYED).await?;
        let ids: Vec<i64> = waiting.iter().map(|event| event.id).collect();
        if ids.is_empty() {
            break;
        }
        count += ids.len() as u64;
        let mut db = store.begin().await?;
        outbox::published(&mut db, &ids, true, now).await?;
        db.commit().await?;
    }
    let micros = u64::try_from(begun.elapsed().as_micros())?.max(1);
    let figure = format!("{}/s", grouped(count * 1_000_000 / micros));
    table.add(Row { what: "relay", count: EVENTS, who: engine.name.into(), figure, ..Row::default() });
    store.close().await;
    Ok(())
}

/// Reads and prices all running charges.
async fn round(store: &Store) -> anyhow::Result<u32> {
    let (mut count, mut after) = (0, String::new());
    while let Some(page) = page(store, &mut after).await? {
        let now = evm_store::now();
        for live in &page {
            std::hint::black_box(live.session.bill_at(now, true));
            count += 1;
        }
    }
    Ok(count)
}

/// All running charges.
async fn all(store: &Store) -> anyhow::Result<Vec<Session>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    while let Some(page) = page(store, &mut after).await? {
        all.extend(page.into_iter().map(|live| live.session));
    }
    Ok(all)
}

/// The running charges `after` an id; `None`: there are no more.
async fn page(store: &Store, after: &mut String) -> anyhow::Result<Option<Vec<Live>>> {
    let page = sessions::running(&mut store.read().await?, after, PAGE).await?;
    let Some(last) = page.last() else { return Ok(None) };
    *after = last.session.id.to_string();
    Ok(Some(page))
}

/// Lets the charges begin, each with a customer of its own.
async fn begin(store: &Store) -> anyhow::Result<()> {
    let mut n = 0;
    while n < CHARGES {
        let mut db = store.begin().await?;
        for _ in 0..CHUNK / PER_CHARGER {
            let now = evm_store::now();
            let charger = chargers::upsert(&mut db, &format!("bench-live-{n:06}"), None, 0, None, now).await?;
            let new: Vec<_> = (1..=PER_CHARGER)
                .map(|connector| device(format!("bench-live-{n:06}-{connector}"), connector, 0, 0))
                .collect();
            devices::register(&mut db, charger, &new, now).await?;
            for device in devices::of_charger(&mut db, charger).await? {
                let customer = customers::of_phone(&mut db, &format!("+9768{n:07}"), now).await?.id;
                let (connector, tariff_id) = (device.connector, device.tariff_id);
                let request = NewRequest { device: device.id, customer, charger, connector, tariff_id, now };
                sessions::request(&mut db, &request).await?;
                n += 1;
            }
            for mut found in sessions::load_live(&mut db, &[charger]).await? {
                let session = &mut found.session;
                (session.status, session.started_at) = (Status::Active, Some(now));
                for (seconds, wh) in [(0, 1_000), (5, 1_100)] {
                    session.append(Point::new(now.plus_millis(seconds * 1000), PointKind::Register, wh));
                }
                session.transaction = Some(format!("bench-{}", session.id));
                sessions::save(&mut db, &[session], now).await?;
            }
        }
        db.commit().await?;
    }
    Ok(())
}
