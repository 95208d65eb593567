//! The disk under the database runs full during charges, and has room again: nothing that was answered is lost, and the
//! program goes on by itself.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evm_tests::charge::begin_16;
use evm_tests::charger::Reply;
use evm_tests::disk::Disk;
use evm_tests::poll::until;
use evm_tests::postgres::Cluster;
use evm_tests::tap::Tap;
use evm_tests::{Engine, RawCharger, Version, World, now};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

const CHARGERS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the load has come to so far.
#[derive(Default)]
struct Load {
    acknowledged: AtomicUsize,
    cut_off: AtomicUsize,
    over: AtomicBool,
}

/// A charger that samples without a pause, and like a good one says again what was not answered.
struct Sampling {
    identity: String,
    device: String,
    customer: evm_tests::Customer,
    transaction: i64,
    task: JoinHandle<(RawCharger, Vec<String>)>,
}

async fn sample(tap: &Tap, mut charger: RawCharger, transaction: i64, load: &Load) -> (RawCharger, Vec<String>) {
    let mut acknowledged = Vec::new();
    let identity = charger.identity.clone();
    for n in 1.. {
        let id = format!("{identity}-{n}");
        let payload = json!({
            "connectorId": 1, "transactionId": transaction,
            "meterValue": [{ "timestamp": now(), "sampledValue": [{ "value": n.to_string() }] }],
        });
        while charger.call_as(&id, "MeterValues", payload.clone()).await == Reply::Closed {
            load.cut_off.fetch_add(1, Ordering::Relaxed);
            charger = back(tap, &identity).await;
        }
        acknowledged.push(id);
        load.acknowledged.fetch_add(1, Ordering::Relaxed);
        if load.over.load(Ordering::Relaxed) {
            break;
        }
    }
    (charger, acknowledged)
}

async fn back(tap: &Tap, identity: &str) -> RawCharger {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        if let Ok(charger) = RawCharger::try_connect(tap, identity, &["ocpp1.6"], None).await {
            return charger;
        }
        assert!(Instant::now() < deadline, "{identity} is not let in again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn begin(world: &World, tap: &Arc<Tap>, load: &Arc<Load>) -> Vec<Sampling> {
    let mut all = Vec::new();
    for n in 0..CHARGERS {
        let identity = format!("CP-{n}");
        let device = world.operator.charger(&identity, 1).await.remove(0);
        let customer = world.rich_customer(&format!("+9768666148{n}"), 100_000).await;
        let mut charger = RawCharger::connect(tap, &identity, Version::V16).await;
        charger.boot().await;
        charger.status(1, "Available").await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let (tap, load) = (tap.clone(), load.clone());
        let task = tokio::spawn(async move { sample(&tap, charger, transaction, &load).await });
        all.push(Sampling { identity, device, customer, transaction, task });
    }
    all
}

async fn ready(world: &World) -> u16 {
    let answer = world.http.get(format!("{}/readyz", world.program.http)).send().await.unwrap();
    answer.status().as_u16()
}

/// A write of the operator's; gives the status.
async fn credit(world: &World) -> u16 {
    let body = json!({ "amount": 1, "note": "cash" });
    world.operator.send(Method::POST, "/customers/+97686661480/credit", Some(body)).await.status
}

async fn acknowledged_more(load: &Load, more: usize) {
    let before = load.acknowledged.load(Ordering::Relaxed);
    until(&format!("{more} more answers"), PATIENCE * 2, async || {
        (load.acknowledged.load(Ordering::Relaxed) >= before + more).then_some(())
    })
    .await;
}

async fn runs_full_and_has_room_again(mut world: World, disk: &Disk, mut cluster: Option<&mut Cluster>) {
    let tap = Arc::new(Tap::start(world.program.ocpp.unwrap()).await);
    let load = Arc::new(Load::default());
    let all = begin(&world, &tap, &load).await;
    acknowledged_more(&load, 200).await;
    assert_eq!((ready(&world).await, credit(&world).await), (200, 200));

    disk.fill();
    until("the program not to be ready", PATIENCE, async || (ready(&world).await == 503).then_some(())).await;
    until("chargers to be cut off", PATIENCE, async || {
        (load.cut_off.load(Ordering::Relaxed) >= CHARGERS).then_some(())
    })
    .await;

    disk.make_room();
    // PostgreSQL may have given itself up; whoever runs it starts it again.
    if let Some(cluster) = &mut cluster
        && !cluster.runs()
    {
        cluster.resume().await;
    }
    until("the program to be ready by itself", PATIENCE, async || (ready(&world).await == 200).then_some(())).await;
    until("a write", PATIENCE, async || (credit(&world).await == 200).then_some(())).await;
    acknowledged_more(&load, 200).await;
    load.over.store(true, Ordering::Relaxed);
    for Sampling { identity, device, customer, transaction, task } in all {
        let (mut charger, acknowledged) = task.await.unwrap();
        let wh = i64::try_from(acknowledged.len()).unwrap();
        let stored = world.operator.message_ids(&identity).await;
        let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(*id)).collect();
        assert!(lost.is_empty(), "answered and not there: {lost:?}");
        charger.stop(transaction, wh).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, wh).await;
        assert_eq!(customer.pay(&purchase, "EVM").await.status, 200);
        assert_eq!(tap.errors(&identity), Vec::<String>::new());
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_runs_full_under_sqlite_loses_nothing_and_heals() {
    let Some(disk) = Disk::small(48) else { return };
    let url = format!("sqlite://{}", disk.path().join("evm.db").display());
    let world = World::start_on(Engine::SqliteLocal, None, &[("EVM_DATABASE_URL", &url)]).await;
    Box::pin(runs_full_and_has_room_again(world, &disk, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_runs_full_under_postgresql_loses_nothing_and_heals() {
    let Some(disk) = Disk::small(250) else { return };
    let mut cluster = Cluster::start_in(disk.path()).await;
    let world = World::start_on(Engine::PostgresNats, Some(&cluster.url), &[]).await;
    Box::pin(runs_full_and_has_room_again(world, &disk, Some(&mut cluster))).await;
}
