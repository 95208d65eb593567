//! The log: to stderr, plain where that is no terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

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
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
