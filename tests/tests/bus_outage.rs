//! The NATS server goes away during a charge and comes back.
#![allow(clippy::unwrap_used)]

use evm_tests::api::wh;
use evm_tests::charge::begin_16;
use evm_tests::{Engine, Phone, Version, World, eventually};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charges_go_on_starts_are_refused_and_events_come_later() {
    let mut world = World::start_on(Engine::PostgresNats, None, &[]).await;
    let devices = world.operator.charger("CP-1", 2).await;
    let customer = world.rich_customer("+97686661488", 50_000).await;
    let other = world.rich_customer("+97699112233", 50_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    charger.status(2, "Available").await;
    let transaction = begin_16(&customer, &mut charger, &devices[0], 0).await;

    world.backend.nats.as_mut().unwrap().kill().await;
    let ready = |status| {
        let (url, http) = (format!("{}/readyz", world.operator.base), world.http.clone());
        async move {
            let what = format!("/readyz to say {status}");
            eventually(&what, async || {
                let answer = http.get(&url).send().await.ok()?;
                (answer.status() == status).then_some(())
            })
            .await;
        }
    };
    ready(StatusCode::SERVICE_UNAVAILABLE).await;
    // The charger is heard and answered all the while.
    charger.meter(1, transaction, 700).await;
    let body = other.start(&devices[1]).await.problem(503, "bus_unavailable");
    assert_eq!(body["status"], 503);
    customer.post(&format!("/devices/{}/finish", devices[0]), None).await.problem(503, "bus_unavailable");
    world.operator.command("CP-1", "Reset", json!({ "type": "Soft" })).await.problem(503, "bus_unavailable");
    assert!(charger.waiting().is_empty(), "{:?}", charger.waiting());

    world.backend.nats.as_mut().unwrap().start_again();
    ready(StatusCode::OK).await;
    let phone = Phone::connect(&customer).await;
    phone.hears("CHARGING", |event| wh(&event["energy"]) == 700).await;
    // What was refused holds nothing: the same customer starts at the same device, as soon as its charger serves again.
    eventually("a start at the second connector", async || {
        let answer = other.start(&devices[1]).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let (tag, _) = charger.remote_start().await;
    let second = charger.start(2, &tag, 0).await;
    charger.stop(second, 300).await;
    charger.stop(transaction, 1_000).await;
    for (customer, device, wh) in [(&customer, &devices[0], 1_000), (&other, &devices[1], 300)] {
        let purchase = customer.finish(device).await;
        world.billed(&purchase, wh).await;
        customer.pay(&purchase, "EVM").await.ok();
    }
    phone.hears("PAYMENT", |event| event["status"] == "success").await;
    world.finish().await;
}
