//! The machine's clock jumps an hour and back, or differs from another node's: nothing is waited for, nothing is billed
//! wrongly, and nobody's charger seems to be away.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::api::{decimal, request};
use evm_tests::charge::{begin_16, begin_201, ended_by_app, transaction_event};
use evm_tests::clock::Clock;
use evm_tests::engine::Backend;
use evm_tests::poll::until;
use evm_tests::program::Program;
use evm_tests::qpay::Shop;
use evm_tests::sse::EventStream;
use evm_tests::tap::Tap;
use evm_tests::world::{common_env, operator};
use evm_tests::{Engine, RawCharger, Version, World, eventually, on_each_engine};
use qpay_sim::Kind;
use rust_decimal::Decimal;
use serde_json::json;

const PHONE: &str = "+97686661488";
const HOUR: i64 = 3600;

on_each_engine!(
    a_jump_and_back_leaves_every_bill_right_and_finish_means_the_running_charge,
    a_station_that_takes_our_time_is_billed_to_the_wh,
    after_a_jump_and_back_an_invoice_is_asked_about_at_once,
    after_a_jump_and_back_a_code_can_be_asked_for,
    killed_an_hour_ahead_and_started_right_events_go_on,
);

async fn world(engine: Engine, clock: &Clock) -> World {
    let (name, path) = clock.setting();
    World::start_on(engine, None, &[(name.as_str(), path.as_str())]).await
}

/// The program looks at its clock once a second: back within that, it would not know of the jump.
async fn an_hour_ahead(clock: &Clock, program: &Program) {
    clock.ahead(HOUR);
    eventually("the jump to be seen", async || program.log().contains("clock was moved").then_some(())).await;
}

/// Every balance and bill, to the MNT: charges before, within and after the hour, and after it `finish` stops the one
/// under way, not one whose id is newer.
async fn a_jump_and_back_leaves_every_bill_right_and_finish_means_the_running_charge(engine: Engine) {
    let clock = Clock::new();
    let mut world = world(engine, &clock).await;
    let device = world.operator.charger_priced("CP-1", 1, 1000, 50).await.remove(0);
    let device_201 = world.operator.charger_priced("CP-2", 1, 1000, 50).await.remove(0);
    let customer = world.rich_customer(PHONE, 10_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let mut station = world.raw("CP-2", Version::V201).await;

    let before = ended_by_app(&mut world, &mut charger, &customer, &device, 240).await;
    customer.pay(&before, "EVM").await.ok();
    clock.ahead(HOUR);
    let within = ended_by_app(&mut world, &mut charger, &customer, &device, 260).await;
    customer.pay(&within, "EVM").await.ok();
    // One that is under way while the clock goes back.
    begin_201(&customer, &mut station, &device_201, "T-1", 0).await;
    clock.ahead(0);
    station.call("TransactionEvent", transaction_event("Updated", "T-1", 1, 300)).await.ok();
    let across = customer.finish(&device_201).await;
    station.command("RequestStopTransaction").await;
    station.call("TransactionEvent", transaction_event("Ended", "T-1", 2, 310)).await.ok();
    world.billed(&across, 310).await;
    customer.pay(&across, "EVM").await.ok();

    let transaction = begin_16(&customer, &mut charger, &device, 5_000).await;
    charger.meter(1, transaction, 5_100).await;
    let after = customer.finish(&device).await;
    charger.command("RemoteStopTransaction").await;
    charger.stop(transaction, 5_120).await;
    charger.status(1, "Available").await;
    world.billed(&after, 120).await;
    assert!(![&before, &within, &across].contains(&&after));
    assert_eq!(customer.finish(&device).await, after, "asked again it is the same, although an older id is newer");
    customer.pay(&after, "EVM").await.ok();

    let me = customer.post("/user/me", None).await.ok();
    let left = decimal(&me["profile"]["balance"]);
    assert_eq!(left, Decimal::from(10_000 - 240 - 260 - 310 - 120), "each is paid, once");
    for (purchase, amount) in [(&before, 240), (&within, 260), (&across, 310), (&after, 120)] {
        let purchase = customer.purchase(purchase).await;
        assert_eq!((&purchase["status"], decimal(&purchase["amount"])), (&json!("paid"), Decimal::from(amount)));
    }
    world.finish().await;
}

/// A station sets its clock by our answers. What it told in the hour is dated after what it told later: the register at
/// the end counts all the same, to the Wh (260 MNT would be missing or too many here).
async fn a_station_that_takes_our_time_is_billed_to_the_wh(engine: Engine) {
    let clock = Clock::new();
    let mut world = world(engine, &clock).await;
    let device = world.operator.charger_priced("CP-1", 1, 1000, 50).await.remove(0);
    let customer = world.rich_customer(PHONE, 10_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = begin_16(&customer, &mut charger, &device, 1_000).await;
    clock.ahead(HOUR);
    let sampled = json!({
        "connectorId": 1, "transactionId": transaction,
        "meterValue": [{ "timestamp": at_our_clock(HOUR), "sampledValue": [{ "value": "1260" }] }],
    });
    charger.call("MeterValues", sampled).await.ok();
    clock.ahead(0);
    charger.stop(transaction, 1_520).await;
    charger.status(1, "Available").await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 520).await;
    customer.pay(&purchase, "EVM").await.ok();
    let me = customer.post("/user/me", None).await.ok();
    assert_eq!(decimal(&me["profile"]["balance"]), Decimal::from(10_000 - 520));
    world.finish().await;
}

fn at_our_clock(ahead_s: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::seconds(ahead_s)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

async fn after_a_jump_and_back_an_invoice_is_asked_about_at_once(engine: Engine) {
    let clock = Clock::new();
    let mut shop = Shop::open(engine).await;
    let (name, path) = clock.setting();
    shop.world.program.set(&name, &path);
    shop.world.program.stop().await;
    shop.world.program.restart().await;
    shop.reconnect().await;
    an_hour_ahead(&clock, &shop.world.program).await;
    let purchase = shop.purchase(1000).await;
    let (_, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.pay_silently(&at_gateway.invoice_id, 85_000, Kind::P2p).unwrap();
    clock.ahead(0);
    // Nobody asks and no callback comes: by itself it would be asked about a minute after the hour.
    until("the invoice to be asked about", Duration::from_secs(15), async || {
        (shop.customer.purchase(&purchase).await["status"] == "paid").then_some(())
    })
    .await;
    shop.close().await;
}

async fn after_a_jump_and_back_a_code_can_be_asked_for(engine: Engine) {
    let clock = Clock::new();
    let mut world = world(engine, &clock).await;
    world.program.stop().await;
    world.program.set("EVM_OTP_DEV_CODE", "");
    world.program.restart().await;
    let ask = async || {
        let url = format!("{}/api/v1/user/otp-request", world.operator.base);
        let body = json!({ "phone": PHONE });
        request(&world.http, reqwest::Method::POST, &url, None, Some(body)).await.unwrap()
    };
    an_hour_ahead(&clock, &world.program).await;
    assert_eq!(ask().await.status, 200);
    ask().await.problem(429, "too_many_requests");
    clock.ahead(0);
    eventually("another code", async || (ask().await.status == 200).then_some(())).await;
    ask().await.problem(429, "too_many_requests");
    assert!(world.program.log().contains("the machine's clock was moved"));
    world.finish().await;
}

/// What the dead process held for times of its own clock is held by nobody: leases, and the sockets of its chargers.
async fn killed_an_hour_ahead_and_started_right_events_go_on(engine: Engine) {
    let clock = Clock::new();
    let mut world = world(engine, &clock).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    world.operator.charger("GONE", 1).await;
    let customer = world.rich_customer(PHONE, 10_000).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let gone = world.raw("GONE", Version::V16).await;
    clock.ahead(HOUR);
    // A renewal of the node's lease by the wrong clock.
    until("the clock's word", Duration::from_secs(20), async || {
        world.program.log().contains("the machine's clock was moved").then_some(())
    })
    .await;
    let first = ended_by_app(&mut world, &mut charger, &customer, &device, 100).await;
    world.program.kill().await;
    gone.closed().await;
    clock.ahead(0);
    world.program.restart().await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let stream = EventStream::open(&customer, None).await;
    customer.pay(&first, "EVM").await.ok();
    stream.hears("PAYMENT", |event| event.name == "PAYMENT").await;
    let transaction = begin_16(&customer, &mut charger, &device, 0).await;
    charger.meter(1, transaction, 70).await;
    stream.hears("CHARGING", |event| event.name == "CHARGING").await;
    until("the charger that did not come back to be offline", Duration::from_secs(30), async || {
        let one = world.operator.get("/chargers/GONE").await.ok();
        (one["online"] == false).then_some(())
    })
    .await;
    let second = customer.finish(&device).await;
    charger.command("RemoteStopTransaction").await;
    charger.stop(transaction, 80).await;
    world.billed(&second, 80).await;
    assert_ne!(first, second);
    world.finish().await;
}

/// 40 s would be refused; here they are let pass, and are said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_clocks_40_s_apart_show_every_charger_online() {
    let dir = tempfile::Builder::new().prefix("evm-test.").tempdir().unwrap();
    let backend = Backend::start(Engine::PostgresNats, None).await;
    let clock = Clock::new();
    clock.ahead(40);
    let settings = || backend.env().into_iter().chain(common_env());
    let mut api = Program::start("billing-api", &dir.path().join("api"), settings()).await;
    let mut right = Program::start("csms", &dir.path().join("right"), settings()).await;
    let bound = ("EVM_MAX_CLOCK_SKEW_S".to_owned(), "60".to_owned());
    let moved = settings().chain([bound, clock.setting()]);
    let mut wrong = Program::start("csms", &dir.path().join("wrong"), moved).await;
    let operator = operator(&api.http);
    let mut chargers = Vec::new();
    let mut taps = Vec::new();
    for (node, program) in [("RIGHT", &right), ("WRONG", &wrong)] {
        let tap = Tap::start(program.ocpp.unwrap()).await;
        for n in 0..3 {
            let identity = format!("{node}-{n}");
            operator.charger(&identity, 1).await;
            let mut charger = RawCharger::connect(&tap, &identity, Version::V16).await;
            charger.boot().await;
            chargers.push(charger);
        }
        taps.push(tap);
    }
    let online = async || operator.all("/chargers").await.iter().filter(|charger| charger["online"] == true).count();
    eventually("all to be online", async || (online().await == 6).then_some(())).await;
    // Both nodes renew and look for dead ones every 5 s.
    let (begun, mut looks) = (std::time::Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(13) {
        assert_eq!(online().await, 6, "at look {looks}");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = |program: &Program| program.log().contains("differs from the database's");
    eventually("a word about the clock", async || said(&wrong).then_some(())).await;
    assert!(!said(&right));
    drop(chargers);
    drop(taps);
    for program in [&mut right, &mut wrong, &mut api] {
        program.stop().await;
    }
}
