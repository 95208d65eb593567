//! Who charges where: what begins at a connector, whose it is, and what has to give way.

use evm_domain::{
    ChargerId, CustomerId, Meter, NO_AUTHORIZATION, Phase, PurchaseId, SeqNos, Session, SessionId, Status, Tariff,
    Timestamp, TransactionUpdate,
};
use evm_store::cards::Card;
use evm_store::chargers::Place;
use evm_store::new_id;

use super::{Desk, Entry};
use crate::ingest::batch::Taken;
use crate::ocpp::TagStatus;

/// The review of a session that nobody is known to have begun.
pub(super) const UNKNOWN_TAG: &str = "unknown_tag";
/// The review of the first charge of a card at a charger where card numbers are guessed.
const GUESSED_CARD: &str = "guessed_card";
/// The review of a session that a blocked card began.
pub(super) const BLOCKED_TAG: &str = "blocked_tag";
/// The review of a session whose customer charges elsewhere.
pub(super) const CONCURRENT_TX: &str = "concurrent_tx";
/// The review of a session that began against the rules of credit.
pub(super) const NO_CREDIT: &str = "no_credit";
/// The end of a charge whose place another one took.
const SUPERSEDED: &str = "superseded";
/// The review of a session whose connector is no device.
pub(super) const NO_DEVICE: &str = "no_device";

/// By so much a charge began before another to be the older one for sure: clocks are set now and then.
pub(in crate::ingest) const OLDER_MS: i64 = 5 * 60_000;

/// The end of a transaction that held nothing, where there were too many of them.
const TOO_MANY: &str = "too_many_open";

/// Open transactions of a charger that hold no device: each is looked at with each message.
const MOST_IDLE: usize = 100;
/// More than so many are not ended with one message.
const ENDED_AT_ONCE: usize = 10;

impl Desk {
    /// Whether a charger begins yet another transaction at a place that does not exist.
    pub(super) fn has_too_many(&self, charger: ChargerId, update: &TransactionUpdate) -> bool {
        let place = update.connector.and_then(|connector| self.place(charger, connector));
        let open = |entry: &&Entry| {
            let s = &entry.session;
            s.charger == charger && s.status.is_live() && s.device.is_none() && !entry.gone
        };
        place.is_none() && self.entries.iter().filter(open).count() >= MOST_IDLE
    }

    /// Where one that is new has made too many of a charger's transactions hold nothing, the oldest of the others end with their
    /// figures so far, those that were refused first. What is told of them later corrects that, as of any charge.
    pub(super) fn end_idle(&mut self, n: usize, charger: ChargerId) {
        if self.entries[n].new.is_none() {
            return;
        }
        let is_idle = |(other, entry): &(usize, &Entry)| {
            let s = &entry.session;
            let holds_nothing = s.device.is_none() || s.refused;
            let is_open = s.status.is_live() && !entry.gone && !self.displaced.contains(other);
            s.charger == charger && is_open && holds_nothing && entry.new.is_none()
        };
        let mut idle: Vec<_> = self.entries.iter().enumerate().filter(is_idle).map(|(other, _)| other).collect();
        let too_many = (idle.len() + 1).saturating_sub(MOST_IDLE).min(ENDED_AT_ONCE);
        idle.sort_by_key(|other| (!self.entries[*other].session.refused, self.entries[*other].session.id));
        for other in idle.into_iter().take(too_many) {
            self.entries[other].session.stop_reason.get_or_insert_with(|| TOO_MANY.into());
            self.displaced.push(other);
        }
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
        if session.status != Status::Active || self.entries[n].new.is_some() {
            return;
        }
        let connector = update.connector.unwrap_or(session.connector);
        let began = session.started_at.unwrap_or(update.at);
        let claims = claims(update) || (session.id_tag.is_some() && !self.is_taken(charger, connector));
        let place = self
            .place(charger, connector)
            .filter(|_| session.device.is_none() && claims && !self.is_overtaken(n, connector, began));
        if place.is_none() && session.device.is_none() {
            if connector == 0 && session.id_tag.is_none() {
                // Its place is told later.
                self.entries[n].session.id_tag = update.begun_by().cloned();
            }
            return;
        }
        // The tag may have been told before the place was.
        let told_before = session.id_tag.clone().filter(|_| session.review.as_deref() == Some(NO_DEVICE));
        // Only who began it pays.
        let is_open =
            session.id_tag.is_none() || session.id_tag.as_ref() == update.id_tag.as_ref() || told_before.is_some();
        let tag = update.begun_by().cloned().or(told_before);
        let tag = tag.filter(|_| is_open && session.customer.is_none() && !session.is_free());
        let place = place.cloned();
        if let Some(tag) = tag {
            let ruling = self.ruling(charger, connector, &tag, began);
            let was_refused = self.entries[n].session.refused;
            let session = &mut self.entries[n].session;
            session.id_tag = Some(tag);
            ruling.put_on(session);
            if was_refused && !session.refused && place.is_none() {
                self.displace_others(n, Status::is_live);
            }
        }
        let session = &self.entries[n].session;
        let takes_place = !session.refused;
        // One that was refused for want of credit is billed by the place's prices, and does not hold it.
        if let Some(place) = place.filter(|_| takes_place || session.customer.is_some()) {
            self.attach(n, &place);
            if takes_place {
                self.displace_others(n, Status::is_live);
            }
        }
        self.note_owner(n, began);
    }

    /// Gives a transaction the place that it was told of late.
    pub(super) fn attach(&mut self, n: usize, place: &Place) {
        let entry = &mut self.entries[n];
        let session = &mut entry.session;
        self.attached.push((n, place.tariff_id.clone()));
        (session.device, session.max_power_w) = (Some(place.device), place.max_power_w);
        session.tariff = place.tariff.clone();
        session.connector = place.connector;
        // What was told before is sorted by this tariff's bands and held against this plug's power.
        entry.fold_again = true;
    }

    pub(super) fn place(&self, charger: ChargerId, connector: u32) -> Option<&Place> {
        self.places.iter().find(|place| place.charger == charger && place.connector == connector)
    }

    /// Whose a charge is that this tag begins here, or why it may not begin. A charge of its owner's own that has to give way
    /// here is none that runs beside it. One that begins without credit, or began before the one its owner has elsewhere, is
    /// refused, and billed to its owner for what it takes all the same: the station may have begun it offline, hours ago.
    fn ruling(&self, charger: ChargerId, connector: u32, tag: &str, began: Timestamp) -> Ruling {
        if tag == NO_AUTHORIZATION && self.place(charger, connector).is_some_and(|place| place.free_charging) {
            return Ruling::of(None);
        }
        let owner = match self.card(tag) {
            None => return Ruling::refused(UNKNOWN_TAG),
            Some(card) if card.blocked => return Ruling::refused(BLOCKED_TAG),
            Some(card) => card.customer,
        };
        let gives_way = self.holders(charger, connector).any(|s| s.customer == Some(owner));
        let beside = self.beside_another(owner, began).filter(|_| !gives_way);
        let without_credit = Ruling { customer: Some(owner), ..Ruling::refused(NO_CREDIT) };
        let refusal = beside.or_else(|| (!self.has_credit(owner)).then_some(without_credit));
        let is_others = |s: &Session| {
            let runs = s.status == Status::Active && s.transaction.is_some() && s.ended_at.is_none();
            runs && s.customer.is_some_and(|other| other != owner)
        };
        match refusal {
            // What flows here is the other's, who charges on.
            Some(refusal) if self.holders(charger, connector).any(is_others) => Ruling { customer: None, ..refusal },
            Some(refusal) => refusal,
            None => Ruling { review: self.guess(charger, tag), ..Ruling::of(Some(owner)) },
        }
    }

    /// What becomes of a charge whose customer has another one elsewhere: where that one began later, or this one is told from
    /// a queue, so that nobody could refuse it, it still is the customer's.
    pub(super) fn beside_another(&self, owner: CustomerId, began: Timestamp) -> Option<Ruling> {
        let since = self.charging.get(&owner)?;
        let queued = since.max(&evm_store::now()).since(began) > OLDER_MS;
        let customer = Some(owner).filter(|_| queued);
        Some(Ruling { customer, ..Ruling::refused(CONCURRENT_TX) })
    }

    /// The review of a card's charge, where it may have been guessed here.
    pub(super) fn guess(&self, charger: ChargerId, tag: &str) -> Option<&'static str> {
        self.guessed.contains(&(charger, tag.to_owned())).then_some(GUESSED_CARD)
    }

    /// The charges that are under way at a connector, or asked for.
    fn holders(&self, charger: ChargerId, connector: u32) -> impl Iterator<Item = &Session> {
        let live = self.entries.iter().filter(|entry| !entry.gone).map(|entry| &entry.session);
        live.filter(move |s| s.charger == charger && s.connector == connector && s.status.is_live() && !s.refused)
    }

    /// Whether a tag may begin a charge somewhere at this station. A card whose owner is charging may have been shown to end it.
    pub(super) fn tag_status(&self, charger: ChargerId, tag: &str) -> TagStatus {
        if tag == NO_AUTHORIZATION {
            let free = self.places.iter().any(|place| place.charger == charger && place.free_charging);
            return if free { TagStatus::Accepted } else { TagStatus::Invalid };
        }
        match self.card(tag) {
            None => TagStatus::Invalid,
            Some(card) if card.blocked => TagStatus::Blocked,
            Some(card) if self.charging.contains_key(&card.customer) || self.has_credit(card.customer) => {
                TagStatus::Accepted
            }
            Some(_) => TagStatus::NoCredit,
        }
    }

    fn has_credit(&self, customer: CustomerId) -> bool {
        self.standings.get(&customer).is_none_or(|standing| self.credit.check(standing).is_ok())
    }

    fn note_owner(&mut self, n: usize, began: Timestamp) {
        let session = &self.entries[n].session;
        self.charging.extend(session.customer.filter(|_| !session.refused).map(|owner| (owner, began)));
    }

    /// Whether a tag is nobody's card.
    pub(super) fn is_unknown(&self, tag: &str) -> bool {
        tag != NO_AUTHORIZATION && self.card(tag).is_none()
    }

    fn card(&self, tag: &str) -> Option<&Card> {
        self.cards.iter().find(|card| card.id_tag == tag)
    }

    /// Who pays for a charge that this tag has begun.
    pub(super) fn card_owner(&self, tag: &str) -> Option<CustomerId> {
        self.card(tag).filter(|card| !card.blocked).map(|card| card.customer)
    }

    /// A charge that nobody asked for through the app. It takes its place once it says for whom it is: a car that is only
    /// plugged in, where that begins a transaction (2.0.1), keeps nobody from a start by the app. One that is refused is kept,
    /// and takes nobody's place.
    pub(super) fn begin(&mut self, charger: ChargerId, update: &TransactionUpdate) -> usize {
        let connector = update.connector.unwrap_or(0);
        let n = self.entries.len();
        let place = self.place(charger, connector).cloned();
        let is_device = place.is_some();
        let place = place.filter(|_| claims(update));
        let session = new_session(charger, connector, place.as_ref(), update);
        self.entries.push(Entry::new(session, update.start_key.clone(), place.map(|p| p.tariff_id)));
        let overtaken = self.is_overtaken(n, connector, update.at);
        let ruling = match update.begun_by() {
            _ if !is_device => Ruling::nobodys(NO_DEVICE),
            // It is over: what its customer does now is no matter.
            Some(tag) if overtaken => match self.card_owner(tag) {
                owner @ Some(_) => Ruling { review: self.guess(charger, tag), ..Ruling::of(owner) },
                None => Ruling::nobodys(UNKNOWN_TAG),
            },
            Some(tag) => self.ruling(charger, connector, tag, update.at),
            None if claims(update) && !update.own_id => Ruling::refused(UNKNOWN_TAG),
            // Nobody claims it yet (2.0.1).
            None if update.own_id => Ruling::of(None),
            None => Ruling::nobodys(UNKNOWN_TAG),
        };
        ruling.put_on(&mut self.entries[n].session);
        if overtaken {
            self.entries[n].overtaken = claims(update);
        } else if ruling.refused {
            // What runs here runs on.
        } else if claims(update) {
            self.displace_others(n, Status::is_live);
            self.note_owner(n, update.at);
        } else if update.phase == Phase::Started {
            // Another car is there: the charge before is over, while a request may be for this very car.
            self.displace_others(n, |status| status == Status::Active);
            self.plugged_in.push((charger, connector));
        }
        n
    }

    /// Whether a charge is under way there, or asked for.
    fn is_taken(&self, charger: ChargerId, connector: u32) -> bool {
        self.holders(charger, connector).any(|s| s.device.is_some())
    }

    pub(super) fn merge(&mut self, from: usize, into: usize) -> usize {
        let old = self.entries[from].session.clone();
        self.entries[from].gone = true;
        self.entries[from].changed = false;
        let entry = &mut self.entries[into];
        entry.opens |= entry.session.status == Status::Finished && entry.session.transaction.is_none();
        let new = &mut entry.session;
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
            let holds = s.device.is_some() && !s.refused && other != n && !entry.gone;
            // Of one that its station knows no more of, the date says nothing: the clock was set back by what cut it.
            let under_way = s.status == Status::Active && s.lost_at.is_none() && holds;
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
            s.customer.filter(|_| !s.refused).map(|owner| self.charging.remove(&owner));
            s.stop_reason.get_or_insert_with(|| SUPERSEDED.into());
            if s.status == Status::Requested {
                s.status = Status::Failed;
                entry.changed = true;
            }
            self.displaced.push(other);
        }
    }
}

/// What becomes of a start at the charger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ruling {
    customer: Option<CustomerId>,
    review: Option<&'static str>,
    refused: bool,
}

impl Ruling {
    fn of(customer: Option<CustomerId>) -> Self {
        Self { customer, review: None, refused: false }
    }

    fn refused(why: &'static str) -> Self {
        Self { customer: None, review: Some(why), refused: true }
    }

    /// Of a transaction that nobody is said to have begun, or where no device is.
    fn nobodys(why: &'static str) -> Self {
        Self { customer: None, review: Some(why), refused: false }
    }

    pub(super) fn put_on(self, session: &mut Session) {
        (session.customer, session.refused) = (self.customer, self.refused);
        session.review = self.review.map(str::to_owned);
    }
}

pub(super) fn new_session(
    charger: ChargerId,
    connector: u32,
    place: Option<&Place>,
    update: &TransactionUpdate,
) -> Session {
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
        id_tag: update.begun_by().cloned(),
        remote_start_id: None,
        transaction: update.transaction.clone(),
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

/// Whether it says whose the transaction is, so that it may take the place of another. What says nothing of it, as in 2.0.1
/// the mere plugging in or a part told before the begin, waits beside what holds the place.
pub(super) fn claims(update: &TransactionUpdate) -> bool {
    let begins_with_a_tag = update.phase == Phase::Started && !update.own_id;
    let asked_for = update.remote_start_id.is_some() && update.phase != Phase::Ended;
    begins_with_a_tag || update.begun_by().is_some() || asked_for
}
