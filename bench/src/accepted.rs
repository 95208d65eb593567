//! The return of all chargers at once: from the first connection to the last BootNotification accepted.

use tokio::time::Instant;

use crate::bench::Bench;
use crate::load::{Latencies, each};
use crate::register;
use crate::server::{Kind, Server};
use crate::station::Station;
use crate::table::{Row, Table, millis, times};

/// Chargers that come at once.
pub(crate) const CHARGERS: u32 = 2000;
/// The median of so many rounds counts, each with a new server.
const ROUNDS: usize = 3;

/// Measures the bare server and the central system.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("{CHARGERS} chargers at once, the median of {ROUNDS} rounds");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let server = Server::start(Kind::Ceiling, None).await?;
        rounds.push(round(server, register::nobody(CHARGERS)).await?);
    }
    let ceiling = add(table, "ceiling", rounds, None);
    for engine in &bench.engines {
        let store = engine.open().await?;
        let stations = register::stations(&store, CHARGERS).await?;
        store.close().await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(Server::csms(engine).await?, stations.clone()).await?);
        }
        add(table, engine.name, rounds, Some(ceiling));
    }
    Ok(())
}

/// The time until the last, µs, and the time of each.
async fn round(server: Server, stations: Vec<Station>) -> anyhow::Result<(u64, Latencies)> {
    let address = server.address;
    let begun = Instant::now();
    let sockets = each(stations.into_iter().map(|mut station| async move {
        let mut socket = station.connect(address).await?;
        station.boot(&mut socket).await?;
        Ok((socket, begun.elapsed()))
    }))
    .await?;
    let all = u64::try_from(begun.elapsed().as_micros())?;
    let mut latencies = Latencies::default();
    for (_, took) in &sockets {
        latencies.add(*took);
    }
    each(sockets.into_iter().map(|(socket, _)| async {
        socket.close().await;
        Ok(())
    }))
    .await?;
    server.stop().await?;
    Ok((all, latencies))
}

fn add(table: &mut Table, who: &str, mut rounds: Vec<(u64, Latencies)>, ceiling: Option<u64>) -> u64 {
    rounds.sort_by_key(|(all, _)| *all);
    let (all, mut latencies) = rounds.swap_remove(rounds.len() / 2);
    table.add(Row {
        what: "all accepted",
        count: CHARGERS,
        who: who.into(),
        figure: format!("{} ms", millis(all)),
        of_ceiling: ceiling.map(|ceiling| times(all, ceiling)).unwrap_or_default(),
        p50: Some(latencies.percentile(50)),
        p99: Some(latencies.percentile(99)),
        ..Row::default()
    });
    all
}
