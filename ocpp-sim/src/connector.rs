//! One connector: cable, authorisation, transaction, and the status that follows from them.

use crate::{
    meter::{Car, Meter},
    state::{ConnectorState, ConnectorStatus},
};

/// Who may charge here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authorization {
    pub(crate) id_tag: String,
    /// 2.0.1: type of the idToken.
    pub(crate) token_type: String,
    /// 2.0.1: id of the remote start that brought it.
    pub(crate) remote_start_id: Option<i64>,
    /// Whether it came from the central system.
    pub(crate) remote: bool,
}

/// An authorisation that waits for the cable.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) who: Authorization,
    pub(crate) until: u64,
}

/// Why a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A button at the charger.
    Local,
    /// The card that began it.
    Card,
    Remote,
    Unplugged,
    DeAuthorized,
    SoftReset,
    HardReset,
    Unlock,
    Fault,
}

/// A running transaction.
#[derive(Debug)]
pub(crate) struct Session {
    /// Our own number, by which queued messages find their transaction.
    pub(crate) number: u64,
    /// Id: of the central system (1.6, after its answer) or our own (2.0.1).
    pub(crate) id: Option<String>,
    pub(crate) who: Authorization,
    pub(crate) start_wh: i64,
    pub(crate) started_at: String,
    /// 2.0.1: number of the next event.
    pub(crate) next_seq: i64,
    /// 2.0.1: the charging state last told.
    pub(crate) charging_state: &'static str,
    /// Time of the next sample.
    pub(crate) next_sample: Option<u64>,
}

/// One connector.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) id: u32,
    pub(crate) meter: Meter,
    /// The plugged-in car.
    pub(crate) car: Option<Car>,
    pub(crate) session: Option<Session>,
    pub(crate) waiting: Option<Waiting>,
    /// The transaction is over, the cable not yet out.
    pub(crate) finishing: bool,
    pub(crate) fault: Option<String>,
    pub(crate) operative: bool,
    /// Availability to take on once the transaction is over.
    pub(crate) scheduled: Option<bool>,
    pub(crate) suspended_ev: bool,
    pub(crate) suspended_evse: bool,
    /// Status as last queued for the central system, in its version's spelling.
    pub(crate) told: Option<&'static str>,
    /// Status as last shown in an event.
    pub(crate) shown: ConnectorStatus,
    last_session_wh: i64,
    flowed_until: u64,
}

impl Connector {
    pub(crate) fn new(id: u32, meter: Meter) -> Self {
        Connector {
            id,
            meter,
            car: None,
            session: None,
            waiting: None,
            finishing: false,
            fault: None,
            operative: true,
            scheduled: None,
            suspended_ev: false,
            suspended_evse: false,
            told: None,
            shown: ConnectorStatus::Available,
            last_session_wh: 0,
            flowed_until: 0,
        }
    }

    pub(crate) fn status(&self) -> ConnectorStatus {
        if self.fault.is_some() {
            ConnectorStatus::Faulted
        } else if self.session.is_some() {
            if self.suspended_evse {
                ConnectorStatus::SuspendedEvse
            } else if self.suspended_ev || self.car.as_ref().is_none_or(Car::is_full) {
                ConnectorStatus::SuspendedEv
            } else {
                ConnectorStatus::Charging
            }
        } else if !self.operative {
            ConnectorStatus::Unavailable
        } else if self.finishing {
            ConnectorStatus::Finishing
        } else if self.car.is_some() || self.waiting.is_some() {
            ConnectorStatus::Preparing
        } else {
            ConnectorStatus::Available
        }
    }

    /// Whether a new user can begin here.
    pub(crate) fn is_free(&self) -> bool {
        self.session.is_none() && self.waiting.is_none() && self.fault.is_none() && self.operative
    }

    /// Lets energy flow up to `now` (real milliseconds) at `speed` times real time.
    pub(crate) fn flow(&mut self, now: u64, speed: u32) {
        let elapsed = now.saturating_sub(self.flowed_until);
        self.flowed_until = now;
        let charging = self.status() == ConnectorStatus::Charging;
        let Some(car) = &mut self.car else { return };
        if charging {
            let sim_ms = i64::try_from(elapsed.saturating_mul(u64::from(speed)));
            self.meter.flow(car, sim_ms.unwrap_or(i64::MAX).min(1_000_000_000_000));
        } else {
            car.pause();
        }
    }

    /// Energy of the running transaction, or of the last.
    pub(crate) fn session_wh(&self) -> i64 {
        match &self.session {
            Some(session) => self.meter.register_wh() - session.start_wh,
            None => self.last_session_wh,
        }
    }

    /// Ends the transaction and answers it.
    pub(crate) fn take_session(&mut self) -> Option<Session> {
        self.last_session_wh = self.session_wh();
        self.suspended_evse = false;
        self.finishing = self.car.is_some();
        if let Some(car) = &mut self.car {
            car.pause();
        }
        self.session.take()
    }

    pub(crate) fn power_w(&self) -> i64 {
        self.car.as_ref().map_or(0, Car::power_w)
    }

    pub(crate) fn soc_percent(&self) -> i64 {
        self.car.as_ref().map_or(0, Car::soc_percent)
    }

    pub(crate) fn snapshot(&self) -> ConnectorState {
        let session = self.session.as_ref();
        ConnectorState {
            id: self.id,
            status: self.status(),
            plugged_in: self.car.is_some(),
            in_transaction: session.is_some(),
            transaction_id: session.and_then(|s| s.id.clone()),
            id_tag: session.map(|s| s.who.id_tag.clone()),
            meter_wh: self.meter.register_wh(),
            session_wh: self.session_wh(),
            delivered_wh: self.meter.delivered_wh(),
            power_w: self.power_w(),
            soc_percent: self.soc_percent(),
        }
    }
}
