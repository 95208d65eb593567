//! Commands and events between the program's own parts, the same on both engines.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::{Engine, NatsServer, PATIENCE, until};
use evm_bus::{AskError, Bus, BusError, Commands, MAX_EVENT, NatsOptions, SUBSCRIPTION_QUEUE, subject};

on_both_engines!(
    a_command_is_answered,
    an_immediate_command_always_arrives,
    nobody_is_known_at_once,
    an_unanswered_command_times_out,
    an_abandoned_command_is_not_handed_out,
    commands_end_with_their_server,
    one_of_several_servers_gets_a_command,
    large_answers_fit,
    events_reach_every_pattern_that_matches,
    a_slow_listener_loses_only_its_own_events,
    a_dropped_subscription_hears_nothing,
    wrong_arguments_are_refused,
    everything_published_is_confirmed,
);

const SECOND: Duration = Duration::from_secs(1);

fn echo(mut commands: Commands) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(command) = commands.next().await {
            let payload = command.payload.clone();
            command.respond(payload).await;
        }
    })
}

async fn a_command_is_answered(engine: Engine) {
    let subject = subject::command("CP *.> 1", 3);
    let server = echo(engine.other_node().await.serve(&subject).await.unwrap());
    let answer = engine.bus.ask(&subject, b"start".to_vec(), PATIENCE).await.unwrap();
    assert_eq!(answer, b"start");
    let older = subject::command("CP *.> 1", 2);
    let nobody = engine.bus.ask(&older, vec![], PATIENCE).await;
    assert!(matches!(nobody, Err(AskError::NoResponder)));
    assert!(engine.bus.healthy());
    server.abort();
}

async fn an_immediate_command_always_arrives(engine: Engine) {
    let node = engine.other_node().await;
    let mut servers = Vec::new();
    for epoch in 0..400 {
        let subject = subject::command("CP", epoch);
        servers.push(echo(node.serve(&subject).await.unwrap()));
        let answer = engine.bus.ask(&subject, epoch.to_string().into(), PATIENCE).await;
        assert_eq!(answer.unwrap(), epoch.to_string().into_bytes());
    }
    // All of them are still served: no limit of subscriptions holds for the program.
    for epoch in 0..400 {
        let subject = subject::command("CP", epoch);
        engine.bus.ask(&subject, vec![], PATIENCE).await.unwrap();
    }
    servers.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn nobody_is_known_at_once(engine: Engine) {
    let start = Instant::now();
    let asked = engine.bus.ask("cmd.nobody.1", vec![], PATIENCE).await;
    assert!(matches!(asked, Err(AskError::NoResponder)), "{asked:?}");
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

async fn an_unanswered_command_times_out(engine: Engine) {
    let mut commands = engine.bus.serve("cmd.mute.1").await.unwrap();
    let start = Instant::now();
    let deadline = Duration::from_millis(50);
    let asked = engine.bus.ask("cmd.mute.1", vec![], deadline).await;
    assert!(matches!(asked, Err(AskError::Timeout)), "{asked:?}");
    assert!((deadline..10 * SECOND).contains(&start.elapsed()));
    // Taken and dropped: still nobody knows what became of it.
    let (asked, ()) = tokio::join!(engine.bus.ask("cmd.mute.1", vec![], SECOND), async {
        drop(commands.next().await);
    });
    assert!(matches!(asked, Err(AskError::Timeout)), "{asked:?}");
}

async fn an_abandoned_command_is_not_handed_out(engine: Engine) {
    let mut commands = engine.bus.serve("cmd.late.1").await.unwrap();
    let late = engine.bus.ask("cmd.late.1", b"old".to_vec(), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(AskError::Timeout)), "{late:?}");
    let bus = engine.bus.clone();
    let asked = tokio::spawn(async move { bus.ask("cmd.late.1", b"new".to_vec(), PATIENCE).await });
    let command = commands.next().await.unwrap();
    assert_eq!(command.payload, b"new");
    command.respond(b"done".to_vec()).await;
    assert_eq!(asked.await.unwrap().unwrap(), b"done");
}

async fn commands_end_with_their_server(engine: Engine) {
    let commands = engine.bus.serve("cmd.gone.1").await.unwrap();
    drop(commands);
    until(async || {
        let asked = engine.bus.ask("cmd.gone.1", vec![], Duration::from_millis(100)).await;
        matches!(asked, Err(AskError::NoResponder))
    })
    .await;
}

async fn one_of_several_servers_gets_a_command(engine: Engine) {
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    for node in [engine.bus.clone(), engine.other_node().await] {
        let (sender, mut commands) = (sender.clone(), node.serve("cmd.two.1").await.unwrap());
        tokio::spawn(async move {
            while let Some(command) = commands.next().await {
                sender.send(command.payload.clone()).unwrap();
                command.respond(vec![]).await;
            }
        });
    }
    for number in 0..20u8 {
        engine.bus.ask("cmd.two.1", vec![number], PATIENCE).await.unwrap();
        assert_eq!(taken.recv().await.unwrap(), [number]);
    }
    assert!(taken.try_recv().is_err());
}

async fn large_answers_fit(engine: Engine) {
    let mut commands = engine.bus.serve("cmd.big.1").await.unwrap();
    let large = vec![b'x'; 900_000];
    let (answer, ()) = tokio::join!(engine.bus.ask("cmd.big.1", vec![], PATIENCE), async {
        commands.next().await.unwrap().respond(large.clone()).await;
    });
    assert_eq!(answer.unwrap(), large);
    let too_large = vec![b'x'; evm_bus::MAX_COMMAND + 1];
    let refused = engine.bus.ask("cmd.big.1", too_large, PATIENCE).await;
    assert!(matches!(refused, Err(AskError::Down(_))));
}

async fn events_reach_every_pattern_that_matches(engine: Engine) {
    let node = engine.other_node().await;
    let mut exact = node.subscribe("ev.x.CHARGING").await.unwrap();
    let mut star = node.subscribe("ev.x.*").await.unwrap();
    let mut tail = node.subscribe("ev.>").await.unwrap();
    let subject = subject::customer("ev.x", "CHARGING");
    engine.bus.publish("ev.y.CHARGING", None, b"other").await.unwrap();
    engine.bus.publish(&subject, None, b"live").await.unwrap();
    engine.bus.publish(&subject, Some("evt-1"), b"final").await.unwrap();
    engine.bus.publish("hint.outbox", None, b"").await.unwrap();
    assert_eq!(tail.next().await.unwrap().payload, b"other");
    for subscription in [&mut exact, &mut star, &mut tail] {
        let live = subscription.next().await.unwrap();
        assert_eq!((live.payload, live.id), (b"live".to_vec(), None));
        let last = subscription.next().await.unwrap();
        assert_eq!((last.payload, last.id.as_deref()), (b"final".to_vec(), Some("evt-1")));
        assert_eq!(last.subject, "ev.x.CHARGING");
    }
}

async fn a_slow_listener_loses_only_its_own_events(engine: Engine) {
    let mut slow = engine.bus.subscribe("ev.x.>").await.unwrap();
    let mut quick = engine.bus.subscribe("ev.x.>").await.unwrap();
    let total = SUBSCRIPTION_QUEUE + 100;
    for number in 0..total {
        engine.bus.publish("ev.x.N", None, number.to_string().as_bytes()).await.unwrap();
        let heard = quick.next().await.unwrap();
        assert_eq!(heard.payload, number.to_string().into_bytes());
    }
    until(async || engine.bus.dropped() >= 100).await;
    for number in 0..SUBSCRIPTION_QUEUE {
        assert_eq!(slow.next().await.unwrap().payload, number.to_string().into_bytes());
    }
    engine.bus.publish("ev.x.N", None, b"after").await.unwrap();
    assert_eq!(slow.next().await.unwrap().payload, b"after");
}

async fn a_dropped_subscription_hears_nothing(engine: Engine) {
    let first = engine.bus.subscribe("ev.x.>").await.unwrap();
    drop(first);
    let mut second = engine.bus.subscribe("ev.x.>").await.unwrap();
    engine.bus.publish("ev.x.N", None, b"1").await.unwrap();
    assert_eq!(second.next().await.unwrap().payload, b"1");
    assert_eq!(engine.bus.dropped(), 0);
}

async fn wrong_arguments_are_refused(engine: Engine) {
    let bus = &engine.bus;
    for wrong in ["", ".", "a..b", "a b", "a.*", "a.>", "a\r\nPUB b", "a.\u{a0}"] {
        let published = bus.publish(wrong, None, b"").await;
        assert!(matches!(published, Err(BusError::BadSubject(_))), "{wrong:?}");
        assert!(matches!(bus.serve(wrong).await, Err(BusError::BadSubject(_))), "{wrong:?}");
        let asked = bus.ask(wrong, vec![], SECOND).await;
        assert!(matches!(asked, Err(AskError::Down(_))), "{wrong:?}");
    }
    for wrong in ["", ">", "*", "a.*.b", "a.>.b", "a..>"] {
        assert!(matches!(bus.subscribe(wrong).await, Err(BusError::BadSubject(_))), "{wrong:?}");
    }
    for wrong in ["", "a\r\nb", "a b", "é", &"x".repeat(201)] {
        let published = bus.publish("ev.x.N", Some(wrong), b"").await;
        assert!(matches!(published, Err(BusError::BadId(_))), "{wrong:?}");
    }
    let large = bus.publish("ev.x.N", None, &vec![0; MAX_EVENT + 1]).await;
    assert!(matches!(large, Err(BusError::TooLarge(_))));
}

async fn everything_published_is_confirmed(engine: Engine) {
    let mut heard = engine.other_node().await.subscribe("ev.x.>").await.unwrap();
    for number in 0..200 {
        let id = format!("id-{number}");
        engine.bus.publish("ev.x.PAYMENT", Some(&id), b"{}").await.unwrap();
    }
    engine.bus.confirm().await.unwrap();
    let mut ids = HashSet::new();
    while ids.len() < 200 {
        ids.insert(heard.next().await.unwrap().id.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_comes_back_is_found_again() {
    let Some(mut engine) = Engine::nats().await else { return };
    let bus = engine.bus.clone();
    let server = echo(bus.serve("cmd.stay.1").await.unwrap());
    let mut heard = bus.subscribe("ev.x.>").await.unwrap();
    bus.publish("ev.x.PAYMENT", Some("lost?"), b"{}").await.unwrap();
    engine.server.as_mut().unwrap().stop();
    until(async || !bus.healthy()).await;
    assert!(matches!(bus.ask("cmd.stay.1", vec![], SECOND).await, Err(AskError::Down(_))));
    assert!(matches!(bus.publish("ev.x.N", Some("1"), b"").await, Err(BusError::Down(_))));
    assert!(bus.confirm().await.is_err());
    engine.server.as_mut().unwrap().start_again();
    until(async || bus.healthy()).await;
    until(async || bus.ask("cmd.stay.1", vec![], SECOND).await.is_ok()).await;
    until(async || bus.publish("ev.x.AGAIN", Some("2"), b"").await.is_ok() && bus.confirm().await.is_ok()).await;
    while heard.next().await.unwrap().subject != "ev.x.AGAIN" {}
    // The callout has come back too.
    until(async || engine.lets_in("a").await).await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_out_on_a_broken_connection_is_not_confirmed() {
    let Some(mut engine) = Engine::nats().await else { return };
    let bus = engine.bus.clone();
    bus.publish("ev.x.PAYMENT", Some("1"), b"{}").await.unwrap();
    engine.server.as_mut().unwrap().stop();
    engine.server.as_mut().unwrap().start_again();
    until(async || bus.healthy() && bus.subscribe("ev.x.>").await.is_ok()).await;
    assert!(matches!(bus.confirm().await, Err(BusError::Down(_))));
    bus.publish("ev.x.PAYMENT", Some("1"), b"{}").await.unwrap();
    bus.confirm().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_of_the_program_is_told_at_once() {
    let Some(server) = NatsServer::start(0) else { return };
    let url = format!("nats://api:wrong@127.0.0.1:{}", server.port);
    let refused = Bus::connect_nats(NatsOptions::new(url)).await;
    assert!(matches!(refused, Err(BusError::Down(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_nats_server_holds_nobody_up() {
    let Some(engine) = Engine::nats().await else { return };
    let bus = engine.bus.clone();
    let _commands = bus.serve("cmd.stuck.1").await.unwrap();
    engine.server.as_ref().unwrap().freeze();
    let asked = bus.ask("cmd.stuck.1", vec![], Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(AskError::Timeout)), "{asked:?}");
    let payload = vec![b'x'; 60_000];
    let refused = loop {
        let start = Instant::now();
        let published = bus.publish("ev.x.N", Some("1"), &payload).await;
        assert!(start.elapsed() < 5 * SECOND);
        if let Err(error) = published {
            break error;
        }
    };
    assert!(matches!(refused, BusError::Backlogged), "{refused}");
    assert!(matches!(bus.confirm().await, Err(BusError::Down(_))));
}
