//! The charger's talk with the central system: connection, boot, heartbeats, statuses, one CALL at a time.

use crate::{
    config::Version,
    frame::{self, Frame},
    queue::AfterFailure,
    state::SimEvent,
    station::{Call, Output, Outstanding, Purpose, Registration, Station, millis},
    v16, v201,
};
use rand::Rng;
use serde_json::{Value, json};
use std::time::Duration;

/// Beyond this the central system asks for more than it takes answers.
const MAX_CALLS: usize = 512;
/// After so long offline every status is told again (2.0.1 OfflineThreshold; 1.6 leaves it open).
const OFFLINE_THRESHOLD_MS: u64 = 60_000;

/// What a command is answered: a payload, or error code and description.
pub(crate) type Answer = Result<Value, (&'static str, String)>;

impl Station {
    pub(crate) fn opened(&mut self) {
        self.online = true;
        self.refused = None;
        self.event(SimEvent::Connected);
        if self.config.boot_on_reconnect {
            self.registration = Registration::Unknown;
        }
        if !self.is_accepted() {
            self.boot_at = Some(self.now.ms);
            return;
        }
        if self.now.ms.saturating_sub(self.offline_since) > OFFLINE_THRESHOLD_MS {
            self.forget_told();
        }
        self.send_heartbeat(false);
        self.tell_all(false);
    }

    pub(crate) fn link_lost(&mut self, reason: String) {
        if !self.online {
            // We hung up ourselves in the same moment, and have planned what comes next.
            return;
        }
        self.link_down(reason);
        self.plan_reconnect();
    }

    pub(crate) fn link_failed(&mut self, status: Option<u16>, reason: String) {
        self.refused = status;
        self.event(SimEvent::ConnectionFailed { status, reason });
        self.plan_reconnect();
    }

    fn plan_reconnect(&mut self) {
        if !self.want_online {
            return;
        }
        let longest = millis(self.config.reconnect_max);
        let wait = millis(self.config.reconnect_min).saturating_mul(1 << self.failures.min(20)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let wait = self.rng.random_range(wait / 2..=wait);
        self.connect_at = Some(self.now.ms + wait);
    }

    /// Forgets all that was tied to the socket. What waits in the transaction queue stays.
    pub(crate) fn link_down(&mut self, reason: String) {
        if !self.online {
            return;
        }
        self.online = false;
        self.offline_since = self.now.ms;
        self.boot_at = None;
        self.heartbeat_at = None;
        self.event(SimEvent::Disconnected { reason });
        let outstanding = self.outstanding.take().map(|o| o.purpose);
        let dropped: Vec<Purpose> = self.calls.drain(..).map(|c| c.purpose).collect();
        for purpose in outstanding.into_iter().chain(dropped) {
            match purpose {
                Purpose::Status(Some(i)) => self.connectors[i].told = None,
                Purpose::Status(None) => self.told_station = None,
                Purpose::Authorize(i, _) => self.refuse(i, "connection lost"),
                _ => {}
            }
        }
    }

    /// Closes from our side, and connects again at the given time.
    pub(crate) fn hang_up(&mut self, clean: bool, reason: &str, connect_at: Option<u64>) {
        self.out.push(Output::Close { clean });
        self.link_down(reason.to_owned());
        self.connect_at = connect_at.filter(|_| self.want_online);
    }

    pub(crate) fn go_offline(&mut self) {
        self.want_online = false;
        self.hang_up(false, "switched offline", None);
    }

    pub(crate) fn go_online(&mut self) {
        self.want_online = true;
        if !self.online {
            self.failures = 0;
            self.connect_at = Some(self.now.ms);
        }
    }

    /// Puts a CALL in line.
    pub(crate) fn call(&mut self, action: &'static str, payload: Value, purpose: Purpose, triggered: bool) {
        if self.calls.len() >= MAX_CALLS {
            return;
        }
        let order = self.order();
        self.calls.push_back(Call { order, action, payload, purpose, triggered });
    }

    pub(crate) fn send_boot(&mut self, triggered: bool) {
        let payload = match self.config.version {
            Version::V16 => v16::boot(self),
            Version::V201 => v201::boot(self, triggered),
        };
        self.call("BootNotification", payload, Purpose::Boot, triggered);
    }

    pub(crate) fn send_heartbeat(&mut self, triggered: bool) {
        let interval = self.config.heartbeat_interval.max(Duration::from_secs(1));
        self.heartbeat_at = Some(self.after(interval));
        let waits = self.calls.iter().any(|c| c.purpose == Purpose::Heartbeat);
        if (triggered || self.is_accepted()) && !waits {
            self.call("Heartbeat", json!({}), Purpose::Heartbeat, triggered);
        }
    }

    pub(crate) fn forget_told(&mut self) {
        self.told_station = None;
        for connector in &mut self.connectors {
            connector.told = None;
        }
    }

    /// Tells every status that the central system does not know yet.
    pub(crate) fn tell_all(&mut self, triggered: bool) {
        if self.config.version == Version::V16 {
            let status = if self.operative { "Available" } else { "Unavailable" };
            if triggered || self.told_station != Some(status) {
                self.told_station = Some(status);
                let payload = v16::status(self, None);
                self.call("StatusNotification", payload, Purpose::Status(None), triggered);
            }
        }
        for i in 0..self.connectors.len() {
            self.tell(i, triggered);
        }
    }

    /// Tells one connector's status if it is news, or was asked for.
    pub(crate) fn tell(&mut self, i: usize, triggered: bool) {
        let status = self.connectors[i].status();
        let wire = match self.config.version {
            Version::V16 => status.as_str(),
            Version::V201 => v201::status_name(status),
        };
        if triggered || (self.can_talk() && self.connectors[i].told != Some(wire)) {
            self.connectors[i].told = Some(wire);
            let payload = match self.config.version {
                Version::V16 => v16::status(self, Some(i)),
                Version::V201 => v201::status(self, i),
            };
            self.call("StatusNotification", payload, Purpose::Status(Some(i)), triggered);
        }
    }

    /// Notices a changed status, shows it and tells it.
    pub(crate) fn refresh(&mut self, i: usize) {
        let status = self.connectors[i].status();
        if self.connectors[i].shown != status {
            self.connectors[i].shown = status;
            let connector = self.connectors[i].id;
            self.event(SimEvent::StatusChanged { connector, status });
        }
        self.tell(i, false);
        if self.config.version == Version::V201 {
            v201::tell_charging_state(self, i);
        }
    }

    /// Sends the next CALL, if none is on its way.
    pub(crate) fn pump(&mut self) {
        if !self.online || self.outstanding.is_some() {
            return;
        }
        let accepted = self.is_accepted();
        let pending = self.registration == Registration::Pending;
        let may_go = |c: &Call| accepted || c.purpose == Purpose::Boot || (pending && c.triggered);
        let control = self.calls.iter().position(may_go);
        let control_order = control.map_or(u64::MAX, |at| self.calls[at].order);
        let message = self.queue.ready(self.now.ms).filter(|m| accepted && m.order < control_order);
        let (action, payload, purpose) = if let Some(message) = message {
            let payload = match self.config.version {
                Version::V16 => self.queue.payload_16(message),
                Version::V201 => message.payload.clone(),
            };
            (message.action, payload, Purpose::Transaction)
        } else if let Some(call) = control.and_then(|at| self.calls.remove(at)) {
            (call.action, call.payload, call.purpose)
        } else {
            return;
        };
        let number = self.order();
        let id = format!("{}-{number}", self.id_prefix);
        self.send(frame::call(&id, action, &payload));
        self.outstanding = Some(Outstanding { id, purpose, deadline: self.after(self.config.call_timeout) });
    }

    fn send(&mut self, text: String) {
        self.frames_out += 1;
        self.out.push(Output::Send(text));
    }

    pub(crate) fn received(&mut self, text: &str) {
        self.frames_in += 1;
        self.failures = 0;
        match frame::parse(text) {
            Ok(Frame::Call { id, action, payload }) => self.commanded(&id, &action, &payload),
            Ok(Frame::Result { id, payload }) => {
                if let Some(purpose) = self.take_outstanding(&id) {
                    self.answered(purpose, &payload);
                }
            }
            Ok(Frame::Error { id, code, description }) => {
                if self.outstanding.as_ref().is_some_and(|o| o.id == id) {
                    self.unanswered(&format!("{code} {description}"));
                }
            }
            Err(error) => {
                tracing::warn!(identity = %self.config.identity, %error, "unreadable frame");
                if self.config.version == Version::V201 && !text.trim().is_empty() {
                    self.send(frame::error("-1", "RpcFrameworkError", &error.to_string()));
                }
            }
        }
    }

    fn take_outstanding(&mut self, id: &str) -> Option<Purpose> {
        // A late answer finds nothing, and is dropped.
        self.outstanding.take_if(|o| o.id == id).map(|o| o.purpose)
    }

    fn commanded(&mut self, id: &str, action: &str, payload: &Value) {
        let rejected = self.registration == Registration::Rejected;
        let answer = match self.config.version {
            // 1.6 section 4.2: a rejected charger does not answer.
            Version::V16 if rejected => return,
            Version::V16 => v16::command(self, action, payload),
            // 2.0.1 B03.FR.08.
            Version::V201 if rejected => Err(("SecurityError", "not registered".to_owned())),
            Version::V201 => v201::command(self, action, payload),
        };
        let (text, told) = match &answer {
            Ok(payload) => {
                let status = payload.get("status").and_then(Value::as_str);
                (frame::result(id, payload), status.unwrap_or("answered"))
            }
            Err((code, description)) => (frame::error(id, code, description), *code),
        };
        self.send(text);
        self.event(SimEvent::CommandReceived { action: action.to_owned(), answer: told.to_owned() });
        if std::mem::take(&mut self.reconnect_now) {
            self.hang_up(true, "new password", Some(self.now.ms));
        }
    }

    fn answered(&mut self, purpose: Purpose, payload: &Value) {
        match purpose {
            Purpose::Boot => self.boot_answered(payload),
            Purpose::Authorize(i, who) => {
                let info = match self.config.version {
                    Version::V16 => &payload["idTagInfo"],
                    Version::V201 => &payload["idTokenInfo"],
                };
                match info["status"].as_str() {
                    Some("Accepted") => {
                        self.remember(&who.id_tag);
                        self.authorized(i, who);
                    }
                    status => self.refuse(i, status.unwrap_or("no status in the answer")),
                }
            }
            Purpose::Transaction => {
                if let Some(message) = self.queue.done() {
                    self.transaction_answered(&message, payload);
                }
            }
            Purpose::Heartbeat | Purpose::Status(_) | Purpose::Other => {}
        }
    }

    /// The outstanding CALL got an error, or nothing in time.
    pub(crate) fn unanswered(&mut self, why: &str) {
        let Some(outstanding) = self.outstanding.take() else {
            return;
        };
        tracing::debug!(identity = %self.config.identity, purpose = ?outstanding.purpose, why, "call failed");
        match outstanding.purpose {
            Purpose::Boot => self.boot_at = Some(self.after(self.config.boot_retry)),
            Purpose::Authorize(i, _) => self.refuse(i, why),
            Purpose::Transaction => self.transaction_unanswered(),
            Purpose::Heartbeat | Purpose::Status(_) | Purpose::Other => {}
        }
    }

    fn transaction_unanswered(&mut self) {
        let interval = millis(self.config.message_retry_interval);
        let attempts = self.config.message_attempts;
        match self.queue.failed(self.now.ms, attempts, interval) {
            Some(AfterFailure::Retry { action, attempt, wait_ms }) => {
                self.event(SimEvent::MessageRetried { action: action.to_owned(), attempt, wait_s: wait_ms / 1_000 });
            }
            Some(AfterFailure::GaveUp(message)) => self.message_lost(&message),
            None => {}
        }
    }

    fn boot_answered(&mut self, payload: &Value) {
        let told = payload["interval"].as_u64().unwrap_or(0).min(86_400);
        let interval = Duration::from_secs(told);
        match payload["status"].as_str() {
            Some("Accepted") => {
                self.registration = Registration::Accepted;
                if told > 0 {
                    self.config.heartbeat_interval = interval;
                }
                let interval = self.config.heartbeat_interval.max(Duration::from_secs(1));
                self.heartbeat_at = Some(self.after(interval));
                self.event(SimEvent::BootAccepted { interval_s: interval.as_secs() });
                self.boot_at = None;
                self.forget_told();
                self.tell_all(false);
            }
            status => {
                self.registration = match status {
                    Some("Rejected") => Registration::Rejected,
                    _ => Registration::Pending,
                };
                let wait = if told > 0 { interval } else { self.config.boot_retry };
                self.boot_at = Some(self.after(wait));
                self.event(SimEvent::BootRefused {
                    status: status.unwrap_or("without status").to_owned(),
                    retry_s: wait.as_secs(),
                });
            }
        }
    }

    /// Does an accepted reset once its time has come.
    pub(crate) fn finish_reset(&mut self) {
        let busy = self.connectors.iter().any(|c| c.session.is_some());
        let Some(reset) = &mut self.reset else { return };
        if reset.on_idle && busy {
            return;
        }
        let give_up = *reset.give_up.get_or_insert(self.now.ms + reset.grace_ms);
        let settled = self.queue.len() == 0 && self.outstanding.is_none();
        if !settled && self.online && self.now.ms < give_up {
            return;
        }
        let reason = reset.boot_reason;
        self.reset = None;
        self.event(SimEvent::Resetting { reason: reason.to_owned() });
        self.boot_reason = reason;
        self.registration = Registration::Unknown;
        self.hang_up(true, "reset", Some(self.after(self.config.reset_time)));
        self.forget_told();
        for i in 0..self.connectors.len() {
            self.connectors[i].finishing = false;
            self.connectors[i].waiting = None;
            self.refresh(i);
        }
    }
}
