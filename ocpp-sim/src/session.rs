//! What happens at a connector: cables, cards, faults, and the transactions that follow.

use crate::{
    config::Version,
    connector::{Authorization, Session, StopReason, Waiting},
    meter::Car,
    queue::{Part, TxMessage},
    settings::Key,
    state::SimEvent,
    station::{Local, Purpose, Station, millis},
    v16, v201,
};
use rand::Rng;
use serde_json::{Value, json};

/// Cards remembered from earlier answers.
const MAX_KNOWN_TAGS: usize = 100;

impl Station {
    pub(crate) fn local(&mut self, local: Local) {
        let number = match &local {
            Local::GoOffline => return self.go_offline(),
            Local::GoOnline => return self.go_online(),
            Local::PlugIn(c) | Local::Unplug(c) | Local::Stop(c) | Local::SuspendEv(c) => *c,
            Local::SuspendEvse(c) | Local::Resume(c) | Local::ClearFault(c) => *c,
            Local::PresentCard(c, _) | Local::Fault(c, _) => *c,
        };
        let Some(i) = self.index(i64::from(number)) else {
            let reason = "no such connector".to_owned();
            return self.event(SimEvent::Refused { connector: number, reason });
        };
        match local {
            Local::PlugIn(_) => self.plug_in(i),
            Local::Unplug(_) => self.unplug(i),
            Local::PresentCard(_, id_tag) => self.present_card(i, id_tag),
            Local::Stop(_) => self.end_session(i, StopReason::Local),
            Local::SuspendEv(_) => self.connectors[i].suspended_ev = true,
            Local::SuspendEvse(_) => self.connectors[i].suspended_evse = true,
            Local::Resume(_) => {
                self.connectors[i].suspended_ev = false;
                self.connectors[i].suspended_evse = false;
            }
            Local::Fault(_, code) => {
                self.end_session(i, StopReason::Fault);
                self.connectors[i].waiting = None;
                self.connectors[i].fault = Some(code);
            }
            Local::ClearFault(_) => self.connectors[i].fault = None,
            Local::GoOffline | Local::GoOnline => {}
        }
    }

    fn plug_in(&mut self, i: usize) {
        let connector = self.connectors[i].id;
        if self.connectors[i].car.is_some() {
            return self.refuse(i, "a car is plugged in already");
        }
        self.connectors[i].car = Some(Car::new(self.config.battery_wh));
        self.event(SimEvent::PluggedIn { connector });
        self.refresh(i);
        if let Some(waiting) = self.connectors[i].waiting.take() {
            self.begin_session(i, waiting.who, true);
        }
    }

    fn unplug(&mut self, i: usize) {
        if self.connectors[i].car.is_none() {
            return;
        }
        let connector = self.connectors[i].id;
        self.event(SimEvent::Unplugged { connector });
        self.end_session(i, StopReason::Unplugged);
        self.connectors[i].car = None;
        self.connectors[i].finishing = false;
        self.connectors[i].suspended_ev = false;
        self.refresh(i);
    }

    pub(crate) fn refuse(&mut self, i: usize, reason: &str) {
        let connector = self.connectors[i].id;
        self.event(SimEvent::Refused { connector, reason: reason.to_owned() });
    }

    pub(crate) fn remember(&mut self, id_tag: &str) {
        let room = self.known_tags.len() < MAX_KNOWN_TAGS;
        if room && self.settings.is_on(Key::AuthCache) {
            self.known_tags.insert(id_tag.to_owned());
        }
    }

    fn present_card(&mut self, i: usize, id_tag: String) {
        // Longer ones have no place in a message.
        let most = if self.config.version == Version::V16 { 20 } else { 36 };
        let id_tag: String = id_tag.chars().take(most).collect();
        if let Some(session) = &self.connectors[i].session {
            if session.who.id_tag == id_tag {
                return self.end_session(i, StopReason::Card);
            }
            return self.refuse(i, "the transaction is another card's");
        }
        if !self.connectors[i].is_free() {
            return self.refuse(i, "not free");
        }
        let known = self.known_tags.contains(&id_tag) && self.settings.is_on(Key::LocalAuthorizeOffline);
        let who = Authorization { id_tag, token_type: "ISO14443".to_owned(), remote_start_id: None, remote: false };
        if self.can_talk() {
            self.authorize(i, who);
        } else if known || self.settings.is_on(Key::OfflineUnknownId) {
            self.authorized(i, who);
        } else {
            self.refuse(i, "offline, and the card is not known");
        }
    }

    fn authorize(&mut self, i: usize, who: Authorization) {
        let payload = match self.config.version {
            Version::V16 => json!({ "idTag": who.id_tag }),
            Version::V201 => json!({ "idToken": v201::id_token(&who) }),
        };
        self.call("Authorize", payload, Purpose::Authorize(i, who), false);
    }

    /// The user may charge: at once, or as soon as the cable is in.
    pub(crate) fn authorized(&mut self, i: usize, who: Authorization) {
        if !self.connectors[i].is_free() {
            return self.refuse(i, "not free any more");
        }
        let connector = self.connectors[i].id;
        self.event(SimEvent::Authorized { connector, id_tag: who.id_tag.clone() });
        if self.connectors[i].car.is_some() {
            // 1.6 goes through Preparing (F2) when a new transaction follows one that is finishing.
            self.connectors[i].finishing = false;
            self.refresh(i);
            self.begin_session(i, who, false);
        } else {
            let until = self.after(self.config.connection_timeout);
            self.connectors[i].waiting = Some(Waiting { who, until });
            self.refresh(i);
        }
    }

    /// A remote start that was accepted.
    pub(crate) fn remote_start(&mut self, i: usize, who: Authorization) {
        if self.settings.is_on(Key::AuthorizeRemote) {
            self.authorize(i, who);
        } else {
            self.authorized(i, who);
        }
    }

    /// The connector for a remote start: the one asked for, else one with a car, else any free one.
    /// In 1.6 a connector that is Finishing takes none.
    pub(crate) fn connector_for(&self, asked: Option<i64>) -> Option<usize> {
        let free = |i: &usize| {
            let connector = &self.connectors[*i];
            connector.is_free() && !(connector.finishing && self.config.version == Version::V16)
        };
        match asked {
            Some(id) => self.index(id).filter(free),
            None => {
                let all = 0..self.connectors.len();
                let plugged = |i: &usize| self.connectors[*i].car.is_some();
                all.clone().filter(free).find(plugged).or_else(|| all.clone().find(free))
            }
        }
    }

    fn begin_session(&mut self, i: usize, who: Authorization, cable_last: bool) {
        self.next_session += 1;
        let id = match self.config.version {
            Version::V16 => None,
            Version::V201 => Some(self.new_transaction_id()),
        };
        let interval = self.config.sample_interval;
        let next_sample = (!interval.is_zero()).then(|| self.after(interval));
        let session = Session {
            number: self.next_session,
            id: id.clone(),
            who: who.clone(),
            start_wh: self.connectors[i].meter.register_wh(),
            started_at: self.timestamp(),
            next_seq: 0,
            charging_state: "",
            next_sample,
        };
        self.event(SimEvent::TransactionStarted {
            connector: self.connectors[i].id,
            id_tag: who.id_tag,
            transaction_id: id,
            meter_wh: session.start_wh,
        });
        self.connectors[i].finishing = false;
        self.connectors[i].session = Some(session);
        match self.config.version {
            Version::V16 => v16::start(self, i),
            Version::V201 => v201::start(self, i, cable_last),
        }
        self.refresh(i);
    }

    /// Looks like a UUID; the time in it keeps it unique from one run to the next with the same seed.
    fn new_transaction_id(&mut self) -> String {
        let time = self.now.wall.timestamp_millis();
        let (a, b, c): (u16, u16, u64) = self.rng.random();
        let (high, low) = (time >> 16 & 0xffff_ffff, time & 0xffff);
        let (a, b, c) = (a & 0xfff, b & 0x3fff | 0x8000, c & 0xffff_ffff_ffff);
        format!("{high:08x}-{low:04x}-7{a:03x}-{b:04x}-{c:012x}")
    }

    /// Ends the connector's transaction, if there is one.
    pub(crate) fn end_session(&mut self, i: usize, reason: StopReason) {
        let Some(session) = &self.connectors[i].session else {
            return;
        };
        let transaction_id = session.id.clone();
        match self.config.version {
            Version::V16 => v16::stop(self, i, reason),
            Version::V201 => v201::stop(self, i, reason),
        }
        let connector = &mut self.connectors[i];
        connector.take_session();
        let connector_id = connector.id;
        let energy_wh = connector.session_wh();
        if let Some(operative) = connector.scheduled.take() {
            connector.operative = operative;
        }
        self.event(SimEvent::TransactionStopped {
            connector: connector_id,
            transaction_id,
            energy_wh,
            reason: v16::reason_name(reason).to_owned(),
        });
        if !matches!(reason, StopReason::Unplugged | StopReason::Fault) {
            self.refresh(i);
        }
    }

    /// Takes and sends one periodic sample of a running transaction.
    pub(crate) fn sample(&mut self, i: usize) {
        let next = self.after(self.config.sample_interval);
        let connector = &mut self.connectors[i];
        let Some(session) = &mut connector.session else {
            return;
        };
        session.next_sample = Some(next);
        let event = SimEvent::Sample {
            connector: connector.id,
            wh: connector.session_wh(),
            power_w: connector.power_w(),
            meter_wh: connector.meter.register_wh(),
        };
        self.event(event);
        match self.config.version {
            Version::V16 => v16::sample(self, i),
            Version::V201 => v201::update(self, i, "MeterValuePeriodic"),
        }
    }

    /// Puts a message of the running transaction into the queue.
    pub(crate) fn transaction_message(&mut self, i: usize, action: &'static str, part: Part, payload: Value) {
        let Some(session) = self.connectors[i].session.as_ref().map(|s| s.number) else {
            return;
        };
        let order = self.order();
        let lost = self.queue.push(TxMessage { order, action, payload, session, part });
        if let Some(message) = lost {
            self.message_lost(&message);
        }
    }

    pub(crate) fn message_lost(&mut self, message: &TxMessage) {
        self.lost += 1;
        self.event(SimEvent::MessageLost { action: message.action.to_owned() });
    }

    /// The central system took a message of a transaction; its answer may end it.
    pub(crate) fn transaction_answered(&mut self, message: &TxMessage, payload: &Value) {
        let (id, status) = match self.config.version {
            Version::V16 => {
                let id = payload["transactionId"].as_i64().filter(|_| message.part == Part::Start);
                if let Some(id) = id {
                    self.queue.know_id(message.session, id);
                }
                (id.map(|id| id.to_string()), payload["idTagInfo"]["status"].as_str())
            }
            Version::V201 => (None, payload["idTokenInfo"]["status"].as_str()),
        };
        let session = |s: &Session| s.number == message.session;
        let Some(i) = self.connectors.iter().position(|c| c.session.as_ref().is_some_and(session)) else {
            return;
        };
        let connector = &mut self.connectors[i];
        let Some(session) = &mut connector.session else {
            return;
        };
        session.id = id.or_else(|| session.id.take());
        if message.part == Part::Start {
            let event = SimEvent::TransactionConfirmed {
                connector: connector.id,
                transaction_id: session.id.clone().unwrap_or_default(),
                status: status.unwrap_or("Accepted").to_owned(),
            };
            self.event(event);
        }
        if status.is_some_and(|status| status != "Accepted") {
            if self.settings.is_on(Key::StopOnInvalidId) {
                self.end_session(i, StopReason::DeAuthorized);
            } else {
                self.connectors[i].suspended_evse = true;
            }
        }
    }

    /// Begins a reset: transactions end first, unless it waits for them.
    pub(crate) fn begin_reset(&mut self, reason: StopReason, boot_reason: &'static str, on_idle: bool) {
        if !on_idle {
            for i in 0..self.connectors.len() {
                self.end_session(i, reason);
            }
        }
        // A hard reset does not wait for messages: the queue outlives it.
        let grace = std::time::Duration::from_secs(if reason == StopReason::SoftReset { 5 } else { 0 });
        self.reset =
            Some(crate::station::PendingReset { boot_reason, on_idle, give_up: None, grace_ms: millis(grace) });
    }

    /// Takes connectors (all, with the station, for `None`) in or out of service; answers whether that has to wait.
    pub(crate) fn change_availability(&mut self, which: Option<usize>, operative: bool) -> bool {
        let indices = match which {
            Some(i) => i..i + 1,
            None => {
                self.operative = operative;
                0..self.connectors.len()
            }
        };
        let mut scheduled = false;
        for connector in &mut self.connectors[indices] {
            if connector.session.is_some() && connector.operative != operative {
                connector.scheduled = Some(operative);
                scheduled = true;
            } else {
                connector.operative = operative;
                connector.scheduled = None;
            }
        }
        if self.can_talk() {
            self.tell_all(false);
        }
        scheduled
    }
}
