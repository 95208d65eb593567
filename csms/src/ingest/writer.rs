//! One writer: gathers work, commits it, answers. Tries again where the database stumbles, and sets aside what it
//! alone cannot store.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use evm_bus::{Bus, subject};
use evm_domain::{ChargerEvent, Phase, SessionId};
use evm_store::frames::NewFrame;
use evm_store::{Store, StoreError, sessions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{self, Done, Settings};
use super::charge::Running;
use super::{Answer, Told, Work};
use crate::ocpp::{self, Outcome, frame};
use crate::registry::{Registry, Why};

/// Most work of one commit.
const BATCH: usize = 256;
/// A database that takes longer than this for a batch, both tries together, counts as down. Stations wait for answers
/// 30 s and more; one that waits in vain counts that as a try, and after a few it throws the message away.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) bus: Bus,
    pub(super) settings: Settings,
    pub(super) registry: Arc<Registry>,
    pub(super) running: Running,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut waiting = VecDeque::new();
        let mut fresh = Vec::with_capacity(BATCH);
        loop {
            // What came while the last batch was written is the next batch: no timer needed.
            if waiting.is_empty() && queue.recv_many(&mut fresh, BATCH).await == 0 {
                return;
            }
            waiting.extend(fresh.drain(..));
            while waiting.len() < BATCH {
                match queue.try_recv() {
                    Ok(work) => waiting.push_back(work),
                    Err(_) => break,
                }
            }
            let now = take_batch(&mut waiting);
            if let Err(error) = Box::pin(self.commit(now)).await {
                tracing::warn!(%error, "the store is down; sockets close, stations keep what they have");
                // An idle station, too: it must not begin to wait for answers that take so long.
                self.registry.end_all(Why::StoreDown);
                waiting.clear();
                while queue.try_recv().is_ok() {}
            }
        }
    }

    /// Stores and answers.
    ///
    /// # Errors
    /// Where the store is down; what was not stored is not answered.
    async fn commit(&mut self, batch: Vec<Work>) -> Result<(), StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut result = self.write(&batch, deadline).await;
        if result.is_err() {
            // Deadlocks and broken connections pass; what was committed unseen is found again by its keys.
            result = self.write(&batch, deadline).await;
        }
        match result {
            Ok(done) => self.answer(batch, done).await,
            Err(error) if error.is_down() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a batch cannot be stored; storing its parts");
                for work in batch {
                    self.commit_alone(work).await?;
                }
            }
        }
        Ok(())
    }

    async fn commit_alone(&mut self, work: Work) -> Result<(), StoreError> {
        let batch = vec![work];
        match self.write(&batch, Instant::now() + PATIENCE).await {
            Ok(done) => self.answer(batch, done).await,
            Err(error) if error.is_down() => return Err(error),
            Err(error) => {
                for work in batch {
                    self.quarantine(work, &error).await;
                }
            }
        }
        Ok(())
    }

    /// A message that cannot be stored as what it is, is kept as it came and answered: refused, the station would
    /// send it again until it throws it away.
    async fn quarantine(&mut self, work: Work, error: &StoreError) {
        let Work::Tell(told, asker) = work else { return };
        tracing::error!(charger = %told.charger, action = %told.action, %error, "set aside for review");
        let now = evm_store::now();
        // Transaction 0 would come back as an unknown one for ever: even this start gets a number.
        let mut outcome = Outcome::default();
        if let ChargerEvent::Transaction(update) = &told.decoded.event
            && update.phase == Phase::Started
            && !update.own_id
        {
            let Ok(number) = self.take_number().await else { return };
            outcome.transaction = Some(number);
        }
        let answer = ocpp::answer(told.version, &told.action, outcome, now, self.settings.heartbeat_s);
        let text = frame::result(&told.message_id, &answer);
        let kept = vec![Work::Note(Box::new(frame_of(&told, answer, Some(format!("not stored: {error}")))))];
        if self.write(&kept, Instant::now() + PATIENCE).await.is_ok() {
            let _ = asker.send(Answer { text, then: None, wrong_tag: false });
        }
    }

    async fn take_number(&self) -> Result<i32, StoreError> {
        let mut db = self.store.begin().await?;
        let numbers = sessions::take_numbers(&mut db, &[SessionId(evm_store::new_id())]).await?;
        db.commit().await?;
        Ok(numbers[0])
    }

    async fn write(&mut self, batch: &[Work], deadline: Instant) -> Result<Done, StoreError> {
        let write = batch::write(&self.store, batch, &mut self.running, &self.settings);
        match tokio::time::timeout_at(deadline, write).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::timed_out()),
        }
    }

    async fn answer(&self, batch: Vec<Work>, done: Done) {
        for (work, reply) in batch.into_iter().zip(done.replies) {
            match (work, reply) {
                (Work::Tell(_, asker), batch::Reply::Answer(answer)) => drop(asker.send(answer)),
                (Work::Connect(_, asker), batch::Reply::Connected(connected)) => drop(asker.send(connected)),
                _ => {}
            }
        }
        if done.has_events
            && let Err(error) = self.bus.publish(subject::OUTBOX_HINT, None, b"").await
        {
            tracing::debug!(%error, "no hint to the relay; it looks by itself every second");
        }
    }
}

/// The next batch: one message of each charger, for a message may change what the next one means.
fn take_batch(waiting: &mut VecDeque<Work>) -> Vec<Work> {
    let mut batch = Vec::with_capacity(waiting.len().min(BATCH));
    let mut busy = HashSet::new();
    let mut later = VecDeque::new();
    while let Some(work) = waiting.pop_front() {
        let free = matches!(work, Work::Note(_)) || busy.insert(work.charger());
        if free && batch.len() < BATCH {
            batch.push(work);
        } else {
            later.push_back(work);
        }
    }
    *waiting = later;
    batch
}

/// A told message as it is kept.
pub(super) fn frame_of(told: &Told, answer: String, problem: Option<String>) -> NewFrame {
    NewFrame {
        charger: told.charger,
        epoch: told.epoch,
        incoming: true,
        message_id: told.message_id.clone(),
        action: told.action.clone(),
        payload: told.payload.clone(),
        answer: Some(answer),
        problem,
        at: told.received,
        answered_at: Some(evm_store::now()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evm_domain::{ChargerId, Id};

    #[test]
    fn a_batch_has_one_message_of_a_charger_and_keeps_the_order() {
        let charger = |n| ChargerId(Id::from_parts(n, [0; 8]));
        let mut waiting: VecDeque<_> =
            [(1, 1), (1, 2), (2, 1), (1, 3)].map(|(n, epoch)| Work::Disconnect(charger(n), epoch)).into();
        let mut rounds = Vec::new();
        while !waiting.is_empty() {
            let batch = take_batch(&mut waiting);
            rounds.push(
                batch
                    .into_iter()
                    .map(|work| match work {
                        Work::Disconnect(charger, epoch) => (charger, epoch),
                        _ => (charger(9), 0),
                    })
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(rounds, [vec![(charger(1), 1), (charger(2), 1)], vec![(charger(1), 2)], vec![(charger(1), 3)]]);
    }
}
