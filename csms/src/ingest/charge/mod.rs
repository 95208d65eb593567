//! The sessions that a batch touches, from loading to saving.

mod running;
mod save;
mod wanted;

use std::collections::HashSet;

use evm_domain::session::points_of;
use evm_domain::{
    ChargerEvent, ChargerId, CustomerId, Meter, Phase, Point, PointKind, PurchaseId, SeqNos, Session, SessionId,
    Status, StatusReport, Tariff, TransactionUpdate,
};
use evm_store::chargers::{self, Place};
use evm_store::sessions::{self, Found};
use evm_store::{Db, Result, new_id};

pub(super) use self::running::Running;
use self::wanted::Wanted;
use super::Told;
use super::batch::Taken;
use super::matching::{Match, find};
use crate::ocpp::TagStatus;

/// The review of a session whose connector is no device.
const NO_DEVICE: &str = "no_device";

/// A session on the desk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: Session,
    /// As the store has it.
    stored: Session,
    /// Its version in the store.
    version: i64,
    /// Not loaded for this batch: the store must still have that version.
    from_memory: bool,
    /// What makes a repeated start the same start.
    pub(super) start_key: Option<String>,
    /// Merged into another: it no longer takes part.
    pub(super) gone: bool,
    changed: bool,
    /// Began in this batch at the charger; the version of its prices.
    new: Option<Option<String>>,
    /// Its transaction began in this batch: the start's key is to be kept.
    begun: bool,
    fold_again: bool,
    settle: bool,
    correct: bool,
}

impl Entry {
    fn of(found: Found) -> Self {
        let Found { start_key, version, session } = found;
        Self {
            stored: session.clone(),
            version,
            from_memory: false,
            session,
            start_key,
            gone: false,
            changed: false,
            new: None,
            begun: false,
            fold_again: false,
            settle: false,
            correct: false,
        }
    }
}

/// All that a batch needs to know, and what it changes.
pub(super) struct Desk {
    entries: Vec<Entry>,
    places: Vec<Place>,
    cards: Vec<(String, CustomerId)>,
    /// Customers who have a session under way.
    charging: HashSet<CustomerId>,
    points: Vec<(SessionId, Point)>,
    /// Sessions whose device is needed by another, with the reason: ended before anything else is written.
    displaced: Vec<usize>,
    merges: Vec<(SessionId, SessionId)>,
    attached: Vec<(SessionId, evm_domain::DeviceId, String, i16)>,
    /// Which outcome waits for the number of which entry's transaction.
    numbers: Vec<(usize, usize)>,
    /// Which outcome may ask for more, after what became of which entry.
    told_of: Vec<(usize, usize)>,
    taken: usize,
}

impl Desk {
    /// Loads what these messages touch, each kind in one statement. What is `running` is taken from there.
    pub(super) async fn open(db: &mut Db, told: &[&Told], running: &mut Running) -> Result<Desk> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut others = Vec::with_capacity(told.len());
        for &message in told {
            match running.take(message) {
                Some(found) => entries.push(Entry { from_memory: true, ..Entry::of(found) }),
                None => others.push(message),
            }
        }
        let wanted = Wanted::of(&others);
        let mut found = sessions::load_live(db, &wanted.chargers).await?;
        // 2.0.1 stations make their own ids, and two may make the same.
        let is_here = |charger: &ChargerId, id: &String| {
            found.iter().any(|f| f.session.charger == *charger && f.session.transaction.as_ref() == Some(id))
        };
        let elsewhere = wanted.transactions.into_iter().filter(|(charger, id)| !is_here(charger, id));
        let unknown: Vec<String> = elsewhere.map(|(_, id)| id).collect();
        found.extend(sessions::by_transactions(db, &unknown).await?);
        found.extend(sessions::by_start_keys(db, &wanted.start_keys).await?);
        found.extend(sessions::never_begun_by_tags(db, &wanted.start_tags).await?);
        for found in found {
            match entries.iter_mut().find(|entry| entry.session.id == found.session.id) {
                Some(entry) => entry.start_key = entry.start_key.take().or(found.start_key),
                None => entries.push(Entry::of(found)),
            }
        }
        let places = chargers::places(db, &wanted.starters).await?;
        let without_place = entries.iter().filter(|entry| entry.session.review.as_deref() == Some(NO_DEVICE));
        let tags_before = without_place.filter_map(|entry| entry.session.id_tag.clone()).filter(|_| !places.is_empty());
        let tags: Vec<String> = wanted.tags.into_iter().chain(tags_before).collect();
        let cards = chargers::card_owners(db, &tags).await?;
        let late = entries.iter().filter(|entry| entry.session.status == Status::Failed);
        let owners: Vec<_> =
            cards.iter().map(|(_, owner)| *owner).chain(late.filter_map(|entry| entry.session.customer)).collect();
        let charging = sessions::customers_with_live(db, &owners).await?.into_iter().collect();
        Ok(Desk {
            entries,
            places,
            cards,
            charging,
            points: Vec::new(),
            displaced: Vec::new(),
            merges: Vec::new(),
            attached: Vec::new(),
            numbers: Vec::new(),
            told_of: Vec::new(),
            taken: 0,
        })
    }

    /// Applies one message.
    pub(super) fn take(&mut self, told: &Told) -> Taken {
        let taken = match &told.decoded.event {
            ChargerEvent::Transaction(update) => self.take_transaction(told.charger, update),
            ChargerEvent::Status(report) => {
                self.take_status(told.charger, report);
                Taken::default()
            }
            ChargerEvent::Authorize { id_tag } => Taken::tag(self.authorize(told.charger, id_tag)),
            ChargerEvent::Booted { .. } | ChargerEvent::Noted => Taken::default(),
        };
        self.taken += 1;
        taken
    }

    fn authorize(&self, charger: ChargerId, id_tag: &str) -> TagStatus {
        let issued = self.entries.iter().any(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status.is_live() && s.customer.is_some() && s.id_tag.as_deref() == Some(id_tag)
        });
        if issued || self.is_card(Some(id_tag)) { TagStatus::Accepted } else { TagStatus::Invalid }
    }

    fn is_card(&self, id_tag: Option<&str>) -> bool {
        self.cards.iter().any(|(tag, _)| Some(tag.as_str()) == id_tag)
    }

    /// A connector's state tells of the transaction that is open there.
    fn take_status(&mut self, charger: ChargerId, report: &StatusReport) {
        let Some(state) = report.charging.filter(|_| report.connector > 0) else { return };
        let open = self.entries.iter().position(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status == Status::Active && s.connector == report.connector
        });
        let Some(n) = open else { return };
        let point = Point { at: report.at, kind: PointKind::State, value: state as i64 };
        let entry = &mut self.entries[n];
        entry.fold_again |= !entry.session.append(point);
        entry.changed = true;
        self.points.push((entry.session.id, point));
    }

    fn take_transaction(&mut self, charger: ChargerId, update: &TransactionUpdate) -> Taken {
        let n = match find(&self.entries, charger, update) {
            Match::Session(n) => n,
            Match::Merge { from, into } => self.merge(from, into),
            Match::New => self.begin(charger, update),
            Match::Nowhere => return Taken::aside("no such transaction"),
        };
        if let Some(ended_at) = self.entries[n].session.ended_at.filter(|_| is_stop(update)) {
            // The first one counts (1.6 numbers nothing).
            return if ended_at == update.at { Taken::default() } else { Taken::aside("stopped before") };
        }
        self.apply(n, charger, update);
        let entry = &self.entries[n];
        let session = &entry.session;
        let mut taken = Taken::default();
        if update.id_tag.is_some() || update.phase == Phase::Started {
            taken.outcome.tag = Some(match session.review.as_deref() {
                Some("concurrent_tx") => TagStatus::ConcurrentTx,
                // Its customer has finished it: what it takes until it stops is a correction.
                _ if update.phase == Phase::Started
                    && session.status == Status::Finished
                    && session.ended_at.is_none() =>
                {
                    TagStatus::Invalid
                }
                _ if session.customer.is_some() => TagStatus::Accepted,
                // Where it charges is not told yet (2.0.1).
                _ if session.connector == 0 && self.is_card(session.id_tag.as_deref()) => TagStatus::Accepted,
                _ => TagStatus::Invalid,
            });
            if update.own_id && update.id_tag.is_none() {
                taken.outcome.tag = None;
            }
        }
        if update.phase == Phase::Started && !update.own_id {
            taken.outcome.transaction = session.transaction.as_deref().and_then(|id| id.parse().ok());
            if session.transaction.is_none() {
                self.numbers.push((self.taken, n));
            }
        }
        let nobodys = matches!(taken.outcome.tag, Some(TagStatus::Invalid | TagStatus::ConcurrentTx));
        if update.phase == Phase::Ended || (nobodys && session.ended_at.is_none()) {
            self.told_of.push((self.taken, n));
        }
        taken
    }

    fn apply(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let points = points_of(update);
        let was = self.entries[n].session.status;
        let had_ended = self.entries[n].session.ended_at.is_some();
        if was == Status::Failed && self.entries[n].session.customer.is_some_and(|owner| !self.charging.insert(owner)) {
            // The customer gave this one up and charges elsewhere by now.
            self.entries[n].session.customer = None;
            self.entries[n].session.review = Some("concurrent_tx".into());
        }
        let begins = update.phase == Phase::Started || update.own_id;
        let after_finish = was == Status::Finished && self.entries[n].session.transaction.is_none() && begins;
        if matches!(was, Status::Requested | Status::Failed) {
            self.entries[n].session.status = Status::Requested;
        }
        if after_finish || matches!(was, Status::Requested | Status::Failed) {
            self.entries[n].begun = true;
            self.entries[n].start_key.clone_from(&update.start_key);
        }
        self.own(n, charger, update);
        let entry = &mut self.entries[n];
        if entry.session.transaction.is_none() {
            entry.session.transaction.clone_from(&update.transaction);
        }
        let applied = entry.session.apply(update, &points);
        entry.changed = true;
        entry.fold_again |= applied.fold_again;
        if was == Status::Finished {
            // Settled while the charger was out of touch: only its own word of the end corrects the bill.
            entry.correct |= applied.over && (update.phase == Phase::Ended || had_ended);
        } else {
            entry.settle |= applied.complete;
        }
        let id = entry.session.id;
        self.points.extend(points.into_iter().map(|point| (id, point)));
        if was != Status::Active && was != Status::Finished {
            self.displace_others(n);
        }
    }

    /// A transaction that began without a known tag or place gets them when they are told (2.0.1).
    fn own(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let session = &self.entries[n].session;
        let connector = update.connector.unwrap_or(session.connector);
        if session.device.is_none()
            && let Some(place) = self.places.iter().find(|p| p.charger == charger && p.connector == connector)
            && self.entries[n].new.is_none()
            && session.status == Status::Active
            && (claims(update) || !self.is_taken(charger, connector))
        {
            let tariff = place.tariff_at(session.started_at.unwrap_or(update.at));
            self.attached.push((session.id, place.device, place.tariff_id.clone(), tariff.utc_offset_min));
            let place = place.clone();
            let entry = &mut self.entries[n];
            let session = &mut entry.session;
            (session.device, session.tariff, session.max_power_w) = (Some(place.device), tariff, place.max_power_w);
            session.connector = connector;
            // What was told before is sorted by this tariff's bands and held against this plug's power.
            entry.fold_again = true;
            self.displace_others(n);
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
        match self.cards.iter().find(|(card, _)| card == tag) {
            Some((_, owner)) if self.charging.insert(*owner) => (Some(*owner), None),
            Some(_) => (None, Some("concurrent_tx")),
            None => (None, Some("unknown_tag")),
        }
    }

    /// A charge that nobody asked for through the app.
    fn begin(&mut self, charger: ChargerId, update: &TransactionUpdate) -> usize {
        let connector = update.connector.unwrap_or(0);
        let place = self.places.iter().find(|p| p.charger == charger && p.connector == connector);
        let place = place.filter(|_| claims(update) || !self.is_taken(charger, connector)).cloned();
        for entry in &self.entries {
            // Whose end was never told: it ends by this start, and keeps nobody from it.
            let s = &entry.session;
            let same_place = s.charger == charger && s.connector == connector && connector != 0;
            if same_place && s.status.is_live() && claims(update) {
                s.customer.map(|owner| self.charging.remove(&owner));
            }
        }
        let (customer, review) = match (&update.id_tag, &place) {
            (Some(tag), Some(_)) => self.owner_of(tag),
            (_, None) => (None, Some(NO_DEVICE)),
            (None, Some(_)) => (None, Some("unknown_tag")),
        };
        let session = Session {
            id: SessionId(new_id()),
            purchase: PurchaseId(new_id()),
            charger,
            connector,
            device: place.as_ref().map(|p| p.device),
            customer,
            tariff: place.as_ref().map_or_else(Tariff::default, |p| p.tariff_at(update.at)),
            max_power_w: place.as_ref().and_then(|p| p.max_power_w),
            status: Status::Active,
            id_tag: update.id_tag.clone(),
            remote_start_id: None,
            transaction: update.transaction.clone(),
            started_at: None,
            ended_at: None,
            stop_reason: None,
            review: review.map(str::to_owned),
            seq_nos: SeqNos::default(),
            meter: Meter::default(),
        };
        let start_key = update.start_key.clone();
        let mut entry = Entry::of(Found { start_key, version: 0, session });
        entry.new = Some(place.map(|p| p.tariff_id));
        self.entries.push(entry);
        let n = self.entries.len() - 1;
        if claims(update) {
            self.displace_others(n);
        }
        n
    }

    /// Whether a charge is under way there, or asked for.
    fn is_taken(&self, charger: ChargerId, connector: u32) -> bool {
        self.entries.iter().any(|entry| {
            let s = &entry.session;
            s.charger == charger && s.connector == connector && s.device.is_some() && s.status.is_live() && !entry.gone
        })
    }

    fn merge(&mut self, from: usize, into: usize) -> usize {
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

    /// One connector charges one car: what else was open there is over, or will not come.
    fn displace_others(&mut self, n: usize) {
        let (charger, connector, device) = {
            let s = &self.entries[n].session;
            (s.charger, s.connector, s.device)
        };
        for (other, entry) in self.entries.iter_mut().enumerate() {
            let s = &mut entry.session;
            let same_place = (s.connector == connector && connector != 0) || (s.device == device && device.is_some());
            if other == n || entry.gone || s.charger != charger || !s.status.is_live() || !same_place {
                continue;
            }
            s.stop_reason.get_or_insert_with(|| "superseded".into());
            if s.status == Status::Requested {
                s.status = Status::Failed;
                entry.changed = true;
            }
            self.displaced.push(other);
        }
    }
}

/// Whether it says whose the transaction is, so that it may take the place of another. A part of one whose begin has not
/// been told waits beside what holds the place.
fn claims(update: &TransactionUpdate) -> bool {
    update.phase == Phase::Started || update.id_tag.is_some() || update.remote_start_id.is_some()
}

/// Whether it is a StopTransaction of 1.6.
fn is_stop(update: &TransactionUpdate) -> bool {
    update.phase == Phase::Ended && !update.own_id
}
