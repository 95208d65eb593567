//! Events for web clients.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::{decimal, wh};
use evm_tests::charge::ended_by_app;
use evm_tests::program::Program;
use evm_tests::sse::{Event, EventStream};
use evm_tests::world::common_env;
use evm_tests::{Engine, Version, World, eventually, on_both_engines, until};
use serde_json::json;

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// The bus tells every node of a logout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_the_streams_of_another_node() {
    let world = World::start(Engine::PostgresNats).await;
    let env = world.backend.env().into_iter().chain(common_env());
    let mut second = Program::start("billing-api", &world.scratch().join("second"), env).await;
    let customer = world.customer(PHONE).await;
    let there = evm_tests::Customer { base: second.http.clone(), ..customer.clone() };
    let stays = world.customer(PHONE).await;
    let stays = evm_tests::Customer { base: second.http.clone(), ..stays };
    let (stream, other) = (EventStream::open(&there, None).await, EventStream::open(&stays, None).await);
    customer.post("/user/logout", None).await.ok();
    until("the end of the stream", Duration::from_secs(5), async || stream.is_ended().then_some(())).await;
    assert!(!other.is_ended(), "another login of the same customer");
    drop((stream, other));
    second.stop().await;
    world.finish().await;
}

on_both_engines! {
    async fn a_stream_tells_what_nats_tells_and_goes_on_after_a_break(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.customer(OTHER).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let stream = EventStream::open(&customer, None).await;
        let eavesdropper = EventStream::open(&other, Some(0)).await;

        customer.start(&device).await.ok();
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        charger.meter(1, transaction, 1_234).await;
        let live = stream.hears("with live figures", |event| wh(&event.data["energy"]) == 1_234).await;
        assert_eq!((live.name.as_str(), live.id), ("CHARGING", None));
        assert_eq!(decimal(&live.data["amount"]), "1234".parse().unwrap());
        let purchase = customer.finish(&device).await;
        charger.command("RemoteStopTransaction").await;
        charger.stop(transaction, 2_000).await;
        charger.status(1, "Available").await;
        world.billed(&purchase, 2_000).await;
        let last = stream.hears("with the final figures", |event| event.id.is_some()).await;
        assert_eq!((last.name.as_str(), wh(&last.data["energy"])), ("CHARGING", 2_000));
        customer.pay(&purchase, "EVM").await.ok();
        let paid = stream.hears("of the payment", |event| event.name == "PAYMENT").await;
        assert_eq!(paid.data, json!({ "status": "success", "amount": 2000 }));
        assert!(paid.id > last.id);
        drop(stream);

        // While nobody listens, more happens; whoever comes back hears just that.
        let purchase = ended_by_app(world, &mut charger, &customer, &device, 500).await;
        customer.pay(&purchase, "EVM").await.ok();
        let back = EventStream::open(&customer, paid.id).await;
        back.hears("of the second payment", |event| event.data["amount"] == 500 && event.name == "PAYMENT").await;
        assert_eq!(names(&back.lasting()), ["CHARGING", "PAYMENT"]);
        let everything = EventStream::open(&customer, Some(0)).await;
        eventually("all four", async || (everything.lasting().len() == 4).then_some(())).await;
        assert_eq!(names(&everything.lasting()), ["CHARGING", "PAYMENT", "CHARGING", "PAYMENT"]);
        assert_eq!(everything.lasting()[2..], back.lasting());
        let nothing = EventStream::open(&customer, back.lasting()[1].id).await;
        // A comment comes long after what a replay would have brought.
        until("a comment", Duration::from_secs(40), async || (nothing.comments() > 0).then_some(())).await;
        assert_eq!(nothing.events(), []);
        assert_eq!(eavesdropper.events(), []);
    }

    async fn streams_are_bounded_and_end_with_their_login(world) {
        let customer = world.customer(PHONE).await;
        let tablet = world.customer(PHONE).await;
        let other = world.customer(OTHER).await;
        for bad in ["x", "-1", "1e3"] {
            let refused = EventStream::try_open(&customer, Some(bad)).await.err().unwrap();
            assert_eq!(refused.status().as_u16(), 400, "{bad}");
        }
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(EventStream::open(&customer, None).await);
        }
        let of_tablet = EventStream::open(&tablet, None).await;
        let refused = EventStream::try_open(&customer, None).await.err().unwrap();
        assert_eq!(refused.status().as_u16(), 429);
        assert!(refused.headers().contains_key("retry-after"));
        let of_other = EventStream::open(&other, None).await;
        streams.pop();
        eventually("the place of a stream that was closed", async || {
            EventStream::try_open(&customer, None).await.ok()
        }).await;

        customer.post("/user/logout", None).await.ok();
        for stream in &streams {
            stream.ended().await;
        }
        let refused = EventStream::try_open(&customer, None).await.err().unwrap();
        assert_eq!(refused.status().as_u16(), 401);
        // The others go on, and end with the program.
        let device = world.operator.charger("CP-2", 1).await.remove(0);
        let mut charger = world.raw("CP-2", Version::V16).await;
        world.operator.credit(PHONE, 1_000).await;
        ended_by_app(world, &mut charger, &tablet, &device, 10).await;
        of_tablet.hears("of the charge", |event| event.id.is_some()).await;
        assert_eq!(of_other.events(), []);
        world.audit().await;
        world.program.stop().await;
        of_other.ended().await;
        world.program.restart().await;
    }

    async fn no_stream_outlives_a_logout_however_close_they_are(world) {
        for delay in 0..12 {
            let customer = world.customer(PHONE).await;
            let opening = async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                (EventStream::try_open(&customer, None).await, EventStream::try_open(&customer, None).await)
            };
            let logout = async {
                customer.post("/user/logout", None).await.ok();
            };
            let ((one, two), ()) = tokio::join!(opening, logout);
            for opened in [one, two] {
                match opened {
                    Ok(stream) => until("the end", Duration::from_secs(3), async || stream.is_ended().then_some(())).await,
                    Err(refused) => assert_eq!(refused.status().as_u16(), 401),
                }
            }
        }
    }

    async fn what_was_written_before_a_crash_is_heard_after_it(world) {
        let device = world.operator.charger("CP-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-3", Version::V16).await;
        let purchase = ended_by_app(world, &mut charger, &customer, &device, 100).await;
        let before = EventStream::open(&customer, Some(0)).await;
        let ended = before.hears("of the charge", |event| event.id.is_some()).await;
        customer.pay(&purchase, "EVM").await.ok();
        world.program.kill().await;
        before.ended().await;
        world.program.restart().await;
        let after = EventStream::open(&customer, ended.id).await;
        let paid = after.hears("of the payment", |event| event.name == "PAYMENT").await;
        assert_eq!(decimal(&paid.data["amount"]), 100.into());
    }
}
