//! How fast it is: one table, measured beside a bare websocket server on the same cores in the same run.
//!
//! Every server measured is a process of its own (this program, started again), and the load comes from this one.
//! `docs/benchmarks.md` says what the figures mean.

mod accepted;
mod bench;
mod by_location;
mod ceiling;
mod census;
mod leaders;
mod limits;
mod load;
mod memory;
mod register;
mod rest;
mod server;
mod socket;
mod station;
mod table;
mod throughput;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures the central system under load and prints one table. Takes some minutes.
///
/// Load goes to 127.0.0.1 only. SQLite works in a temporary folder (TMPDIR says where; take one on a disk), PostgreSQL
/// in the empty database you name.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Measure only this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<Measurement>,
    /// Seconds that count in each loop, 1 to 120; a fifth as long runs before and is not counted. Most loops over REST have a
    /// fixed count instead.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Sockets of the closed loops.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000], value_parser = clap::value_parser!(u32).range(1..=5000))]
    sockets: Vec<u32>,
    /// Which database; by default both where a PostgreSQL is named, otherwise SQLite.
    #[arg(long)]
    engine: Option<EngineChoice>,
    /// An empty PostgreSQL database for the benchmark alone.
    #[arg(long, env = "EVM_BENCH_POSTGRES_URL", hide_env_values = true)]
    postgres_url: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// One kind of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Heartbeats a second.
    Heartbeats,
    /// StatusNotifications a second.
    Statuses,
    /// Authorize requests a second.
    Authorizes,
    /// Durable MeterValues a second, in running charges.
    MeterValues,
    /// Durable TransactionEvents of OCPP 2.0.1 a second, in running charges.
    TransactionEvents,
    /// Whole charges a second: StartTransaction, three MeterValues, StopTransaction.
    Transactions,
    /// Memory of a connected idle charger.
    Memory,
    /// 2 000 chargers at once, until all are accepted.
    Accepted,
    /// A box on the map among 100 000 devices, in the store and over REST.
    ByLocation,
    /// A round of live figures over 5 000 running charges, and the relay of 20 000 events.
    Leaders,
    /// Logins over REST, with a code by SMS.
    Login,
    /// What a start over REST adds to the charger's own answer.
    Start,
    /// Payments from the balance over REST.
    Pay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineChoice {
    Sqlite,
    Postgres,
    Both,
}

#[derive(Subcommand)]
enum Role {
    /// One of the servers measured; started by the benchmark itself.
    #[command(hide = true)]
    Server { kind: server::Kind },
    /// Computes what networks of chargers cost, from costs that were measured, and prints tables in Markdown.
    Census(census::Assumptions),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match args.role {
        Some(Role::Server { kind }) => runtime.block_on(server::serve(kind)),
        Some(Role::Census(assumptions)) => {
            census::print(&assumptions);
            Ok(())
        }
        None => runtime.block_on(Box::pin(bench::run(args))),
    }
}
