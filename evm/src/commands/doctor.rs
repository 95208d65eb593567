//! `evm doctor`: looks whether everything that `evm serve` needs is there. Changes nothing.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use evm_bus::{Bus, NatsOptions};
use evm_store::{CLOCK_OFF_MS, Store, StoreError};

use crate::data::{self, Listening, Lock};
use crate::descriptors::Descriptors;
use crate::node::Parts;
use crate::settings::{Secret, Settings, unknown_variables};
use crate::{backend, checks};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// No clock that is right shows less than this: 2026-01-01.
const CLOCK_MIN: Duration = Duration::from_secs(1_767_225_600);
/// Nor more: 2100-01-01.
const CLOCK_MAX: Duration = Duration::from_secs(4_102_444_800);

/// An operator may well have more than so many chargers.
const FEW_CHARGERS: u32 = 1_000;

enum Finding {
    Fine(String),
    Warn(String),
    Fail(String),
}
use Finding::{Fail, Fine, Warn};

/// The findings so far, printed as they come.
#[derive(Default)]
struct Report {
    warnings: usize,
    failures: usize,
}

impl Report {
    fn say(&mut self, what: &str, finding: Finding) {
        let (word, text) = match finding {
            Fine(text) => ("ok", text),
            Warn(text) => {
                self.warnings += 1;
                ("warn", text)
            }
            Fail(text) => {
                self.failures += 1;
                ("FAIL", text)
            }
        };
        let _ = writeln!(std::io::stdout(), "{word:<5} {what:<12} {text}");
    }
}

pub(crate) async fn run(settings: anyhow::Result<Settings>) -> ExitCode {
    let mut report = Report::default();
    match settings {
        Err(error) => report.say("settings", Fail(format!("{error:#}"))),
        Ok(settings) => examine(&settings, &mut report).await,
    }
    let Report { warnings, failures } = report;
    let _ = writeln!(std::io::stdout(), "\n{failures} failures, {warnings} warnings");
    if failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn examine(settings: &Settings, report: &mut Report) {
    let given: Vec<String> = settings.origins().map(|(_, origin)| origin.to_string()).collect();
    let given = if given.is_empty() { "the defaults".to_owned() } else { given.join(", ") };
    report.say("settings", Fine(given));
    for name in unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        report.say("settings", Warn(format!("{name} is no setting; misspelt?")));
    }
    let code = match settings.otp_dev_code {
        Some(_) => Warn("EVM_OTP_DEV_CODE is set: this code logs in as any customer; never in production".to_owned()),
        None => Fine("not set".to_owned()),
    };
    report.say("dev code", code);
    for (what, error) in checks::refused(settings, Parts::All) {
        report.say(what, Fail(format!("{error:#}")));
    }
    report.say("clock", clock(settings));
    report.say("descriptors", descriptors(settings));
    report.say("data folder", folder(&settings.data_dir));
    open_files(settings, report);
    report.say("database", database(settings).await);
    nats(settings, report).await;
    ports(settings, report);
}

/// Whether there are file descriptors for all sockets of the settings.
fn descriptors(settings: &Settings) -> Finding {
    let (there, plenty) = (Descriptors::raise(), Descriptors { before: u64::MAX, now: u64::MAX });
    let (sockets, wanted) = (there.sockets(settings), plenty.sockets(settings));
    if sockets == wanted {
        return Fine(format!("{}, enough for all sockets", there.now));
    }
    let chargers = sockets.chargers;
    let text = format!("{} carry {chargers} chargers; LimitNOFILE (ulimit -n) raises it", there.now);
    if chargers < FEW_CHARGERS { Warn(text) } else { Fine(text) }
}

/// Whether a file can be made in the folder, or in the one that it would be made in.
fn folder(path: &Path) -> Finding {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(there) = absolute.ancestors().find(|ancestor| ancestor.exists()) else {
        return Fail(format!("{} is nowhere", path.display()));
    };
    let probe = there.join(format!(".evm-doctor.{}", std::process::id()));
    match std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe)) {
        Err(error) => Fail(format!("cannot write in {}: {error}", there.display())),
        Ok(()) if there == absolute => Fine(format!("{} is writable", path.display())),
        Ok(()) => Fine(format!("{} can be made, at the first start", path.display())),
    }
}

/// What other users of the machine may read or write: a start closes it.
fn open_files(settings: &Settings, report: &mut Report) {
    let url = data::database_url(settings).unwrap_or_default();
    let database = data::sqlite_path(&url).map(data::database_files);
    let folder = settings.data_dir.clone();
    for path in [folder.join(data::LISTENING), folder].into_iter().chain(database.into_iter().flatten()) {
        if let Some(mode) = data::open_to_others(&path) {
            let text =
                format!("other users see into {} (mode {mode:o}); a start closes it, or `chmod go=`", path.display());
            report.say("data folder", Warn(text));
        }
    }
}

async fn database(settings: &Settings) -> Finding {
    let url = match data::database_url(settings) {
        Ok(url) => url,
        Err(error) => return Fail(format!("{error:#}")),
    };
    let shown = backend::without_login(&url);
    if let Some(path) = data::sqlite_path(&url) {
        if !path.exists() {
            return Fine(format!("{shown} will be made at the first start"));
        }
        if let Err(error) = Lock::take(path) {
            return Warn(format!("{error:#}"));
        }
    }
    let pending = async {
        let store = Store::open(&url).await?;
        let pending = store.pending_migrations().await;
        let ahead_ms = store.clock_ahead_ms().await;
        store.close().await;
        Ok::<_, StoreError>((pending?, ahead_ms?))
    };
    match tokio::time::timeout(PATIENCE, pending).await {
        Err(_) => Fail(format!("{shown} does not answer")),
        Ok(Err(error)) => Fail(format!("{shown}: {error}")),
        Ok(Ok((_, ahead_ms))) if ahead_ms.abs() > i64::from(settings.max_clock_skew_s) * 1000 => {
            Fail(backend::clock_is_off(ahead_ms, settings))
        }
        Ok(Ok((_, ahead_ms))) if ahead_ms.abs() > CLOCK_OFF_MS => Warn(backend::clock_is_off(ahead_ms, settings)),
        Ok(Ok((0, _))) => Fine(format!("{shown} is up to date")),
        Ok(Ok((pending, _))) => {
            Warn(format!("{shown} lacks {pending} migrations; a start or `evm migrate` brings them"))
        }
    }
}

async fn nats(settings: &Settings, report: &mut Report) {
    let Some(url) = &settings.nats_url else {
        return report.say("NATS", Fine(format!("built in, at {}", settings.nats_hub_addr)));
    };
    report.say("NATS", login(url).await);
    match &settings.nats_callout_url {
        Some(url) => report.say("NATS logins", login(url).await),
        None => report.say("NATS logins", Warn("EVM_NATS_CALLOUT_URL is not set: customers cannot log in".to_owned())),
    }
}

async fn login(url: &Secret) -> Finding {
    let shown = backend::without_login(url.as_str());
    match tokio::time::timeout(PATIENCE, Bus::connect_nats(NatsOptions::new(url.as_str()))).await {
        Err(_) => Fail(format!("{shown} does not answer")),
        Ok(Err(error)) => Fail(format!("{shown}: {error}")),
        Ok(Ok(_)) => Fine(format!("{shown} lets us in")),
    }
}

fn ports(settings: &Settings, report: &mut Report) {
    let running = Listening::read(&settings.data_dir);
    for (what, address, served) in [
        ("HTTP port", settings.http_addr, running.http),
        ("OCPP port", settings.ocpp_addr, running.ocpp),
        ("NATS port", settings.nats_hub_addr, running.nats_hub),
    ] {
        if what == "NATS port" && settings.nats_url.is_some() {
            continue;
        }
        report.say(what, port(address, served));
    }
}

fn port(address: SocketAddr, served: Option<SocketAddr>) -> Finding {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Fine(format!("{address} is free")),
        Err(_) if served == Some(address) => Warn(format!("{address} is served by the process that runs already")),
        Err(error) => Fail(format!("{address}: {error}")),
    }
}

/// Money and charges are dated by this clock.
fn clock(settings: &Settings) -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if !(CLOCK_MIN..CLOCK_MAX).contains(&now) {
        return Fail("the system's clock is wrong: set it, best by NTP".to_owned());
    }
    let url = data::database_url(settings).unwrap_or_default();
    let written = data::sqlite_path(&url).and_then(|path| path.metadata().ok()?.modified().ok());
    match written.map(|at| at.duration_since(SystemTime::now())) {
        Some(Ok(ahead)) if ahead > Duration::from_secs(60) => {
            Fail("the database was written later than the clock shows now: was it put back?".to_owned())
        }
        _ => Fine("plausible".to_owned()),
    }
}
