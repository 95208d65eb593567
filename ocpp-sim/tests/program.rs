//! The program, as a person or a script starts it.
#![allow(clippy::unwrap_used)]

mod support;
use ocpp_sim::Version;
use serde_json::Value;
use std::{
    path::PathBuf,
    process::{Output, Stdio},
};
use support::{LIMIT, Server};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A scenario file, removed at the end of its test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("ocpp-sim-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn program(server: &Server, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ocpp-sim"))
        .args(["--url", &server.url(), "--id", "CP", "--speed", "1000"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn end(child: Child) -> Output {
    timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn plays_a_scenario_and_tells_it_in_json() {
    let server = Server::new(Version::V201).await;
    let file = File::new(
        "charge.json",
        r#"[{"wait": "booted"}, {"do": "plug_in"}, {"do": "present_card", "id_tag": "ABC"},
            {"wait": "energy", "wh": 100}, {"do": "unplug"}]"#,
    );
    let path = file.0.to_str().unwrap();
    let child = program(&server, &["--version", "2.0.1", "--json", "--scenario", path]);
    let mut peer = server.accept().await;
    peer.until_closed().await;
    let output = end(child).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(peer.payloads("TransactionEvent").last().unwrap()["eventType"], "Ended");
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stopped = lines.iter().find(|line| line["event"] == "transaction_stopped").unwrap();
    assert_eq!(stopped["charger"], "CP");
    assert!(stopped["energyWh"].as_i64().unwrap() >= 100);
}

#[tokio::test]
async fn a_scenario_ends_where_the_charger_is_not_known() {
    let server = Server::new(Version::V16).await;
    server.door.lock().unwrap().refuse = Some(404);
    let file = File::new("refused.toml", "[[steps]]\nwait = \"booted\"\n");
    let child = program(&server, &["--scenario", file.0.to_str().unwrap()]);
    assert!(server.handshake().await.is_none());
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("CP: the central system does not know this identity (HTTP 404)"), "{message}");
}

#[tokio::test]
async fn a_wait_in_vain_names_its_step() {
    let server = Server::new(Version::V16).await;
    let text = r#"[{"wait": "booted"}, {"wait": "charging", "timeout_s": 0}]"#;
    let file = File::new("vain.json", text);
    let child = program(&server, &["--scenario", file.0.to_str().unwrap()]);
    server.accept().await.until_closed().await;
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("step 2: waited 0 s in vain"), "{message}");
}

/// Nothing listens: the clock runs all the same, and the end says what was wrong.
#[tokio::test]
async fn the_clock_runs_where_nothing_listens() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ocpp", free.local_addr().unwrap());
    drop(free);
    let text = r#"[{"do": "plug_in"}, {"at_s": 1, "do": "unplug"}]"#;
    for (steps, says) in [
        (text, "no connection to ws://127.0.0.1:"),
        (r#"[{"wait": "booted", "timeout_s": 1}]"#, "step 1: waited 1 s in vain for Booted"),
    ] {
        let file = File::new("nobody.json", steps);
        let child = Command::new(env!("CARGO_BIN_EXE_ocpp-sim"))
            .args(["--url", &url, "--id", "CP", "--scenario", file.0.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = end(child).await;
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("CP") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn a_refused_step_is_named_and_no_success() {
    for (version, steps, says) in [
        (
            Version::V16,
            r#"[{"wait": "booted"}, {"do": "plug_in"}, {"do": "plug_in"}]"#,
            "step 3: refused: a car is plugged in already",
        ),
        (
            Version::V16,
            r#"[{"wait": "booted"}, {"do": "plug_in", "connector": 7}]"#,
            "step 2: refused: no such connector",
        ),
        (Version::V16, r#"[{"wait": "booted"}, {"do": "present_card", "id_tag": "BAD"}]"#, "step 2: refused: Blocked"),
        (Version::V201, r#"[{"wait": "booted"}, {"do": "present_card", "id_tag": "BAD"}]"#, "step 2: refused: Blocked"),
        (
            Version::V16,
            r#"[{"wait": "booted"}, {"do": "stop_local"}, {"do": "plug_in", "refused": true}]"#,
            "step 3: was to be refused, and was not",
        ),
        (Version::V16, r#"[{"wait": "booted"}, {"do": "present_card", "id_tag": "BAD", "refused": true}]"#, ""),
    ] {
        let server = Server::new(version).await;
        let file = File::new("no.json", steps);
        let version = if version == Version::V16 { "1.6" } else { "2.0.1" };
        let child = program(&server, &["--version", version, "--scenario", file.0.to_str().unwrap()]);
        server.accept().await.until_closed().await;
        let output = end(child).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!says.is_empty())), "{steps}: {message}");
        assert!(message.contains(says), "{steps}: {message}");
    }
}

#[tokio::test]
async fn an_interrupt_closes_cleanly() {
    let server = Server::new(Version::V16).await;
    let child = program(&server, &["--pause", "0", "--count", "2"]);
    let mut first = server.accept().await;
    let mut second = server.accept().await;
    first.boot().await;
    second.boot().await;
    first.take_where("StatusNotification", |p| p["status"] == "Preparing").await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    first.until_closed().await;
    second.until_closed().await;
    let output = end(child).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("CP-1 connected") && text.contains("CP-2 [1] plugged in"), "{text}");
}

#[tokio::test]
async fn a_bad_scenario_is_refused_before_anything_connects() {
    let server = Server::new(Version::V16).await;
    let file = File::new("bad.json", r#"[{"do": "dance"}]"#);
    let output = end(program(&server, &["--scenario", file.0.to_str().unwrap()])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("step 1: cannot do \"dance\""));
}
