//! PostgreSQL for the tests: a database of its own in the run's cluster, or a whole private cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::Child;

use crate::env;
use crate::poll::until;
use crate::program::signal;

/// A database that is dropped with this value.
pub struct Database {
    /// Its URL.
    pub url: String,
    name: String,
    admin_url: String,
}

impl Database {
    /// Makes an empty database in the cluster at `admin_url`.
    pub fn create(admin_url: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("evm_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        sql(admin_url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).unwrap();
        sql(admin_url, &format!("CREATE DATABASE {name}")).unwrap();
        let (server, _) = admin_url.rsplit_once('/').unwrap();
        Self { url: format!("{server}/{name}"), name, admin_url: admin_url.to_owned() }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = sql(&self.admin_url, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
        if let Err(error) = dropped
            && !std::thread::panicking()
        {
            panic!("the database {} stays behind: {error}", self.name);
        }
    }
}

/// Runs one statement and gives what it prints.
pub fn sql(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new(psql())
        .args([url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn psql() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    installed
        .map(|version| version.path().join("bin/psql"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("psql"))
}

/// A cluster of one test's own, which may stop it.
pub struct Cluster {
    /// The URL of its database `postgres`.
    pub url: String,
    port: u16,
    dir: PathBuf,
    own: Option<tempfile::TempDir>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes a cluster and starts it on a free port.
    pub async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("evm-test-pg.").tempdir().unwrap();
        // The server may run as another user, who has to get in.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut cluster = Self::start_in(dir.path()).await;
        cluster.own = Some(dir);
        cluster
    }

    /// [`Cluster::start`] with its data below this folder, which stays.
    pub async fn start_in(dir: &Path) -> Self {
        let port = free_port();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let mut cluster = Self { url, port, dir: dir.to_owned(), own: None, server: None };
        cluster.resume().await;
        cluster
    }

    /// Whether the server runs: it may have ended by itself.
    pub fn runs(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// Starts the server, the first time or again, and waits until it answers.
    pub async fn resume(&mut self) {
        let child = tokio::process::Command::new(env::repository().join("tests/postgres"))
            .arg(self.dir.join("postgres"))
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.server = Some(child);
        let url = self.url.clone();
        until("PostgreSQL of this test", Duration::from_secs(60), async || sql(&url, "SELECT 1").ok()).await;
    }

    /// Stops the server at once: open connections break, what was committed stays.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(&server, "INT");
            tokio::time::timeout(Duration::from_secs(30), server.wait()).await.unwrap().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(&server, "QUIT");
            // Its data folder can only go once the process is gone.
            for _ in 0..500 {
                if !matches!(server.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
