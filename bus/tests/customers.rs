//! What phones may do, the same at the built-in port and at a NATS server with auth callout.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Engine, STORE_DOWN, until};
use futures_util::StreamExt;

on_both_engines!(
    the_own_topic_is_heard,
    nothing_else_is_heard,
    nothing_can_be_published,
    wrong_logins_are_refused,
    subscriptions_are_limited,
    a_queue_group_shares_events,
    unsubscribe_after_counts,
    nobody_gets_in_unseen,
);

async fn the_own_topic_is_heard(engine: Engine) {
    let phone = engine.phone("a").await.unwrap();
    for pattern in ["ev.a.CHARGING", "ev.a.*", "ev.a.>"] {
        let mut events = phone.client.subscribe(pattern).await.unwrap();
        phone.settled(&engine, "a").await;
        engine.bus.publish("ev.b.CHARGING", None, b"not mine").await.unwrap();
        engine.bus.publish("ev.a.CHARGING", None, b"{\"energy\":1}").await.unwrap();
        engine.bus.publish("ev.a.CHARGING", Some("evt-1"), b"").await.unwrap();
        let mut next = async || loop {
            let event = events.next().await.unwrap();
            if event.subject.as_str() != "ev.a.SETTLED" {
                break event;
            }
        };
        let (live, last) = (next().await, next().await);
        assert_eq!(&live.payload[..], b"{\"energy\":1}");
        assert!(live.headers.is_none());
        assert_eq!(last.subject.as_str(), "ev.a.CHARGING");
        assert_eq!(last.headers.unwrap().get("Nats-Msg-Id").unwrap().as_str(), "evt-1");
        assert!(last.payload.is_empty());
    }
}

async fn nothing_else_is_heard(engine: Engine) {
    let phone = engine.phone("a").await.unwrap();
    let wild = [
        "ev.b.CHARGING",
        "ev.b.>",
        ">",
        "*",
        "ev.>",
        "ev.*",
        "ev.*.CHARGING",
        "*.a.>",
        "ev.a",
        "_INBOX.>",
        "cmd.>",
        "ctl.>",
        "hint.outbox",
        "$SYS.>",
        "$SYS.REQ.USER.AUTH",
    ];
    let mut refused = Vec::new();
    for pattern in wild {
        refused.push(phone.client.subscribe(pattern).await.unwrap());
        phone.told(&format!("Permissions Violation for Subscription to \"{pattern}\"")).await;
    }
    phone.settled(&engine, "a").await;
    for subject in ["ev.b.CHARGING", "ev.a.X", "cmd.x.1", "ctl.x", "hint.outbox"] {
        engine.bus.publish(subject, None, b"secret").await.unwrap();
    }
    let _nobody = engine.bus.ask("cmd.x.1", b"secret".to_vec(), Duration::from_secs(1)).await;
    phone.settled(&engine, "a").await;
    for subscription in &mut refused {
        let heard = tokio::time::timeout(Duration::from_millis(5), subscription.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

async fn nothing_can_be_published(engine: Engine) {
    let mut internal = engine.bus.subscribe("ev.>").await.unwrap();
    let mut hints = engine.bus.subscribe("hint.outbox").await.unwrap();
    let mut commands = engine.bus.serve("cmd.x.1").await.unwrap();
    let phone = engine.phone("a").await.unwrap();
    for subject in ["ev.a.CHARGING", "ev.b.CHARGING", "cmd.x.1", "hint.outbox", "_INBOX.x", "x"] {
        phone.client.publish(subject, "forged".into()).await.unwrap();
        phone.told(&format!("Permissions Violation for Publish to \"{subject}\"")).await;
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "1");
    phone.client.publish_with_headers("ev.a.HEADERS", headers, "forged".into()).await.unwrap();
    phone.told("Permissions Violation for Publish to \"ev.a.HEADERS\"").await;
    // The connection goes on, and nobody has heard a thing.
    phone.settled(&engine, "a").await;
    assert_eq!(internal.next().await.unwrap().subject, "ev.a.SETTLED");
    engine.bus.publish("hint.outbox", None, b"true").await.unwrap();
    assert_eq!(hints.next().await.unwrap().payload, b"true");
    let taken = tokio::time::timeout(Duration::from_millis(5), commands.next()).await;
    assert!(taken.is_err());
}

async fn wrong_logins_are_refused(engine: Engine) {
    let long = "x".repeat(300);
    for (user, secret) in [("a", "secret-b"), ("a", ""), ("", ""), ("c", "secret-c"), ("a", &long)] {
        let refused = engine.phone_with(user, secret).await.err().unwrap();
        let kind = refused.kind();
        assert_eq!(kind, async_nats::ConnectErrorKind::AuthorizationViolation, "{user} {secret}");
    }
    let nobody = async_nats::connect(&engine.phones).await;
    assert!(nobody.is_err());
    // The program's own users have passwords, and those are not these.
    for user in ["api", "auth", "sys"] {
        assert!(engine.phone_with(user, "secret-a").await.is_err());
    }
    // A topic that would open more than its own is never let in.
    for topic in [">", "ev.*", "cmd", "ev.a.b"] {
        let session = ("secret-w".to_owned(), topic.to_owned());
        engine.sessions.lock().unwrap().insert("w".to_owned(), session);
        assert!(engine.phone("w").await.is_err(), "{topic}");
    }
}

async fn subscriptions_are_limited(engine: Engine) {
    let phone = engine.phone("a").await.unwrap();
    let mut all = Vec::new();
    for number in 0..17 {
        all.push(phone.client.subscribe(format!("ev.a.N{number}")).await.unwrap());
    }
    phone.told("maximum subscriptions exceeded").await;
    until(async || {
        engine.bus.publish("ev.a.N0", None, b"").await.unwrap();
        tokio::time::timeout(Duration::from_millis(20), all[0].next()).await.is_ok()
    })
    .await;
}

async fn a_queue_group_shares_events(engine: Engine) {
    let (one, two) = (engine.phone("a").await.unwrap(), engine.phone("a").await.unwrap());
    let mut first = one.client.queue_subscribe("ev.a.N", "q".to_owned()).await.unwrap();
    let mut second = two.client.queue_subscribe("ev.a.N", "q".to_owned()).await.unwrap();
    one.settled(&engine, "a").await;
    two.settled(&engine, "a").await;
    for _ in 0..40 {
        engine.bus.publish("ev.a.N", None, b"").await.unwrap();
    }
    for count in 1..=40 {
        tokio::select! {
            event = first.next() => assert!(event.is_some()),
            event = second.next() => assert!(event.is_some()),
            () = tokio::time::sleep(common::PATIENCE) => panic!("{count} of 40 came"),
        }
    }
    one.settled(&engine, "a").await;
    two.settled(&engine, "a").await;
    let more = tokio::time::timeout(Duration::from_millis(5), async {
        tokio::select! { _ = first.next() => (), _ = second.next() => () }
    });
    assert!(more.await.is_err());
}

async fn unsubscribe_after_counts(engine: Engine) {
    let phone = engine.phone("a").await.unwrap();
    let mut events = phone.client.subscribe("ev.a.N").await.unwrap();
    events.unsubscribe_after(2).await.unwrap();
    phone.settled(&engine, "a").await;
    for _ in 0..3 {
        engine.bus.publish("ev.a.N", None, b"").await.unwrap();
    }
    assert!(events.next().await.is_some());
    assert!(events.next().await.is_some());
    assert!(events.next().await.is_none());
}

async fn nobody_gets_in_unseen(engine: Engine) {
    // Not refused as wrong, at which apps give up: this passes.
    match engine.phone_with(STORE_DOWN, "secret").await {
        Err(refused) => {
            assert_ne!(refused.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
        }
        Ok(phone) => phone.told("disconnected").await,
    }
    engine.close_door();
    until(async || !engine.lets_in("a").await).await;
}
