//! The sessions that a batch touches, from loading to saving.

mod places;
mod running;
mod save;
mod wanted;

use std::collections::HashSet;

use evm_domain::session::points_of;
use evm_domain::{
    ChargerEvent, ChargerId, ChargingState, CustomerId, Phase, Point, PointKind, Session, SessionId, Status,
    StatusReport, TransactionUpdate,
};
use evm_store::chargers::{self, Place};
use evm_store::sessions::{self, Found};
use evm_store::{Db, Result};

pub(super) use self::places::OLDER_MS;
use self::places::{NO_DEVICE, claims};
pub(super) use self::running::Running;
use self::wanted::Wanted;
use super::Told;
use super::batch::Taken;
use super::matching::{Match, find};
use crate::ocpp::TagStatus;

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
    /// Over before another began at its place, and told after: it is settled at once, and its end corrects the bill.
    overtaken: bool,
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
            overtaken: false,
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
    attached: Vec<(SessionId, evm_domain::DeviceId, String, Option<String>)>,
    /// Which outcome waits for the number of which entry's transaction.
    numbers: Vec<(usize, usize)>,
    /// Which outcomes wait for a number of a transaction that is no session.
    refused: Vec<usize>,
    /// Transactions that are over and whose ids were used again.
    reused: Vec<SessionId>,
    /// Which outcome tells that which entry goes on after it was settled.
    going_on: Vec<(usize, usize)>,
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
        found.extend(sessions::never_ended(db, &wanted.nameless_ends).await?);
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
            refused: Vec::new(),
            reused: Vec::new(),
            going_on: Vec::new(),
            told_of: Vec::new(),
            taken: 0,
        })
    }

    /// Applies one message.
    pub(super) fn take(&mut self, told: &Told) -> Taken {
        let taken = match &told.decoded.event {
            ChargerEvent::Transaction(update) => self.take_transaction(told.charger, update),
            ChargerEvent::Status(report) => {
                self.take_status(told, report);
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
    fn take_status(&mut self, told: &Told, report: &StatusReport) {
        let charger = told.charger;
        let Some(state) = report.charging.filter(|_| report.connector > 0) else { return };
        let open = self.entries.iter().position(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status == Status::Active && s.connector == report.connector
        });
        let Some(n) = open else { return };
        let point =
            Point { heard: told.reach.heard(report.at), ..Point::new(report.at, PointKind::State, state as i64) };
        let entry = &mut self.entries[n];
        entry.fold_again |= !entry.session.append(point);
        entry.changed = true;
        self.points.push((entry.session.id, point));
    }

    fn take_transaction(&mut self, charger: ChargerId, update: &TransactionUpdate) -> Taken {
        let n = match find(&self.entries, charger, update) {
            Match::Session(n) => n,
            Match::Merge { from, into } => self.merge(from, into),
            Match::New if self.has_too_many(charger, update) => return self.refuse(update),
            Match::New => self.begin(charger, update),
            Match::Reused { old, by } => {
                self.entries[old].gone = true;
                self.reused.push(self.entries[old].session.id);
                by.unwrap_or_else(|| self.begin(charger, update))
            }
            Match::Nowhere if self.is_of_no_charge(charger, update) => return Taken::default(),
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
                _ if session.status == Status::Finished && session.ended_at.is_none() => TagStatus::Invalid,
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
        } else if session.status == Status::Finished && session.ended_at.is_none() {
            self.going_on.push((self.taken, n));
        }
        taken
    }

    /// Whether it is meter values that name no transaction, where none is open: a connector is read without a charge, too.
    fn is_of_no_charge(&self, charger: ChargerId, update: &TransactionUpdate) -> bool {
        let mut open = self.entries.iter().filter(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status == Status::Active && update.connector.is_none_or(|n| n == s.connector)
        });
        update.phase == Phase::Updated && update.transaction.is_none() && open.next().is_none()
    }

    fn apply(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let points = points_told(update);
        let was = self.entries[n].session.status;
        let had_ended = self.entries[n].session.ended_at.is_some();
        let never_began = matches!(was, Status::Requested | Status::Failed);
        let (connector, began) = (self.entries[n].session.connector, self.entries[n].session.started_at);
        if never_began && self.is_overtaken(n, connector, began.unwrap_or(update.at)) {
            self.entries[n].overtaken = true;
        } else if was == Status::Failed
            && self.entries[n].session.customer.is_some_and(|owner| !self.charging.insert(owner))
        {
            // The customer gave this one up and charges elsewhere by now.
            self.entries[n].session.customer = None;
            self.entries[n].session.review = Some("concurrent_tx".into());
        }
        let begins = update.phase == Phase::Started || update.own_id;
        let after_finish = was == Status::Finished && self.entries[n].session.transaction.is_none() && begins;
        if never_began {
            self.entries[n].session.status = Status::Requested;
        }
        if after_finish || never_began {
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
            entry.settle |= applied.complete || entry.overtaken;
        }
        let id = entry.session.id;
        self.points.extend(points.into_iter().map(|point| (id, point)));
        if never_began && !self.entries[n].overtaken {
            self.displace_others(n, Status::is_live);
        }
    }
}

/// Whether it is a StopTransaction of 1.6.
fn is_stop(update: &TransactionUpdate) -> bool {
    update.phase == Phase::Ended && !update.own_id
}

/// What it tells of the figures. A car that is plugged in for nobody yet does not wait at anybody's cost.
fn points_told(update: &TransactionUpdate) -> Vec<Point> {
    let mut points = points_of(update);
    if update.phase == Phase::Started && !claims(update) {
        let plugged_in =
            |point: &&mut Point| point.kind == PointKind::State && point.value == ChargingState::Connected as i64;
        points.iter_mut().filter(plugged_in).for_each(|point| point.value = ChargingState::Idle as i64);
    }
    points
}
