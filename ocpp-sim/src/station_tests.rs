//! The state machine in made-up time, without a socket.
#![allow(clippy::unwrap_used)]

use crate::{
    config::{ChargerConfig, Version},
    state::{ConnectorStatus, SimEvent},
    station::{Input, Local, Now, Output, Station},
};
use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use std::time::Duration;

struct Bench {
    station: Station,
    ms: u64,
    /// CALLs sent, with their ids: (id, action, payload).
    calls: Vec<(String, String, Value)>,
    answers: Vec<Value>,
    events: Vec<SimEvent>,
    closed: u32,
    connects: Vec<u64>,
}

fn now(ms: u64) -> Now {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let wall = start + TimeDelta::milliseconds(ms.try_into().unwrap());
    Now { ms, wall }
}

impl Bench {
    fn new(version: Version, change: impl FnOnce(&mut ChargerConfig)) -> Bench {
        let mut config = ChargerConfig::new("ws://h", "CP", version);
        change(&mut config);
        Bench {
            station: Station::new(config, now(0)),
            ms: 0,
            calls: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            closed: 0,
            connects: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        for output in self.station.apply(now(self.ms), input) {
            match output {
                Output::Connect => self.connects.push(self.ms),
                Output::Close { .. } => self.closed += 1,
                Output::Event(event) => self.events.push(event),
                Output::Send(text) => {
                    let frame: Vec<Value> = serde_json::from_str(&text).unwrap();
                    let word = |i: usize| frame[i].as_str().unwrap().to_owned();
                    if frame[0] == 2 {
                        self.calls.push((word(1), word(2), frame[3].clone()));
                    } else {
                        self.answers.push(Value::Array(frame));
                    }
                }
            }
        }
    }

    /// Lets time pass, with a tick whenever the station asked for one.
    fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        while let Some(next) = self.station.next_deadline().filter(|at| *at <= end) {
            self.ms = self.ms.max(next);
            self.input(Input::Tick);
        }
        self.ms = end;
        self.input(Input::Tick);
    }

    fn last(&self) -> &(String, String, Value) {
        self.calls.last().unwrap()
    }

    fn answer(&mut self, payload: Value) {
        let id = self.last().0.clone();
        self.input(Input::Text(json!([3, id, payload]).to_string()));
    }

    fn fail(&mut self) {
        let id = self.last().0.clone();
        self.input(Input::Text(json!([4, id, "GenericError", "", {}]).to_string()));
    }

    /// Answers calls kindly until none is outstanding.
    fn settle(&mut self) {
        while self.station.outstanding.is_some() {
            let payload = match self.last().1.as_str() {
                "BootNotification" => json!({ "status": "Accepted", "interval": 100 }),
                "Authorize" => {
                    json!({ "idTagInfo": { "status": "Accepted" }, "idTokenInfo": { "status": "Accepted" } })
                }
                "StartTransaction" => json!({ "transactionId": 9, "idTagInfo": { "status": "Accepted" } }),
                _ => json!({}),
            };
            self.answer(payload);
        }
    }

    fn booted(version: Version, change: impl FnOnce(&mut ChargerConfig)) -> Bench {
        let mut bench = Bench::new(version, change);
        bench.input(Input::Tick);
        bench.input(Input::Opened);
        bench.settle();
        bench.calls.clear();
        bench
    }

    fn command(&mut self, action: &str, payload: Value) -> Value {
        self.input(Input::Text(json!([2, "c", action, payload]).to_string()));
        self.answers.pop().unwrap()
    }

    fn actions(&self) -> Vec<&str> {
        self.calls.iter().map(|(_, action, _)| action.as_str()).collect()
    }

    fn status(&self) -> ConnectorStatus {
        self.station.connectors[0].status()
    }
}

#[test]
fn boots_until_it_is_accepted() {
    let mut bench = Bench::new(Version::V16, |_| {});
    bench.input(Input::Tick);
    assert_eq!(bench.connects, [0]);
    bench.input(Input::Opened);
    assert_eq!(bench.actions(), ["BootNotification"]);
    bench.answer(json!({ "status": "Pending", "interval": 7 }));
    bench.pass(6_999);
    assert_eq!(bench.actions(), ["BootNotification"], "nothing else while pending");
    // Only what is asked for.
    assert_eq!(bench.command("TriggerMessage", json!({ "requestedMessage": "Heartbeat" }))[2]["status"], "Accepted");
    assert_eq!(bench.last().1, "Heartbeat");
    bench.settle();
    let start = json!({ "idTag": "A" });
    assert_eq!(bench.command("RemoteStartTransaction", start)[2]["status"], "Rejected");
    bench.pass(1);
    assert_eq!(bench.last().1, "BootNotification");
    bench.answer(json!({ "status": "Rejected", "interval": 0 }));
    bench.input(Input::Text(json!([2, "c", "ClearCache", {}]).to_string()));
    assert!(bench.answers.is_empty(), "a rejected charger keeps silent");
    bench.pass(10_000);
    assert_eq!(bench.last().1, "BootNotification");
    bench.fail();
    bench.pass(10_000);
    assert_eq!(bench.last().1, "BootNotification");
    bench.settle();
    assert_eq!(bench.actions()[5..], ["StatusNotification", "StatusNotification"]);
}

#[test]
fn heartbeats_at_the_interval_told() {
    let mut bench = Bench::booted(Version::V201, |_| {});
    for _ in 0..3 {
        bench.pass(100_000);
        bench.settle();
    }
    assert_eq!(bench.actions(), ["Heartbeat"; 3]);
    let set = json!({ "setVariableData": [{
        "component": { "name": "OCPPCommCtrlr" }, "variable": { "name": "HeartbeatInterval" }, "attributeValue": "10"
    }] });
    let answer = bench.command("SetVariables", set);
    assert_eq!(answer[2]["setVariableResult"][0]["attributeStatus"], "Accepted");
    bench.pass(10_000);
    assert_eq!(bench.calls.len(), 4);
}

#[test]
fn a_transaction_message_is_tried_three_times() {
    let mut bench = Bench::booted(Version::V16, |c| c.sample_interval = Duration::ZERO);
    bench.input(Input::Local(Local::PlugIn(1)));
    bench.input(Input::Local(Local::PresentCard(1, "A".into())));
    bench.answer(json!({}));
    bench.answer(json!({ "idTagInfo": { "status": "Accepted" } }));
    bench.calls.retain(|(_, action, _)| action == "StartTransaction");
    bench.fail();
    // Other messages go on meanwhile.
    assert_eq!(bench.last().1, "StatusNotification");
    bench.settle();
    bench.pass(59_999);
    let starts = |bench: &Bench| bench.actions().iter().filter(|a| **a == "StartTransaction").count();
    assert_eq!(starts(&bench), 1);
    bench.pass(1);
    assert_eq!(starts(&bench), 2);
    // No answer in 30 s is a failure too, and the heartbeat due at 100 s goes in between.
    bench.pass(30_000);
    bench.pass(10_000);
    bench.settle();
    bench.input(Input::Local(Local::Stop(1)));
    bench.settle();
    bench.pass(100_000);
    bench.settle();
    bench.pass(10_000);
    assert_eq!(starts(&bench), 3);
    bench.fail();
    assert_eq!(bench.station.lost, 1);
    assert_eq!(bench.last().1, "StopTransaction");
    assert_eq!(bench.last().2["transactionId"], -1, "the id was never told");
    bench.settle();
    assert_eq!(bench.station.queue.len(), 0);
}

#[test]
fn being_offline_is_no_failed_attempt() {
    let mut bench = Bench::booted(Version::V201, |c| c.message_attempts = 2);
    bench.input(Input::Local(Local::PlugIn(1)));
    bench.settle();
    bench.input(Input::Local(Local::PresentCard(1, "A".into())));
    bench.answer(json!({ "idTokenInfo": { "status": "Accepted" } }));
    for _ in 0..5 {
        assert_eq!(bench.last().2["eventType"], "Started");
        bench.input(Input::Lost("test".into()));
        bench.pass(40_000);
        bench.input(Input::Opened);
    }
    bench.settle();
    assert_eq!(bench.station.lost, 0);
    let events: Vec<&Value> = bench.calls.iter().filter(|c| c.1 == "TransactionEvent").map(|c| &c.2).collect();
    assert!(events[0].get("offline").is_none(), "it happened online");
    assert_eq!(events.last().unwrap()["offline"], true);
    assert_eq!(bench.actions().iter().filter(|a| **a == "BootNotification").count(), 0);
}

#[test]
fn the_back_off_grows_to_its_cap_with_jitter() {
    let mut bench = Bench::new(Version::V16, |_| {});
    bench.input(Input::Tick);
    for _ in 0..12 {
        bench.input(Input::Failed { status: None, reason: "test".into() });
        bench.pass(30_000);
    }
    let waits: Vec<u64> = bench.connects.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(bench.connects.len(), 13);
    // Each failure is told 30 s after the last, or when the wait is over: measure from there.
    assert!((500..=1_000).contains(&bench.connects[1]), "{waits:?}");
    assert!((15_000..=30_000).contains(&(bench.connects[12] - 11 * 30_000)), "{waits:?}");
}

#[test]
fn nobody_plugs_in_in_time() {
    let mut bench = Bench::booted(Version::V16, |_| {});
    let start = json!({ "idTag": "A" });
    assert_eq!(bench.command("RemoteStartTransaction", start.clone())[2]["status"], "Accepted");
    bench.settle();
    assert_eq!(bench.status(), ConnectorStatus::Preparing);
    assert_eq!(bench.command("RemoteStartTransaction", start)[2]["status"], "Rejected");
    bench.pass(60_000);
    assert_eq!(bench.status(), ConnectorStatus::Available);
    assert!(bench.events.contains(&SimEvent::TimedOut { connector: 1 }));
}

#[test]
fn a_full_car_suspends_and_stays() {
    for version in [Version::V16, Version::V201] {
        let mut bench = Bench::booted(version, |c| {
            c.battery_wh = 1_000;
            c.speed = 10;
        });
        bench.input(Input::Local(Local::PlugIn(1)));
        bench.settle();
        bench.input(Input::Local(Local::PresentCard(1, "A".into())));
        bench.settle();
        for _ in 0..200 {
            bench.pass(1_000);
            bench.settle();
        }
        assert_eq!(bench.status(), ConnectorStatus::SuspendedEv);
        assert_eq!(bench.station.connectors[0].session_wh(), 1_000);
        let told = bench.calls.iter().any(|(_, _, p)| match version {
            Version::V16 => p["status"] == "SuspendedEV",
            Version::V201 => p["transactionInfo"]["chargingState"] == "SuspendedEV",
        });
        assert!(told);
        bench.input(Input::Local(Local::PresentCard(1, "A".into())));
        bench.settle();
        assert!(bench.station.connectors[0].session.is_none());
        bench.input(Input::Local(Local::Unplug(1)));
        assert_eq!(bench.status(), ConnectorStatus::Available);
    }
}

#[test]
fn suspension_and_faults() {
    let mut bench = Bench::booted(Version::V16, |_| {});
    bench.input(Input::Local(Local::PlugIn(1)));
    bench.settle();
    bench.input(Input::Local(Local::PresentCard(1, "A".into())));
    bench.settle();
    bench.pass(120_000);
    bench.settle();
    bench.input(Input::Local(Local::SuspendEvse(1)));
    bench.settle();
    let before = bench.station.connectors[0].session_wh();
    assert!(before > 100);
    bench.pass(60_000);
    assert_eq!(bench.station.connectors[0].session_wh(), before);
    bench.input(Input::Local(Local::Resume(1)));
    bench.settle();
    bench.pass(60_000);
    assert!(bench.station.connectors[0].session_wh() > before);
    bench.input(Input::Local(Local::Fault(1, "GroundFailure".into())));
    bench.settle();
    let fault = bench.calls.iter().rfind(|c| c.1 == "StatusNotification").unwrap();
    assert_eq!((&fault.2["status"], &fault.2["errorCode"]), (&json!("Faulted"), &json!("GroundFailure")));
    assert!(bench.actions().contains(&"StopTransaction"));
    bench.input(Input::Local(Local::ClearFault(1)));
    assert_eq!(bench.status(), ConnectorStatus::Finishing);
}

#[test]
fn out_of_service_waits_for_the_transaction() {
    let mut bench = Bench::booted(Version::V16, |c| c.connectors = 2);
    bench.input(Input::Local(Local::PlugIn(1)));
    bench.settle();
    bench.input(Input::Local(Local::PresentCard(1, "A".into())));
    bench.settle();
    let out = json!({ "connectorId": 0, "type": "Inoperative" });
    assert_eq!(bench.command("ChangeAvailability", out)[2]["status"], "Scheduled");
    assert_eq!(bench.station.connectors[1].status(), ConnectorStatus::Unavailable);
    assert_eq!(bench.status(), ConnectorStatus::Charging);
    bench.settle();
    assert_eq!(bench.command("UnlockConnector", json!({ "connectorId": 1 }))[2]["status"], "Unlocked");
    assert_eq!(bench.status(), ConnectorStatus::Unavailable);
    let back = json!({ "connectorId": 1, "type": "Operative" });
    assert_eq!(bench.command("ChangeAvailability", back)[2]["status"], "Accepted");
    assert_eq!(bench.status(), ConnectorStatus::Finishing);
}

#[test]
fn bad_commands_get_the_errors_of_their_version() {
    for (version, code) in [(Version::V16, "FormationViolation"), (Version::V201, "FormatViolation")] {
        let mut bench = Bench::booted(version, |_| {});
        assert_eq!(bench.command("ReserveNow", json!({}))[2], "NotImplemented");
        for action in ["ChangeAvailability", "UnlockConnector", "Reset", "TriggerMessage", "DataTransfer"] {
            assert_eq!(bench.command(action, json!({}))[2], code, "{action}");
            assert_eq!(bench.command(action, json!([1]))[2], code, "{action}");
        }
        bench.input(Input::Text("nonsense".into()));
        assert_eq!(bench.answers.len(), usize::from(version == Version::V201));
    }
}
