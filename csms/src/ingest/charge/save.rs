//! Writes what a batch changed, each kind in one statement.

use std::collections::HashSet;

use evm_domain::{Session, SessionId, Status, Timestamp};
use evm_store::sessions::{self, Begun, Found, NewSession};
use evm_store::{Db, Result, chargers, new_id, readings, remote_starts, settle};

use super::{Desk, Entry};
use crate::ingest::Then;
use crate::ingest::batch::Taken;

/// A charge that goes on after it was settled is not stopped more often than this.
const STOP_AGAIN_MS: i64 = 60_000;

impl Desk {
    /// Writes what changed. `true`: there are new events in the outbox. The charges as they are after the commit come back
    /// too.
    pub(in crate::ingest) async fn close(
        mut self,
        db: &mut Db,
        outcomes: &mut [Taken],
        most_readings: u32,
        now: Timestamp,
    ) -> Result<(bool, Vec<Found>)> {
        sessions::forget_names(db, &self.reused).await?;
        let mut has_events = self.end_displaced(db, now).await?;
        for (from, into) in &self.merges {
            sessions::merge(db, *from, *into).await?;
        }
        for (n, tariff_id) in &self.attached {
            sessions::attach(db, &self.entries[*n].session, tariff_id).await?;
        }
        self.number(db, outcomes).await?;
        sessions::forget_starts(db, &self.started_again).await?;
        remote_starts::use_up(db, &self.used_up).await?;
        self.insert_new(db, now).await?;
        self.move_shares(db).await?;
        readings::insert(db, &self.points).await?;
        for entry in &mut self.entries {
            if entry.fold_again {
                readings::fold(db, &mut entry.session).await?;
            }
            if entry.session.meter.kept > i64::from(most_readings) {
                readings::thin(db, &mut entry.session).await?;
            }
        }
        let begun: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.begun && entry.start_key.is_some())
            .map(|entry| Begun { session: entry.session.id, start_key: entry.start_key.clone() })
            .collect();
        sessions::mark_begun(db, &begun).await?;
        let opened: Vec<_> = self.entries.iter().filter(|entry| entry.opens).map(|entry| &entry.session).collect();
        settle::open(db, &opened, now).await?;
        let late: Vec<_> = self.entries.iter().filter(|entry| entry.late).map(|entry| &entry.session).collect();
        settle::settle_late(db, &late, now).await?;
        has_events |= !late.is_empty();
        for entry in self.entries.iter().filter(|entry| entry.correct) {
            has_events |= settle::correct(db, &entry.session, now).await?;
        }
        let mut over: Vec<_> = self
            .entries
            .iter_mut()
            .filter(|entry| entry.settle && entry.session.status.is_live() && !entry.gone)
            .map(|entry| &mut entry.session)
            .collect();
        has_events |= over.iter().any(|session| session.customer.is_some());
        settle::settle(db, &mut over, now).await?;
        self.save(db, now).await?;
        self.judge_beside(db).await?;
        chargers::set_charged(db, &self.charged, true).await?;
        chargers::set_charged(db, &self.plugged_in, false).await?;
        self.ask_for_more(outcomes);
        self.stop_what_goes_on(db, outcomes, now).await?;
        Ok((has_events, self.committed()))
    }

    async fn save(&mut self, db: &mut Db, now: Timestamp) -> Result<()> {
        let changed = || self.entries.iter().filter(|entry| entry.changed && !entry.gone);
        // What is over first: its customer may charge elsewhere by now, and has one live session.
        let moved = changed().filter(|entry| entry.is_moved()).map(|entry| &entry.session);
        let (over, others): (Vec<_>, Vec<_>) = moved.partition(|session| session.status == Status::Finished);
        sessions::save_record(db, &over, now).await?;
        let renamed: Vec<_> = changed().filter(|entry| entry.is_renamed()).map(|entry| &entry.session).collect();
        sessions::save_names(db, &renamed).await?;
        sessions::save_record(db, &others, now).await?;
        let figures: Vec<_> =
            changed().map(|entry| (&entry.session, entry.from_memory.then_some(entry.version))).collect();
        sessions::save_figures(db, &figures, now).await
    }

    /// Only those whose version is known for sure are worth keeping.
    fn committed(self) -> Vec<Found> {
        let changed = self.entries.into_iter().filter(|entry| entry.changed && !entry.gone);
        let figures_only = changed.filter(|entry| !entry.begun && !entry.is_renamed() && !entry.is_moved());
        figures_only
            .map(|Entry { session, version, start_key, told_as, .. }| Found {
                session,
                version: version + 1,
                start_key,
                told_as,
            })
            .collect()
    }

    /// What the stations are to be asked next.
    fn ask_for_more(&self, outcomes: &mut [Taken]) {
        for (outcome, n) in &self.told_of {
            let session = &self.entries[*n].session;
            let told_as = self.entries[*n].told_as.clone();
            let Some(transaction) = told_as.or_else(|| session.transaction.clone()) else { continue };
            outcomes[*outcome].then = match (session.ended_at, session.status) {
                (None, _) => Some(Then::Stop(transaction)),
                // Its begin or something between is missing.
                (Some(_), Status::Active) => Some(Then::AskForRest { session: session.id, transaction }),
                (Some(_), _) => None,
            };
        }
    }

    /// A charge that was settled without the charger's word and goes on: it is to end, so that its bill is corrected.
    async fn stop_what_goes_on(&self, db: &mut Db, outcomes: &mut [Taken], now: Timestamp) -> Result<()> {
        for (outcome, n) in &self.going_on {
            let session = &self.entries[*n].session;
            if let Some(transaction) = session.transaction.clone()
                && sessions::claim_stop(db, session.id, Status::Finished, None, now.plus_millis(-STOP_AGAIN_MS), now)
                    .await?
            {
                outcomes[*outcome].then = Some(Then::Stop(transaction));
            }
        }
        Ok(())
    }

    /// Before the new holder of the device is written, for the device takes one live session only.
    async fn end_displaced(&mut self, db: &mut Db, now: Timestamp) -> Result<bool> {
        if self.displaced.is_empty() {
            return Ok(false);
        }
        let displaced: HashSet<usize> = self.displaced.drain(..).collect();
        let mut ended: Vec<_> = self
            .entries
            .iter_mut()
            .enumerate()
            .filter(|(n, _)| displaced.contains(n))
            .map(|(_, entry)| {
                entry.changed = false;
                &mut entry.session
            })
            .collect();
        let mut over: Vec<_> = ended.iter_mut().filter(|s| s.status.is_live()).map(|s| &mut **s).collect();
        settle::settle(db, &mut over, now).await?;
        let ended: Vec<&Session> = ended.iter().map(|s| &**s).collect();
        sessions::save(db, &ended, now).await?;
        Ok(true)
    }

    /// Gives transactions of 1.6 their numbers.
    async fn number(&mut self, db: &mut Db, outcomes: &mut [Taken]) -> Result<()> {
        let ids: Vec<_> = self.numbers.iter().map(|(_, n)| self.entries[*n].session.id).collect();
        let nobodys: Vec<_> = self.refused.iter().map(|_| SessionId(new_id())).collect();
        for (outcome, number) in self.refused.iter().zip(sessions::take_numbers(db, &nobodys).await?) {
            outcomes[*outcome].outcome.transaction = Some(number);
            outcomes[*outcome].then = Some(Then::Stop(number.to_string()));
        }
        let numbers = sessions::take_numbers(db, &ids).await?;
        for ((outcome, n), number) in self.numbers.iter().zip(numbers) {
            self.entries[*n].session.transaction = Some(number.to_string());
            outcomes[*outcome].outcome.transaction = Some(number);
        }
        Ok(())
    }

    async fn insert_new(&mut self, db: &mut Db, now: Timestamp) -> Result<()> {
        let new: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| {
                let tariff_id = entry.new.clone()?;
                let mut session = entry.session.clone();
                if entry.overtaken {
                    // The other one holds the place.
                    session.status = Status::Finished;
                }
                let (start_key, told_as) = (entry.start_key.clone(), entry.told_as.clone());
                Some(NewSession { session, tariff_id, start_key, told_as })
            })
            .collect();
        let inserted: HashSet<_> = sessions::insert(db, &new, now).await?.into_iter().collect();
        if inserted.len() == new.len() {
            for entry in self.entries.iter_mut().filter(|entry| entry.new.is_some()) {
                // All but the end, which seldom comes with the beginning, and the figures.
                entry.stored = Session { ended_at: None, stop_reason: None, ..entry.session.clone() };
            }
            return Ok(());
        }
        // Another node began a charge for the same customer or device at this very moment: try the batch again,
        // now that the other's is there to be seen.
        Err(evm_store::StoreError::conflict())
    }
}

impl Entry {
    /// Whether it is found by other names than before.
    fn is_renamed(&self) -> bool {
        names(&self.session) != names(&self.stored)
    }

    /// Whether it stands elsewhere than before.
    fn is_moved(&self) -> bool {
        standing(&self.session) != standing(&self.stored)
    }
}

/// What [`sessions::save_names`] saves.
fn names(session: &Session) -> impl PartialEq {
    (session.device, session.customer, &session.id_tag, &session.transaction)
}

/// What [`sessions::save_record`] saves. A new field is saved there or with the figures, or never changes.
fn standing(session: &Session) -> impl PartialEq {
    #[rustfmt::skip]
    let Session {
        connector, status, started_at, ended_at, stop_reason, review, refused, lost_at,
        id: _, purchase: _, charger: _, tariff: _, max_power_w: _, remote_start_id: _,
        device: _, customer: _, id_tag: _, transaction: _, seq_nos: _, meter: _,
    } = session;
    (connector, status, started_at, ended_at, stop_reason, review, refused, lost_at)
}
