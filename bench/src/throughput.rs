//! Messages of each kind and whole transactions a second, in a closed loop.

use anyhow::Context;

use crate::bench::{Bench, Engine};
use crate::load::{self, Job, Latencies, Tally};
use crate::server::{Kind, Server};
use crate::table::{Row, Table, grouped, percent};
use crate::{Measurement, register, verify};

const JOBS: [(Measurement, Job); 6] = [
    (Measurement::Heartbeats, Job::Heartbeats),
    (Measurement::Statuses, Job::Statuses),
    (Measurement::Authorizes, Job::Authorizes),
    (Measurement::MeterValues, Job::MeterValues),
    (Measurement::TransactionEvents, Job::TransactionEvents),
    (Measurement::Transactions, Job::Transactions),
];

/// Measures each kind of work at each number of sockets, the ceiling first.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for (_, job) in JOBS.into_iter().filter(|(measurement, _)| bench.wants(*measurement)) {
        for &sockets in &bench.sockets {
            eprintln!("{}, {sockets} sockets, {} s each", name(job), bench.seconds);
            let mut ceiling = ceiling(job, sockets, bench.seconds).await?;
            add(table, bench, (job, sockets), "ceiling", &mut ceiling, None);
            for engine in &bench.engines {
                let mut ours = ours(engine, job, sockets, bench.seconds).await?;
                add(table, bench, (job, sockets), engine.name, &mut ours, Some(&ceiling));
            }
        }
    }
    Ok(())
}

fn name(job: Job) -> &'static str {
    match job {
        Job::Heartbeats => "Heartbeat",
        Job::Statuses => "StatusNotification",
        Job::Authorizes => "Authorize",
        Job::MeterValues => "MeterValues",
        Job::TransactionEvents => "TransactionEvent",
        Job::Transactions => "transaction",
    }
}

async fn ceiling(job: Job, sockets: u32, seconds: u64) -> anyhow::Result<Tally> {
    let server = Server::start(Kind::Ceiling, None).await?;
    let stations = register::nobody(sockets);
    let (tally, _) = load::run(&server, stations, job, seconds).await?;
    server.stop().await?;
    Ok(tally)
}

async fn ours(engine: &Engine, job: Job, sockets: u32, seconds: u64) -> anyhow::Result<Tally> {
    let store = engine.open().await?;
    let stations = register::stations(&store, sockets).await?;
    store.close().await;
    let server = Server::csms(engine).await?;
    let (tally, stations) = load::run(&server, stations, job, seconds).await?;
    server.stop().await?;
    if job != Job::Heartbeats {
        let store = engine.open().await?;
        let found = verify::kept(&store, &stations).await.with_context(|| format!("{}: not all kept", engine.name))?;
        store.close().await;
        eprintln!("  {} acknowledged messages, all found in {}", grouped(found), engine.name);
    }
    Ok(tally)
}

fn add(
    table: &mut Table,
    bench: &Bench,
    (job, count): (Job, u32),
    who: &str,
    tally: &mut Tally,
    ceiling: Option<&Tally>,
) {
    let cpu = tally.cpu.and_then(|cpu| u64::try_from(cpu.as_micros()).ok());
    let mut row = |what, latencies: &mut Latencies, above: Option<&Latencies>| {
        table.add(Row {
            cpu: cpu.and_then(|micros| micros.checked_div(latencies.count())),
            what,
            count,
            who: who.into(),
            figure: format!("{}/s", grouped(latencies.count() / bench.seconds)),
            of_ceiling: percent(latencies.count(), above.map_or(0, Latencies::count)),
            p50: Some(latencies.percentile(50)),
            p99: Some(latencies.percentile(99)),
        });
    };
    if job == Job::Transactions {
        row(name(job), &mut tally.transactions, ceiling.map(|tally| &tally.transactions));
        row("- its frames", &mut tally.frames, ceiling.map(|tally| &tally.frames));
    } else {
        row(name(job), &mut tally.frames, ceiling.map(|tally| &tally.frames));
    }
}
