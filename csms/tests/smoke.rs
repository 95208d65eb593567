//! The simulator against the central system over real sockets, on SQLite and the bus inside the process.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_bus::Bus;
use evm_store::{Store, chargers, frames};
use ocpp_sim::{Charger, ChargerConfig, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

struct System {
    store: Store,
    url: String,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn system() -> System {
    system_with(csms::Config::new([7; 32])).await
}

async fn system_with(config: csms::Config) -> System {
    let folder = tempfile::tempdir().unwrap();
    let url =
        std::env::var("SMOKE_URL").unwrap_or_else(|_| format!("sqlite://{}", folder.path().join("evm.db").display()));
    let store = Store::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    let listener = csms::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("ws://{}/ocpp", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let run = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
    let task = tokio::spawn(async move { run.await.unwrap() });
    System { store, url, shutdown, task, _folder: folder }
}

impl System {
    async fn register(&self, identity: &str, password: Option<&str>) {
        let hash = password.map(|p| chargers::password_hash(&[7; 32], p.as_bytes()));
        let mut db = self.store.begin().await.unwrap();
        chargers::upsert(&mut db, identity, hash.as_deref(), i16::from(hash.is_some()), None, evm_store::now())
            .await
            .unwrap();
        db.commit().await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.store.close().await;
    }
}

const SOON: Duration = Duration::from_secs(20);

async fn an_unknown_card_gets_no_energy(version: Version, name: &str) {
    let system = system().await;
    system.register(name, Some("0123456789abcdef")).await;
    let mut config = ChargerConfig::new(&system.url, name, version);
    config.password = Some("0123456789abcdef".into());
    let charger = Charger::spawn(config);
    charger.wait_until(SOON, |state| state.booted).await.unwrap();
    charger.plug_in(1).await;
    charger.present_card(1, "STRANGER").await;
    charger.unplug(1).await;
    charger
        .wait_until(SOON, |state| state.queued == 0 && state.connectors.iter().all(|c| !c.in_transaction))
        .await
        .unwrap();
    let mut db = system.store.read().await.unwrap();
    let stored = chargers::by_identity(&mut db, name).await.unwrap().unwrap();
    assert!(stored.online && stored.vendor.is_some());
    let kept = frames::newest(&mut db, stored.id, None, 100, i32::MAX).await.unwrap();
    assert!(kept.iter().any(|frame| frame.action == "BootNotification"));
    drop(db);
    charger.shutdown().await;
    system.stop().await;
}

#[tokio::test]
async fn an_unknown_card_gets_no_energy_16() {
    an_unknown_card_gets_no_energy(Version::V16, "CP-16").await;
}

#[tokio::test]
async fn an_unknown_card_gets_no_energy_201() {
    an_unknown_card_gets_no_energy(Version::V201, "CP 2/01".replace('/', "-").as_str()).await;
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let config = csms::Config { handshake_time: Duration::from_millis(200), ..csms::Config::new([7; 32]) };
    let system = system_with(config).await;
    let address = system.url.strip_prefix("ws://").unwrap().strip_suffix("/ocpp").unwrap().to_owned();
    for begins in ["", "GET /ocpp/CP-1 HTTP/1.1\r\nHost: x\r\n"] {
        let mut slow = TcpStream::connect(&address).await.unwrap();
        slow.write_all(begins.as_bytes()).await.unwrap();
        let mut said = String::new();
        tokio::time::timeout(SOON, slow.read_to_string(&mut said)).await.unwrap().unwrap();
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    }
    system.stop().await;
}

#[tokio::test]
async fn the_oldest_stranger_makes_room() {
    let config = csms::Config { max_strangers: 3, ..csms::Config::new([7; 32]) };
    let system = system_with(config).await;
    let address = system.url.strip_prefix("ws://").unwrap().strip_suffix("/ocpp").unwrap().to_owned();
    let mut strangers = Vec::new();
    for _ in 0..6 {
        strangers.push(TcpStream::connect(&address).await.unwrap());
    }
    for stranger in &mut strangers[..3] {
        assert_eq!(tokio::time::timeout(SOON, stranger.read(&mut [0; 100])).await.unwrap().unwrap_or_default(), 0);
    }
    strangers[3].write_all(b"GET /ocpp/CP-1 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, strangers[3].read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    system.stop().await;
}
