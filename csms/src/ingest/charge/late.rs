//! What comes too late, or from elsewhere: messages beside their charge, customers of charges that were settled for nobody, and
//! the tags that operators sent.

use evm_domain::{ChargerEvent, ChargerId, Phase, Point, PointKind, Status, TransactionUpdate, Wh};
use evm_store::{Db, Result, sessions};

use super::places::{SUPERSEDED, UNKNOWN_TAG};
use super::{Desk, Entry};
use crate::ingest::Told;

/// Loads what bounds the charges whose places others took, where their ends are told.
pub(super) async fn load_next(db: &mut Db, told: &[&Told], entries: &mut [Entry]) -> Result<()> {
    for message in told {
        let ChargerEvent::Transaction(update) = &message.decoded.event else { continue };
        if update.phase != Phase::Ended {
            continue;
        }
        for entry in entries.iter_mut().filter(|entry| entry.session.charger == message.charger) {
            let s = &entry.session;
            let was_superseded = s.stop_reason.as_deref() == Some(SUPERSEDED) && s.ended_at.is_none();
            if s.status == Status::Finished && was_superseded {
                entry.next = sessions::next_begun(db, s).await?;
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
        let most = baseline.filter(|most| entry.session.meter.register.is_none_or(|last| *most >= last));
        let mut bounded = TransactionUpdate { at: began, ..update.clone() };
        bounded.points.retain_mut(|point| match point.kind {
            _ if point.at <= began => true,
            PointKind::End => {
                (point.at, point.value) = (began, point.value.min(most.map_or(0, |Wh(most)| most)));
                most.is_some()
            }
            PointKind::State => {
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

    /// A transaction that was settled for nobody, its begin missing, is its customer's once that is told (2.0.1).
    pub(super) fn own_late(&mut self, n: usize, charger: ChargerId, update: &TransactionUpdate) {
        let session = &self.entries[n].session;
        let unclaimed = session.customer.is_none() && session.id_tag.is_none();
        let Some(tag) = update.begun_by().filter(|_| unclaimed && session.ended_at.is_some()) else { return };
        if session.status != Status::Finished {
            return;
        }
        let connector = update.connector.unwrap_or(session.connector);
        let place = self.place(charger, connector).cloned();
        let (owner, guess) = (self.card_owner(tag), self.guess(charger, tag));
        if let Some(place) = place.filter(|_| session.device.is_none()) {
            self.attach(n, &place);
        }
        let entry = &mut self.entries[n];
        entry.session.id_tag = Some(tag.clone());
        entry.session.customer = owner.filter(|_| entry.session.device.is_some());
        let review = if entry.session.customer.is_some() { guess } else { Some(UNKNOWN_TAG) };
        entry.session.review = review.map(Into::into);
        entry.late = entry.session.customer.is_some();
    }

    /// An update with the tag that an operator sent to begin it: some stations tell only the remoteStartId back (2.0.1).
    pub(super) fn with_tag_asked(&self, charger: ChargerId, update: &TransactionUpdate) -> Option<TransactionUpdate> {
        let number = update.remote_start_id.filter(|_| update.id_tag.is_none())?;
        let asked = self.asked.iter().find(|asked| asked.charger == charger && asked.remote_start_id == number)?;
        Some(TransactionUpdate { id_tag: Some(asked.id_tag.clone()), ..update.clone() })
    }
}
