//! `evm nats-config`: a configuration for nats-server with new keys, and the settings that go with it.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

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
    close(std::io::stdout())?;
    close(std::io::stderr())?;
    std::io::stdout().write_all(config.as_bytes()).context("cannot write the configuration")?;
    std::io::stderr().write_all(settings.as_bytes()).context("cannot write the settings")
}

/// Both outputs hold secrets: a file that the shell made for one is closed to other users before anything stands in it.
fn close(output: impl AsFd) -> anyhow::Result<()> {
    let file = File::from(output.as_fd().try_clone_to_owned()?);
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600)).context("cannot close the file to other users")?;
    }
    Ok(())
}
