//! One charge, from the request to its bill.

use crate::event::{Phase, TransactionUpdate};
use crate::ids::{ChargerId, CustomerId, DeviceId, PurchaseId, SessionId};
use crate::meter::{ChargingState, Meter, Point, PointKind};
use crate::tariff::{Bill, Tariff, price};
use crate::units::Timestamp;

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
    /// Its running figures.
    pub meter: Meter,
}

/// What an update asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// A point came late: load all points, fold, and set [`Session::meter`] to the result.
    pub fold_again: bool,
    /// The transaction is over and nothing is missing: make or correct the bill.
    pub settle: bool,
}

impl Session {
    /// Takes in one update about this session's transaction. `points` are the update's, completed by
    /// [`points_of`].
    pub fn apply(&mut self, update: &TransactionUpdate, points: &[Point]) -> Applied {
        if let Some(connector) = update.connector.filter(|c| *c != 0) {
            self.connector = connector;
        }
        if self.status == Status::Requested {
            self.status = Status::Active;
        }
        if update.phase == Phase::Started {
            self.started_at.get_or_insert(update.at);
        }
        if update.phase == Phase::Ended && self.ended_at.is_none() {
            self.ended_at = Some(update.at);
            self.stop_reason.clone_from(&update.reason);
        }
        let max_power = self.max_power_w;
        let fold_again = !points.iter().all(|point| self.meter.append(*point, max_power));
        // A lone end waits for its start: without it nobody knows whose it is.
        Applied { fold_again, settle: self.ended_at.is_some() && self.started_at.is_some() }
    }

    /// The final figures, or the figures so far.
    pub fn bill(&self) -> Bill {
        price(&self.tariff, self.meter.energy(), self.meter.waiting_s())
    }

    /// The figures at `now`, for the live event; the waiting runs on only while the charger is in touch.
    pub fn bill_at(&self, now: Timestamp, in_touch: bool) -> Bill {
        let waiting =
            if in_touch && self.ended_at.is_none() { self.meter.waiting_s_at(now) } else { self.meter.waiting_s() };
        price(&self.tariff, self.meter.energy(), waiting)
    }
}

/// An update's points, in order, with the one that closes the last stretch of time at the end.
pub fn points_of(update: &TransactionUpdate) -> Vec<Point> {
    let mut points = update.points.clone();
    if update.phase == Phase::Ended {
        points.push(Point { at: update.at, kind: PointKind::State, value: ChargingState::Idle as i64 });
    }
    points.sort_unstable();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::Id;
    use crate::units::{Money, Wh};

    fn session() -> Session {
        let id = Id::from_parts(1, [0; 8]);
        Session {
            id: SessionId(id),
            purchase: PurchaseId(id),
            charger: ChargerId(id),
            connector: 1,
            device: Some(DeviceId(id)),
            customer: Some(CustomerId(id)),
            tariff: Tariff { energy_price: Money(50_000), waiting_price: Money(6000), waiting_grace_s: 0 },
            max_power_w: None,
            status: Status::Requested,
            id_tag: Some("TAG".into()),
            remote_start_id: None,
            transaction: None,
            started_at: None,
            ended_at: None,
            stop_reason: None,
            review: None,
            meter: Meter::default(),
        }
    }

    fn update(phase: Phase, seconds: i64, points: &[(PointKind, i64)]) -> TransactionUpdate {
        let at = Timestamp(1_790_000_000_000 + seconds * 1000);
        TransactionUpdate {
            phase,
            transaction: Some("7".into()),
            own_id: false,
            connector: Some(1),
            id_tag: None,
            remote_start_id: None,
            at,
            start_key: None,
            points: points.iter().map(|&(kind, value)| Point { at, kind, value }).collect(),
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
        assert!(!tell(&mut s, &update(Phase::Started, 0, &[(MeterStart, 1000)])).settle);
        assert_eq!(s.status, Status::Active);
        tell(&mut s, &update(Phase::Updated, 60, &[(Register, 1500), (Power, 7000)]));
        tell(&mut s, &update(Phase::Updated, 70, &[(State, ChargingState::SuspendedEv as i64)]));
        let done = tell(&mut s, &update(Phase::Ended, 100, &[(End, 2000)]));
        assert_eq!(done, Applied { fold_again: false, settle: true });
        let bill = s.bill();
        assert_eq!((bill.energy, bill.energy_amount), (Wh(1000), Money(50_000)));
        assert_eq!(bill, s.bill_at(Timestamp(i64::MAX), true), "the live figure at the end is the final one");
    }

    #[test]
    fn an_end_without_a_start_waits_for_it() {
        use PointKind::*;
        let mut s = session();
        assert!(!tell(&mut s, &update(Phase::Ended, 100, &[(End, 2000)])).settle);
        let applied = tell(&mut s, &update(Phase::Started, 0, &[(MeterStart, 1000)]));
        assert_eq!(applied, Applied { fold_again: true, settle: true });
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
