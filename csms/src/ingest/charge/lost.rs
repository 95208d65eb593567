//! What a station says of itself and its connectors, held against the transactions that seem to run there.

use evm_domain::{ChargerId, ConnectorState, Phase, Status, StatusReport, Timestamp, TransactionUpdate};

use super::{Desk, Entry};

/// Why a start that was refused is over, where the station never told its end.
const NEVER_STOPPED: &str = "never_stopped";

impl Desk {
    /// After a boot nobody knows which transactions go on: those of which nothing is told are given up in time.
    pub(super) fn take_boot(&mut self, charger: ChargerId, received: Timestamp) {
        for entry in self.entries.iter_mut().filter(|entry| entry.session.charger == charger) {
            entry.doubt(received);
        }
    }

    /// A connector that is free, or waits for a start, has no transaction; one that charges has. A start that was refused
    /// ends where its place is free.
    pub(super) fn judge_by_state(&mut self, charger: ChargerId, report: &StatusReport, received: Timestamp) {
        let here = |entry: &&mut Entry| {
            let s = &entry.session;
            s.charger == charger && s.connector == report.connector && s.status == Status::Active && !entry.gone
        };
        for entry in self.entries.iter_mut().filter(here) {
            match report.state {
                ConnectorState::Available if entry.session.refused => {
                    entry.session.stop_reason.get_or_insert_with(|| NEVER_STOPPED.into());
                    (entry.settle, entry.changed) = (true, true);
                }
                ConnectorState::Available | ConnectorState::Preparing | ConnectorState::Reserved => {
                    entry.doubt(received)
                }
                ConnectorState::Occupied if entry.session.lost_at.is_some() => {
                    (entry.session.lost_at, entry.changed) = (None, true);
                }
                // A car that is plugged in, and what is out of order, may be in a transaction or not.
                _ => {}
            }
        }
    }

    /// What is told of a transaction shows that it goes on. What a queue brings from before the doubt only shows that there
    /// is more to come.
    pub(super) fn note_sign_of_life(&mut self, n: usize, update: &TransactionUpdate, received: Timestamp) {
        let session = &mut self.entries[n].session;
        let Some(lost) = session.lost_at.filter(|_| update.phase != Phase::Ended) else { return };
        let told = update.points.iter().map(|point| point.at).max().unwrap_or(update.at);
        session.lost_at = (told < lost).then_some(received);
    }
}

impl Entry {
    fn doubt(&mut self, received: Timestamp) {
        let s = &mut self.session;
        if s.status == Status::Active && s.transaction.is_some() && s.ended_at.is_none() && s.lost_at.is_none() {
            (s.lost_at, self.changed) = (Some(received), true);
        }
    }
}
