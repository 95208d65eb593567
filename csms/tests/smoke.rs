//! The simulator against the central system over real sockets, on SQLite and the bus inside the process.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_bus::Bus;
use evm_store::{Store, chargers, frames};
use ocpp_sim::{Charger, ChargerConfig, Version};
use tokio_util::sync::CancellationToken;

struct System {
    store: Store,
    url: String,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn system() -> System {
    let folder = tempfile::tempdir().unwrap();
    let url =
        std::env::var("SMOKE_URL").unwrap_or_else(|_| format!("sqlite://{}", folder.path().join("evm.db").display()));
    let store = Store::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    let listener = csms::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("ws://{}/ocpp", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let run = csms::run(listener, store.clone(), Bus::local(), csms::Config::new([7; 32]), shutdown.clone());
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
    let kept = frames::newest(&mut db, stored.id, None, 100).await.unwrap();
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
