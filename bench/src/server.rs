//! The servers measured, each a process of its own: this program, started again.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use billing_api::sms::{CallPro, Sms};
use clap::ValueEnum;
use evm_bus::Bus;
use evm_store::Store;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::bench::Engine;
use crate::{ceiling, register, socket};

/// Carries the database's URL to the server: an argument would show its password to everybody on the machine.
const DATABASE_URL: &str = "EVM_BENCH_SERVER_DATABASE_URL";
/// Carries the address of the SMS gateway to it.
const SMS_GATEWAY: &str = "EVM_BENCH_SERVER_SMS_GATEWAY";
/// Codes that may be sent in an hour: more than are asked for.
const CODES_PER_HOUR: u32 = 1_000_000;
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
    /// The central system and the billing API, as `evm serve` runs them.
    Whole,
}

/// Serves until standard input ends; the first line of standard output is the address of the chargers, and behind it that
/// of the REST API, where there is one.
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
            let mut config = csms::Config::new(register::SECRET);
            // The cards charge again and again, and nobody pays.
            config.credit.start_with_unpaid = true;
            let served = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
            let served = tokio::spawn(served);
            println!("{address}");
            stdin_ends.await;
            shutdown.cancel();
            served.await??;
            store.close().await;
        }
        Kind::Whole => {
            let store = Store::open(&std::env::var(DATABASE_URL)?).await?;
            let (bus, shutdown) = (Bus::local(), CancellationToken::new());
            let phones = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let http = phones.local_addr()?;
            let api = billing_api::run(phones, store.clone(), bus.clone(), billing()?, shutdown.clone());
            let config = csms::Config::new(register::SECRET);
            let csms = csms::run(listener, store.clone(), bus, config, shutdown.clone());
            let (api, csms) = (tokio::spawn(Box::pin(api)), tokio::spawn(Box::pin(csms)));
            println!("{address} {http}");
            stdin_ends.await;
            shutdown.cancel();
            api.await??;
            csms.await??;
            store.close().await;
        }
    }
    Ok(())
}

/// The billing API's settings: the defaults, without limits on how often one address or customer asks, for all load comes from
/// one; and each phone's own address is told as a proxy tells it.
fn billing() -> anyhow::Result<billing_api::Config> {
    let mut config = billing_api::Config::new(register::SECRET, evm_store::new_id().to_string());
    (config.rate_per_address, config.rate_per_customer) = (0, 0);
    config.trusted_proxies = "127.0.0.1".parse().map_err(|error| anyhow!("{error}"))?;
    config.codes_per_hour = CODES_PER_HOUR;
    let gateway = CallPro::new(&format!("http://{}/", std::env::var(SMS_GATEWAY)?), "bench", "bench");
    config.sms = Sms::CallPro(gateway?);
    Ok(config)
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    stdin: ChildStdin,
    /// Where it listens for chargers.
    pub(crate) address: SocketAddr,
    /// Where it listens for phones.
    pub(crate) http: Option<SocketAddr>,
}

impl Server {
    /// Starts the central system on a database.
    pub(crate) async fn csms(engine: &Engine) -> anyhow::Result<Self> {
        Self::start(Kind::Csms, Some(engine)).await
    }

    /// Starts the central system and the billing API on a database.
    pub(crate) async fn whole(engine: &Engine, sms_gateway: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Self::command(Kind::Whole, Some(engine))?;
        command.env(SMS_GATEWAY, sms_gateway.to_string());
        Self::spawn(command).await
    }

    /// Starts a server and waits until it listens.
    pub(crate) async fn start(kind: Kind, engine: Option<&Engine>) -> anyhow::Result<Self> {
        Self::spawn(Self::command(kind, engine)?).await
    }

    fn command(kind: Kind, engine: Option<&Engine>) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        command.args(["server", &name]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(engine) = engine {
            command.env(DATABASE_URL, &engine.url);
        }
        Ok(command)
    }

    async fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().context("cannot start the server")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("the server does not begin")??;
        let line = line.context("the server ended at once")?;
        let mut addresses = line.split(' ').map(str::parse::<SocketAddr>);
        let address = addresses.next().context("no address")??;
        Ok(Self { child, stdin, address, http: addresses.next().transpose()? })
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
