//! Which session a message belongs to.

use evm_domain::ChargerId;
use evm_domain::{Phase, Session, Status, TransactionUpdate};

use super::charge::Entry;

/// Where an update belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// To a session that is known.
    Session(usize),
    /// To the request `into`, together with what was told of its transaction in `from` before.
    Merge { from: usize, into: usize },
    /// It begins a session.
    New,
    /// Nobody knows.
    Nowhere,
}

/// Finds the session of an update among those on the desk.
pub(super) fn find(entries: &[Entry], charger: ChargerId, update: &TransactionUpdate) -> Match {
    let here = |test: &dyn Fn(&Entry) -> bool| {
        entries.iter().position(|entry| entry.session.charger == charger && !entry.gone && test(entry))
    };
    let request = here(&|entry| entry.session.status == Status::Requested && asks_for(&entry.session, update));
    let named =
        update.transaction.as_deref().and_then(|id| here(&|entry| entry.session.transaction.as_deref() == Some(id)));
    match (named, request) {
        (Some(from), Some(into)) if entries[from].session.customer.is_none() => return Match::Merge { from, into },
        (Some(named), _) => return Match::Session(named),
        (None, _) => {}
    }
    if let Some(key) = &update.start_key
        && let Some(same) = here(&|entry| entry.start_key.as_ref() == Some(key))
    {
        return Match::Session(same);
    }
    if let Some(request) = request {
        return Match::Session(request);
    }
    if update.phase == Phase::Started || update.own_id {
        // A charge may begin after its request was given up or finished; it still is that customer's.
        let late = here(&|entry| is_late(&entry.session) && asks_for(&entry.session, update));
        return late.map_or(Match::New, Match::Session);
    }
    open_transaction(entries, charger, update).map_or(Match::Nowhere, Match::Session)
}

fn is_late(session: &Session) -> bool {
    session.status == Status::Failed || (session.status == Status::Finished && session.transaction.is_none())
}

fn asks_for(session: &Session, update: &TransactionUpdate) -> bool {
    let by_tag = update.id_tag.is_some() && session.id_tag == update.id_tag;
    let by_number = update.remote_start_id.is_some() && session.remote_start_id == update.remote_start_id;
    session.customer.is_some() && (by_tag || by_number)
}

/// A message with an id that is none (−1, 0, unknown): the transaction that is open at its connector.
fn open_transaction(entries: &[Entry], charger: ChargerId, update: &TransactionUpdate) -> Option<usize> {
    let mut open = entries.iter().enumerate().filter(|(_, entry)| {
        let s = &entry.session;
        let same_connector = update.connector.is_none_or(|connector| s.connector == connector);
        // A stop with a wrong id must not end whatever runs: it has to name the right tag.
        let same_tag = update.transaction.is_none()
            || update.phase != Phase::Ended
            || (update.id_tag.is_some() && s.id_tag == update.id_tag);
        s.charger == charger && s.status == Status::Active && same_connector && same_tag
    });
    let first = open.next().map(|(n, _)| n);
    if open.next().is_some() { None } else { first }
}
