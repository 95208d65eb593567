//! The program under test, as a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::env;
use crate::poll::until;

/// One process of the program, which can be ended and started again in place.
pub struct Program {
    /// Where the REST API listens, `http://…`.
    pub http: String,
    /// Where chargers connect.
    pub ocpp: Option<SocketAddr>,
    subcommand: &'static str,
    env: BTreeMap<String, String>,
    dir: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Starts `evm SUBCOMMAND` with its data and its log in `dir` and waits until it is ready.
    pub async fn start(subcommand: &'static str, dir: &Path, env: impl IntoIterator<Item = (String, String)>) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mut env: BTreeMap<String, String> = env.into_iter().collect();
        env.insert("EVM_DATA_DIR".into(), dir.to_str().unwrap().to_owned());
        for address in ["EVM_HTTP_ADDR", "EVM_OCPP_ADDR", "EVM_NATS_HUB_ADDR"] {
            env.insert(address.into(), "127.0.0.1:0".into());
        }
        let mut program = Self { http: String::new(), ocpp: None, subcommand, env, dir: dir.to_owned(), child: None };
        program.restart().await;
        program
    }

    /// Starts it, or starts it again with the same data on the same ports.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "the program ended instead of starting");
    }

    /// Starts it like [`Self::restart`]; false where it died before it was ready.
    pub async fn try_restart(&mut self) -> bool {
        assert!(self.child.is_none(), "the program runs");
        let ready = self.dir.join("listening.json");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(env::program());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EVM_")) {
            command.env_remove(name);
        }
        let child = command
            .arg(self.subcommand)
            .envs(&self.env)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let listening: Option<Value> = until("the program to be ready", Duration::from_secs(60), async || {
            if let Ok(Some(_)) = child.try_wait() {
                return Some(None);
            }
            serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok().map(Some)
        })
        .await;
        let Some(listening) = listening else {
            self.child = None;
            return false;
        };
        for (key, name) in [("http", "EVM_HTTP_ADDR"), ("ocpp", "EVM_OCPP_ADDR"), ("nats_hub", "EVM_NATS_HUB_ADDR")] {
            if let Some(address) = listening[key].as_str() {
                self.env.insert(name.into(), address.to_owned());
            }
        }
        self.http = listening["http"].as_str().map(|address| format!("http://{address}")).unwrap_or_default();
        self.ocpp = listening["ocpp"].as_str().map(|address| address.parse().unwrap());
        true
    }

    /// Ends the process as a power failure would: SIGKILL.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    /// Asks the process to end, which it must do in good time and without an error.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(&child, "TERM");
        match tokio::time::timeout(Duration::from_secs(30), child.wait()).await {
            Ok(status) => {
                let status = status.unwrap();
                assert!(status.success(), "the program ended with {status}");
            }
            Err(_) => {
                self.child = Some(child);
                panic!("the program does not end when asked to");
            }
        }
    }

    /// Sets a variable from the next start on; an empty value takes it away.
    pub fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.env.remove(name);
        } else {
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Waits until the process has died by itself.
    pub async fn dies(&mut self) {
        let mut child = self.child.take().unwrap();
        match tokio::time::timeout(Duration::from_secs(60), child.wait()).await {
            Ok(status) => assert!(!status.unwrap().success(), "the program was to die, but ended in peace"),
            Err(_) => panic!("the program was to die, but lives"),
        }
    }

    /// The id of the running process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// What the program wrote to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("program.log")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the end of the log of `evm {}`:\n{}\n---", self.subcommand, tail.join("\n"));
        }
    }
}

/// Sends a signal to a process that the harness started.
pub fn signal(child: &Child, name: &str) {
    if let Some(pid) = child.id() {
        // The shell's own `kill`, because a bare Debian has no other.
        let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
        assert!(sent.unwrap().success(), "cannot send {name} to {pid}");
    }
}
