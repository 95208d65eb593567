//! A box on the map among 100 000 devices, over REST.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::line::Line;
use super::login::{self, Customer};
use super::phones::Phones;
use super::work::{self, Plan, Work};
use crate::bench::Engine;
use crate::by_location::{DEVICES, area};
use crate::server::Server;
use crate::table::Table;

/// Connections: enough to keep the server busy. With more of them an answer only waits longer.
const LINES: u32 = 4;
/// Boxes asked for.
const BOXES: usize = 3000;
/// Whole maps asked for.
const MAPS: usize = 600;

/// Measures the boxes and the whole map. The devices are there.
pub(crate) async fn run(engine: &Engine, phones: &Arc<Phones>, table: &mut Table) -> anyhow::Result<()> {
    let customer = login::customers(engine, phones, 10).await?.pop().context("nobody is logged in")?;
    let server = Server::whole(engine, phones.gateway).await?;
    for (what, part, count) in [("- by REST", 20, BOXES), ("- all, REST", 1, MAPS)] {
        let work = Boxes { customer: customer.clone(), part };
        let done = work::run(&server, Plan { lines: LINES, pieces: 0..count, rate: None }, &work).await?;
        table.add(done.row(what, DEVICES, engine.name));
    }
    server.stop().await
}

#[derive(Clone)]
struct Boxes {
    customer: Customer,
    part: i64,
}

impl Work for Boxes {
    async fn one(&self, line: &mut Line, n: usize) -> anyhow::Result<Duration> {
        let area = area(u32::try_from(n)?, self.part);
        let [(west, east), (south, north)] = [area.longitudes, area.latitudes].map(|(a, b)| (degrees(a), degrees(b)));
        let path = format!(
            "/api/v1/devices/by-location?bottom-left-longitude={west}&bottom-left-latitude={south}\
             &upper-right-longitude={east}&upper-right-latitude={north}"
        );
        let asked = Instant::now();
        let found = line.get(&path, &[("authorization", &self.customer.bearer)]).await?;
        let took = asked.elapsed();
        ensure!(found.len() > 10_000 && found.ends_with("}]"), "too few devices in {path}: {found:.200}");
        Ok(took)
    }
}

/// Degrees of 1e-7 degrees, for the east and the north.
fn degrees(tiny: i64) -> String {
    format!("{}.{:07}", tiny / 10_000_000, tiny % 10_000_000)
}
