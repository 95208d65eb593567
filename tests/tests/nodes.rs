//! Several nodes, one of which is cut off from the others.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_tests::program::Program;
use evm_tests::tap::Tap;
use evm_tests::wire::Wire;
use evm_tests::world::common_env;
use evm_tests::{Engine, RawCharger, Version, World, eventually};
use serde_json::json;

/// What whoever asks is to wait at most, where the charger's node is cut off: longer than five seconds to notice and two to
/// tell, and far from the 35 that a command may take.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_packets_go_nowhere_lets_its_chargers_go() {
    let mut world = World::start_on(Engine::PostgresNats, None, &[]).await;
    let nats = world.backend.nats.as_ref().unwrap();
    let wire = Wire::start(nats.addr.clone()).await;
    let through_wire = |(name, value): (String, String)| (name, value.replace(&nats.addr, &wire.addr.to_string()));
    let env = world.backend.env().into_iter().map(through_wire).chain(common_env());
    let mut far = Program::start("csms", &world.scratch().join("far"), env).await;
    let tap = Tap::start(far.ocpp.unwrap()).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.rich_customer("+97686661488", 50_000).await;
    let mut charger = RawCharger::connect(&tap, "CP-1", Version::V16).await;
    charger.boot().await;
    charger.status(1, "Available").await;

    wire.fall_silent();
    let asked = Instant::now();
    let answer = world.operator.command("CP-1", "ClearCache", json!({})).await;
    assert!(answer.status == 504 && asked.elapsed() < SOON, "{} after {:?}", answer.status, asked.elapsed());
    charger.closed().await;
    assert_eq!(tap.conversations("CP-1")[0].close_code, Some(Some(1013)), "try again");
    let refused = RawCharger::try_connect(&tap, "CP-1", &[Version::V16.protocol()], None).await;
    assert_eq!(refused.err(), Some(503));

    // Elsewhere it is served at once.
    let mut charger = world.raw("CP-1", Version::V16).await;
    charger.status(1, "Available").await;
    customer.start(&device).await.ok();
    let (tag, _) = charger.remote_start().await;
    let transaction = charger.start(1, &tag, 0).await;
    charger.stop(transaction, 300).await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 300).await;

    wire.carry_on();
    eventually("the node to let chargers in", async || {
        RawCharger::try_connect(&tap, "CP-1", &[Version::V16.protocol()], None).await.ok().map(drop)
    })
    .await;
    far.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_reached_chargers_stay() {
    let mut world = World::start_on(Engine::PostgresNats, None, &[]).await;
    world.operator.charger("CP-1", 1).await;
    let mut far =
        Program::start("csms", &world.scratch().join("far"), world.backend.env().into_iter().chain(common_env())).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    world.backend.nats.as_mut().unwrap().kill().await;
    eventually("the nodes to miss the bus", async || {
        let url = format!("{}/readyz", world.operator.base);
        (world.http.get(&url).send().await.ok()?.status() == 503).then_some(())
    })
    .await;
    // Each has looked for the other by then, and looks more strictly from then on.
    eventually("the nodes to decide", async || {
        let decided = |log: &str| log.contains("no command reaches any node over the bus: chargers stay");
        (decided(&world.program.log()) && decided(&far.log())).then_some(())
    })
    .await;
    charger.call("Heartbeat", json!({})).await.ok();
    assert!(!charger.is_closed());
    for log in [world.program.log(), far.log()] {
        assert!(!log.contains("let go"), "{log}");
    }
    world.backend.nats.as_mut().unwrap().start_again();
    far.stop().await;
    world.finish().await;
}
