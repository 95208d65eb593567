//! The peers in Python: a charging point of the PyPI package `ocpp`, and a phone with `nats-py`.
//!
//! Both take one JSON object a line on their standard input and write one a line to their standard output.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::api::Customer;
use crate::charger::Version;
use crate::env;
use crate::poll::until;
use crate::tap::Tap;

/// How long a Python peer may take for anything; it starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Peer {
    name: String,
    stdin: ChildStdin,
    lines: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Peer {
    fn spawn(name: &str, script: &str, args: &[&str]) -> Self {
        let mut child = Command::new(env::python())
            .arg("-u")
            .arg(env::repository().join("tests/python").join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let value = serde_json::from_str(&line).unwrap_or(json!({ "line": line }));
                shared.lock().unwrap().push(value);
            }
        });
        Self { name: name.to_owned(), stdin, lines, _child: child }
    }

    async fn say(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    /// Waits for a line, new or old, that `fits`.
    async fn line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{what} from {}", self.name), PATIENCE, async || {
            let lines = self.lines.lock().unwrap();
            if let Some(failed) = lines.iter().find(|line| line["failed"].is_string()) {
                panic!("{}: {failed}", self.name);
            }
            lines.iter().find(|line| fits(line)).cloned()
        })
        .await
    }

    /// Gives a command and waits for the line that says it is done.
    async fn ask(&mut self, mut command: Value) -> Value {
        let number = self.lines.lock().unwrap().len().to_string();
        let tag = format!("{}-{number}", command["do"].as_str().unwrap());
        command["tag"] = tag.clone().into();
        let what = command.to_string();
        self.say(command).await;
        self.line(&what, |line| line["done"] == tag).await
    }
}

/// A charging point made of the PyPI package `ocpp`.
pub struct PyCharger(Peer);

impl PyCharger {
    /// Starts it and waits until it has booted.
    pub async fn boot(tap: &Tap, identity: &str, version: Version) -> Self {
        let script = match version {
            Version::V16 => "charge_point_16.py",
            Version::V201 => "charge_point_201.py",
        };
        let mut peer = Peer::spawn(identity, script, &[&tap.url(identity)]);
        peer.ask(json!({ "do": "boot" })).await;
        Self(peer)
    }

    /// Puts a car at the plug.
    pub async fn plug(&mut self) {
        self.0.ask(json!({ "do": "plug" })).await;
    }

    /// Lets the car take this much energy, told in one meter sample.
    pub async fn deliver(&mut self, wh: u32) {
        self.0.ask(json!({ "do": "deliver", "wh": wh })).await;
    }

    /// The car takes no more.
    pub async fn suspend(&mut self) {
        self.0.ask(json!({ "do": "suspend" })).await;
    }

    /// Takes the car away.
    pub async fn unplug(&mut self) {
        self.0.ask(json!({ "do": "unplug" })).await;
    }

    /// Waits until a charge asked for from afar runs.
    pub async fn charging(&self) {
        self.0.line("a started charge", |line| line["event"] == "started").await;
    }

    /// Waits until the charge has ended and gives the Wh that the charging point says it delivered in it.
    pub async fn delivered(&self) -> i64 {
        self.0.line("an ended charge", |line| line["event"] == "stopped").await["delivered"].as_i64().unwrap()
    }
}

/// A phone with `nats-py`.
pub struct Phone(Peer);

impl Phone {
    /// Logs in with what the login answered and subscribes to everything of its own topic.
    pub async fn connect(customer: &Customer) -> Self {
        let phone = Self::connect_as(&customer.login["nats"]).await;
        phone.0.line("its own subscription", |line| line["event"] == "subscribed").await;
        phone
    }

    /// Logs in with these credentials, which may be wrong.
    pub async fn connect_as(nats: &Value) -> Self {
        Self(Peer::spawn("phone", "phone.py", &[&nats.to_string()]))
    }

    /// Waits until the login was refused.
    pub async fn refused(&self) {
        self.0.line("a refused login", |line| line["event"] == "refused").await;
    }

    /// Waits until the server has ended the connection.
    pub async fn ended(&self) {
        self.0.line("the end of the connection", |line| line["event"] == "ended").await;
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.0.lines.lock().unwrap().iter().any(|line| line["event"] == "ended")
    }

    /// Waits for an event of this name whose payload `fits`, and gives the payload.
    pub async fn hears(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.0.line(name, |line| line["event"] == name && fits(&line["payload"])).await["payload"].clone()
    }

    /// All payloads heard under this name so far.
    pub fn heard(&self, name: &str) -> Vec<Value> {
        let lines = self.0.lines.lock().unwrap();
        lines.iter().filter(|line| line["event"] == name).map(|line| line["payload"].clone()).collect()
    }

    /// Everything heard so far, as (subject, payload).
    pub fn everything(&self) -> Vec<(String, Value)> {
        let lines = self.0.lines.lock().unwrap();
        let subject = |line: &Value| Some((line["subject"].as_str()?.to_owned(), line["payload"].clone()));
        lines.iter().filter_map(subject).collect()
    }

    /// Tries a subscription and gives the server's error, which must come.
    pub async fn is_refused_to_hear(&mut self, subject: &str) -> String {
        let done = self.0.ask(json!({ "do": "subscribe", "subject": subject })).await;
        done["error"].as_str().unwrap_or_else(|| panic!("heard {subject}: {done}")).to_owned()
    }

    /// Tries to publish and gives the server's error, which must come.
    pub async fn is_refused_to_say(&mut self, subject: &str) -> String {
        let done = self.0.ask(json!({ "do": "publish", "subject": subject })).await;
        done["error"].as_str().unwrap_or_else(|| panic!("published to {subject}: {done}")).to_owned()
    }
}
