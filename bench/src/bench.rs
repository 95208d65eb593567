//! The run: which databases, which measurements, and the table at the end.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use evm_store::{Store, chargers, leases};

use crate::load::Latencies;
use crate::table::{Table, millis};
use crate::{Args, EngineChoice, Measurement};
use crate::{accepted, by_location, leaders, limits, memory, rest, throughput};

/// Transactions that show how long one takes.
const COMMITS: usize = 100;

/// A database to measure.
pub(crate) struct Engine {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// For [`Store::open`].
    pub(crate) url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Engine {
    /// Opens its store.
    pub(crate) async fn open(&self) -> anyhow::Result<Store> {
        Store::open(&self.url).await.with_context(|| format!("{} cannot be opened", self.name))
    }
}

/// What all measurements of a run share.
pub(crate) struct Bench {
    pub(crate) engines: Vec<Engine>,
    pub(crate) seconds: u64,
    pub(crate) sockets: Vec<u32>,
    only: Vec<Measurement>,
}

impl Bench {
    /// Whether a measurement is asked for.
    pub(crate) fn wants(&self, measurement: Measurement) -> bool {
        self.only.is_empty() || self.only.contains(&measurement)
    }
}

/// Measures what is asked for.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build; its figures mean nothing (cargo run --release -p evm-bench)");
    }
    let most = args.sockets.iter().copied().max().unwrap_or_default().max(memory::CHARGERS).max(accepted::CHARGERS);
    limits::raise_open_files(most)?;
    let engines = engines(args.engine, args.postgres_url).await?;
    let bench = Bench { engines, seconds: args.seconds, sockets: args.sockets, only: args.only };
    let mut table = Table::default();
    throughput::run(&bench, &mut table).await?;
    if bench.wants(Measurement::Memory) {
        memory::run(&bench, &mut table).await?;
    }
    if bench.wants(Measurement::Accepted) {
        accepted::run(&bench, &mut table).await?;
    }
    if bench.wants(Measurement::ByLocation) {
        by_location::run(&bench, &mut table).await?;
    }
    if bench.wants(Measurement::Leaders) {
        leaders::run(&bench, &mut table).await?;
    }
    rest::run(&bench, &mut table).await?;
    println!("{table}");
    Ok(())
}

async fn engines(choice: Option<EngineChoice>, postgres_url: Option<String>) -> anyhow::Result<Vec<Engine>> {
    let choice = choice.unwrap_or(if postgres_url.is_some() { EngineChoice::Both } else { EngineChoice::Sqlite });
    let mut engines = Vec::new();
    if choice != EngineChoice::Postgres {
        let folder = tempfile::Builder::new().prefix("evm-bench-").tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("evm.db").display());
        engines.push(Engine { name: "SQLite", url, _folder: Some(folder) });
    }
    if choice != EngineChoice::Sqlite {
        let Some(url) = postgres_url else { bail!("name a PostgreSQL with --postgres-url or EVM_BENCH_POSTGRES_URL") };
        // A commit is on the disk before it is answered, whatever the server's own settings say.
        let url = format!("{url}{}options[synchronous_commit]=on", if url.contains('?') { '&' } else { '?' });
        engines.push(Engine { name: "PostgreSQL", url, _folder: None });
    }
    for engine in &engines {
        let store = engine.open().await?;
        store.migrate().await.with_context(|| format!("{} cannot be prepared", engine.name))?;
        let first = chargers::list(&mut store.read().await?, "", 1).await?;
        ensure!(
            first.iter().all(|charger| charger.identity.starts_with("bench-")),
            "the database has chargers that are not the benchmark's; give it one of its own"
        );
        let mut commits = commits(&store).await?;
        store.close().await;
        let durable = if engine.name == "SQLite" { "synchronous = FULL" } else { "synchronous_commit = on" };
        println!("{}: {durable}; a transaction of one row takes {} ms", engine.name, millis(commits.percentile(50)));
    }
    Ok(engines)
}

/// The times of transactions that write one row, one after the other: little more than the disk's own time, where the
/// server waits for it.
async fn commits(store: &Store) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..COMMITS {
        let begun = Instant::now();
        let mut db = store.begin().await?;
        leases::take(&mut db, "bench", "bench", 1000).await?;
        db.commit().await?;
        latencies.add(begun.elapsed());
    }
    Ok(latencies)
}
