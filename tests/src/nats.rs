//! A real NATS server of one test's own, run with the configuration that operators are given.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use evm_bus::{NatsServerConfig, nats_config};
use serde_json::Value;
use tokio::process::Child;

use crate::env;
use crate::poll::eventually;

/// A running server; it ends with this value.
pub struct Nats {
    /// `127.0.0.1:PORT`.
    pub addr: String,
    settings: NatsServerConfig,
    server: Child,
    dir: tempfile::TempDir,
}

impl Nats {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("evm-test-nats.").tempdir().unwrap();
        let settings = NatsServerConfig::generate("127.0.0.1", 0).unwrap();
        std::fs::write(config_in(dir.path()), nats_config(&settings).unwrap()).unwrap();
        let server = spawn(dir.path(), &["--ports_file_dir", dir.path().to_str().unwrap()]);
        let ports = dir.path().join(format!("nats-server_{}.ports", server.id().unwrap()));
        let addr = eventually("the port of nats-server", async || {
            let ports: Value = serde_json::from_str(&std::fs::read_to_string(&ports).ok()?).ok()?;
            Some(ports["nats"][0].as_str()?.strip_prefix("nats://")?.to_owned())
        })
        .await;
        Self { addr, settings, server, dir }
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.server.kill().await.unwrap();
    }

    /// Starts it where it was.
    pub fn start_again(&mut self) {
        let port = self.addr.rsplit(':').next().unwrap();
        self.server = spawn(self.dir.path(), &["--port", port]);
    }

    /// The settings of the program that uses this server.
    pub fn env(&self) -> Vec<(String, String)> {
        let Self { addr, settings, .. } = self;
        vec![
            ("EVM_NATS_URL".into(), format!("nats://api:{}@{addr}", settings.api_password)),
            ("EVM_NATS_PUBLIC_URL".into(), format!("nats://{addr}")),
            ("EVM_NATS_CALLOUT_URL".into(), format!("nats://auth:{}@{addr}", settings.auth_password)),
            ("EVM_NATS_CALLOUT_ISSUER_SEED".into(), settings.issuer_seed.clone()),
            ("EVM_NATS_CALLOUT_XKEY_SEED".into(), settings.xkey_seed.clone()),
        ]
    }
}

fn config_in(dir: &Path) -> PathBuf {
    dir.join("nats-server.conf")
}

fn spawn(dir: &Path, args: &[&str]) -> Child {
    tokio::process::Command::new(env::nats_server())
        .arg("--config")
        .arg(config_in(dir))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
