//! The program: central system, billing API and demo. It wires the parts and holds no logic of its own.

mod backend;
mod checks;
mod commands;
mod data;
mod demo;
mod descriptors;
mod gateways;
mod logs;
mod node;
mod settings;
mod signals;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use commands::nats_config;
use settings::{Flags, Settings};

/// Central system for EV chargers (OCPP 1.6J and 2.0.1) with the billing API of a phone app.
#[derive(Parser)]
#[command(name = "evm", version, about, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: central system, billing API and the NATS port for phones
    Serve,
    /// Run only the central system of a large deployment (needs PostgreSQL and NATS)
    Csms,
    /// Run only the billing API of a large deployment (needs PostgreSQL and NATS)
    BillingApi,
    /// Show everything at work: simulated chargers, and a customer who charges and pays
    Demo(demo::Args),
    /// Bring the database up to this version; the other commands do it at their start
    Migrate,
    /// Check settings, data folder, database, NATS, ports and clock
    Doctor,
    /// Print a nats-server.conf with new keys, and on stderr the settings that go with it
    NatsConfig(nats_config::Args),
    /// Print the OpenAPI document of the billing API
    Openapi,
}

const AFTER_HELP: &str = "\
Try it:       evm demo
Run it:       evm serve        then open http://127.0.0.1:8080/docs
Large:        evm nats-config > nats-server.conf 2> nats.env
              evm csms and evm billing-api, each as often as needed

Every setting is a flag, an environment variable and a key of evm.toml: --http-addr,
EVM_HTTP_ADDR and http_addr. A secret may also stand in a file: EVM_ADMIN_TOKEN_FILE.
SIGTERM and Ctrl-C end orderly, a second one at once.";

fn main() -> ExitCode {
    // Before anything may open a TLS connection; there is one provider in the whole program.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("evm: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Command::NatsConfig(args) = &cli.command {
        return nats_config::run(args).map(|()| ExitCode::SUCCESS);
    }
    if matches!(cli.command, Command::Openapi) {
        println!("{}", billing_api::document().to_pretty_json()?);
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::load(&cli.flags);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    if matches!(cli.command, Command::Doctor) {
        return Ok(runtime.block_on(commands::doctor::run(settings)));
    }
    let settings = settings?;
    logs::start(settings.log_format, if matches!(cli.command, Command::Demo(_)) { demo::LOG } else { "info" });
    let ended = runtime.block_on(async {
        let stop = &signals::watch().context("cannot listen for signals")?;
        match &cli.command {
            Command::Serve => Box::pin(commands::serve::run(&settings, stop)).await,
            Command::Csms => Box::pin(commands::csms::run(&settings, stop)).await,
            Command::BillingApi => Box::pin(commands::billing_api::run(&settings, stop)).await,
            Command::Demo(args) => Box::pin(demo::run(args, settings, stop)).await,
            Command::Migrate => Box::pin(commands::migrate::run(&settings)).await,
            Command::Doctor | Command::NatsConfig(_) | Command::Openapi => Ok(()),
        }
    });
    // Whatever still waits for a client would wait for ever.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}
