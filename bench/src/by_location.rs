//! A box on the map among 100 000 devices: the store's own time, one at a time, and over REST.

use std::time::Instant;

use anyhow::ensure;
use evm_store::devices::{self, Area, NewDevice};
use evm_store::{Store, chargers};

use crate::bench::Bench;
use crate::load::Latencies;
use crate::register::device;
use crate::rest;
use crate::rest::phones::Phones;
use crate::table::{Row, Table, grouped};

/// Devices on the map.
pub(crate) const DEVICES: u32 = 100_000;
/// Devices a charger.
const PER_CHARGER: u32 = 10;
/// Devices a transaction.
const CHUNK: u32 = 2000;
/// Queries of each size.
const QUERIES: u32 = 500;
/// As many as a phone gets at most.
const MOST: i64 = 1000;
/// The map: west, south, width and height, 1e-7 degrees; about Mongolia.
const MAP: [i64; 4] = [878_000_000, 416_000_000, 321_000_000, 105_000_000];

/// Measures boxes of a twentieth of the map's width and height, some 250 devices, and the whole map, cut at 1 000.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let phones = Phones::start().await?;
    for engine in &bench.engines {
        eprintln!("by-location, {} devices on {}", grouped(DEVICES.into()), engine.name);
        let store = engine.open().await?;
        register(&store).await?;
        for (what, part) in [("by-location", 20), ("- whole map", 1)] {
            let (mut latencies, found) = queries(&store, part).await?;
            table.add(Row {
                what,
                count: DEVICES,
                who: engine.name.into(),
                figure: format!("{found} devices"),
                p50: Some(latencies.percentile(50)),
                p99: Some(latencies.percentile(99)),
                ..Row::default()
            });
        }
        store.close().await;
        rest::by_location::run(engine, &phones, table).await?;
    }
    Ok(())
}

/// Puts the devices on the map, spread evenly but in no order, where they are not there yet.
pub(crate) async fn register(store: &Store) -> anyhow::Result<()> {
    let [west, south, width, height] = MAP;
    let mut n = 0;
    while n < DEVICES {
        let mut db = store.begin().await?;
        let now = evm_store::now();
        for _ in 0..CHUNK / PER_CHARGER {
            let charger = chargers::upsert(&mut db, &format!("bench-map-{n:06}"), None, 0, None, now).await?;
            let mut here: Vec<NewDevice> = Vec::new();
            for connector in 1..=PER_CHARGER {
                let (east, north) = (spread(n, 3_242_174_889, width), spread(n, 2_447_445_413, height));
                here.push(device(format!("bench-map-{n:06}"), connector, west + east, south + north));
                n += 1;
            }
            devices::register(&mut db, charger, &here, now).await?;
        }
        db.commit().await?;
    }
    Ok(())
}

/// The n-th of evenly spread numbers below `most`.
fn spread(n: u32, step: u32, most: i64) -> i64 {
    (i64::from(n.wrapping_mul(step)) * most) >> 32
}

/// The n-th box, as wide and as high as a part of the map.
pub(crate) fn area(n: u32, part: i64) -> Area {
    let [west, south, width, height] = MAP;
    let (w, h) = (width / part, height / part);
    let (x, y) = (west + spread(n, 2_447_445_413, width - w + 1), south + spread(n, 3_242_174_889, height - h + 1));
    Area { longitudes: (x, x + w), latitudes: (y, y + h) }
}

/// Asks for boxes all over the map, one after the other. The devices found in the last come back too.
async fn queries(store: &Store, part: i64) -> anyhow::Result<(Latencies, usize)> {
    let mut latencies = Latencies::default();
    let mut found = 0;
    for n in 0..QUERIES {
        let area = area(n, part);
        let asked = Instant::now();
        let here = devices::in_box(&mut store.read().await?, area, MOST).await?;
        latencies.add(asked.elapsed());
        found = here.len();
        ensure!(found > 100, "only {found} devices in a box that should hold more");
    }
    Ok((latencies, found))
}
