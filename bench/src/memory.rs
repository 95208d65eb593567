//! Memory that a connected idle charger costs the server: the growth of its resident set, user space only.

use std::time::Duration;

use crate::bench::Bench;
use crate::load::each;
use crate::register;
use crate::server::{Kind, Server};
use crate::socket::Socket;
use crate::station::Station;
use crate::table::{Row, Table, kib, times};

/// Chargers that are counted.
pub(crate) const CHARGERS: u32 = 2200;
/// The first of them warm the server up: what it takes once for all is no charger's.
const FIRST: u32 = 200;
/// The server lets go of what it needed for the handshakes.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures the bare server with small buffers and with the library's, and the central system.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("memory of {} idle chargers", CHARGERS - FIRST);
    let server = Server::start(Kind::Ceiling, None).await?;
    let ceiling = measure(server, register::nobody(CHARGERS)).await?;
    add(table, "ceiling", ceiling, None);
    let server = Server::start(Kind::LibraryDefaults, None).await?;
    let defaults = measure(server, register::nobody(CHARGERS)).await?;
    add(table, "library defaults", defaults, ceiling);
    for engine in &bench.engines {
        let store = engine.open().await?;
        let stations = register::stations(&store, CHARGERS).await?;
        store.close().await;
        let ours = measure(Server::csms(engine).await?, stations).await?;
        add(table, engine.name, ours, ceiling);
    }
    Ok(())
}

async fn measure(server: Server, mut stations: Vec<Station>) -> anyhow::Result<Option<u64>> {
    let counted = stations.split_off(usize::try_from(FIRST)?);
    let count = u64::try_from(counted.len())?;
    let mut sockets = connect(&server, stations).await?;
    let before = server.resident_bytes();
    sockets.extend(connect(&server, counted).await?);
    let after = server.resident_bytes();
    each(sockets.into_iter().map(|socket| async {
        socket.close().await;
        Ok(())
    }))
    .await?;
    server.stop().await?;
    Ok(before.zip(after).map(|(before, after)| after.saturating_sub(before) / count))
}

/// Connected, booted, and quiet for a while. A few at a time: a rush is another measurement.
async fn connect(server: &Server, stations: Vec<Station>) -> anyhow::Result<Vec<Socket>> {
    let address = server.address;
    let mut sockets = Vec::with_capacity(stations.len());
    for some in stations.chunks(50) {
        let connected = each(some.iter().cloned().map(|mut station| async move {
            let mut socket = station.connect(address).await?;
            station.boot(&mut socket).await?;
            Ok(socket)
        }));
        sockets.extend(connected.await?);
    }
    tokio::time::sleep(SETTLE).await;
    Ok(sockets)
}

fn add(table: &mut Table, who: &str, bytes: Option<u64>, ceiling: Option<u64>) {
    table.add(Row {
        what: "idle charger",
        count: CHARGERS - FIRST,
        who: who.into(),
        figure: bytes.map_or("not known here".into(), kib),
        of_ceiling: bytes.zip(ceiling).map(|(ours, ceiling)| times(ours, ceiling)).unwrap_or_default(),
        ..Row::default()
    });
}
