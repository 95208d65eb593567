//! The log: to stderr, plain where that is no terminal.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::settings::LogFormat;

/// Crates that write out what passes through them when they may say everything: passwords of chargers and tokens of starts
/// are among it. Whatever RUST_LOG says, they may not.
const TELLTALES: [&str; 2] = ["tungstenite", "async_nats"];

/// Starts logging by this filter, or by the one in RUST_LOG.
pub(crate) fn start(format: LogFormat, filter: &str) {
    let usual = || EnvFilter::new(filter);
    let filter = match std::env::var("RUST_LOG") {
        Ok(wish) if !wish.is_empty() => EnvFilter::try_new(&wish).unwrap_or_else(|error| {
            eprintln!("evm: RUST_LOG: {error}; using {filter}");
            usual()
        }),
        _ => usual(),
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let discreet = filter_fn(|line| {
        *line.level() != Level::TRACE || !TELLTALES.iter().any(|telltale| line.target().starts_with(telltale))
    });
    let discreet = discreet.with_max_level_hint(LevelFilter::TRACE);
    registry().with(filter).with(discreet).with(lines).init();
}
