//! The closed loop: every socket sends, waits for the answer, and sends again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::Server;
use crate::socket::Socket;
use crate::station::{Event, Station};

/// What the sockets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Heartbeats,
    Statuses,
    Authorizes,
    MeterValues,
    TransactionEvents,
    Transactions,
}

/// Times from asking to the answer, µs.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds others.
    pub(crate) fn join(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The latency that so many per cent stay within, µs. Sorts.
    pub(crate) fn percentile(&mut self, percent: usize) -> u64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).copied().unwrap_or_default().into()
    }
}

/// What a loop brought.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Of each frame.
    pub(crate) frames: Latencies,
    /// Of each whole transaction.
    pub(crate) transactions: Latencies,
    /// Processor time of the server.
    pub(crate) cpu: Option<Duration>,
}

/// The time that counts.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn add(self, latencies: &mut Latencies, asked: Instant, answered: Instant) {
        if (self.begin..self.end).contains(&answered) {
            latencies.add(answered - asked);
        }
    }
}

/// Connects all stations, lets them work for `seconds` that count, and closes them.
pub(crate) async fn run(
    server: &Server,
    stations: Vec<Station>,
    job: Job,
    seconds: u64,
) -> anyhow::Result<(Tally, Vec<Station>)> {
    let address = server.address;
    let ready = each(stations.into_iter().map(|station| prepare(address, station, job))).await?;
    let begin = Instant::now() + Duration::from_secs(seconds.div_ceil(5));
    let window = Window { begin, end: begin + Duration::from_secs(seconds) };
    let work = each(ready.into_iter().map(|(station, socket)| work(station, socket, job, window)));
    let (worked, cpu) = tokio::join!(work, cpu_within(server, window));
    let worked = worked?;
    let mut all = Tally { cpu, ..Tally::default() };
    let mut stations = Vec::with_capacity(worked.len());
    for (tally, station) in worked {
        all.frames.join(tally.frames);
        all.transactions.join(tally.transactions);
        stations.push(station);
    }
    Ok((all, stations))
}

async fn cpu_within(server: &Server, window: Window) -> Option<Duration> {
    tokio::time::sleep_until(window.begin).await;
    let before = server.cpu_time()?;
    tokio::time::sleep_until(window.end).await;
    Some(server.cpu_time()?.saturating_sub(before))
}

/// Runs all at once; the first trouble ends it.
pub(crate) async fn each<T: Send + 'static>(
    work: impl Iterator<Item = impl Future<Output = anyhow::Result<T>> + Send + 'static>,
) -> anyhow::Result<Vec<T>> {
    let mut tasks: JoinSet<_> = work.collect();
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(done) = tasks.join_next().await {
        results.push(done.context("a load task ended")??);
    }
    Ok(results)
}

async fn prepare(address: SocketAddr, mut station: Station, job: Job) -> anyhow::Result<(Station, Socket)> {
    station.is_201 = job == Job::TransactionEvents;
    let mut socket = station.connect(address).await?;
    station.boot(&mut socket).await?;
    match job {
        Job::MeterValues => station.start(&mut socket).await?,
        Job::TransactionEvents => station.event(&mut socket, Event::Started).await?,
        _ => {}
    }
    Ok((station, socket))
}

async fn work(mut station: Station, mut socket: Socket, job: Job, window: Window) -> anyhow::Result<(Tally, Station)> {
    let mut tally = Tally::default();
    while Instant::now() < window.end {
        match job {
            Job::Heartbeats | Job::Statuses | Job::Authorizes | Job::MeterValues | Job::TransactionEvents => {
                let asked = Instant::now();
                match job {
                    Job::Statuses => station.status(&mut socket).await?,
                    Job::Authorizes => station.authorize(&mut socket).await?,
                    Job::MeterValues => station.meter_values(&mut socket).await?,
                    Job::TransactionEvents => station.event(&mut socket, Event::Updated).await?,
                    Job::Heartbeats | Job::Transactions => station.heartbeat(&mut socket).await?,
                }
                window.add(&mut tally.frames, asked, Instant::now());
            }
            Job::Transactions => transaction(&mut station, &mut socket, window, &mut tally).await?,
        }
    }
    match job {
        Job::MeterValues => station.stop(&mut socket).await?,
        Job::TransactionEvents => station.event(&mut socket, Event::Ended).await?,
        _ => {}
    }
    socket.close().await;
    Ok((tally, station))
}

async fn transaction(
    station: &mut Station,
    socket: &mut Socket,
    window: Window,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut asked = begun;
    for step in 0..5 {
        match step {
            0 => station.start(socket).await?,
            4 => station.stop(socket).await?,
            _ => station.meter_values(socket).await?,
        }
        let answered = Instant::now();
        window.add(&mut tally.frames, asked, answered);
        asked = answered;
    }
    window.add(&mut tally.transactions, begun, asked);
    Ok(())
}
