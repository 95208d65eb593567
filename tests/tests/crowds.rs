//! Crowds that open sockets and say nothing: those who are known stay, and those who come get in.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use evm_tests::upgrade::{connect_from, loopback, say, status_from};
use evm_tests::{Customer, Engine, RawCharger, Version, World, eventually, on_each_engine};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const PHONE: &str = "+97686661488";
/// Addresses of the crowd.
const CROWD: std::ops::RangeInclusive<u8> = 1..=6;

/// Half-open sockets at this port, so many from each address.
async fn crowd(to: SocketAddr, of_one: usize, begins: &str) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for address in CROWD {
        for _ in 0..of_one {
            let mut stream = connect_from(loopback(address), to).await.unwrap();
            let _ = stream.write_all(begins.as_bytes()).await;
            all.push(stream);
        }
    }
    all
}

/// A phone at the built-in NATS port, logged in.
async fn phone(customer: &Customer, hub: SocketAddr) -> BufReader<TcpStream> {
    let mut phone = BufReader::new(TcpStream::connect(hub).await.unwrap());
    let login = json!({ "user": customer.login["nats"]["user"], "pass": customer.login["nats"]["pass"] });
    let mut line = String::new();
    phone.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("INFO"), "{line}");
    phone.write_all(format!("CONNECT {login}\r\n").as_bytes()).await.unwrap();
    answers(&mut phone).await;
    phone
}

async fn answers(phone: &mut BufReader<TcpStream>) {
    phone.write_all(b"PING\r\n").await.unwrap();
    let mut line = String::new();
    // It may have been asked the same meanwhile.
    while line != "PONG\r\n" {
        line.clear();
        assert!(phone.read_line(&mut line).await.unwrap() > 0, "the connection ended");
    }
}

fn hub(customer: &Customer) -> SocketAddr {
    let url = customer.login["nats"]["servers"][0].as_str().or(customer.login["nats"]["servers"].as_str()).unwrap();
    url.strip_prefix("nats://").unwrap().parse().unwrap()
}

async fn half_open_sockets_keep_nobody_out_of_any_port(engine: Engine) {
    let settings =
        [("EVM_OCPP_CONNECTIONS", "100"), ("EVM_HTTP_CONNECTIONS", "80"), ("EVM_NATS_HUB_CONNECTIONS", "60")];
    let world = World::start_on(engine, None, &settings).await;
    let ocpp = world.program.ocpp.unwrap();
    let http: SocketAddr = world.operator.base.strip_prefix("http://").unwrap().parse().unwrap();
    for n in 0..20 {
        world.operator.charger(&format!("CP-{n}"), 1).await;
    }
    let customer = world.customer(PHONE).await;
    let mut before = world.raw("CP-0", Version::V16).await;
    let local = engine == Engine::SqliteLocal;
    let mut old_phone = if local { Some(phone(&customer, hub(&customer)).await) } else { None };

    let mut held = crowd(ocpp, 40, "GET /ocpp/CP-1 HTTP/1.1\r\nHost:").await;
    held.extend(crowd(http, 40, "GET /livez HT").await);
    if local {
        held.extend(crowd(hub(&customer), 40, "CONN").await);
    }
    // Twenty of twenty, while all of these are held.
    let mut chargers = Vec::new();
    for n in 1..20 {
        let mut charger = RawCharger::connect(&world.tap, &format!("CP-{n}"), Version::V16).await;
        charger.boot().await;
        chargers.push(charger);
        assert_eq!(status_from(loopback(2), ocpp, "NOBODY", "").await, 404);
    }
    for _ in 0..20 {
        assert_eq!(say(loopback(1), http, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);
        customer.get("/purchases").await.ok();
    }
    if let Some(old_phone) = &mut old_phone {
        let mut phones = Vec::new();
        for _ in 0..4 {
            phones.push(phone(&customer, hub(&customer)).await);
        }
        answers(old_phone).await;
        phones.clear();
    }
    before.call("Heartbeat", json!({})).await.ok();
    assert_eq!(world.tap.conversations("CP-0").len(), 1);
    drop(held);
    world.finish().await;
}

async fn more_chargers_than_there_are_places_hear_so_and_come_in_later(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_OCPP_CONNECTIONS", "3")]).await;
    let mut chargers = Vec::new();
    for n in 0..4 {
        world.operator.charger(&format!("CP-{n}"), 1).await;
    }
    for n in 0..3 {
        chargers.push(world.raw(&format!("CP-{n}"), Version::V16).await);
    }
    let protocols = ["ocpp1.6"];
    assert_eq!(RawCharger::try_connect(&world.tap, "CP-3", &protocols, None).await.err(), Some(503));
    eventually("the line of the refused", async || {
        world.program.log().lines().any(|line| line.contains("too many connections")).then_some(())
    })
    .await;
    chargers.pop().unwrap().close().await;
    eventually("a place", async || RawCharger::try_connect(&world.tap, "CP-3", &protocols, None).await.ok()).await;
    world.finish().await;
}

async fn the_ports_go_on_when_the_system_gives_no_more_descriptors(engine: Engine) {
    let world = World::start(engine).await;
    let ocpp = world.program.ocpp.unwrap();
    world.operator.charger("CP-1", 1).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let pid = world.program.pid().unwrap();
    assert!(world.program.log().contains("file descriptors, and the sockets they carry"));
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = |most: usize| {
        let mut command = std::process::Command::new("prlimit");
        assert!(
            command.args(["--pid", &pid.to_string(), &format!("--nofile={most}:20000")]).status().unwrap().success()
        );
    };
    limit(open + 40);
    let held = crowd(ocpp, 20, "GET /ocpp/CP-1 HTTP/1.1\r\n").await;
    eventually("the warning", async || world.program.log().contains("cannot accept a socket").then_some(())).await;
    // The oldest of the crowd made room.
    eventually("somebody new", async || (status_from(loopback(9), ocpp, "NOBODY", "").await == 404).then_some(()))
        .await;
    charger.call("Heartbeat", json!({})).await.ok();
    drop(held);
    limit(20_000);
    let mut again = RawCharger::connect(&world.tap, "CP-1", Version::V16).await;
    again.call("Heartbeat", json!({})).await.ok();
    world.finish().await;
}

on_each_engine! {
    half_open_sockets_keep_nobody_out_of_any_port,
    more_chargers_than_there_are_places_hear_so_and_come_in_later,
    the_ports_go_on_when_the_system_gives_no_more_descriptors,
}
