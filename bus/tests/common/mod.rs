//! Both engines, each with its door for phones. Every NATS server here is a process of its own on a port of its own,
//! ended with the test.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evm_bus::callout::{Callout, CalloutOptions};
use evm_bus::hub::HubLimits;
use evm_bus::{Authenticator, Bus, BusError, NatsOptions, NatsServerConfig, nats_config};
use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A user whom nobody can look up.
pub const STORE_DOWN: &str = "store-down";

/// Sessions that may log in: user to (secret, topic).
pub type Sessions = Arc<Mutex<HashMap<String, (String, String)>>>;

/// One engine, and the address that phones log in at.
pub struct Engine {
    pub bus: Bus,
    pub phones: String,
    pub sessions: Sessions,
    stop: CancellationToken,
    pub server: Option<NatsServer>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Engine {
    /// Ends the hub or the callout.
    pub fn close_door(&self) {
        self.stop.cancel();
    }

    pub async fn local() -> Engine {
        Engine::local_with(HubLimits { wrong_login_delay: Duration::ZERO, ..HubLimits::default() }).await
    }

    pub async fn local_with(limits: HubLimits) -> Engine {
        let (bus, stop, sessions) = (Bus::local(), CancellationToken::new(), sessions());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let phones = listener.local_addr().unwrap().to_string();
        let hub = evm_bus::hub::run(listener, bus.clone(), authenticator(&sessions), limits, stop.clone());
        tokio::spawn(hub);
        Engine { bus, phones, sessions, stop, server: None }
    }

    pub async fn nats() -> Option<Engine> {
        let server = NatsServer::start(0)?;
        let (stop, sessions) = (CancellationToken::new(), sessions());
        let bus = Bus::connect_nats(NatsOptions::new(server.url("api"))).await.unwrap();
        let settings = &server.settings;
        let options = CalloutOptions::new(&server.url("auth"), &settings.issuer_seed, &settings.xkey_seed);
        let callout = Callout::connect(options, authenticator(&sessions)).await.unwrap();
        tokio::spawn(callout.run(stop.clone()));
        let phones = format!("127.0.0.1:{}", server.port);
        Some(Engine { bus, phones, sessions, stop, server: Some(server) })
    }

    /// Another process' bus on the same engine.
    pub async fn other_node(&self) -> Bus {
        match &self.server {
            None => self.bus.clone(),
            Some(server) => Bus::connect_nats(NatsOptions::new(server.url("api"))).await.unwrap(),
        }
    }

    /// Whether an event on this subject arrives soon.
    pub async fn heard(&self, subject: &str, own: &mut async_nats::Subscriber) -> bool {
        self.bus.publish(subject, None, b"{}").await.unwrap();
        tokio::time::timeout(Duration::from_millis(20), own.next()).await.is_ok_and(|e| e.is_some())
    }

    /// Whether a phone gets in and hears its topic. A client that waits long for its login to be looked up believes to be
    /// connected as soon as the server PINGs it, so connecting alone shows nothing.
    pub async fn lets_in(&self, session: &str) -> bool {
        let Ok(phone) = self.phone(session).await else { return false };
        let subject = format!("ev.{session}.LET_IN");
        let mut own = phone.client.subscribe(subject.clone()).await.unwrap();
        for _ in 0..50 {
            if self.heard(&subject, &mut own).await {
                return true;
            }
        }
        false
    }

    /// The phone of session `a` or `b`, whose topic is `ev.a` or `ev.b`.
    pub async fn phone(&self, session: &str) -> Result<Phone, async_nats::ConnectError> {
        self.phone_with(session, &format!("secret-{session}")).await
    }

    pub async fn phone_with(&self, user: &str, secret: &str) -> Result<Phone, async_nats::ConnectError> {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let heard = errors.clone();
        let client = async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), secret.to_owned())
            .connection_timeout(PATIENCE)
            .event_callback(move |event| {
                heard.lock().unwrap().push(event.to_string());
                std::future::ready(())
            })
            .connect(&self.phones)
            .await?;
        Ok(Phone { client, errors })
    }
}

pub struct Phone {
    pub client: async_nats::Client,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Phone {
    /// Waits until the server has said something with this in it.
    pub async fn told(&self, text: &str) {
        let text = text.to_lowercase();
        let heard = || self.errors.lock().unwrap().iter().any(|e| e.to_lowercase().contains(&text));
        until(async || heard()).await;
    }

    /// Waits until the server has taken what was sent before, by hearing an event of the own topic.
    pub async fn settled(&self, engine: &Engine, session: &str) {
        let subject = format!("ev.{session}.SETTLED");
        let mut own = self.client.subscribe(subject.clone()).await.unwrap();
        until(async || engine.heard(&subject, &mut own).await).await;
    }
}

/// Polls until true.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn sessions() -> Sessions {
    let session = |name: &str| (name.to_owned(), (format!("secret-{name}"), format!("ev.{name}")));
    Arc::new(Mutex::new(HashMap::from([session("a"), session("b")])))
}

fn authenticator(sessions: &Sessions) -> Authenticator {
    let sessions = sessions.clone();
    Arc::new(move |user, secret| {
        let sessions = sessions.clone();
        async move {
            if user == STORE_DOWN {
                return Err(BusError::Down("store".to_owned()));
            }
            let sessions = sessions.lock().unwrap();
            let found = sessions.get(&user).filter(|(right, _)| *right == secret);
            Ok(found.map(|(_, topic)| topic.clone()))
        }
        .boxed()
    })
}

/// A nats-server process.
pub struct NatsServer {
    process: Child,
    directory: TempDir,
    pub port: u16,
    pub settings: NatsServerConfig,
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl NatsServer {
    /// `None` where the one who runs the tests wants none.
    pub fn start(port: u16) -> Option<NatsServer> {
        if std::env::var("EVM_TEST_SKIP_NATS").is_ok_and(|value| value == "1") {
            return None;
        }
        let settings = NatsServerConfig::generate("127.0.0.1", port).unwrap();
        Some(NatsServer::start_with(settings))
    }

    fn start_with(settings: NatsServerConfig) -> NatsServer {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("nats-server.conf");
        std::fs::write(&config, nats_config(&settings).unwrap()).unwrap();
        let mut process = Command::new(binary())
            .arg("--config")
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(directory.path())
            .arg("--log")
            .arg(directory.path().join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ports = directory.path().join(format!("nats-server_{}.ports", process.id()));
        let start = Instant::now();
        let port = loop {
            if let Some(port) = std::fs::read_to_string(&ports).ok().and_then(|text| first_port(&text)) {
                break port;
            }
            let log = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            if let Some(status) = process.try_wait().unwrap() {
                panic!("nats-server ended with {status}: {}", log());
            }
            assert!(start.elapsed() < PATIENCE, "nats-server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        };
        NatsServer { process, directory, port, settings }
    }

    /// Stops the process as a stuck machine would: the connection stays, nobody answers.
    pub fn freeze(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }

    /// Ends the server, and starts it again at the same port.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        let settings = NatsServerConfig { port: self.port, ..self.settings.clone() };
        *self = NatsServer::start_with(settings);
    }

    /// The address with the login of `api`, `auth` or `sys`.
    pub fn url(&self, user: &str) -> String {
        let password = match user {
            "api" => &self.settings.api_password,
            "auth" => &self.settings.auth_password,
            _ => &self.settings.sys_password,
        };
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }
}

fn first_port(ports: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(ports).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// nats-server 2.10 or newer: named by the environment, on the path, or in the repository's Python environment.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("EVM_TEST_NATS_SERVER") {
        return named.into();
    }
    let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/nats-server"));
    [PathBuf::from("nats-server"), ours].into_iter().find(new_enough).expect(
        "these tests need nats-server 2.10 or newer: run the test command of the README, which fetches one, or name it in \
         EVM_TEST_NATS_SERVER, or leave out this half of them with EVM_TEST_SKIP_NATS=1",
    )
}

fn new_enough(path: &PathBuf) -> bool {
    let Ok(output) = Command::new(path).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

/// Makes a test of each function for each engine.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::common::Engine::local().await).await })*
        }
        mod on_nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(engine) = $crate::common::Engine::nats().await {
                    super::$name(engine).await
                }
            })*
        }
    };
}
