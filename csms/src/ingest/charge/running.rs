//! Running charges as this writer saved them last, so that a mere sample of one is written without a look before.
//!
//! Nothing here is trusted: what is saved from here names the version that it was made from. Where the store has another
//! one, nothing of the batch is written, and it is tried again with what the store has.

use std::collections::HashMap;

use evm_domain::{ChargerEvent, ChargerId, Phase, Session, Status};
use evm_store::sessions::Found;

use crate::ingest::Told;

/// Chargers whose charges are kept; about a kilobyte each.
const MOST: usize = 10_000;

/// Charges by charger.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Running(HashMap<ChargerId, Vec<Found>>);

impl Running {
    /// Takes out the charge that a message is a mere sample of: in its transaction, with nothing else to look up.
    pub(super) fn take(&mut self, told: &Told) -> Option<Found> {
        let ChargerEvent::Transaction(update) = &told.decoded.event else { return None };
        let transaction = update.transaction.as_ref()?;
        let mere_sample = update.phase == Phase::Updated
            && update.id_tag.is_none()
            && update.remote_start_id.is_none()
            && update.start_key.is_none();
        let charges = self.0.get_mut(&told.charger).filter(|_| mere_sample)?;
        let n = charges.iter().position(|found| found.session.transaction.as_ref() == Some(transaction))?;
        // What is dated before its begin may be another's of this id.
        if update.own_id && charges[n].session.side_of(update.at).is_some() {
            return None;
        }
        Some(charges.swap_remove(n))
    }

    /// Keeps charges as they were committed just now.
    pub(in crate::ingest) fn put(&mut self, committed: Vec<Found>) {
        for found in committed {
            let charger = found.session.charger;
            if self.0.len() >= MOST && !self.0.contains_key(&charger) {
                self.0.clear();
            }
            let charges = self.0.entry(charger).or_default();
            charges.retain(|known| known.session.id != found.session.id);
            if is_settled_in(&found.session) {
                charges.push(found);
            }
            if charges.is_empty() {
                self.0.remove(&charger);
            }
        }
    }
}

/// Whether nothing about it is open but its figures.
fn is_settled_in(session: &Session) -> bool {
    session.status == Status::Active
        && session.ended_at.is_none()
        && session.device.is_some()
        && session.customer.is_some()
}
