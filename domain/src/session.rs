//! One charge, from the request to its bill.

use crate::bounds::{Misfit, end_registers};
use crate::charged::Untold;
use crate::event::{NO_AUTHORIZATION, Phase, TransactionUpdate};
use crate::ids::{ChargerId, CustomerId, DeviceId, PurchaseId, SessionId};
use crate::meter::{Doubts, Meter, Point};
use crate::seq_nos::SeqNos;
use crate::tariff::{Bill, Tariff, price};
use crate::units::{Timestamp, Wh};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The customer asked; the charger has not begun a transaction yet.
    Requested,
    /// A transaction runs.
    Active,
    /// Over, with its purchase made.
    Finished,
    /// It never became a charge.
    Failed,
}

impl Status {
    /// The word the store and the operator API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }

    /// The status behind a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Requested, Self::Active, Self::Finished, Self::Failed].into_iter().find(|s| s.as_str() == word)
    }

    /// Whether it holds its device.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Requested | Self::Active)
    }
}

/// Why a charge was stopped that cost as much as its customer's balance.
pub const BALANCE_REACHED: &str = "balance_reached";

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The purchase it ends in; given out at the start, so that every way to the end names the same one.
    pub purchase: PurchaseId,
    /// The station.
    pub charger: ChargerId,
    /// 1.6 connectorId or 2.0.1 evse id; 0 while a 2.0.1 station has not told it.
    pub connector: u32,
    /// The device, where one is registered for the connector.
    pub device: Option<DeviceId>,
    /// Who pays. `None`: an unknown card, kept for review.
    pub customer: Option<CustomerId>,
    /// The prices, frozen at the start.
    pub tariff: Tariff,
    /// The connector's maximum power, W, where the operator told it.
    pub max_power_w: Option<i64>,
    /// Where it stands.
    pub status: Status,
    /// The tag that belongs to it.
    pub id_tag: Option<String>,
    /// The 2.0.1 remoteStartId that it was requested with.
    pub remote_start_id: Option<i64>,
    /// The charger's (2.0.1) or our (1.6) transaction id.
    pub transaction: Option<String>,
    /// When the charger said that it began; `None` while only later parts of the transaction were seen.
    pub started_at: Option<Timestamp>,
    /// When the charger said that it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, in the words of OCPP or ours.
    pub stop_reason: Option<String>,
    /// Why a human should look at it.
    pub review: Option<String>,
    /// Whether its start was refused: it is kept, and holds neither its place nor its customer.
    pub refused: bool,
    /// Since when, by our clock, the station's own words say that it knows nothing of the transaction any more: it has booted,
    /// or its connector is free or waits for a start. What it tells of the transaction later takes that back.
    pub lost_at: Option<Timestamp>,
    /// Which of the transaction's messages have come (2.0.1).
    pub seq_nos: SeqNos,
    /// Its running figures.
    pub meter: Meter,
}

/// What an update asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// A point came late: load all points and [`Session::fold`] them.
    pub fold_again: bool,
    /// Its begin and its end are known: a bill made before is to be corrected.
    pub over: bool,
    /// It is over and none of its messages is missing: make the bill.
    pub complete: bool,
}

impl Session {
    /// Takes in one update about this session's transaction. `points` are the update's, completed by
    /// [`crate::bounds::points_of`].
    pub fn apply(&mut self, update: &TransactionUpdate, points: &[Point]) -> Applied {
        // Where it began is where it is: meter values may name another connector, KEBA's are told on 0.
        if let Some(connector) = update.connector.filter(|c| *c != 0)
            && (self.connector == 0 || update.phase == Phase::Started)
        {
            self.connector = connector;
        }
        let ends = update.phase == Phase::Ended && self.may_end(update);
        if let Some(number) = update.seq_no {
            self.seq_nos.insert(number);
        }
        if self.status == Status::Requested {
            self.status = Status::Active;
        }
        let before = (self.started_at, self.ended_at);
        if update.phase == Phase::Started {
            self.meter.rest.begin_undated |= self.started_at.is_none() && update.timeless;
            self.started_at.get_or_insert(update.at);
        }
        if ends {
            if self.ended_at == Some(update.at) {
                end_registers(update).for_each(|told| self.note_other_end(told));
            }
            self.end(update);
        }
        // What was counted so far may lie outside.
        let began = before.0 != self.started_at && self.meter.last_at != Timestamp(0);
        let ends_earlier = before.1.is_some_and(|ended| Some(ended) != self.ended_at);
        let bounded = began || ends_earlier || self.side_of(self.meter.last_at) == Some(Misfit::AfterEnd);
        let fold_again = !points.iter().all(|point| self.append(*point)) || bounded;
        // A lone end waits for its start: without it nobody knows whose it is.
        let over = self.ended_at.is_some() && self.started_at.is_some();
        Applied { fold_again, over, complete: over && !self.seq_nos.has_gap() }
    }

    /// Takes an update for its end: the first that was told; of those that a charger numbers (2.0.1), the earliest. One that is
    /// dated before the begin gives way.
    fn end(&mut self, update: &TransactionUpdate) {
        if self.ended_at.is_none() {
            // A charger that was told to stop by us knows only that somebody asked.
            let ours = self.stop_reason.as_deref() == Some(BALANCE_REACHED);
            if !(ours && update.reason.as_deref() == Some("Remote")) {
                self.stop_reason.clone_from(&update.reason);
            }
        }
        if self.is_end_replaced_by(update) {
            self.ended_at = Some(update.at);
            self.stop_reason.clone_from(&update.reason);
        }
        let ended = self.ended_at.get_or_insert(update.at);
        if update.own_id {
            *ended = update.at.min(*ended);
        }
        // What is numbered after the end is none of the charge, and may be told again.
        if let Some(last) = update.seq_no.filter(|_| *ended == update.at) {
            self.seq_nos.forget_above(last);
        }
    }

    /// Whether it is somebody's charge at a place, so that the place is its own until it is over and the car unplugged.
    pub fn holds_its_place(&self) -> bool {
        self.device.is_some() && !self.refused && (self.customer.is_some() || self.is_free())
    }

    /// Whether its car has had its charge, so that whoever comes next has to wait until it is unplugged.
    pub fn has_charged(&self) -> bool {
        self.holds_its_place() || (self.customer.is_some() && self.meter.energy() > Wh(0))
    }

    /// Whether it is nobody's where the operator lets everybody charge for free.
    pub fn is_free(&self) -> bool {
        let names_nobody = self.id_tag.as_deref() == Some(NO_AUTHORIZATION) && self.customer.is_none();
        names_nobody && self.device.is_some() && !self.refused
    }

    /// What is doubtful of its figures.
    pub fn doubts(&self) -> Doubts {
        let over = self.ended_at.is_some() || self.status == Status::Finished;
        let first_told = Some(self.meter.first_at).filter(|at| *at != Timestamp(0));
        let untold_ms = self.started_at.zip(first_told).map_or(0, |(began, told)| told.since(began));
        let began = self.started_at.is_some() && self.customer.is_some() && !self.refused;
        let cut_off = began && self.status == Status::Finished && self.ended_at.is_none();
        self.meter.doubts_beside(over, Untold { ms: untold_ms, cut_off })
    }

    /// The final figures, or the figures so far.
    pub fn bill(&self) -> Bill {
        price(&self.tariff, &self.meter.usage())
    }

    /// What it will cost at a later moment, if it goes on as it did: for the stop that a charger is asked for in time.
    pub fn bill_by(&self, at: Timestamp) -> Bill {
        price(&self.tariff, &self.meter.usage_by(at, &self.tariff, self.max_power_w))
    }

    /// The figures at `now`, for the live event; the waiting runs on only while the charger is in touch.
    pub fn bill_at(&self, now: Timestamp, in_touch: bool) -> Bill {
        if in_touch && self.ended_at.is_none() {
            price(&self.tariff, &self.meter.usage_at(now, &self.tariff))
        } else {
            self.bill()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bounds::points_of;
    use crate::ids::Id;
    use crate::meter::{ChargingState, Doubt, PointKind};
    use crate::units::{Money, Wh};

    pub(crate) fn session() -> Session {
        let id = Id::from_parts(1, [0; 8]);
        Session {
            id: SessionId(id),
            purchase: PurchaseId(id),
            charger: ChargerId(id),
            connector: 1,
            device: Some(DeviceId(id)),
            customer: Some(CustomerId(id)),
            tariff: Tariff { energy_price: Money(50_000), waiting_price: Money(6000), ..Tariff::default() },
            max_power_w: None,
            status: Status::Requested,
            id_tag: Some("TAG".into()),
            remote_start_id: None,
            transaction: None,
            started_at: None,
            ended_at: None,
            stop_reason: None,
            review: None,
            refused: false,
            lost_at: None,
            seq_nos: SeqNos::default(),
            meter: Meter::default(),
        }
    }

    /// A TransactionEvent of 2.0.1.
    pub(crate) fn event(phase: Phase, seq_no: i64, seconds: i64, points: &[(PointKind, i64)]) -> TransactionUpdate {
        TransactionUpdate { own_id: true, seq_no: Some(seq_no), ..numbered(phase, seconds, points) }
    }

    /// A message of 1.6 that names the number we gave.
    pub(crate) fn numbered(phase: Phase, seconds: i64, points: &[(PointKind, i64)]) -> TransactionUpdate {
        update(phase, seconds, points)
    }

    fn update(phase: Phase, seconds: i64, points: &[(PointKind, i64)]) -> TransactionUpdate {
        let at = Timestamp(1_790_000_000_000 + seconds * 1000);
        TransactionUpdate {
            phase,
            transaction: Some("7".into()),
            own_id: false,
            connector: Some(1),
            id_tag: None,
            stops: false,
            remote_start_id: None,
            seq_no: None,
            at,
            start_key: None,
            timeless: false,
            points: points.iter().map(|&(kind, value)| Point::new(at, kind, value)).collect(),
            reason: None,
        }
    }

    fn tell(session: &mut Session, update: &TransactionUpdate) -> Applied {
        session.apply(update, &points_of(update))
    }

    #[test]
    fn a_charge_from_start_to_bill() {
        use PointKind::*;
        let mut s = session();
        assert!(!tell(&mut s, &update(Phase::Started, 0, &[(MeterStart, 1000)])).complete);
        assert_eq!(s.status, Status::Active);
        tell(&mut s, &update(Phase::Updated, 60, &[(Register, 1500), (Power, 7000)]));
        tell(&mut s, &update(Phase::Updated, 70, &[(State, ChargingState::SuspendedEv as i64)]));
        let done = tell(&mut s, &update(Phase::Ended, 100, &[(End, 2000)]));
        assert_eq!(done, Applied { fold_again: false, over: true, complete: true });
        let bill = s.bill();
        assert_eq!((bill.energy, bill.energy_amount), (Wh(1000), Money(50_000)));
        assert_eq!(bill, s.bill_at(Timestamp(i64::MAX), true), "the live figure at the end is the final one");
    }

    #[test]
    fn a_stop_that_we_asked_for_keeps_our_reason() {
        for (told, kept) in [("Remote", BALANCE_REACHED), ("EVDisconnected", "EVDisconnected")] {
            let mut s = session();
            tell(&mut s, &update(Phase::Started, 0, &[(PointKind::MeterStart, 0)]));
            s.stop_reason = Some(BALANCE_REACHED.into());
            let end = TransactionUpdate { reason: Some(told.into()), ..update(Phase::Ended, 9, &[]) };
            tell(&mut s, &end);
            assert_eq!(s.stop_reason.as_deref(), Some(kept));
        }
    }

    #[test]
    fn an_end_without_a_start_waits_for_it() {
        use PointKind::*;
        let mut s = session();
        assert!(!tell(&mut s, &update(Phase::Ended, 100, &[(End, 2000)])).over);
        let applied = tell(&mut s, &update(Phase::Started, 0, &[(MeterStart, 1000)]));
        assert_eq!(applied, Applied { fold_again: true, over: true, complete: true });
    }

    #[test]
    fn an_end_waits_for_messages_that_are_missing_between() {
        let mut s = session();
        let numbered = |phase, number| TransactionUpdate { seq_no: Some(number), ..update(phase, number, &[]) };
        tell(&mut s, &numbered(Phase::Started, 0));
        let ended = tell(&mut s, &numbered(Phase::Ended, 2));
        assert!(ended.over && !ended.complete);
        assert!(tell(&mut s, &numbered(Phase::Updated, 1)).complete);
    }

    #[test]
    fn meter_values_do_not_move_a_session_to_another_connector() {
        let mut s = session();
        tell(&mut s, &TransactionUpdate { connector: Some(2), ..update(Phase::Started, 0, &[]) });
        tell(&mut s, &TransactionUpdate { connector: Some(1), ..update(Phase::Updated, 5, &[]) });
        assert_eq!(s.connector, 2);
    }

    #[test]
    fn a_charge_of_which_too_little_was_told_is_doubtful() {
        let doubt = |updates: &[TransactionUpdate], status: Status| {
            let mut s = session();
            for update in updates {
                tell(&mut s, update);
            }
            s.status = status;
            s.doubts().first()
        };
        let (silent, read) =
            (update(Phase::Started, 0, &[]), update(Phase::Started, 0, &[(PointKind::MeterStart, 1000)]));
        let not_measured = Some(Doubt::NotMeasured);
        for end in [vec![], vec![(PointKind::End, 2000)]] {
            assert_eq!(
                doubt(&[silent.clone(), update(Phase::Ended, 3600, &end)], Status::Finished),
                not_measured,
                "{end:?}"
            );
        }
        assert_eq!(doubt(&[silent.clone(), update(Phase::Ended, 5, &[])], Status::Finished), None, "over at once");
        // Settled without a word of its end.
        assert_eq!(doubt(std::slice::from_ref(&silent), Status::Finished), not_measured);
        assert_eq!(doubt(std::slice::from_ref(&read), Status::Finished), not_measured);
        assert_eq!(doubt(std::slice::from_ref(&read), Status::Active), None);
        let plugged_in = update(Phase::Updated, 5, &[(PointKind::State, ChargingState::Connected as i64)]);
        assert_eq!(doubt(&[read.clone(), plugged_in], Status::Finished), None);
        let sampled = update(Phase::Updated, 60, &[(PointKind::Register, 1500)]);
        assert_eq!(doubt(&[read, sampled], Status::Finished), None, "the figures so far");
    }

    #[test]
    fn the_first_end_wins() {
        let mut s = session();
        tell(&mut s, &update(Phase::Started, 0, &[(PointKind::MeterStart, 0)]));
        tell(&mut s, &update(Phase::Ended, 100, &[(PointKind::End, 50)]));
        let first = s.ended_at;
        tell(&mut s, &update(Phase::Ended, 101, &[(PointKind::End, 50)]));
        assert_eq!(s.ended_at, first);
    }
}
