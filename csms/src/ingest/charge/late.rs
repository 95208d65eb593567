//! What comes too late, or from elsewhere: messages beside their charge, customers of charges that were settled for nobody, and
//! the tags that operators sent.

use evm_domain::{ChargerEvent, ChargerId, NO_AUTHORIZATION, Phase, Point, PointKind, Status, TransactionUpdate, Wh};
use evm_store::remote_starts::Asked;
use evm_store::{Db, Result, sessions};

use super::places::{CONCURRENT_TX, NO_DEVICE, OLDER_MS, UNKNOWN_TAG};
use super::{Desk, Entry};
use crate::ingest::Told;
use crate::ingest::matching::{Match, find};

/// Loads what bounds the charges whose places others took, or may have taken before they were told of, where their ends are
/// told.
pub(super) async fn load_next(db: &mut Db, told: &[&Told], entries: &mut [Entry]) -> Result<()> {
    for message in told {
        let ChargerEvent::Transaction(update) = &message.decoded.event else { continue };
        if update.phase != Phase::Ended {
            continue;
        }
        for entry in entries.iter_mut().filter(|entry| entry.session.charger == message.charger) {
            let s = &entry.session;
            let settled = s.status == Status::Finished;
            // Where a station uses its ids again, the end may be that of a later one (2.0.1).
            let told_late =
                !update.own_id && s.started_at.is_some_and(|began| s.id.0.made_at().since(began) > OLDER_MS);
            if s.ended_at.is_none() && (settled || told_late) {
                entry.next = sessions::next_begun(db, s, told_late && !settled).await?;
            }
        }
    }
    Ok(())
}

impl Desk {
    /// An end that is told of a charge whose place another one took since, dated after that one's begin: it ended then, and its
    /// register stands at most where the other began.
    pub(super) fn bounded_by_next(&self, n: usize, update: &TransactionUpdate) -> Option<TransactionUpdate> {
        let entry = &self.entries[n];
        let (began, baseline) = entry.next.filter(|(began, _)| update.phase == Phase::Ended && update.at > *began)?;
        // What was read after that counts no more.
        let meter = &entry.session.meter;
        let least = if meter.last_at > began { meter.baseline } else { meter.register };
        let most = baseline.filter(|most| least.is_none_or(|least| *most >= least));
        // A register that counts each charge anew says nothing of the charge before.
        let anew = baseline == Some(Wh(0));
        let mut bounded = TransactionUpdate { at: began, ..update.clone() };
        bounded.points.retain_mut(|point| match point.kind {
            _ if point.at <= began => true,
            PointKind::End if !anew => {
                (point.at, point.value) = (began, point.value.min(most.map_or(0, |Wh(most)| most)));
                most.is_some()
            }
            PointKind::End | PointKind::State => {
                point.at = began;
                true
            }
            _ => false,
        });
        Some(bounded)
    }

    /// A message of which nothing counts. What a station numbers may be another charge's, as it tells later; and where the end
    /// is dated before the begin, another end may follow.
    pub(super) fn set_aside(&mut self, n: usize, update: &TransactionUpdate, points: Vec<Point>) {
        let entry = &mut self.entries[n];
        entry.changed |= entry.session.set_aside(&points);
        let may_count = update.own_id || (entry.session.ends_before_begin() && update.phase == Phase::Updated);
        if may_count && !entry.session.is_just_after_end(update.at) {
            let id = entry.session.id;
            entry.session.meter.kept += i64::try_from(points.len()).unwrap_or_default();
            entry.changed = true;
            self.points.extend(points.into_iter().map(|point| (id, point)));
        }
    }

    /// A charge that was told of while its customer had another one elsewhere is no case for review where, by their ends, the
    /// two were not at one time; whichever end is told last. One that ended just now was still running when the other was told.
    pub(super) async fn judge_beside(&self, db: &mut Db) -> Result<()> {
        let now = evm_store::now();
        let has_ended = |entry: &&Entry| {
            let session = &entry.session;
            let is_news = entry.changed && session.ended_at != entry.stored.ended_at;
            let is_marked = session.review.as_deref() == Some(CONCURRENT_TX);
            let may_tell = session.ended_at.is_some_and(|ended| is_marked || now.since(ended) > OLDER_MS);
            is_news && may_tell && session.customer.is_some() && !entry.gone
        };
        let ended: Vec<_> = self.entries.iter().filter(has_ended).map(|entry| &entry.session).collect();
        sessions::clear_beside(db, &ended, CONCURRENT_TX).await
    }

    /// A transaction that was given up while nobody had claimed it yet, its car plugged in, goes on once somebody does (2.0.1).
    pub(super) fn take_up(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let session = &self.entries[n].session;
        let given_up = session.status == Status::Finished && session.ended_at.is_none();
        let unclaimed = session.customer.is_none() && session.id_tag.is_none() && session.device.is_none();
        let is_begun = update.own_id && update.begun_by().is_some();
        let connector = update.connector.unwrap_or(session.connector);
        let began = session.started_at.unwrap_or(update.at);
        if given_up
            && unclaimed
            && is_begun
            && self.place(charger, connector).is_some()
            && !self.is_overtaken(n, connector, began)
        {
            let session = &mut self.entries[n].session;
            (session.status, session.stop_reason, session.review) = (Status::Active, None, None);
        }
    }

    /// A transaction that was settled for nobody, its begin missing or its station out of touch, is its customer's once that one
    /// is told of (2.0.1).
    pub(super) fn own_late(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let session = &self.entries[n].session;
        // The tag may have been told before the place was.
        let told_before = session.id_tag.as_ref().filter(|_| session.connector == 0);
        let unclaimed = session.customer.is_none() && (session.id_tag.is_none() || told_before.is_some());
        let tag =
            told_before.or(update.begun_by()).filter(|_| unclaimed && session.status == Status::Finished).cloned();
        let Some(tag) = tag else { return };
        let connector = update.connector.unwrap_or(session.connector);
        let place = self.place(charger, connector).cloned();
        let (owner, guess) = (self.card_owner(&tag), self.guess(charger, &tag));
        let is_free = tag == NO_AUTHORIZATION && place.as_ref().is_some_and(|place| place.free_charging);
        if let Some(place) = place.filter(|_| session.device.is_none()) {
            self.attach(n, &place);
        }
        let entry = &mut self.entries[n];
        entry.session.id_tag = Some(tag);
        entry.session.customer = owner.filter(|_| entry.session.device.is_some());
        let review = match entry.session.customer {
            Some(_) => guess,
            None if entry.session.device.is_none() => Some(NO_DEVICE),
            None => Some(UNKNOWN_TAG).filter(|_| !is_free),
        };
        entry.session.review = review.map(Into::into);
        entry.late = entry.session.customer.is_some();
    }

    /// An update with the tag that an operator sent to begin it: some stations tell only the remoteStartId back (2.0.1). That
    /// is good for one transaction, however often a station names it.
    pub(super) fn with_tag_asked(&self, charger: ChargerId, update: &TransactionUpdate) -> Option<TransactionUpdate> {
        let number = update.remote_start_id.filter(|_| update.id_tag.is_none())?;
        let asked = self.asked.iter().find(|asked| asked.charger == charger && asked.remote_start_id == number)?;
        let update = TransactionUpdate { id_tag: Some(asked.id_tag.clone()), ..update.clone() };
        let is_begun = |begun| match find(&self.entries, charger, &update) {
            Match::Session(n) | Match::EndsEarlier(n) => self.entries[n].session.id == begun,
            _ => false,
        };
        asked.session.is_none_or(is_begun).then_some(update)
    }

    /// A remoteStartId that an operator sent is used up by the first transaction that names it.
    pub(super) fn use_up_start(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let Some(number) = update.remote_start_id else { return };
        let unused =
            |asked: &&mut Asked| asked.charger == charger && asked.remote_start_id == number && asked.session.is_none();
        if let Some(asked) = self.asked.iter_mut().find(unused) {
            asked.session = Some(self.entries[n].session.id);
            self.used_up.push(asked.clone());
        }
    }
}
