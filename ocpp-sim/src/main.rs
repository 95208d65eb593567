//! The program: one or many simulated chargers against a central system.

use anyhow::{Context, bail};
use clap::Parser;
use ocpp_sim::{
    Charger, ChargerConfig, SimEvent, Version,
    scenario::{Scenario, everyday},
};
use serde::Serialize;
use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};
use tokio::{
    sync::{broadcast, broadcast::error::RecvError, mpsc},
    task::JoinSet,
};

/// Simulated OCPP 1.6J and 2.0.1 chargers.
#[derive(Parser)]
#[command(name = "ocpp-sim", disable_version_flag = true, after_help = SCENARIO_HELP)]
struct Args {
    /// Address of the central system; the identity is appended.
    #[arg(long, default_value = "ws://127.0.0.1:9000/ocpp")]
    url: String,
    /// Identity of the charger; with --count above 1 the first part of it.
    #[arg(long, default_value = "CP-1")]
    id: String,
    /// OCPP version: 1.6 or 2.0.1.
    #[arg(long, default_value = "1.6")]
    version: Version,
    /// How many chargers; their identities end in -1, -2 and so on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Seeds the charging curve and the waits before reconnects.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Password for Basic authentication, the same for all.
    #[arg(long)]
    password: Option<String>,
    /// Connectors (1.6) or EVSEs (2.0.1) of each charger.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    connectors: u32,
    /// Seconds' worth of energy in each real second.
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Most power of a connector, W.
    #[arg(long, default_value_t = 7_000)]
    power: i64,
    /// Energy a car takes until it is full, Wh.
    #[arg(long, default_value_t = 20_000)]
    battery: i64,
    /// First register of each meter, Wh.
    #[arg(long, default_value_t = 0)]
    meter: i64,
    /// Seconds between meter samples.
    #[arg(long, default_value_t = 5)]
    sample: u64,
    /// Without a scenario: seconds before a car comes, and before it leaves.
    #[arg(long, default_value_t = 5)]
    pause: u64,
    /// Steps to play, JSON or TOML; the program ends with them.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// One JSON object a line for each event.
    #[arg(long)]
    json: bool,
}

const SCENARIO_HELP: &str = r#"Without --scenario a car plugs in soon after the boot, waits for a remote start, charges
until it is full, leaves, and another one comes. Ctrl-C closes cleanly.

A scenario is a list of steps, e.g.
  [{"wait": "booted"}, {"do": "plug_in"}, {"do": "present_card", "id_tag": "ABC"},
   {"wait": "energy", "wh": 500, "timeout_s": 600}, {"sleep_s": 2}, {"do": "unplug"}]
do:   plug_in, unplug, present_card (id_tag), stop_local, suspend_ev, suspend_evse, resume,
      fault (error_code), clear_fault, go_offline, go_online
wait: available, preparing, charging, suspended_ev, suspended_evse, finishing, unavailable,
      faulted, online, offline, booted, transaction, transaction_id, no_transaction,
      queue_empty, energy (wh)
Each may have connector (1), at_s (seconds from the start), sleep_s, timeout_s (60, for wait), and
refused (true where a no is wanted). A step that is refused, and a wait in vain, end with exit code 1."#;

/// How long the last messages may take at the end of a scenario.
const LAST_MESSAGES: Duration = Duration::from_secs(30);
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    charger: &'a str,
    #[serde(flatten)]
    event: &'a SimEvent,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    match Box::pin(run(Args::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ocpp-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let scenario = match &args.scenario {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(Scenario::parse(&text)?)
        }
        None => None,
    };
    let (lines, printer) = start_printer(args.json);
    let mut chargers = Vec::new();
    let mut players = JoinSet::new();
    let mut readers = JoinSet::new();
    for number in 1..=args.count {
        let (charger, events) = Charger::spawn_watched(config(&args, number));
        readers.spawn(print_events(charger.identity().to_owned(), events, lines.clone()));
        chargers.push(charger.clone());
        match scenario.clone() {
            Some(scenario) => {
                let url = args.url.clone();
                players.spawn(async move { play(&scenario, &charger, &url).await });
            }
            None => {
                for connector in 1..=args.connectors {
                    let (charger, pause) = (charger.clone(), Duration::from_secs(args.pause));
                    players.spawn(async move {
                        everyday(&charger, connector, pause).await;
                        Ok(End::Gone)
                    });
                }
            }
        }
    }
    drop(lines);
    let result = wait_for_end(&mut players, &mut readers, scenario.as_ref().map(|_| args.count)).await;
    let mut closing = JoinSet::new();
    for charger in chargers {
        closing.spawn(charger.shutdown());
    }
    players.shutdown().await;
    closing.join_all().await;
    // With the last handles gone the readers come to an end, and with them the printer.
    while readers.join_next().await.is_some() {}
    let _ = printer.await;
    result
}

/// How one who plays at a charger ended.
#[derive(Debug)]
enum End {
    /// A scenario was played to its end.
    Played,
    /// The charger is gone.
    Gone,
}

/// Until all scenarios are played, one of them failed, the program is told to stop, or nobody reads its output.
async fn wait_for_end(
    players: &mut JoinSet<anyhow::Result<End>>,
    readers: &mut JoinSet<()>,
    scenarios: Option<u32>,
) -> anyhow::Result<()> {
    let mut left = scenarios.unwrap_or(u32::MAX);
    let stop = stop_signal();
    tokio::pin!(stop);
    while left > 0 {
        tokio::select! {
            () = &mut stop => return Ok(()),
            Some(_) = readers.join_next() => return Ok(()),
            Some(ended) = players.join_next() => match ended?? {
                End::Played => left -= 1,
                End::Gone => {}
            },
        }
    }
    Ok(())
}

async fn stop_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

fn config(args: &Args, number: u32) -> ChargerConfig {
    let identity = if args.count > 1 { format!("{}-{number}", args.id) } else { args.id.clone() };
    let mut config = ChargerConfig::new(&args.url, identity, args.version);
    config.password = args.password.clone();
    config.connectors = args.connectors;
    config.seed = args.seed;
    config.start_meter_wh = args.meter;
    config.power_w = args.power;
    config.battery_wh = args.battery;
    config.speed = args.speed;
    config.sample_interval = Duration::from_secs(args.sample);
    config
}

/// Plays a scenario, whose clock runs from now on. A charger that is not let in at all is an error, not something to try
/// for ever, and so is one that never found anybody.
async fn play(scenario: &Scenario, charger: &Charger, url: &str) -> anyhow::Result<End> {
    let identity = charger.identity();
    let mut was_online = false;
    let refused = charger.wait_until(FOREVER, |state| {
        was_online |= state.online;
        !was_online && matches!(state.refused, Some(401 | 403 | 404))
    });
    tokio::select! {
        played = scenario.run(charger) => played.with_context(|| identity.to_owned())?,
        refused = refused => match refused?.refused {
            Some(401) => bail!("{identity}: the central system refused the password (HTTP 401)"),
            Some(404) => bail!("{identity}: the central system does not know this identity (HTTP 404)"),
            status => bail!("{identity}: the central system refused the connection (HTTP {})", status.unwrap_or_default()),
        },
    }
    if !was_online && !charger.state().online {
        bail!("{identity}: no connection to {url} in all the scenario; does anything listen there?");
    }
    let told = charger.wait_until(LAST_MESSAGES, |s| !s.online || s.queued == 0).await;
    told.with_context(|| format!("{identity}: the last messages were not answered"))?;
    Ok(End::Played)
}

type Event = (String, SimEvent);

/// Hands one charger's events to the printer, until one of the two is gone.
async fn print_events(identity: String, mut events: broadcast::Receiver<SimEvent>, lines: mpsc::Sender<Event>) {
    loop {
        match events.recv().await {
            Ok(event) => {
                if lines.send((identity.clone(), event)).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(identity, missed, "events not shown"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn start_printer(json: bool) -> (mpsc::Sender<Event>, tokio::task::JoinHandle<()>) {
    let (lines, mut events) = mpsc::channel::<Event>(1_024);
    let printer = tokio::task::spawn_blocking(move || {
        while let Some((charger, event)) = events.blocking_recv() {
            let now = chrono::Local::now();
            let line = if json {
                let time = now.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
                serde_json::to_string(&Line { time, charger: &charger, event: &event }).unwrap_or_default()
            } else {
                let hint = match &event {
                    SimEvent::ConnectionFailed { status: Some(401), .. } => " (wrong or missing --password?)",
                    SimEvent::ConnectionFailed { status: Some(404), .. } => " (is this charger registered?)",
                    _ => "",
                };
                format!("{} {charger} {event}{hint}", now.format("%H:%M:%S%.3f"))
            };
            if writeln!(std::io::stdout().lock(), "{line}").is_err() {
                return;
            }
        }
    });
    (lines, printer)
}
