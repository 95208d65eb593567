//! The servers measured, each a process of its own: this program, started again.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use evm_bus::Bus;
use evm_store::Store;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::bench::Engine;
use crate::{ceiling, register, socket};

/// Carries the database's URL to the server: an argument would show its password to everybody on the machine.
const DATABASE_URL: &str = "EVM_BENCH_SERVER_DATABASE_URL";
/// How long a server may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Bare tokio-tungstenite with small buffers.
    Ceiling,
    /// Bare tokio-tungstenite with the library's own buffers.
    LibraryDefaults,
    /// The central system.
    Csms,
}

/// Serves until standard input ends; the first line of standard output is the address.
pub(crate) async fn serve(kind: Kind) -> anyhow::Result<()> {
    let listener = csms::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let stdin_ends = async {
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1])).await;
    };
    match kind {
        Kind::Ceiling | Kind::LibraryDefaults => {
            println!("{address}");
            let buffers = if kind == Kind::Ceiling { socket::small_buffers() } else { WebSocketConfig::default() };
            tokio::select! {
                () = ceiling::run(listener, buffers) => {}
                () = stdin_ends => {}
            }
        }
        Kind::Csms => {
            let store = Store::open(&std::env::var(DATABASE_URL)?).await?;
            let shutdown = CancellationToken::new();
            let config = csms::Config::new(register::SECRET);
            let served = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
            let served = tokio::spawn(served);
            println!("{address}");
            stdin_ends.await;
            shutdown.cancel();
            served.await??;
            store.close().await;
        }
    }
    Ok(())
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    stdin: ChildStdin,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the central system on a database.
    pub(crate) async fn csms(engine: &Engine) -> anyhow::Result<Self> {
        Self::start(Kind::Csms, Some(engine)).await
    }

    /// Starts a server and waits until it listens.
    pub(crate) async fn start(kind: Kind, engine: Option<&Engine>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        command.args(["server", &name]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(engine) = engine {
            command.env(DATABASE_URL, &engine.url);
        }
        let mut child = command.spawn().context("cannot start the server")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("the server does not begin")??;
        let address = line.context("the server ended at once")?.parse()?;
        Ok(Self { child, stdin, address })
    }

    /// Resident memory, bytes; `None` where the system has no `/proc`.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// Processor time that it has used; `None` where the system has no `/proc`.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // Behind the name in parentheses, user and system time are the 12th and 13th field.
        let mut times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = times.next()?.ok()? + times.next()?.ok()?;
        Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Ends it and waits until it has.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.context("the server does not end")??;
        ensure!(status.success(), "the server failed: {status}");
        Ok(())
    }
}
