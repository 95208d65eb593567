//! A charge that costs as much as its customer's balance, with the simulator over real sockets.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_bus::Bus;
use evm_domain::ledger::credit_by_operator;
use evm_domain::{CustomerId, Money};
use evm_store::devices::NewDevice;
use evm_store::ledger::Booking;
use evm_store::operator::{self, Page, SessionLine};
use evm_store::{Store, audit, cards, chargers, customers, devices, ledger, purchases};
use ocpp_sim::{Charger, ChargerConfig, Version};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
const BALANCE: Money = Money(100_000);

struct System {
    store: Store,
    charger: Charger,
    customer: CustomerId,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// A running charge of a customer with [`BALANCE`], fast enough to spend it in a second or two.
async fn charging(version: Version, stop_at_balance: bool) -> System {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}", folder.path().join("evm.db").display())).await.unwrap();
    store.migrate().await.unwrap();
    let customer = register(&store).await;
    let listener = csms::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("ws://{}/ocpp", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let live_interval = Duration::from_millis(200);
    let config = csms::Config { stop_at_balance, live_interval, ..csms::Config::new([7; 32]) };
    let run = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
    let task = tokio::spawn(async move { run.await.unwrap() });

    let mut config = ChargerConfig::new(&url, "CP-1", version);
    (config.speed, config.battery_wh, config.sample_interval) = (1000, 1_000_000, Duration::from_secs(1));
    let charger = Charger::spawn(config);
    charger.wait_until(SOON, |state| state.booted).await.unwrap();
    charger.plug_in(1).await;
    charger.present_card(1, "04AB").await;
    charger.wait_until(SOON, |state| state.connector(1).is_some_and(|c| c.in_transaction)).await.unwrap();
    System { store, charger, customer, shutdown, task, _folder: folder }
}

async fn register(store: &Store) -> CustomerId {
    let now = evm_store::now();
    let mut db = store.begin().await.unwrap();
    let charger = chargers::upsert(&mut db, "CP-1", None, 0, None, now).await.unwrap();
    let device = NewDevice { device_number: "N-1".into(), connector: 1, price: Money(50_000), ..NewDevice::default() };
    devices::register(&mut db, charger, &[device], now).await.unwrap();
    let customer = customers::of_phone(&mut db, "+97686661488", now).await.unwrap().id;
    cards::put(&mut db, "04AB", customer, false, now).await.unwrap();
    let booking = Booking {
        key: "credit".into(),
        kind: "credit",
        customer: Some(customer),
        purchase: None,
        note: None,
        postings: credit_by_operator(BALANCE),
    };
    ledger::post(&mut db, booking, now).await.unwrap();
    db.commit().await.unwrap();
    customer
}

impl System {
    async fn session(&self) -> Option<SessionLine> {
        let mut db = self.store.read().await.unwrap();
        let (_, mut all) = operator::sessions(&mut db, None, Page { offset: 0, limit: 10 }).await.unwrap();
        assert!(all.len() <= 1);
        all.pop()
    }

    async fn wait_for(&self, what: &str, wish: impl Fn(&SessionLine) -> bool) -> SessionLine {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let session = self.session().await;
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}: {session:?}");
            if let Some(session) = session.filter(&wish) {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(self) {
        let mut db = self.store.read().await.unwrap();
        assert_eq!(audit::run(&mut db).await.unwrap().violations, Vec::<String>::new());
        drop(db);
        self.charger.shutdown().await;
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.store.close().await;
    }
}

async fn stops_when_the_balance_is_reached(version: Version) {
    let system = charging(version, true).await;
    let session = system.wait_for("the charge is over", |session| session.status == "finished").await;
    assert_eq!(session.stop_reason.as_deref(), Some("balance_reached"));
    assert!(session.energy_wh >= 2000, "not before: {session:?}");
    let mut db = system.store.read().await.unwrap();
    let (_, bought) = purchases::page(&mut db, Some(system.customer), 0, 10).await.unwrap();
    assert_eq!(bought[0].energy_wh, session.energy_wh);
    assert!(bought[0].amount >= BALANCE.0);
    drop(db);
    system.charger.wait_until(SOON, |state| state.connectors.iter().all(|c| !c.in_transaction)).await.unwrap();
    system.end().await;
}

#[tokio::test]
async fn stops_when_the_balance_is_reached_16() {
    stops_when_the_balance_is_reached(Version::V16).await;
}

#[tokio::test]
async fn stops_when_the_balance_is_reached_201() {
    stops_when_the_balance_is_reached(Version::V201).await;
}

#[tokio::test]
async fn goes_on_where_the_operator_lends() {
    let system = charging(Version::V16, false).await;
    let session = system.wait_for("three times the balance", |session| session.energy_wh >= 6000).await;
    assert_eq!((session.status.as_str(), session.stop_reason), ("active", None));
    system.charger.unplug(1).await;
    let session = system.wait_for("the charge is over", |session| session.status == "finished").await;
    assert_eq!(session.stop_reason.as_deref(), Some("EVDisconnected"));
    system.end().await;
}
