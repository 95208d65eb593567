//! Payments from the balance a second: as many as the server takes, each with an idempotency key too, and the latency at
//! half of what is aimed at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::LINES;
use super::line::Line;
use super::login;
use super::phones::Phones;
use super::purchases::{self, Due};
use super::work::{self, Plan, Work};
use crate::bench::Bench;
use crate::server::Server;
use crate::table::{Table, grouped};
use crate::verify;

/// Customers who pay, each time another.
const CUSTOMERS: usize = 1000;
/// Payments of the closed loop.
const PLAIN: usize = 18_000;
/// Payments of the closed loop with keys.
const KEYED: usize = 9000;
/// Payments a second of the open loop: half of the aim.
const RATE: u64 = 750;
/// Connections of the open loop: more than are busy at a time, for phones do not wait for each other.
const OPEN_LINES: u32 = 200;

/// Measures payments, and checks the books.
pub(crate) async fn run(bench: &Bench, phones: &Arc<Phones>, table: &mut Table) -> anyhow::Result<()> {
    let open = usize::try_from(RATE * (bench.seconds + bench.seconds.div_ceil(5)))?;
    let rounds =
        [("pay", PLAIN, false, None), ("- with key", KEYED, true, None), ("- at 750/s", open, false, Some(RATE))];
    for engine in &bench.engines {
        let count = PLAIN + KEYED + open;
        eprintln!("{count} payments on {}", engine.name);
        let customers = login::customers(engine, phones, CUSTOMERS).await?;
        let store = engine.open().await?;
        let due: Arc<[Due]> = purchases::prepare(&store, &customers, count).await?.into();
        store.close().await;
        let server = Server::whole(engine, phones.gateway).await?;
        let (answered, mut first) = (Arc::<AtomicUsize>::default(), 0);
        for (what, count, keyed, rate) in rounds {
            let pieces = first..first + count;
            first = pieces.end;
            let lines = if rate.is_some() { OPEN_LINES } else { LINES };
            let work = Pay { due: due.clone(), keyed, answered: answered.clone() };
            let done = work::run(&server, Plan { lines, pieces, rate }, &work).await?;
            table.add(done.row(what, lines, engine.name));
        }
        server.stop().await?;
        let store = engine.open().await?;
        let paid = purchases::paid(&store, &customers).await?;
        let answered = answered.load(Ordering::Relaxed);
        ensure!(paid == answered, "{answered} payments were answered, and {paid} are in {}", engine.name);
        verify::books(&store).await.with_context(|| format!("{}: after the payments", engine.name))?;
        store.close().await;
        eprintln!("  {} payments answered, all found in {}; the book sums to zero", grouped(paid as u64), engine.name);
    }
    Ok(())
}

#[derive(Clone)]
struct Pay {
    due: Arc<[Due]>,
    keyed: bool,
    answered: Arc<AtomicUsize>,
}

impl Work for Pay {
    async fn one(&self, line: &mut Line, n: usize) -> anyhow::Result<Duration> {
        let Due { purchase, bearer } = self.due.get(n).context("no such purchase")?;
        let (path, key) = (format!("/api/v1/purchases/{purchase}/pay"), purchase.to_string());
        let headers = [("authorization", &**bearer), ("idempotency-key", key.as_str())];
        let headers = if self.keyed { &headers[..] } else { &headers[..1] };
        let asked = Instant::now();
        let answer = line.post(&path, headers, r#"{"option":"EVM"}"#.into()).await?;
        let took = asked.elapsed();
        ensure!(answer.contains(r#""newBalance""#), "{purchase} is not paid: {answer}");
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(took)
    }
}
