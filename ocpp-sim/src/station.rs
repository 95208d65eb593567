//! The charger as a plain state machine: inputs in, outputs out, no socket and no clock.

use crate::{
    config::{ChargerConfig, Version},
    connector::{Authorization, Connector},
    meter::Meter,
    queue::TxQueue,
    settings::{Key, Settings, hex_bytes},
    state::{ChargerState, ConnectorStatus, SimEvent},
};
use chrono::{DateTime, SecondsFormat, Utc};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// Time in both meanings: milliseconds since the charger was made, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) ms: u64,
    pub(crate) wall: DateTime<Utc>,
}

/// What a person at the charger does; numbers are connectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Local {
    PlugIn(u32),
    Unplug(u32),
    PresentCard(u32, String),
    Stop(u32),
    SuspendEv(u32),
    SuspendEvse(u32),
    Resume(u32),
    Fault(u32, String),
    ClearFault(u32),
    GoOffline,
    GoOnline,
}

/// What happens to a charger.
#[derive(Debug)]
pub(crate) enum Input {
    Opened,
    Lost(String),
    Failed { status: Option<u16>, reason: String },
    Text(String),
    Local(Local),
    Tick,
}

/// What it does, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Connect,
    Send(String),
    Close { clean: bool },
    Event(SimEvent),
}

/// Where BootNotification has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    Unknown,
    Pending,
    Rejected,
    Accepted,
}

/// What a CALL of ours is for, so that its answer can be understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    Boot,
    Heartbeat,
    /// Of the connector with this index, or the station itself.
    Status(Option<usize>),
    Authorize(usize, Authorization),
    Transaction,
    Other,
}

/// A CALL to be sent, outside of the transaction queue.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) order: u64,
    pub(crate) action: &'static str,
    pub(crate) payload: Value,
    pub(crate) purpose: Purpose,
    /// Asked for by TriggerMessage, so allowed before the boot is accepted.
    pub(crate) triggered: bool,
}

/// The CALL that waits for its answer.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) id: String,
    pub(crate) purpose: Purpose,
    pub(crate) deadline: u64,
}

/// A reset that was accepted and not yet done.
#[derive(Debug)]
pub(crate) struct PendingReset {
    pub(crate) boot_reason: &'static str,
    /// Wait for running transactions to end by themselves.
    pub(crate) on_idle: bool,
    /// Reset at this time even with messages left in the queue; set when no transaction runs any more.
    pub(crate) give_up: Option<u64>,
    pub(crate) grace_ms: u64,
}

/// The whole charger.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) config: ChargerConfig,
    pub(crate) settings: Settings,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) connectors: Vec<Connector>,
    pub(crate) now: Now,
    pub(crate) rng: SmallRng,
    pub(crate) out: Vec<Output>,
    // Connection.
    pub(crate) online: bool,
    pub(crate) want_online: bool,
    pub(crate) connect_at: Option<u64>,
    pub(crate) failures: u32,
    pub(crate) offline_since: u64,
    pub(crate) refused: Option<u16>,
    pub(crate) reconnect_now: bool,
    // Life at the central system.
    pub(crate) registration: Registration,
    pub(crate) boot_reason: &'static str,
    pub(crate) boot_at: Option<u64>,
    pub(crate) heartbeat_at: Option<u64>,
    pub(crate) reset: Option<PendingReset>,
    pub(crate) told_station: Option<&'static str>,
    pub(crate) operative: bool,
    pub(crate) known_tags: BTreeSet<String>,
    // Messages.
    pub(crate) calls: VecDeque<Call>,
    pub(crate) outstanding: Option<Outstanding>,
    pub(crate) queue: TxQueue,
    pub(crate) id_prefix: String,
    pub(crate) next_order: u64,
    pub(crate) next_session: u64,
    pub(crate) frames_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) lost: u64,
}

impl Station {
    pub(crate) fn new(config: ChargerConfig, now: Now) -> Self {
        let config = config.clamped();
        let seed = config
            .identity
            .bytes()
            .fold(config.seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let connectors = (1..=config.connectors)
            .map(|id| {
                let meter = Meter::new(config.start_meter_wh, config.power_w, seed ^ u64::from(id));
                Connector::new(id, meter)
            })
            .collect();
        let mut rng = SmallRng::seed_from_u64(seed);
        // Unique over restarts by the time, between chargers by the seed.
        let id_prefix = format!("{:x}{:04x}", now.wall.timestamp_millis(), rng.random::<u16>());
        Station {
            settings: Settings::new(&config),
            password: config.password.clone().map(String::into_bytes),
            connectors,
            now,
            rng,
            out: Vec::new(),
            online: false,
            want_online: true,
            connect_at: Some(now.ms),
            failures: 0,
            offline_since: now.ms,
            refused: None,
            reconnect_now: false,
            registration: Registration::Unknown,
            boot_reason: "PowerUp",
            boot_at: None,
            heartbeat_at: None,
            reset: None,
            told_station: None,
            operative: true,
            known_tags: BTreeSet::new(),
            calls: VecDeque::new(),
            outstanding: None,
            queue: TxQueue::new(config.queue_limit),
            id_prefix,
            next_order: 0,
            next_session: 0,
            frames_in: 0,
            frames_out: 0,
            lost: 0,
            config,
        }
    }

    /// Takes one input and answers what is to be done about it.
    pub(crate) fn apply(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        for connector in &mut self.connectors {
            connector.flow(now.ms, self.config.speed);
        }
        match input {
            Input::Opened => self.opened(),
            Input::Lost(reason) => self.link_lost(reason),
            Input::Failed { status, reason } => self.link_failed(status, reason),
            Input::Text(text) => self.received(&text),
            Input::Local(local) => self.local(local),
            Input::Tick => {}
        }
        self.timers();
        for i in 0..self.connectors.len() {
            self.refresh(i);
        }
        self.finish_reset();
        self.pump();
        std::mem::take(&mut self.out)
    }

    /// When to call again with a tick, if nothing else happens before.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let charging = self.connectors.iter().any(|c| c.status() == ConnectorStatus::Charging);
        let tick = if self.config.speed == 1 { 1_000 } else { 200 };
        let connectors = self.connectors.iter().flat_map(|c| {
            let sample = c.session.as_ref().and_then(|s| s.next_sample);
            [sample, c.waiting.as_ref().map(|w| w.until)]
        });
        let talk = [
            self.boot_at,
            self.heartbeat_at,
            self.outstanding.as_ref().map(|o| o.deadline),
            self.queue.wakes_at(self.now.ms),
        ];
        connectors
            .chain(talk.into_iter().filter(|_| self.online))
            .chain([self.connect_at, charging.then(|| self.now.ms + tick), self.reset.as_ref().and_then(|r| r.give_up)])
            .flatten()
            .min()
    }

    fn timers(&mut self) {
        let now = self.now.ms;
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if due(self.connect_at) {
            self.connect_at = None;
            self.out.push(Output::Connect);
        }
        if self.online {
            if due(self.outstanding.as_ref().map(|o| o.deadline)) {
                self.unanswered("no answer in time");
            }
            if due(self.boot_at) {
                self.boot_at = None;
                self.send_boot(false);
            }
            if due(self.heartbeat_at) {
                self.send_heartbeat(false);
            }
        }
        for i in 0..self.connectors.len() {
            if due(self.connectors[i].waiting.as_ref().map(|w| w.until)) {
                self.connectors[i].waiting = None;
                let connector = self.connectors[i].id;
                self.event(SimEvent::TimedOut { connector });
            }
            let session = self.connectors[i].session.as_ref();
            if due(session.and_then(|s| s.next_sample)) {
                self.sample(i);
            }
        }
    }

    /// The state as others may see it.
    pub(crate) fn snapshot(&self) -> ChargerState {
        ChargerState {
            online: self.online,
            booted: self.registration == Registration::Accepted,
            refused: self.refused,
            connectors: self.connectors.iter().map(Connector::snapshot).collect(),
            frames_out: self.frames_out,
            frames_in: self.frames_in,
            queued: self.queue.len(),
            lost: self.lost,
        }
    }

    pub(crate) fn event(&mut self, event: SimEvent) {
        self.out.push(Output::Event(event));
    }

    /// The wall clock as it goes into messages.
    pub(crate) fn timestamp(&self) -> String {
        self.now.wall.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub(crate) fn after(&self, wait: Duration) -> u64 {
        self.now.ms.saturating_add(millis(wait))
    }

    pub(crate) fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.registration == Registration::Accepted
    }

    /// Whether ordinary messages may go out.
    pub(crate) fn can_talk(&self) -> bool {
        self.online && self.is_accepted()
    }

    /// Index of the connector with this number.
    pub(crate) fn index(&self, id: i64) -> Option<usize> {
        self.connectors.iter().position(|c| i64::from(c.id) == id)
    }

    /// A setting that the simulator itself heeds was changed by the central system.
    pub(crate) fn setting_changed(&mut self, key: Key) {
        let seconds = Duration::from_secs(self.settings.seconds(key));
        match key {
            Key::HeartbeatInterval => {
                self.config.heartbeat_interval = seconds;
                self.heartbeat_at = Some(self.after(seconds));
            }
            Key::SampleInterval => {
                self.config.sample_interval = seconds;
                let next = (!seconds.is_zero()).then(|| self.after(seconds));
                for session in self.connectors.iter_mut().filter_map(|c| c.session.as_mut()) {
                    session.next_sample = next;
                }
            }
            Key::ConnectionTimeout => self.config.connection_timeout = seconds,
            Key::MessageRetryInterval => self.config.message_retry_interval = seconds,
            Key::MessageAttempts => {
                let attempts = self.settings.seconds(key);
                self.config.message_attempts = u32::try_from(attempts).unwrap_or(1).max(1);
            }
            Key::Password => {
                let text = self.settings.text(key);
                self.password = match self.config.version {
                    Version::V16 => hex_bytes(text),
                    Version::V201 => Some(text.as_bytes().to_vec()),
                };
                self.reconnect_now = true;
            }
            _ => {}
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
