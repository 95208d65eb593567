//! The REST API under load: what phones ask, over real connections, of a server that runs everything as `evm serve` does.

pub(crate) mod by_location;
mod line;
mod login;
mod pay;
pub(crate) mod phones;
mod purchases;
mod start;
mod work;

use crate::Measurement;
use crate::bench::Bench;
use crate::table::Table;
use phones::Phones;

/// Connections of the closed loops.
const LINES: u32 = 32;

/// Measures what is asked for.
pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let phones = Phones::start().await?;
    if bench.wants(Measurement::Login) {
        login::run(bench, &phones, table).await?;
    }
    if bench.wants(Measurement::Start) {
        start::run(bench, &phones, table).await?;
    }
    if bench.wants(Measurement::Pay) {
        pay::run(bench, &phones, table).await?;
    }
    Ok(())
}
