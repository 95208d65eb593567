//! Many chargers at once: what was acknowledged is stored, and more than the store takes only slows the sockets down.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evm_tests::charge::session_is;
use evm_tests::charger::Reply;
use evm_tests::poll::until;
use evm_tests::{Engine, RawCharger, Version, World, now, on_both_engines};
use serde_json::{Value, json};

const SOCKETS: usize = 50;

fn identity(n: usize) -> String {
    format!("LOAD-{n:02}")
}

/// Chargers that have booted, each with a transaction of a card that nobody owns.
async fn fleet(world: &World) -> Vec<(RawCharger, i64)> {
    let mut fleet = Vec::new();
    for n in 0..SOCKETS {
        world.operator.charger(&identity(n), 1).await;
        let mut charger = world.raw(&identity(n), Version::V16).await;
        let transaction = charger.start(1, "LOAD", 0).await;
        fleet.push((charger, transaction));
    }
    fleet
}

fn sample(transaction: i64, wh: usize) -> Value {
    json!({
        "connectorId": 1, "transactionId": transaction,
        "meterValue": [{ "timestamp": now(), "sampledValue": [{ "value": wh.to_string() }] }],
    })
}

async fn end_all(world: &World, fleet: impl IntoIterator<Item = (RawCharger, i64)>, wh: &BTreeMap<String, usize>) {
    for (mut charger, transaction) in fleet {
        let told = wh[&charger.identity];
        charger.stop(transaction, 0).await;
        let session = session_is(&world.operator, &charger.identity, "finished").await;
        let billed = usize::try_from(evm_tests::api::wh(&session["energy"])).unwrap();
        assert!(billed >= told, "{}: {told} Wh were acknowledged, {billed} are there", charger.identity);
    }
}

/// Memory of a process in KiB: resident, without the pages of files.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

on_both_engines! {
    async fn every_acknowledged_frame_survives_a_kill_under_load(world) {
        let total = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for (charger, transaction) in fleet(world).await {
            let total = Arc::clone(&total);
            tasks.push(tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 1.. {
                    let id = format!("{}-{n}", charger.identity);
                    match charger.call_as(&id, "MeterValues", sample(transaction, n)).await {
                        Reply::Result(_) => acknowledged.push(id),
                        Reply::Closed => break,
                        Reply::Error(code) => panic!("{code}"),
                    }
                    total.fetch_add(1, Ordering::Relaxed);
                }
                (charger.identity.clone(), transaction, acknowledged)
            }));
        }
        until("3000 acknowledged frames", Duration::from_secs(60), async || {
            (total.load(Ordering::Relaxed) >= 3_000).then_some(())
        }).await;
        world.program.kill().await;
        let mut acknowledged = BTreeMap::new();
        for task in tasks {
            let (identity, transaction, ids) = task.await.unwrap();
            acknowledged.insert(identity, (transaction, ids));
        }
        world.program.restart().await;
        let mut fleet = Vec::new();
        for (identity, (transaction, ids)) in &acknowledged {
            let stored = world.operator.message_ids(identity).await;
            let lost: Vec<_> = ids.iter().filter(|id| !stored.contains(*id)).collect();
            assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
            fleet.push((RawCharger::connect(&world.tap, identity, Version::V16).await, *transaction));
        }
        let told = acknowledged.into_iter().map(|(identity, (_, ids))| (identity, ids.len())).collect();
        end_all(world, fleet, &told).await;
    }

    async fn more_than_the_store_takes_slows_the_sockets_down_and_nothing_else(world) {
        const EACH: usize = 40;
        // Held in memory it would be 125 MiB, and more than once.
        let ballast = "x".repeat(64 * 1024);
        let fleet = fleet(world).await;
        let pid = world.program.pid().unwrap();
        let before = memory(pid);
        let senders: Vec<_> = fleet.into_iter().map(|(charger, transaction)| {
            let ballast = ballast.clone();
            tokio::spawn(async move {
                for n in 1..=EACH {
                    let mut payload = sample(transaction, n);
                    payload["ballast"] = ballast.as_str().into();
                    charger.send(&json!([2, format!("{}-{n}", charger.identity), "MeterValues", payload]).to_string()).await;
                }
                (charger, transaction)
            })
        }).collect();
        let mut most = 0;
        until("all frames to be answered", Duration::from_secs(200), async || {
            most = most.max(memory(pid));
            let answered: usize = (0..SOCKETS).map(|n| world.tap.answered(&identity(n))).sum();
            // Boot, status and start were answered before.
            (answered == SOCKETS * (EACH + 3)).then_some(())
        }).await;
        // SQLite keeps up to 64 MiB of pages.
        let pages = if world.engine == Engine::SqliteLocal { 64 * 1024 } else { 0 };
        assert!(most < before + pages + 48 * 1024, "memory rose from {before} to {most} KiB");
        let mut fleet = Vec::new();
        for sender in senders {
            let (charger, transaction) = sender.await.unwrap();
            assert!(!charger.is_closed());
            assert!(world.tap.errors(&charger.identity).is_empty());
            let stored = world.operator.message_ids(&charger.identity).await;
            let all = (1..=EACH).all(|n| stored.contains(&format!("{}-{n}", charger.identity)));
            assert!(all, "{} has frames that were dropped", charger.identity);
            fleet.push((charger, transaction));
        }
        let told = (0..SOCKETS).map(|n| (identity(n), EACH)).collect();
        end_all(world, fleet, &told).await;
    }
}
