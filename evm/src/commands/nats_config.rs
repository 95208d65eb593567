//! `evm nats-config`: a configuration for nats-server with new keys, and the settings that go with it.

use std::io::Write;

use anyhow::Context;
use evm_bus::{NatsServerConfig, nats_config};

/// Where the server will listen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address that the NATS server listens on.
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    host: String,
    /// Port that the NATS server listens on.
    #[arg(long, default_value_t = 4222)]
    port: u16,
    /// Name by which this program and the phones reach the NATS server.
    #[arg(long, default_value = "127.0.0.1", value_name = "NAME")]
    name: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let server = NatsServerConfig::generate(&args.host, args.port)?;
    let config = nats_config(&server)?;
    let at = format!("{}:{}", args.name, args.port);
    let settings = format!(
        "# The settings of evm for this nats-server.conf. Secret.\n\
         EVM_NATS_URL=nats://api:{}@{at}\n\
         EVM_NATS_PUBLIC_URL=nats://{at}\n\
         EVM_NATS_CALLOUT_URL=nats://auth:{}@{at}\n\
         EVM_NATS_CALLOUT_ISSUER_SEED={}\n\
         EVM_NATS_CALLOUT_XKEY_SEED={}\n",
        server.api_password, server.auth_password, server.issuer_seed, server.xkey_seed,
    );
    std::io::stdout().write_all(config.as_bytes()).context("cannot write the configuration")?;
    std::io::stderr().write_all(settings.as_bytes()).context("cannot write the settings")
}
