//! The process killed, and the database gone, in the middle of charges: the bill is right to the Wh.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::charge::{begin_16, begin_201, bookings, sim_config, stop_of, transaction_event};
use evm_tests::charger::Reply;
use evm_tests::engine::Engine;
use evm_tests::poll::{SOON, until};
use evm_tests::postgres::Cluster;
use evm_tests::sqlite::WriteLock;
use evm_tests::{Customer, RawCharger, Version, World, on_both_engines};
use ocpp_sim::Charger;
use serde_json::{Value, json};

const PHONES: [&str; 4] = ["+97686661488", "+97699112233", "+97699112244", "+97699112255"];
/// Longest wait for the central system to give a database up.
const GIVING_UP: Duration = Duration::from_secs(40);

/// A simulated charger in the middle of a customer's charge.
struct Charge {
    identity: String,
    device: String,
    customer: Customer,
    charger: Charger,
}

async fn delivers(charger: &Charger, more: i64) {
    let before = charger.state().connector(1).unwrap().delivered_wh;
    let wish = |state: &ocpp_sim::ChargerState| state.connector(1).is_some_and(|one| one.delivered_wh > before + more);
    charger.wait_until(SOON, wish).await.unwrap();
}

impl Charge {
    async fn begin(world: &World, phone: &str, version: Version) -> Self {
        let identity = format!("SIM-{version:?}");
        let device = world.operator.charger(&identity, 1).await.remove(0);
        let customer = world.rich_customer(phone, 100_000).await;
        let charger = Charger::spawn(sim_config(&world.tap, &identity, version));
        world.device_is(&customer, &device, "Idle").await;
        charger.plug_in(1).await;
        customer.start(&device).await.ok();
        delivers(&charger, 200).await;
        Self { identity, device, customer, charger }
    }

    /// It is cut off and goes on charging.
    async fn goes_on_alone(&self) {
        self.charger.wait_until(GIVING_UP, |state| !state.online).await.unwrap();
        delivers(&self.charger, 300).await;
        assert!(self.charger.state().queued > 0, "it keeps what it has to say");
    }

    /// It is back, ends, and is billed for all that it delivered.
    async fn ends_well(self, world: &mut World) {
        self.charger.wait_until(SOON, |state| state.online && state.queued == 0).await.unwrap();
        delivers(&self.charger, 100).await;
        let purchase = self.customer.finish(&self.device).await;
        let over = |state: &ocpp_sim::ChargerState| {
            state.queued == 0 && state.connector(1).is_some_and(|one| !one.in_transaction)
        };
        let state = self.charger.wait_until(SOON, over).await.unwrap();
        world.billed(&purchase, state.connector(1).unwrap().delivered_wh).await;
        assert_eq!(state.lost, 0);
        assert_eq!(world.tap.errors(&self.identity), Vec::<String>::new());
        self.customer.pay(&purchase, "EVM").await.ok();
        self.charger.shutdown().await;
    }
}

/// The hand-made charger says something that cannot be stored now: it is cut off, without any answer.
async fn is_cut_off(charger: &mut RawCharger, action: &str, payload: &Value) {
    let reply = charger.call(action, payload.clone()).await;
    assert_eq!(reply, Reply::Closed, "{action}");
}

/// Everybody who tries to connect until `end` is told that it is not possible now.
async fn upgrades_are_refused_until(world: &World, identity: &str, end: Instant) {
    while Instant::now() < end {
        let refused = RawCharger::try_connect(&world.tap, identity, &["ocpp1.6"], None).await.err();
        assert_eq!(refused, Some(503));
    }
}

/// A database that a test takes away and gives back.
enum Store {
    /// A whole cluster, stopped.
    Postgres(Cluster),
    /// A file, its lock held by somebody else.
    Sqlite(String, Option<WriteLock>),
}

impl Store {
    async fn stop(&mut self) {
        match self {
            Self::Postgres(cluster) => cluster.stop().await,
            Self::Sqlite(path, lock) => *lock = Some(WriteLock::take(path).await),
        }
    }

    async fn resume(&mut self) {
        match self {
            Self::Postgres(cluster) => cluster.resume().await,
            Self::Sqlite(_, lock) => lock.take().unwrap().release().await,
        }
    }
}

/// The database is away for at least `length`, while four chargers charge and one stands by.
async fn outage(world: &mut World, store: &mut Store, length: Duration) {
    let device = world.operator.charger("RAW-16", 1).await.remove(0);
    let device_201 = world.operator.charger("RAW-201", 1).await.remove(0);
    world.operator.charger("IDLE", 1).await;
    let customer = world.rich_customer(PHONES[0], 50_000).await;
    let customer_201 = world.rich_customer(PHONES[1], 50_000).await;
    let sims =
        [Charge::begin(world, PHONES[2], Version::V16).await, Charge::begin(world, PHONES[3], Version::V201).await];
    let mut raw = world.raw("RAW-16", Version::V16).await;
    let mut raw_201 = world.raw("RAW-201", Version::V201).await;
    let idle = world.raw("IDLE", Version::V16).await;
    let transaction = begin_16(&customer, &mut raw, &device, 1_000).await;
    begin_201(&customer_201, &mut raw_201, &device_201, "T-1", 500).await;
    raw.meter(1, transaction, 1_100).await;

    store.stop().await;
    let begin = Instant::now();
    let stop_transaction = stop_of(transaction, 1_250, "Local");
    let ended = transaction_event("Ended", "T-1", 1, 777);
    tokio::join!(
        is_cut_off(&mut raw, "StopTransaction", &stop_transaction),
        is_cut_off(&mut raw_201, "TransactionEvent", &ended),
    );
    until("the idle charger to be cut off", GIVING_UP, async || idle.is_closed().then_some(())).await;
    for sim in &sims {
        sim.goes_on_alone().await;
    }
    upgrades_are_refused_until(world, "RAW-16", begin + length).await;
    store.resume().await;

    let mut raw = until("RAW-16 to come back", GIVING_UP, async || {
        RawCharger::try_connect(&world.tap, "RAW-16", &["ocpp1.6"], None).await.ok()
    })
    .await;
    assert_eq!(raw.call("StopTransaction", stop_transaction).await.ok(), json!({}));
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 250).await;
    let mut raw_201 = RawCharger::connect(&world.tap, "RAW-201", Version::V201).await;
    raw_201.call("TransactionEvent", ended).await.ok();
    let purchase = customer_201.finish(&device_201).await;
    world.billed(&purchase, 277).await;
    for sim in sims {
        sim.ends_well(world).await;
    }
    for identity in ["RAW-16", "RAW-201", "IDLE"] {
        assert_eq!(world.tap.errors(identity), Vec::<String>::new());
    }
    assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
}

on_both_engines! {
    async fn killed_during_a_charge_of_a_hand_made_charger(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONES[0], 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
        charger.meter(1, transaction, 1_500).await;
        // Said, and perhaps stored, but not answered any more.
        charger.send(&json!([2, "end", "StopTransaction", stop_of(transaction, 1_900, "Local")]).to_string()).await;
        world.program.kill().await;
        charger.closed().await;
        world.program.restart().await;
        let charger = RawCharger::connect(&world.tap, "CP-1", Version::V16).await;
        charger.call_as("end", "StopTransaction", stop_of(transaction, 1_900, "Local")).await.ok();
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 900).await;
        assert_eq!(bookings(&world.operator, "correction").await, Vec::<Value>::new());
        assert_eq!(customer.pay(&purchase, "EVM").await.status, 200);
    }

    async fn killed_between_a_request_and_its_start(world) {
        let device = world.operator.charger("CP-2", 1).await.remove(0);
        let customer = world.rich_customer(PHONES[0], 50_000).await;
        let charger = world.raw("CP-2", Version::V16).await;
        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        world.program.kill().await;
        charger.closed().await;
        world.program.restart().await;
        let mut charger = RawCharger::connect(&world.tap, "CP-2", Version::V16).await;
        let transaction = charger.start(1, &tag, 40).await;
        charger.stop(transaction, 100).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 60).await;
    }

    async fn killed_during_charges_of_simulated_chargers(world) {
        let charges = [
            Charge::begin(world, PHONES[0], Version::V16).await,
            Charge::begin(world, PHONES[1], Version::V201).await,
        ];
        world.program.kill().await;
        for charge in &charges {
            charge.goes_on_alone().await;
        }
        world.program.restart().await;
        for charge in charges {
            charge.ends_well(world).await;
        }
    }

    async fn killed_again_and_again(world) {
        let charge = Charge::begin(world, PHONES[0], Version::V16).await;
        for _ in 0..4 {
            world.program.kill().await;
            world.program.restart().await;
            charge.charger.wait_until(SOON, |state| state.online).await.unwrap();
        }
        charge.ends_well(world).await;
    }
}

evm_tests::on_each_engine!(the_first_look_after_a_kill_shows_nobody_online_who_is_not);

/// What the dead process held is not online: on SQLite, which one process has, from the first look on; on PostgreSQL, where
/// another node may hold it, when the dead one's lease has run out.
async fn the_first_look_after_a_kill_shows_nobody_online_who_is_not(engine: Engine) {
    let mut world = World::start(engine).await;
    let mut held = Vec::new();
    for n in 0..20 {
        let identity = format!("STORM-{n}");
        world.operator.charger(&identity, 1).await;
        held.push(world.raw(&identity, Version::V16).await);
    }
    let online =
        async |world: &World| world.operator.all("/chargers").await.iter().filter(|one| one["online"] == true).count();
    assert_eq!(online(&world).await, 20);
    world.program.kill().await;
    for charger in &held {
        charger.closed().await;
    }
    world.program.restart().await;
    match engine {
        Engine::SqliteLocal => assert_eq!(online(&world).await, 0, "at the first look"),
        Engine::PostgresNats => {
            until("the dead node's lease to end", Duration::from_secs(40), async || {
                (online(&world).await == 0).then_some(())
            })
            .await;
        }
    }
    let _back = world.raw("STORM-3", Version::V16).await;
    assert_eq!(online(&world).await, 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_stopped_for_30_s_loses_nothing() {
    let cluster = Cluster::start().await;
    let settings = [("EVM_STORE_PATIENCE_S", "1")];
    let mut world = World::start_on(Engine::PostgresNats, Some(&cluster.url), &settings).await;
    let mut store = Store::Postgres(cluster);
    Box::pin(outage(&mut world, &mut store, Duration::from_secs(30))).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_that_somebody_else_holds_for_30_s_loses_nothing() {
    let mut world = World::start(Engine::SqliteLocal).await;
    let mut store = Store::Sqlite(world.store_url(), None);
    Box::pin(outage(&mut world, &mut store, Duration::from_secs(30))).await;
    world.finish().await;
}

/// Refused, many stations would wait longer each time before they come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_while_postgresql_is_stopped_is_let_in_once_it_is_back() {
    let cluster = Cluster::start().await;
    let world = World::start_on(Engine::PostgresNats, Some(&cluster.url), &[]).await;
    let identities: Vec<String> = (0..20).map(|n| format!("STORM-{n}")).collect();
    let mut held = Vec::new();
    for identity in &identities {
        world.operator.charger(identity, 1).await;
        held.push(world.raw(identity, Version::V16).await);
    }
    let mut store = Store::Postgres(cluster);
    store.stop().await;
    is_cut_off(
        &mut held[0],
        "StatusNotification",
        &json!({ "connectorId": 1, "status": "Available", "errorCode": "NoError" }),
    )
    .await;
    for charger in &held {
        charger.closed().await;
    }
    // Each comes once, while nobody can say who it is.
    let come = identities.iter().map(|identity| RawCharger::try_connect(&world.tap, identity, &["ocpp1.6"], None));
    let mut all = Box::pin(futures_util::future::join_all(come));
    let early = tokio::time::timeout(Duration::from_secs(6), &mut all).await;
    assert!(early.is_err(), "nobody can be let in or refused yet");
    store.resume().await;
    let back = tokio::time::timeout(Duration::from_secs(5), &mut all).await.unwrap();
    assert!(back.iter().all(Result::is_ok), "{:?}", back.iter().map(|one| one.as_ref().err()).collect::<Vec<_>>());
    drop((back, all));
    world.finish().await;
}
