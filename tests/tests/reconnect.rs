//! A charger that comes back while its old connection is still open.
#![allow(clippy::unwrap_used)]

use evm_tests::charge::begin_16;
use evm_tests::{RawCharger, Version, World, on_both_engines};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PHONE: &str = "+97686661488";

/// A connection that was made and then forgets to answer anything, the close included.
async fn dead_connection(world: &World, identity: &str, version: Version) -> TcpStream {
    let mut stream = TcpStream::connect(world.tap.addr).await.unwrap();
    let request = format!(
        "GET /ocpp/{identity} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        version.protocol()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

async fn is_online(world: &World, identity: &str) -> bool {
    world.operator.get(&format!("/chargers/{identity}")).await.ok()["online"] == true
}

/// The charger answers commands, and is shown as connected, time and again.
async fn stays(world: &World, charger: &mut RawCharger) {
    for _ in 0..10 {
        world.operator.command(&charger.identity, "ClearCache", json!({})).await.ok();
        charger.command("ClearCache").await;
        charger.call("Heartbeat", json!({})).await.ok();
        assert!(is_online(world, &charger.identity).await);
    }
}

async fn newest_wins(world: &mut World, version: Version) {
    world.operator.charger("CP-1", 1).await;
    let first = world.raw("CP-1", version).await;
    let mut second = world.raw("CP-1", version).await;
    world.operator.command("CP-1", "ClearCache", json!({})).await.ok();
    second.command("ClearCache").await;
    first.closed().await;
    assert!(first.waiting().is_empty(), "{:?}", first.waiting());
    let told = world.tap.conversations("CP-1")[0].close_code;
    assert_eq!(told, Some(Some(1008)), "a newer connection took its place");
    drop(first);
    stays(world, &mut second).await;
    second.close().await;
    evm_tests::eventually("the charger to be away", async || (!is_online(world, "CP-1").await).then_some(())).await;
}

on_both_engines! {
    async fn the_newest_connection_wins_1_6(world) {
        newest_wins(world, Version::V16).await;
    }

    async fn the_newest_connection_wins_2_0_1(world) {
        newest_wins(world, Version::V201).await;
    }

    async fn the_close_of_a_dead_connection_after_it_changes_nothing(world) {
        world.operator.charger("CP-2", 1).await;
        let dead = dead_connection(world, "CP-2", Version::V16).await;
        let mut charger = world.raw("CP-2", Version::V16).await;
        world.operator.command("CP-2", "ClearCache", json!({})).await.ok();
        charger.command("ClearCache").await;
        drop(dead);
        evm_tests::eventually("the end of the dead one", async || {
            world.tap.conversations("CP-2")[0].ended.then_some(())
        }).await;
        stays(world, &mut charger).await;
    }

    async fn a_reconnect_is_never_too_fast_and_a_charge_goes_on(world) {
        let device = world.operator.charger("CP-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-3", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let mut old = vec![charger];
        for n in 1..=20 {
            let mut next = RawCharger::connect(&world.tap, "CP-3", Version::V16).await;
            next.meter(1, transaction, n * 10).await;
            old.push(next);
        }
        let mut newest = old.pop().unwrap();
        for replaced in &old {
            replaced.closed().await;
        }
        assert!(!newest.is_closed());
        newest.stop(transaction, 250).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 250).await;
        world.device_is(&customer, &device, "Idle").await;
    }

    async fn a_charger_may_come_back_in_another_version(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.customer(PHONE).await;
        let probe = world.raw("CP-4", Version::V16).await;
        let mut charger = world.raw("CP-4", Version::V201).await;
        probe.closed().await;
        assert_eq!(world.operator.get("/chargers/CP-4").await.ok()["version"], "2.0.1");
        world.operator.command("CP-4", "GetVariables", json!({ "getVariableData": [{
            "component": { "name": "OCPPCommCtrlr" }, "variable": { "name": "HeartbeatInterval" },
        }] })).await.ok();
        charger.command("GetVariables").await;
        charger.status(1, "Available").await;
        world.device_is(&customer, &device, "Idle").await;
    }
}
