//! The sessions that a batch touches, from loading to saving.

mod again;
mod late;
mod lost;
mod places;
mod running;
mod save;
mod wanted;

use std::collections::{HashMap, HashSet};

use evm_domain::again::Share;
use evm_domain::bounds::{Misfit, points_of};
use evm_domain::credit::{Rules, Standing};
use evm_domain::{
    ChargerEvent, ChargerId, ChargingState, CustomerId, Phase, Point, PointKind, Session, SessionId, Status,
    StatusReport, Timestamp, TransactionUpdate, Wh,
};
use evm_store::cards::{self, Card};
use evm_store::chargers::{self, Place};
use evm_store::remote_starts::{self, Asked};
use evm_store::sessions::{self, Found};
use evm_store::{Db, Result};

pub(super) use self::places::OLDER_MS;
use self::places::{BLOCKED_TAG, CONCURRENT_TX, NO_CREDIT, NO_DEVICE, claims};
pub(super) use self::running::Running;
use self::wanted::Wanted;
use super::Told;
use super::batch::Taken;
use super::matching::{Match, find};
use crate::ocpp::TagStatus;

/// So long after card numbers were guessed at a charger, a new card there is for review.
const GUESSES_COUNT_MS: i64 = 24 * 3_600_000;

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
    /// Its station's id of the transaction, where another charge has that by now (2.0.1).
    pub(super) told_as: Option<String>,
    /// Of a charge that another one took the place of, and whose end comes: when that one began, and by which register.
    next: Option<(Timestamp, Option<Wh>)>,
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
    /// It began after its customer had finished it: its purchase is to be made.
    opens: bool,
    /// Its customer became known after it was settled for nobody.
    late: bool,
}

impl Entry {
    /// Of a session that began at the charger, with the version of its prices.
    fn new(session: Session, start_key: Option<String>, tariff_id: Option<String>) -> Self {
        let found = Found { start_key, told_as: None, version: 0, session };
        Self { new: Some(tariff_id), ..Self::of(found) }
    }

    fn of(found: Found) -> Self {
        let Found { start_key, told_as, version, session } = found;
        Self {
            stored: session.clone(),
            version,
            from_memory: false,
            session,
            start_key,
            told_as,
            next: None,
            gone: false,
            changed: false,
            new: None,
            begun: false,
            fold_again: false,
            settle: false,
            overtaken: false,
            correct: false,
            opens: false,
            late: false,
        }
    }
}

/// All that a batch needs to know, and what it changes.
pub(super) struct Desk {
    entries: Vec<Entry>,
    places: Vec<Place>,
    cards: Vec<Card>,
    /// What the owners of the cards have and owe.
    standings: HashMap<CustomerId, Standing>,
    credit: Rules,
    /// Cards that are new at a charger where card numbers are guessed.
    guessed: HashSet<(ChargerId, String)>,
    /// Customers who have a session under way, and since when.
    charging: HashMap<CustomerId, Timestamp>,
    points: Vec<(SessionId, Point)>,
    /// Sessions whose device is needed by another, with the reason: ended before anything else is written.
    displaced: Vec<usize>,
    merges: Vec<(SessionId, SessionId)>,
    /// Which entries were given a place, with the version of its prices.
    attached: Vec<(usize, String)>,
    /// Which outcome waits for the number of which entry's transaction.
    numbers: Vec<(usize, usize)>,
    /// Which outcomes wait for a number of a transaction that is no session.
    refused: Vec<usize>,
    /// Transactions whose ids were used again.
    reused: Vec<SessionId>,
    /// What goes over from one to another of the same id.
    shares: Vec<(usize, usize, Share)>,
    /// Charges that are over and whose starts came again, as other charges.
    started_again: Vec<SessionId>,
    /// The tags that operators sent with these remoteStartIds.
    asked: Vec<Asked>,
    /// Those of them that began something in this batch.
    used_up: Vec<Asked>,
    /// Which outcome tells that which entry goes on after it was settled.
    going_on: Vec<(usize, usize)>,
    /// Which outcome may ask for more, after what became of which entry.
    told_of: Vec<(usize, usize)>,
    /// Where a charge has ended; its car may still be plugged in.
    charged: Vec<(ChargerId, u32)>,
    /// Where another car was plugged in.
    plugged_in: Vec<(ChargerId, u32)>,
    taken: usize,
}

impl Desk {
    /// Loads what these messages touch, each kind in one statement. What is `running` is taken from there.
    pub(super) async fn open(db: &mut Db, told: &[&Told], running: &mut Running, credit: Rules) -> Result<Desk> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut others = Vec::with_capacity(told.len());
        for &message in told {
            match running.take(message) {
                Some(found) => entries.push(Entry { from_memory: true, ..Entry::of(found) }),
                None => others.push(message),
            }
        }
        let mut wanted = Wanted::of(&others);
        let asked = remote_starts::find(db, &wanted.remote_starts).await?;
        wanted.tags.extend(asked.iter().map(|asked| asked.id_tag.clone()));
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
        again::load_others(db, &others, &mut found).await?;
        for found in found {
            match entries.iter_mut().find(|entry| entry.session.id == found.session.id) {
                Some(entry) => entry.start_key = entry.start_key.take().or(found.start_key),
                None => entries.push(Entry::of(found)),
            }
        }
        late::load_next(db, &others, &mut entries).await?;
        let places = chargers::places(db, &wanted.starters).await?;
        let without_place = entries.iter().filter(|entry| entry.session.review.as_deref() == Some(NO_DEVICE));
        let tags_before = without_place.filter_map(|entry| entry.session.id_tag.clone()).filter(|_| !places.is_empty());
        let tags: Vec<String> = wanted.tags.into_iter().chain(tags_before).collect();
        let cards = cards::of_tags(db, &tags).await?;
        let guessed = new_cards(db, &places, &cards).await?;
        let owners: Vec<_> = cards.iter().map(|card| card.customer).collect();
        let judged = if credit.let_all() { &[][..] } else { &owners };
        let standings = evm_store::credit::standings(db, judged, &credit).await?.into_iter().collect();
        let late = entries.iter().filter(|entry| entry.session.status == Status::Failed);
        let owners: Vec<_> = owners.into_iter().chain(late.filter_map(|entry| entry.session.customer)).collect();
        let charging = sessions::customers_with_live(db, &owners).await?.into_iter().collect();
        Ok(Desk {
            entries,
            places,
            cards,
            standings,
            guessed,
            credit,
            charging,
            points: Vec::new(),
            displaced: Vec::new(),
            merges: Vec::new(),
            attached: Vec::new(),
            numbers: Vec::new(),
            refused: Vec::new(),
            reused: Vec::new(),
            shares: Vec::new(),
            started_again: Vec::new(),
            asked,
            used_up: Vec::new(),
            going_on: Vec::new(),
            told_of: Vec::new(),
            charged: Vec::new(),
            plugged_in: Vec::new(),
            taken: 0,
        })
    }

    /// Applies one message.
    pub(super) fn take(&mut self, told: &Told) -> Taken {
        let taken = match &told.decoded.event {
            ChargerEvent::Transaction(update) => match self.with_tag_asked(told.charger, update) {
                Some(with_tag) => {
                    let mut taken = self.take_transaction(told.charger, &with_tag, told.received);
                    // It named none, so none is answered.
                    taken.outcome.tag = None;
                    taken
                }
                None => self.take_transaction(told.charger, update, told.received),
            },
            ChargerEvent::Status(report) => {
                self.take_status(told, report);
                Taken::default()
            }
            ChargerEvent::Booted { .. } => {
                self.take_boot(told.charger, told.received);
                Taken::default()
            }
            ChargerEvent::Authorize { id_tag } => Taken::tag(self.authorize(told.charger, id_tag)),
            ChargerEvent::Noted => Taken::default(),
        };
        self.taken += 1;
        taken
    }

    fn authorize(&self, charger: ChargerId, id_tag: &str) -> TagStatus {
        let issued = self.entries.iter().any(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status.is_live() && s.customer.is_some() && s.id_tag.as_deref() == Some(id_tag)
        });
        if issued { TagStatus::Accepted } else { self.tag_status(charger, id_tag) }
    }

    /// A connector's state tells of the transaction that is open there.
    fn take_status(&mut self, told: &Told, report: &StatusReport) {
        let charger = told.charger;
        if report.connector == 0 {
            return;
        }
        self.judge_by_state(charger, report, told.received);
        let Some(state) = report.charging else { return };
        let open = |entry: &&Entry| {
            let s = &entry.session;
            s.charger == charger && s.status == Status::Active && s.connector == report.connector
        };
        // A start that was refused stands beside the charge of the place.
        let all = || self.entries.iter().enumerate().filter(|(_, entry)| open(entry));
        let Some(n) = all().min_by_key(|(_, entry)| entry.session.refused).map(|(n, _)| n) else { return };
        let point =
            Point { heard: told.reach.heard(report.at), ..Point::new(report.at, PointKind::State, state as i64) };
        let entry = &mut self.entries[n];
        entry.fold_again |= !entry.session.append(point);
        entry.changed = true;
        self.points.push((entry.session.id, point));
    }

    fn take_transaction(&mut self, charger: ChargerId, update: &TransactionUpdate, received: Timestamp) -> Taken {
        let found = find(&self.entries, charger, update);
        let elsewhere = self.end_beside(found, update);
        let n = match found {
            Match::Session(n) => n,
            Match::Merge { from, into } => self.merge(from, into),
            Match::New if self.has_too_many(charger, update) => return self.refuse(update),
            Match::New => self.begin(charger, update),
            Match::Another { near, by } => self.begin_beside(near, by, charger, update),
            Match::EndsEarlier(n) => self.end_earlier(n, update),
            Match::Nowhere if self.is_of_no_charge(charger, update) => return Taken::default(),
            Match::Nowhere => return Taken::aside("no such transaction"),
        };
        self.end_idle(n, charger);
        if is_stop(update) && self.entries[n].session.ended_at == Some(update.at) {
            if self.entries[n].session.says_the_same(update) {
                return Taken::default();
            }
            self.entries[n].changed |= self.entries[n].session.set_aside(&points_told(update));
            return Taken::aside(Misfit::EndedBefore.as_str());
        }
        self.forget_start(n, update);
        self.use_up_start(n, charger, update);
        let bounded = self.bounded_by_next(n, update);
        let (told, update) = (update, bounded.as_ref().unwrap_or(update));
        let points = points_told(update);
        let entry = &self.entries[n];
        let misfit = entry.session.misfit(update, &points);
        let beside = entry.session.is_beside(update, &points);
        let told_before = entry.new.is_none() && entry.session.id_tag == update.id_tag;
        if beside {
            self.set_aside(n, update, points);
        } else {
            self.apply(n, charger, update, points);
            self.note_sign_of_life(n, update, received);
        }
        if bounded.is_some() {
            self.entries[n].changed |= self.entries[n].session.set_aside(&points_told(told));
        }
        let elsewhere = elsewhere.or(bounded.as_ref().map(|_| Misfit::AfterEnd));
        let entry = &self.entries[n];
        let session = &entry.session;
        let problem = misfit.or(elsewhere).map(|misfit| misfit.as_str().into());
        let mut taken = Taken { problem, ..Taken::default() };
        let begins_16 = update.phase == Phase::Started && !update.own_id;
        taken.outcome.tag = (update.id_tag.is_some() || begins_16).then(|| self.tag_of(session));
        let is_answered_invalid = taken.outcome.tag == Some(TagStatus::Invalid);
        taken.wrong_tag =
            is_answered_invalid && !told_before && update.begun_by().is_some_and(|tag| self.is_unknown(tag));
        if begins_16 {
            taken.outcome.transaction = session.transaction.as_deref().and_then(|id| id.parse().ok());
            if session.transaction.is_none() {
                self.numbers.push((self.taken, n));
            }
        }
        if beside {
            return taken;
        }
        let refused = taken.outcome.tag.is_some_and(|tag| tag != TagStatus::Accepted);
        if update.phase == Phase::Ended || (refused && session.ended_at.is_none()) {
            self.told_of.push((self.taken, n));
        } else if session.status == Status::Finished && session.ended_at.is_none() {
            self.going_on.push((self.taken, n));
        }
        taken
    }

    /// What is answered of the tag of a charge as it stands.
    fn tag_of(&self, session: &Session) -> TagStatus {
        match session.review.as_deref() {
            Some(CONCURRENT_TX) => TagStatus::ConcurrentTx,
            Some(BLOCKED_TAG) => TagStatus::Blocked,
            Some(NO_CREDIT) if session.refused => TagStatus::NoCredit,
            // Its customer has finished it: what it takes until it stops is a correction.
            _ if session.status == Status::Finished && session.ended_at.is_none() => TagStatus::Invalid,
            _ if session.customer.is_some() || session.is_free() => TagStatus::Accepted,
            // Where it charges is not told yet (2.0.1).
            _ if session.connector == 0 && session.id_tag.is_some() => {
                self.tag_status(session.charger, session.id_tag.as_deref().unwrap_or_default())
            }
            _ => TagStatus::Invalid,
        }
    }

    /// Whether it is meter values that name no transaction, where none is open: a connector is read without a charge, too.
    fn is_of_no_charge(&self, charger: ChargerId, update: &TransactionUpdate) -> bool {
        let mut open = self.entries.iter().filter(|entry| {
            let s = &entry.session;
            s.charger == charger && s.status == Status::Active && update.connector.is_none_or(|n| n == s.connector)
        });
        update.phase == Phase::Updated && update.transaction.is_none() && open.next().is_none()
    }

    fn apply(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate, points: Vec<Point>) {
        self.take_up(n, charger, update);
        let was = self.entries[n].session.status;
        let had_ended = self.entries[n].session.ended_at.is_some();
        let never_began = matches!(was, Status::Requested | Status::Failed);
        let (connector, began) = (self.entries[n].session.connector, self.entries[n].session.started_at);
        if never_began && self.is_overtaken(n, connector, began.unwrap_or(update.at)) {
            self.entries[n].overtaken = true;
        } else if was == Status::Failed
            && let Some(owner) = self.entries[n].session.customer
        {
            // The customer gave this one up, and may charge elsewhere by now.
            let began = began.unwrap_or(update.at);
            match self.beside_another(owner, began) {
                Some(ruling) => ruling.put_on(&mut self.entries[n].session),
                None => drop(self.charging.insert(owner, began)),
            }
        }
        let begins = update.phase == Phase::Started || update.own_id;
        let after_finish = was == Status::Finished && self.entries[n].session.transaction.is_none() && begins;
        if never_began {
            self.entries[n].session.status = Status::Requested;
        }
        self.entries[n].opens |= after_finish;
        if after_finish || never_began {
            self.entries[n].begun = true;
            self.entries[n].start_key.clone_from(&update.start_key);
        }
        self.own(n, charger, update);
        self.own_late(n, charger, update);
        let entry = &mut self.entries[n];
        if entry.session.transaction.is_none() {
            entry.session.transaction.clone_from(&update.transaction);
        }
        let applied = entry.session.apply(update, &points);
        // In 1.6 the connector's own state says that the car is still there.
        if update.phase == Phase::Ended
            && update.own_id
            && !had_ended
            && was.is_live()
            && !entry.overtaken
            && entry.session.has_charged()
        {
            self.charged.push((charger, entry.session.connector));
        }
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
        if never_began && !self.entries[n].overtaken && !self.entries[n].session.refused {
            self.displace_others(n, Status::is_live);
        }
    }
}

/// The cards that have begun no charge yet at those chargers where card numbers were guessed lately.
async fn new_cards(db: &mut Db, places: &[Place], cards: &[Card]) -> Result<HashSet<(ChargerId, String)>> {
    let since = evm_store::now().plus_millis(-GUESSES_COUNT_MS);
    let guessing: HashSet<_> = places
        .iter()
        .filter(|place| place.guessed_at.is_some_and(|at| at > since))
        .map(|place| place.charger)
        .collect();
    let tags: Vec<String> = cards.iter().map(|card| card.id_tag.clone()).collect();
    let mut new = HashSet::new();
    for charger in guessing {
        let seen = sessions::tags_seen(db, charger, &tags).await?;
        new.extend(tags.iter().filter(|tag| !seen.contains(tag)).map(|tag| (charger, tag.clone())));
    }
    Ok(new)
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
