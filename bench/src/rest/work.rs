//! The loops: many lines, which share what is to be done and do each piece once.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::line::Line;
use crate::load::{Latencies, each};
use crate::server::Server;
use crate::table::{Row, grouped};

/// The first pieces warm the server up: one in so many is not counted.
const WARM: usize = 6;
/// Longest time for all.
const LONGEST: Duration = Duration::from_secs(600);
/// All lines wait for the first moment of an open loop.
const BEFORE: Duration = Duration::from_millis(100);

/// What is asked again and again.
pub(crate) trait Work: Clone + Send + Sync + 'static {
    /// Does the n-th piece; what counts of the time comes back.
    fn one(&self, line: &mut Line, n: usize) -> impl Future<Output = anyhow::Result<Duration>> + Send;
}

/// How often, and how many at a time.
pub(crate) struct Plan {
    /// Connections.
    pub(crate) lines: u32,
    /// Which pieces.
    pub(crate) pieces: Range<usize>,
    /// Pieces a second, come what may; `None`: a line begins its next piece when the last is done.
    pub(crate) rate: Option<u64>,
}

/// What a loop brought.
pub(crate) struct Done {
    pub(crate) latencies: Latencies,
    took: Duration,
    cpu: Option<Duration>,
}

impl Done {
    /// A line of the table.
    pub(crate) fn row(mut self, what: &'static str, count: u32, who: &str) -> Row {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let counted = self.latencies.count();
        let rate = (counted * 1_000_000).checked_div(micros(self.took)).unwrap_or_default();
        Row {
            what,
            count,
            who: who.into(),
            figure: format!("{}/s", grouped(rate)),
            cpu: self.cpu.and_then(|cpu| micros(cpu).checked_div(counted)),
            p50: Some(self.latencies.percentile(50)),
            p99: Some(self.latencies.percentile(99)),
            ..Row::default()
        }
    }
}

/// What the lines share.
struct Shared {
    begin: Instant,
    next: AtomicUsize,
    pieces: Range<usize>,
    rate: Option<u64>,
    /// From here on it counts.
    counts_from: usize,
    counted_since: OnceLock<Instant>,
    warm: Notify,
}

/// Does all pieces; the first trouble ends it.
pub(crate) async fn run(server: &Server, plan: Plan, work: &impl Work) -> anyhow::Result<Done> {
    let address = server.http.context("this server has no REST API")?;
    let mut lines = Vec::new();
    for _ in 0..plan.lines {
        lines.push(Line::connect(address).await?);
    }
    let shared = Arc::new(Shared {
        begin: Instant::now() + BEFORE,
        next: AtomicUsize::new(plan.pieces.start),
        counts_from: plan.pieces.start + plan.pieces.len() / WARM,
        pieces: plan.pieces,
        rate: plan.rate,
        counted_since: OnceLock::new(),
        warm: Notify::new(),
    });
    let all = each(lines.into_iter().map(|line| serve(line, shared.clone(), work.clone())));
    let all = async { tokio::time::timeout(LONGEST, all).await.context("it takes too long")? };
    let cpu_before = async {
        shared.warm.notified().await;
        Ok(server.cpu_time())
    };
    let (all, cpu_before) = tokio::try_join!(all, cpu_before)?;
    let took = shared.counted_since.get().context("nothing was done")?.elapsed();
    let cpu = server.cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let mut latencies = Latencies::default();
    all.into_iter().for_each(|some| latencies.join(some));
    Ok(Done { latencies, took, cpu })
}

async fn serve(mut line: Line, shared: Arc<Shared>, work: impl Work) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        if !shared.pieces.contains(&n) {
            return Ok(latencies);
        }
        let late = match shared.rate {
            Some(rate) => wait_for(shared.begin, n - shared.pieces.start, rate).await?,
            None => Duration::ZERO,
        };
        if n == shared.counts_from {
            shared.counted_since.get_or_init(Instant::now);
            shared.warm.notify_one();
        }
        let took = work.one(&mut line, n).await?;
        if n >= shared.counts_from {
            latencies.add(late + took);
        }
    }
}

/// Waits until a piece is due; how late it begins comes back, for whoever asks waits for a free line, too. Up to a
/// millisecond of it is the timer's.
async fn wait_for(begin: Instant, n: usize, rate: u64) -> anyhow::Result<Duration> {
    let due = begin + Duration::from_micros(u64::try_from(n)? * 1_000_000 / rate);
    tokio::time::sleep_until(due).await;
    Ok(due.elapsed())
}
