//! Who charges where: what begins at a connector, whose it is, and what has to give way.

use evm_domain::{
    ChargerId, CustomerId, Meter, Phase, PurchaseId, SeqNos, Session, SessionId, Status, Tariff, Timestamp,
    TransactionUpdate,
};
use evm_store::chargers::Place;
use evm_store::new_id;
use evm_store::sessions::Found;

use super::{Desk, Entry};
use crate::ingest::batch::Taken;
use crate::ocpp::TagStatus;

/// The review of a session whose connector is no device.
pub(super) const NO_DEVICE: &str = "no_device";

/// By so much a charge began before another to be the older one for sure: clocks are set now and then.
pub(in crate::ingest) const OLDER_MS: i64 = 5 * 60_000;

/// Open transactions of a charger that hold no device: each is looked at with each message.
const MOST_WITHOUT_DEVICE: usize = 100;

impl Desk {
    /// Whether a charger begins yet another transaction at a place that does not exist.
    pub(super) fn has_too_many(&self, charger: ChargerId, update: &TransactionUpdate) -> bool {
        let is_place = |p: &Place| p.charger == charger && Some(p.connector) == update.connector;
        let open = |entry: &&Entry| {
            let s = &entry.session;
            s.charger == charger && s.status.is_live() && s.device.is_none() && !entry.gone
        };
        !self.places.iter().any(is_place) && self.entries.iter().filter(open).count() >= MOST_WITHOUT_DEVICE
    }

    /// It is answered and kept, and is no session.
    pub(super) fn refuse(&mut self, update: &TransactionUpdate) -> Taken {
        let mut taken = Taken::aside("too many open transactions");
        if update.id_tag.is_some() || !update.own_id {
            taken.outcome.tag = Some(TagStatus::Invalid);
        }
        if update.phase == Phase::Started && !update.own_id {
            self.refused.push(self.taken);
        }
        taken
    }

    /// A transaction that began without a known tag or place gets them when they are told (2.0.1).
    pub(super) fn own(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let session = &self.entries[n].session;
        let connector = update.connector.unwrap_or(session.connector);
        let began = session.started_at.unwrap_or(update.at);
        let claims = claims(update) || (session.id_tag.is_some() && !self.is_taken(charger, connector));
        if session.device.is_none()
            && let Some(place) = self.places.iter().find(|p| p.charger == charger && p.connector == connector)
            && self.entries[n].new.is_none()
            && session.status == Status::Active
            && claims
            && !self.is_overtaken(n, connector, began)
        {
            let place = place.clone();
            let zone = place.tariff.clock.zone().map(str::to_owned);
            self.attached.push((session.id, place.device, place.tariff_id.clone(), zone));
            let entry = &mut self.entries[n];
            let session = &mut entry.session;
            (session.device, session.tariff, session.max_power_w) =
                (Some(place.device), place.tariff, place.max_power_w);
            session.connector = connector;
            // What was told before is sorted by this tariff's bands and held against this plug's power.
            entry.fold_again = true;
            self.displace_others(n, Status::is_live);
        }
        let session = &self.entries[n].session;
        // The tag may have been told before the place was.
        let told_before = session.id_tag.clone().filter(|_| session.review.as_deref() == Some(NO_DEVICE));
        if session.customer.is_none()
            && session.status == Status::Active
            && session.device.is_some()
            && let Some(tag) = update.id_tag.clone().or(told_before)
        {
            let (customer, review) = self.owner_of(&tag);
            let session = &mut self.entries[n].session;
            session.customer = customer;
            session.id_tag = Some(tag);
            session.review = review.map(str::to_owned);
        }
    }

    fn owner_of(&mut self, tag: &str) -> (Option<CustomerId>, Option<&'static str>) {
        match self.card_owner(tag) {
            Some(owner) if self.charging.insert(owner) => (Some(owner), None),
            Some(_) => (None, Some("concurrent_tx")),
            None => (None, Some("unknown_tag")),
        }
    }

    fn card_owner(&self, tag: &str) -> Option<CustomerId> {
        self.cards.iter().find(|(card, _)| card == tag).map(|(_, owner)| *owner)
    }

    /// A charge that nobody asked for through the app. It takes its place once it says for whom it is: a car that is only
    /// plugged in, where that begins a transaction (2.0.1), keeps nobody from a start by the app.
    pub(super) fn begin(&mut self, charger: ChargerId, update: &TransactionUpdate) -> usize {
        let connector = update.connector.unwrap_or(0);
        let n = self.entries.len();
        let place = self.places.iter().find(|p| p.charger == charger && p.connector == connector).cloned();
        let is_device = place.is_some();
        let place = place.filter(|_| claims(update));
        let mut entry = Entry::of(Found {
            start_key: update.start_key.clone(),
            version: 0,
            session: new_session(charger, connector, place.as_ref(), update),
        });
        entry.new = Some(place.map(|p| p.tariff_id));
        self.entries.push(entry);
        let overtaken = self.is_overtaken(n, connector, update.at);
        if overtaken {
            self.entries[n].overtaken = claims(update);
        } else if claims(update) {
            self.displace_others(n, Status::is_live);
        } else if update.phase == Phase::Started {
            // Another car is there: the charge before is over, while a request may be for this very car.
            self.displace_others(n, |status| status == Status::Active);
        }
        let (customer, review) = match &update.id_tag {
            _ if !is_device => (None, Some(NO_DEVICE)),
            // It is over: what its customer does now is no matter.
            Some(tag) if overtaken => {
                self.card_owner(tag).map_or((None, Some("unknown_tag")), |owner| (Some(owner), None))
            }
            Some(tag) => self.owner_of(tag),
            None => (None, Some("unknown_tag")),
        };
        let session = &mut self.entries[n].session;
        (session.customer, session.review) = (customer, review.map(str::to_owned));
        n
    }

    /// Whether a charge is under way there, or asked for.
    fn is_taken(&self, charger: ChargerId, connector: u32) -> bool {
        self.entries.iter().any(|entry| {
            let s = &entry.session;
            s.charger == charger && s.connector == connector && s.device.is_some() && s.status.is_live() && !entry.gone
        })
    }

    pub(super) fn merge(&mut self, from: usize, into: usize) -> usize {
        let old = self.entries[from].session.clone();
        self.entries[from].gone = true;
        self.entries[from].changed = false;
        let new = &mut self.entries[into].session;
        new.transaction = old.transaction;
        new.started_at = old.started_at;
        new.ended_at = old.ended_at;
        new.stop_reason = old.stop_reason;
        new.seq_nos.join(&old.seq_nos);
        if old.connector != 0 {
            new.connector = old.connector;
        }
        self.merges.push((old.id, new.id));
        self.entries[into].fold_again = true;
        into
    }

    /// Whether a charge that began later is under way at its place: then it is over, and what is told of it comes late.
    pub(super) fn is_overtaken(&self, n: usize, connector: u32, began: Timestamp) -> bool {
        let mine = &self.entries[n].session;
        self.entries.iter().enumerate().any(|(other, entry)| {
            let s = &entry.session;
            let same_place = s.connector == connector || (s.device == mine.device && mine.device.is_some());
            let under_way = s.status == Status::Active && s.device.is_some() && other != n && !entry.gone;
            let later = s.started_at.is_some_and(|at| at.since(began) > OLDER_MS);
            s.charger == mine.charger && same_place && under_way && later
        })
    }

    /// One connector charges one car: what else was open there is over, or will not come, and keeps no customer from the
    /// next charge.
    pub(super) fn displace_others(&mut self, n: usize, gives_way: impl Fn(Status) -> bool) {
        let (charger, connector, device) = {
            let s = &self.entries[n].session;
            (s.charger, s.connector, s.device)
        };
        for (other, entry) in self.entries.iter_mut().enumerate() {
            let s = &mut entry.session;
            let same_place = (s.connector == connector && connector != 0) || (s.device == device && device.is_some());
            if other == n || entry.gone || s.charger != charger || !gives_way(s.status) || !same_place {
                continue;
            }
            s.customer.map(|owner| self.charging.remove(&owner));
            s.stop_reason.get_or_insert_with(|| "superseded".into());
            if s.status == Status::Requested {
                s.status = Status::Failed;
                entry.changed = true;
            }
            self.displaced.push(other);
        }
    }
}

fn new_session(charger: ChargerId, connector: u32, place: Option<&Place>, update: &TransactionUpdate) -> Session {
    Session {
        id: SessionId(new_id()),
        purchase: PurchaseId(new_id()),
        charger,
        connector,
        device: place.map(|p| p.device),
        customer: None,
        tariff: place.map_or_else(Tariff::default, |p| p.tariff.clone()),
        max_power_w: place.and_then(|p| p.max_power_w),
        status: Status::Active,
        id_tag: update.id_tag.clone(),
        remote_start_id: None,
        transaction: update.transaction.clone(),
        started_at: None,
        ended_at: None,
        stop_reason: None,
        review: None,
        seq_nos: SeqNos::default(),
        meter: Meter::default(),
    }
}

/// Whether it says whose the transaction is, so that it may take the place of another. What says nothing of it, as in 2.0.1
/// the mere plugging in or a part told before the begin, waits beside what holds the place.
pub(super) fn claims(update: &TransactionUpdate) -> bool {
    let begins_with_a_tag = update.phase == Phase::Started && !update.own_id;
    begins_with_a_tag || update.id_tag.is_some() || update.remote_start_id.is_some()
}
