//! Who gets in as a charger: paths, heads, passwords, and the log line of whoever does not.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use evm_tests::upgrade::{basic, loopback, say, status, status_from, upgrade};
use evm_tests::{World, eventually, on_both_engines};
use reqwest::Method;
use serde_json::{Value, json};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PASSWORD: &str = "0123456789abcdef";

async fn set_password(world: &World, identity: &str, password: Value) -> evm_tests::Answer {
    let body = json!({ "password": password, "devices": [] });
    world.operator.send(Method::PUT, &format!("/chargers/{identity}"), Some(body)).await
}

/// The lines of refusals that hold all these words.
async fn line(world: &World, words: &[&str]) -> String {
    eventually(&format!("a line with {words:?}"), async || {
        let log = world.program.log();
        log.lines()
            .find(|line| line.contains("charger refused") && words.iter().all(|word| line.contains(word)))
            .map(ToOwned::to_owned)
    })
    .await
}

/// So many guesses at once, and how many of them got which answer.
async fn guesses<F: Future<Output = u16> + Send + 'static>(count: u32, guess: impl Fn(u32) -> F) -> BTreeMap<u16, u32> {
    let guesses: Vec<_> = (0..count).map(|n| tokio::spawn(guess(n))).collect();
    let mut answers = BTreeMap::new();
    for guess in guesses {
        *answers.entry(guess.await.unwrap()).or_default() += 1;
    }
    answers
}

on_both_engines! {
    async fn a_url_may_have_slashes_too_many(world) {
        let ocpp = world.program.ocpp.unwrap();
        set_password(world, "CP-1", json!(PASSWORD)).await.ok();
        let login = basic("CP-1", PASSWORD.as_bytes());
        for path in ["/ocpp/CP-1", "/ocpp//CP-1", "/ocpp/CP-1/", "//ocpp/CP-1", "//ocpp//CP-1//", "/ocpp/CP-1///", "/ocpp//CP%2D1"] {
            assert_eq!(say(HERE, ocpp, &upgrade(path, &login)).await.0, 101, "{path}");
        }
        for path in ["/ocpp/", "/ocpp//", "/ocpp/a/b", "/ocpp//a//CP-1", "/ocpp/%2FCP-1", "/ocpp/CP-1%2F", "/ocpp%2FCP-1", "/CP-1"] {
            assert_eq!(say(HERE, ocpp, &upgrade(path, &login)).await.0, 404, "{path}");
        }
    }

    async fn an_upgrade_that_may_be_read_in_two_ways_is_refused(world) {
        let ocpp = world.program.ocpp.unwrap();
        set_password(world, "CP-1", json!(PASSWORD)).await.ok();
        let login = basic("CP-1", PASSWORD.as_bytes());
        let with = |lines: &str| upgrade("/ocpp/CP-1", &format!("{login}{lines}"));
        let good = with("");
        for (status, text) in [
            (101, good.clone()),
            (101, with("Content-Length: 0\r\n")),
            (101, good.replace("Connection: Upgrade", "connection: keep-alive, upgrade")),
            (101, good.replace("Upgrade: websocket", "upgrade: WebSocket")),
            (400, with(&login)),
            (400, with(&basic("CP-1", b"another-password"))),
            (400, with("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n")),
            (400, with("Sec-WebSocket-Version: 13\r\n")),
            (400, with("Host: y\r\n")),
            (400, with("Content-Length: 2\r\n") + "{}"),
            (400, with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
            (400, good.replace("\r\n", "\n")),
            (400, good.replace("Host: x\r\n", "Host: x\n")),
            (400, good.replace("HTTP/1.1", "HTTP/1.0")),
            (400, good.replace("Host: x\r\n", "")),
            (426, good.replace("Sec-WebSocket-Version: 13\r\n", "")),
            (426, good.replace("Version: 13", "Version: 8")),
            (426, good.replace("Connection: Upgrade\r\n", "")),
            (426, good.replace("GET ", "POST ")),
            (431, with(&format!("X: {}\r\n", "x".repeat(10_000)))),
        ] {
            assert_eq!(say(HERE, ocpp, &text).await.0, status, "{text}");
        }
    }

    async fn two_passwords_are_the_same_if_their_bytes_are(world) {
        let ocpp = world.program.ocpp.unwrap();
        let (text, digits) = ("correct-horse-17", "636f72726563742d686f7273652d3137");
        set_password(world, "CP-1", json!(text)).await.ok();
        for same in [text, digits, &digits.to_uppercase(), "636F72726563742d686f7273652d3137"] {
            set_password(world, "CP-2", json!(same)).await.problem(409, "password_taken");
            assert_eq!(status(ocpp, "CP-1", same).await, 101, "{same}");
        }
        let twenty = "ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00";
        set_password(world, "CP-2", json!(twenty)).await.ok();
        set_password(world, "CP-3", json!(twenty.to_uppercase())).await.problem(409, "password_taken");
        assert_eq!(status(ocpp, "CP-2", [0xff, 0].repeat(10)).await, 101);
        assert_eq!(status(ocpp, "CP-2", [0xff, 0].repeat(8)).await, 401);
        // Its own may be set again, in either form.
        set_password(world, "CP-1", json!(digits)).await.ok();
        assert_eq!(status(ocpp, "CP-1", text).await, 101);
        // One that still lets another charger in is taken, too.
        set_password(world, "CP-1", json!("another-horse-18")).await.ok();
        set_password(world, "CP-3", json!(digits)).await.problem(409, "password_taken");
        // Digits of fewer or more bytes are a text.
        set_password(world, "CP-4", json!("ab".repeat(15))).await.ok();
        assert_eq!(status(ocpp, "CP-4", "AB".repeat(15)).await, 401);
        assert_eq!(status(ocpp, "CP-4", "ab".repeat(15)).await, 101);
    }

    async fn an_earlier_password_is_good_until_a_newer_one_was_used(world) {
        let ocpp = world.program.ocpp.unwrap();
        let [a, b, c] = ["password-number-a", "password-number-b", "password-number-c"];
        set_password(world, "CP-1", json!(a)).await.ok();
        assert_eq!(status(ocpp, "CP-1", a).await, 101);
        set_password(world, "CP-1", json!(b)).await.ok();
        // The program dies before it could tell the charger.
        world.program.kill().await;
        world.program.restart().await;
        assert_eq!(status(ocpp, "CP-1", a).await, 101, "the charger did not hear of it");
        assert_eq!(status(ocpp, "CP-1", "password-number-x").await, 401);
        set_password(world, "CP-1", json!(c)).await.ok();
        for password in [a, b, b] {
            assert_eq!(status(ocpp, "CP-1", password).await, 101, "{password}");
        }
        assert_eq!(status(ocpp, "CP-1", a).await, 401, "a newer one was used");
        assert_eq!(status(ocpp, "CP-1", c).await, 101);
        world.program.kill().await;
        world.program.restart().await;
        for (password, status_then) in [(a, 401), (b, 401), (c, 101)] {
            assert_eq!(status(ocpp, "CP-1", password).await, status_then, "{password}");
        }
        // Taken back before the charger heard of it, the other is good until this one is used again.
        set_password(world, "CP-1", json!(a)).await.ok();
        set_password(world, "CP-1", json!(c)).await.ok();
        for (password, status_then) in [(a, 101), (c, 101), (a, 401), (c, 101)] {
            assert_eq!(status(ocpp, "CP-1", password).await, status_then, "{password}");
        }
        // A change of something else changes no password, and none leaves none of them.
        let body = json!({ "devices": [] });
        world.operator.send(Method::PUT, "/chargers/CP-1", Some(body)).await.ok();
        assert_eq!(status(ocpp, "CP-1", c).await, 101);
        set_password(world, "CP-1", json!(b)).await.ok();
        set_password(world, "CP-1", Value::Null).await.ok();
        set_password(world, "CP-1", json!(a)).await.ok();
        for (password, status_then) in [(b, 401), (c, 401), (a, 101)] {
            assert_eq!(status(ocpp, "CP-1", password).await, status_then, "{password}");
        }
    }

    async fn who_is_refused_finds_a_line_with_what_was_asked_and_why(world) {
        let ocpp = world.program.ocpp.unwrap();
        set_password(world, "CP-1", json!(PASSWORD)).await.ok();
        let wrong = "wrong-password-of-somebody";
        assert_eq!(status_from(loopback(7), ocpp, "CP-1", wrong).await, 401);
        line(world, &["INFO", "address=127.0.0.7", "identity=\"CP-1\"", "subprotocols=\"ocpp1.6\"", "the password is wrong"]).await;
        assert_eq!(say(HERE, ocpp, &upgrade("/ocpp/CP-1", "")).await.0, 401);
        line(world, &["address=127.0.0.1", "identity=\"CP-1\"", "no password"]).await;
        assert_eq!(status(ocpp, "NOBODY", wrong).await, 404);
        line(world, &["identity=\"NOBODY\"", "no such charger"]).await;
        assert_eq!(say(HERE, ocpp, "\u{16}\u{3}\u{1}hello").await.0, 400);
        line(world, &["TLS, where this port speaks plain HTTP"]).await;
        assert_eq!(say(HERE, ocpp, "hello\r\n\r\n").await.0, 400);
        line(world, &["no HTTP request"]).await;
        let twice = upgrade("/ocpp/CP-1", &basic("CP-1", wrong.as_bytes()).repeat(2));
        assert_eq!(say(HERE, ocpp, &twice).await.0, 400);
        line(world, &["identity=\"CP-1\"", "stands twice"]).await;
        let body = upgrade("/ocpp/CP-1\u{1b}[31m", "");
        assert!((400..500).contains(&say(HERE, ocpp, &body).await.0));
        assert_eq!(say(HERE, ocpp, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000))).await.0, 431);
        line(world, &["the head is too large"]).await;
        let other = upgrade("/ocpp/CP-1", &basic("CP-1", PASSWORD.as_bytes())).replace("ocpp1.6", "ocpp9.9");
        assert_eq!(say(HERE, ocpp, &other).await.0, 101);
        line(world, &["identity=\"CP-1\"", "subprotocols=\"ocpp9.9\"", "no common subprotocol"]).await;
        // Many at once leave few lines, and the next one says how many were left out.
        for _ in 0..60 {
            assert_eq!(say(loopback(9), ocpp, &upgrade("/ocpp/NOBODY", "")).await.0, 404);
        }
        assert_eq!(status_from(loopback(8), ocpp, "CP-1", wrong).await, 401);
        line(world, &["address=127.0.0.8", "left_out="]).await;
        let log = world.program.log();
        assert!(log.lines().filter(|line| line.contains("address=127.0.0.9")).count() <= 30);
        assert!(!log.contains(wrong) && !log.contains(&basic("CP-1", wrong.as_bytes())[21..].trim_end().to_owned()));
    }

    async fn wrong_passwords_are_limited_and_lock_no_charger_out(world) {
        let ocpp = world.program.ocpp.unwrap();
        for identity in ["CP-1", "CP-2", "CP-3"] {
            set_password(world, identity, json!(format!("password-of-{identity}"))).await.ok();
        }
        assert_eq!(status(ocpp, "CP-1", "password-of-CP-1").await, 101);
        // A stranger guesses for two chargers at once.
        let answers = guesses(200, move |n| async move {
            let identity = format!("CP-{}", 1 + n % 2);
            status_from(loopback(66), ocpp, &identity, format!("guess-number-{n:05}")).await
        })
        .await;
        assert!(answers.keys().eq(&[401, 429]) && (20..60).contains(&answers[&401]), "{answers:?}");
        // Others notice nothing: from an address that was there before, from one that was not, and after a restart.
        assert_eq!(status(ocpp, "CP-1", "password-of-CP-1").await, 101);
        assert_eq!(status(ocpp, "CP-2", "password-of-CP-2").await, 101);
        assert_eq!(status_from(loopback(3), ocpp, "CP-3", "password-of-CP-3").await, 101);
        // Guesses from the charger's own address are refused as fast, and the right password still gets in, there
        // and, waiting its turn, for a charger that is new at this address.
        let answers = guesses(100, move |n| async move { status(ocpp, "CP-1", format!("guess-number-{n:05}")).await }).await;
        assert!(answers.keys().eq(&[401, 429]) && answers[&401] >= 20, "{answers:?}");
        assert_eq!(status(ocpp, "CP-1", "password-of-CP-1").await, 101);
        assert_eq!(status(ocpp, "CP-3", "password-of-CP-3").await, 101);
    }
}
