//! What a start costs beside the charger's own answer: from the phone's request to its 200, without the time that the
//! charger took from hearing it to accepting it.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use evm_store::{chargers, devices};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::Line;
use super::login;
use super::phones::Phones;
use super::work::{self, Plan, Work};
use crate::bench::{Bench, Engine};
use crate::load::each;
use crate::register;
use crate::server::Server;
use crate::socket::Socket;
use crate::station::Station;
use crate::table::Table;

/// Starts at a time, and of which chargers.
const ROUNDS: [(u32, Range<usize>); 2] = [(1, 0..300), (16, 300..1500)];

/// A charger that waits, and the customer who starts it.
struct Place {
    socket: Socket,
    station: Station,
    path: String,
    bearer: Arc<str>,
}

/// Measures one start at a time, and many.
pub(crate) async fn run(bench: &Bench, phones: &Arc<Phones>, table: &mut Table) -> anyhow::Result<()> {
    let count = ROUNDS.iter().map(|(_, places)| places.len()).sum();
    for engine in &bench.engines {
        eprintln!("{count} starts on {}", engine.name);
        let places = register(engine, phones, count).await?;
        let server = Server::whole(engine, phones.gateway).await?;
        let places: Places = Arc::new(connect(server.address, places).await?.into_iter().map(Mutex::new).collect());
        for (lines, places_of_round) in ROUNDS {
            let work = Start { places: places.clone() };
            let done = work::run(&server, Plan { lines, pieces: places_of_round, rate: None }, &work).await?;
            table.add(done.row("start adds", lines, engine.name));
        }
        charge(places).await?;
        server.stop().await?;
        let store = engine.open().await?;
        crate::verify::books(&store).await.with_context(|| format!("{}: after the starts", engine.name))?;
        store.close().await;
    }
    Ok(())
}

type Places = Arc<Vec<Mutex<Place>>>;

/// A charger not yet connected: its station, the path of its start, and its customer.
type Registered = (Station, String, Arc<str>);

/// Registers chargers, each with a customer of its own.
async fn register(engine: &Engine, phones: &Arc<Phones>, count: usize) -> anyhow::Result<Vec<Registered>> {
    let customers = login::customers(engine, phones, count).await?;
    let store = engine.open().await?;
    let stations = register::stations(&store, u32::try_from(count)?).await?;
    let mut db = store.read().await?;
    let mut all = Vec::with_capacity(count);
    for (station, customer) in stations.into_iter().zip(customers) {
        let charger = chargers::by_identity(&mut db, &station.identity).await?.context("a charger is missing")?;
        let device = devices::of_charger(&mut db, charger.id).await?.pop().context("a device is missing")?;
        all.push((station, format!("/api/v1/devices/{}/start", device.id), customer.bearer));
    }
    drop(db);
    store.close().await;
    Ok(all)
}

/// Connects all chargers, a few at a time.
async fn connect(address: SocketAddr, mut registered: Vec<Registered>) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::with_capacity(registered.len());
    while !registered.is_empty() {
        let some = registered.split_off(registered.len().saturating_sub(50));
        let connected = each(some.into_iter().map(|(mut station, path, bearer)| async move {
            let mut socket = station.connect(address).await?;
            station.boot(&mut socket).await?;
            Ok(Place { socket, station, path, bearer })
        }));
        places.extend(connected.await?);
    }
    Ok(places)
}

#[derive(Clone)]
struct Start {
    places: Places,
}

impl Work for Start {
    async fn one(&self, line: &mut Line, n: usize) -> anyhow::Result<Duration> {
        let mut place = self.places.get(n).context("no such charger")?.lock().await;
        let Place { socket, station, path, bearer } = &mut *place;
        let asked = Instant::now();
        let headers = [("authorization", &**bearer)];
        let phone = async {
            line.post(path, &headers, String::new()).await?;
            Ok(asked.elapsed())
        };
        let (whole, (tag, own)) = tokio::try_join!(phone, socket.accept_start())?;
        station.tag = tag;
        Ok(whole.saturating_sub(own))
    }
}

/// Lets all charges begin and end, and the chargers go.
async fn charge(places: Places) -> anyhow::Result<()> {
    let places = Arc::into_inner(places).context("somebody still starts")?;
    each(places.into_iter().map(|place| async {
        let Place { mut socket, mut station, .. } = place.into_inner();
        station.start(&mut socket).await?;
        station.stop(&mut socket).await?;
        socket.close().await;
        Ok(())
    }))
    .await?;
    Ok(())
}
