//! Charges of one id: a station begins it again after a reboot (2.0.1), and without a clock its start has one key for ever.

use evm_domain::again::{self, Whose};
use evm_domain::bounds::Misfit;
use evm_domain::{ChargerEvent, ChargerId, Phase, Status, Timestamp, TransactionUpdate};
use evm_store::sessions::{self, Found};
use evm_store::{Db, Result, readings};

use super::places::{claims, new_session};
use super::{Desk, Entry};
use crate::ingest::Told;
use crate::ingest::matching::Match;

/// Loads the other charges of an id, where the one that has it now is not clearly meant.
pub(super) async fn load_others(db: &mut Db, told: &[&Told], found: &mut Vec<Found>) -> Result<()> {
    for message in told {
        let ChargerEvent::Transaction(update) = &message.decoded.event else { continue };
        let Some(id) = update.transaction.as_ref().filter(|_| update.own_id) else { continue };
        let is_of = |f: &&Found| f.session.charger == message.charger && f.session.transaction.as_ref() == Some(id);
        let Some(newest) = found.iter().find(is_of).map(|f| &f.session) else { continue };
        if newest.started_at.is_none() || again::whose(&[newest], update) != Whose::Of(0) {
            found.extend(sessions::told_as(db, message.charger, id, update.at).await?);
        }
    }
    Ok(())
}

impl Desk {
    /// Begins another charge of an id, or gives it to the request `by`. What was told of it so far goes over from the one
    /// that is `near`.
    pub(super) fn begin_beside(
        &mut self,
        near: usize,
        by: Option<usize>,
        charger: ChargerId,
        update: &TransactionUpdate,
    ) -> usize {
        let n = by.unwrap_or_else(|| self.begin(charger, update));
        let newest = self.name_anew(n, update, update.at, by.is_some());
        if !newest && claims(update) {
            // Another has begun since, so it is over.
            self.entries[n].overtaken = true;
        }
        self.hand_over(near, n, update);
        n
    }

    /// Ends a charge whose end so far is that of another of its id, which began later: that one's begin was not told yet.
    pub(super) fn end_earlier(&mut self, n: usize, update: &TransactionUpdate) -> usize {
        let (charger, connector) = (self.entries[n].session.charger, self.entries[n].session.connector);
        let mut session = new_session(charger, connector, None, update);
        session.id_tag = None;
        let later = self.entries.len();
        self.entries.push(Entry { changed: true, ..Entry::new(session, None, None) });
        self.name_anew(later, update, self.entries[n].session.ended_at.unwrap_or(update.at), false);
        self.hand_over(n, later, update);
        n
    }

    /// On which side of the charge of its id an end lies that is taken for the end of another, of which nothing was told yet.
    pub(super) fn end_beside(&self, found: Match, update: &TransactionUpdate) -> Option<Misfit> {
        let Match::Another { near, .. } = found else { return None };
        let session = &self.entries[near].session;
        session.side_of(update.at).filter(|_| update.phase == Phase::Ended && session.started_at.is_some())
    }

    fn hand_over(&mut self, from: usize, to: usize, update: &TransactionUpdate) {
        let share = again::share(&self.entries[from].session, update);
        if share.end {
            let old = &mut self.entries[from].session;
            let (ended_at, stop_reason) = (old.ended_at.take(), old.stop_reason.take());
            let new = &mut self.entries[to].session;
            (new.ended_at, new.stop_reason) = (ended_at, stop_reason);
        }
        self.shares.push((from, to, share));
    }

    /// Moves the readings of what goes over.
    pub(super) async fn move_shares(&mut self, db: &mut Db) -> Result<()> {
        for (from, to, share) in std::mem::take(&mut self.shares) {
            let (old, new) = (self.entries[from].session.id, self.entries[to].session.id);
            if !readings::hand_over(db, old, new, share.from, share.until).await? && !share.end {
                continue;
            }
            for n in [from, to] {
                (self.entries[n].fold_again, self.entries[n].changed) = (true, true);
            }
            self.entries[from].correct |= self.entries[from].session.status == Status::Finished;
        }
        Ok(())
    }

    /// The newest charge of an id has it as its name; the others have their session behind it. `false`: it is not the newest.
    fn name_anew(&mut self, n: usize, update: &TransactionUpdate, at: Timestamp, is_newest: bool) -> bool {
        let (charger, name) = (self.entries[n].session.charger, update.transaction.clone());
        let has_name = |entry: &Entry| {
            entry.session.charger == charger && !entry.gone && entry.session.transaction == name && name.is_some()
        };
        let Some(holder) = (0..self.entries.len()).find(|other| *other != n && has_name(&self.entries[*other])) else {
            return true;
        };
        let s = &self.entries[holder].session;
        let newest = is_newest || at >= s.started_at.or(s.ended_at).unwrap_or(s.meter.last_at);
        let older = if newest { holder } else { n };
        if newest {
            self.reused.push(self.entries[holder].session.id);
        }
        let entry = &mut self.entries[older];
        entry.told_as.clone_from(&name);
        entry.session.transaction = name.map(|name| format!("{name}/{}", entry.session.id));
        newest
    }

    /// The key of a start that came again as another charge is that one's.
    pub(super) fn forget_start(&mut self, n: usize, update: &TransactionUpdate) {
        let charger = self.entries[n].session.charger;
        let Some(key) = update.start_key.as_ref().filter(|_| update.phase == Phase::Started) else { return };
        for (other, entry) in self.entries.iter_mut().enumerate() {
            if other != n && entry.session.charger == charger && entry.start_key.as_ref() == Some(key) {
                entry.start_key = None;
                self.started_again.push(entry.session.id);
            }
        }
    }
}
