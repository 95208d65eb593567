//! The built-in NATS port, byte by byte: errors and bounds that well-behaved clients never meet.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Engine, PATIENCE, until};
use evm_bus::hub::HubLimits;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const LOGIN: &str = "CONNECT {\"user\":\"a\",\"pass\":\"secret-a\"}\r\n";
const FAR: Duration = Duration::from_secs(3600);

struct Raw(BufReader<TcpStream>);

impl Raw {
    /// Connected, INFO not yet read.
    async fn open(engine: &Engine) -> Raw {
        Raw(BufReader::new(TcpStream::connect(&engine.phones).await.unwrap()))
    }

    async fn logged_in(engine: &Engine) -> Raw {
        let mut raw = Raw::open(engine).await;
        assert!(raw.line().await.starts_with("INFO {"));
        raw.say(LOGIN).await;
        raw.say("PING\r\n").await;
        assert_eq!(raw.line().await, "PONG");
        raw
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; empty at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    async fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line().await, *line);
        }
    }

    /// The next line is this error, and then the connection is closed.
    async fn ends_with(&mut self, error: &str) {
        assert_eq!(self.line().await, format!("-ERR '{error}'"));
        assert_eq!(self.line().await, "");
    }
}

fn quick() -> HubLimits {
    HubLimits { wrong_login_delay: Duration::ZERO, ..HubLimits::default() }
}

#[tokio::test]
async fn info_says_what_clients_need() {
    let engine = Engine::local().await;
    let line = Raw::open(&engine).await.line().await;
    let info: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
    assert_eq!(info["auth_required"], true);
    assert_eq!(info["headers"], true);
    assert_eq!(info["max_payload"], 65536);
    assert_eq!(info["port"].to_string(), engine.phones.rsplit(':').next().unwrap());
    assert!(info["server_id"].as_str().unwrap().starts_with('N'));
}

#[tokio::test]
async fn nothing_comes_before_the_login() {
    let engine = Engine::local().await;
    for early in ["PING\r\n", "SUB ev.a.> 1\r\n", "PUB ev.a.X 0\r\n\r\n"] {
        let mut raw = Raw::open(&engine).await;
        raw.line().await;
        raw.say(early).await;
        raw.ends_with("Authorization Violation").await;
    }
    for wrong in ["{}", "{\"user\":\"a\"}", "{\"user\":\"a\",\"pass\":\"x\"}"] {
        let mut raw = Raw::open(&engine).await;
        raw.line().await;
        raw.say(&format!("CONNECT {wrong}\r\nPING\r\n")).await;
        raw.ends_with("Authorization Violation").await;
    }
}

#[tokio::test]
async fn a_login_must_come_in_time() {
    let login_timeout = Duration::from_millis(50);
    let engine = Engine::local_with(HubLimits { login_timeout, ..quick() }).await;
    let mut raw = Raw::open(&engine).await;
    raw.line().await;
    raw.say("CONN").await;
    raw.ends_with("Authentication Timeout").await;
}

#[tokio::test]
async fn verbose_clients_get_their_ok() {
    let engine = Engine::local().await;
    let mut raw = Raw::open(&engine).await;
    raw.line().await;
    let login = LOGIN.replace('}', ",\"verbose\":true,\"pedantic\":true,\"no_responders\":true}");
    raw.say(&login).await;
    raw.say("SUB ev.a.X 1\r\nSUB ev.b.X 2\r\nUNSUB 1\r\nPING\r\n").await;
    let refused = "-ERR 'Permissions Violation for Subscription to \"ev.b.X\"'";
    raw.expect(&["+OK", "+OK", refused, "+OK", "PONG"]).await;
}

#[tokio::test]
async fn clients_without_headers_get_none() {
    let engine = Engine::local().await;
    let mut raw = Raw::logged_in(&engine).await;
    raw.say("SUB ev.a.> 7\r\nSUB ev.a.Y q 8\r\nPING\r\n").await;
    raw.expect(&["PONG"]).await;
    engine.bus.publish("ev.a.X", Some("evt-1"), b"{}").await.unwrap();
    raw.expect(&["MSG ev.a.X 7 2", "{}"]).await;
}

#[tokio::test]
async fn payloads_of_refused_publishes_are_passed_over() {
    let engine = Engine::local().await;
    let mut raw = Raw::logged_in(&engine).await;
    let payload = "PING\r\n".repeat(10_000);
    let size = payload.len();
    raw.say(&format!("PUB ev.a.X {size}\r\n{payload}\r\nPING\r\n")).await;
    raw.expect(&["-ERR 'Permissions Violation for Publish to \"ev.a.X\"'", "PONG"]).await;
    raw.say("HPUB cmd.x reply 12 14\r\nNATS/1.0\r\n\r\nab\r\nPING\r\n").await;
    raw.expect(&["-ERR 'Permissions Violation for Publish to \"cmd.x\"'", "PONG"]).await;
    let queued = "-ERR 'Permissions Violation for Subscription to \">\" using queue \"q\"'";
    raw.say("SUB > q 1\r\nPING\r\n").await;
    raw.expect(&[queued, "PONG"]).await;
}

#[tokio::test]
async fn faults_end_the_connection() {
    let engine = Engine::local().await;
    let long = "A".repeat(10_000);
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "Unknown Protocol Operation"),
        ("MSG ev.a.X 1 0\r\n\r\n", "Unknown Protocol Operation"),
        ("SUB\r\n", "Unknown Protocol Operation"),
        ("PUB ev.a.X 65537\r\n", "Maximum Payload Violation"),
        (&long, "maximum control line exceeded"),
    ];
    for (text, error) in cases {
        let mut raw = Raw::logged_in(&engine).await;
        raw.say(text).await;
        raw.ends_with(error).await;
        // The same before a login.
        let mut raw = Raw::open(&engine).await;
        raw.line().await;
        raw.say(text).await;
        assert!(raw.line().await.starts_with("-ERR '"));
        assert_eq!(raw.line().await, "");
    }
}

#[tokio::test]
async fn silent_clients_are_asked_and_then_cut_off() {
    let ping_interval = Duration::from_millis(200);
    let engine = Engine::local_with(HubLimits { ping_interval, ..quick() }).await;
    let mut raw = Raw::logged_in(&engine).await;
    for _ in 0..3 {
        raw.expect(&["PING"]).await;
        raw.say("PONG\r\n").await;
    }
    raw.expect(&["PING", "PING"]).await;
    raw.ends_with("Stale Connection").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_consumers_are_cut_off_and_hold_nobody_up() {
    let limits = HubLimits { pending_bytes: 300_000, write_timeout: FAR, ..quick() };
    let engine = Engine::local_with(limits).await;
    let mut slow = Raw::logged_in(&engine).await;
    slow.say("SUB ev.a.> 1\r\nPING\r\n").await;
    slow.expect(&["PONG"]).await;
    let payload = vec![b'x'; 60_000];
    let start = Instant::now();
    until(async || {
        engine.bus.publish("ev.a.X", None, &payload).await.unwrap();
        engine.bus.dropped() > 0
    })
    .await;
    assert!(start.elapsed() < PATIENCE);
    // What had reached the system's buffers comes, then the end.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, slow.0.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.starts_with(b"MSG ev.a.X 1 60000\r\n"));
    // The place is free again, and others go on.
    Raw::logged_in(&engine).await;
}

#[tokio::test]
async fn connections_are_limited() {
    for limits in [HubLimits { connections: 2, ..quick() }, HubLimits { connections_per_address: 2, ..quick() }] {
        let engine = Engine::local_with(limits).await;
        let (first, _second) = (Raw::logged_in(&engine).await, Raw::logged_in(&engine).await);
        Raw::open(&engine).await.ends_with("maximum connections exceeded").await;
        drop(first);
        until(async || Raw::open(&engine).await.line().await.starts_with("INFO")).await;
    }
}

#[tokio::test]
async fn half_open_connections_keep_out_nobody_and_end_nobody_who_is_logged_in() {
    for limits in [HubLimits { connections: 10, ..quick() }, HubLimits { connections_per_address: 10, ..quick() }] {
        let engine = Engine::local_with(HubLimits { login_timeout: FAR, ..limits }).await;
        let mut phone = Raw::logged_in(&engine).await;
        let mut crowd = Vec::new();
        for _ in 0..50 {
            crowd.push(Raw::open(&engine).await);
        }
        let mut phones = Vec::new();
        for _ in 0..9 {
            phones.push(Raw::logged_in(&engine).await);
        }
        // The last stranger made room for the last phone; now all are known.
        Raw::open(&engine).await.ends_with("maximum connections exceeded").await;
        phone.say("PING\r\n").await;
        phone.expect(&["PONG"]).await;
    }
}

#[tokio::test]
async fn logins_are_looked_up_again() {
    let login_recheck = Duration::from_millis(30);
    let engine = Engine::local_with(HubLimits { login_recheck, ..quick() }).await;
    let mut raw = Raw::logged_in(&engine).await;
    raw.say("PING\r\n").await;
    raw.expect(&["PONG"]).await;
    engine.sessions.lock().unwrap().remove("a");
    raw.ends_with("User Authentication Expired").await;
}

#[tokio::test]
async fn a_user_can_be_sent_away() {
    let engine = Engine::local().await;
    let (mut one, mut two) = (Raw::logged_in(&engine).await, Raw::logged_in(&engine).await);
    engine.bus.disconnect_user("b");
    one.say("PING\r\n").await;
    one.expect(&["PONG"]).await;
    engine.bus.disconnect_user("a");
    one.ends_with("User Authentication Revoked").await;
    two.ends_with("User Authentication Revoked").await;
}

#[tokio::test]
async fn a_wrong_login_waits_for_its_answer() {
    let wrong_login_delay = Duration::from_millis(100);
    let engine = Engine::local_with(HubLimits { wrong_login_delay, ..HubLimits::default() }).await;
    let mut raw = Raw::open(&engine).await;
    raw.line().await;
    let start = Instant::now();
    raw.say("CONNECT {\"user\":\"a\",\"pass\":\"guess\"}\r\n").await;
    raw.ends_with("Authorization Violation").await;
    assert!(start.elapsed() >= wrong_login_delay);
}

#[tokio::test]
async fn the_end_of_the_program_ends_connections() {
    let engine = Engine::local().await;
    let mut raw = Raw::logged_in(&engine).await;
    drop(engine);
    assert_eq!(raw.line().await, "");
}
