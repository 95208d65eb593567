//! Which session a message belongs to.

use evm_domain::again::{Whose, whose};
use evm_domain::{ChargerId, ChargingState, Dated, Phase, Session, Status, TransactionUpdate, Wh};

use super::charge::{Entry, OLDER_MS};

/// A start that is dated so long before it came was not dated by a clock that goes, if its station was in touch.
const FAR_BEHIND_MS: i64 = 24 * 3_600_000;

/// Where an update belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// To a session that is known.
    Session(usize),
    /// To the request `into`, together with what was told of its transaction in `from` before.
    Merge { from: usize, into: usize },
    /// It begins a session.
    New,
    /// To the request `by`, or it begins a session: the charger has used the id of `near` for another charge (2.0.1).
    Another { near: usize, by: Option<usize> },
    /// It ends a session, whose end so far is that of another charge with the same id (2.0.1).
    EndsEarlier(usize),
    /// Nobody knows.
    Nowhere,
}

/// Finds the session of an update among those on the desk.
pub(super) fn find(entries: &[Entry], charger: ChargerId, update: &TransactionUpdate) -> Match {
    let here = |test: &dyn Fn(&Entry) -> bool| {
        entries.iter().position(|entry| entry.session.charger == charger && !entry.gone && test(entry))
    };
    let begins = update.phase == Phase::Started || update.own_id;
    let request = here(&|entry| entry.session.status == Status::Requested && asks_for(&entry.session, update));
    // A charge may begin after its request was given up or finished; it still is that customer's.
    let late = || here(&|entry| begins && is_late(&entry.session) && asks_for(&entry.session, update));
    if let Some(id) = update.transaction.as_deref()
        && let Some(whose) = whose_of(entries, charger, id, request, update)
    {
        return match whose {
            Whose::EndsEarlier(n) => Match::EndsEarlier(n),
            Whose::Another { near } => Match::Another { near, by: request.or_else(late) },
            Whose::Of(named) | Whose::Beside(named) => {
                let wanted = request.or_else(late).filter(|_| entries[named].session.customer.is_none());
                wanted.map_or(Match::Session(named), |into| Match::Merge { from: named, into })
            }
        };
    }
    if let Some(key) = &update.start_key
        && let Some(same) = here(&|entry| entry.start_key.as_ref() == Some(key))
        // Without a clock that goes its key may come again with every charge.
        && !(is_over(&entries[same].session) && (update.timeless || clock_stands(&entries[same].session, update)))
    {
        return Match::Session(same);
    }
    if let Some(request) = request {
        return Match::Session(request);
    }
    if begins {
        let again = here(&|entry| is_told_again(&entry.session, update));
        return again.or_else(late).map_or(Match::New, Match::Session);
    }
    open_transaction(entries, charger, update).map_or(Match::Nowhere, Match::Session)
}

/// Which of those of this id it belongs to; in 1.6 there is one, for the number is ours.
fn whose_of(
    entries: &[Entry],
    charger: ChargerId,
    id: &str,
    request: Option<usize>,
    update: &TransactionUpdate,
) -> Option<Whose> {
    let is_of = |entry: &Entry| {
        let named = entry.told_as.as_deref().or(entry.session.transaction.as_deref());
        entry.session.charger == charger && !entry.gone && named == Some(id)
    };
    let of_id: Vec<usize> = (0..entries.len()).filter(|n| is_of(&entries[*n])).collect();
    let named = *of_id.iter().find(|n| entries[**n].told_as.is_none()).or(of_id.first())?;
    if !update.own_id {
        return Some(Whose::Of(named));
    }
    let session = &entries[named].session;
    let is_somebodys = session.customer.is_some() || session.id_tag.is_some();
    let asked_anew = session.status == Status::Finished && request.is_some();
    if is_somebodys && (asked_anew || is_of_another_card(session, update)) {
        return Some(Whose::Another { near: named });
    }
    let sessions: Vec<&Session> = of_id.iter().map(|n| &entries[*n].session).collect();
    Some(match whose(&sessions, update) {
        Whose::Of(n) => Whose::Of(of_id[n]),
        Whose::Beside(n) => Whose::Beside(of_id[n]),
        Whose::EndsEarlier(n) => Whose::EndsEarlier(of_id[n]),
        Whose::Another { near } => Whose::Another { near: of_id[near] },
    })
}

/// Whether a card begins what the last transaction of the same id was not begun with.
fn is_of_another_card(last: &Session, update: &TransactionUpdate) -> bool {
    let later = last.started_at.is_some_and(|began| update.at > last.ended_at.unwrap_or(began));
    let other = last.id_tag.is_some() && update.id_tag.is_some() && last.id_tag != update.id_tag;
    update.phase == Phase::Started && later && other
}

/// Whether a charge is over, so that a start without a time begins another.
fn is_over(session: &Session) -> bool {
    let charged = session.meter.energy() > Wh(0);
    let left = session.status == Status::Active && session.meter.state == ChargingState::Idle && charged;
    let settled = session.status == Status::Finished && (charged || session.lost_at.is_some());
    session.ended_at.is_some() || left || settled
}

/// Whether the clock that dates a start stands still: the charge that it began before took no time, or what is dated now lies
/// far behind, though the station was in touch.
fn clock_stands(session: &Session, update: &TransactionUpdate) -> bool {
    let far_behind = update
        .points
        .iter()
        .any(|point| point.heard.date == Dated::ByStation && point.heard.at.since(point.at) > FAR_BEHIND_MS);
    match session.started_at.zip(session.ended_at) {
        Some((began, ended)) => began == ended && (far_behind || session.meter.energy() > Wh(0)),
        None => far_behind,
    }
}

/// Whether a start is told once more, with another time: the tag was made for this one charge. In 2.0.1 the transaction's id
/// says it.
fn is_told_again(session: &Session, update: &TransactionUpdate) -> bool {
    let made_for_it = session.remote_start_id.is_some() && asks_for(session, update);
    let same_connector = update.connector.is_none_or(|connector| connector == session.connector);
    !update.own_id && session.status == Status::Active && made_for_it && same_connector
}

fn is_late(session: &Session) -> bool {
    session.status == Status::Failed || (session.status == Status::Finished && session.transaction.is_none())
}

fn asks_for(session: &Session, update: &TransactionUpdate) -> bool {
    let by_tag = update.id_tag.is_some() && session.id_tag == update.id_tag;
    let by_number = update.remote_start_id.is_some() && session.remote_start_id == update.remote_start_id;
    session.customer.is_some() && (by_tag || by_number)
}

/// A message with an id that is none (−1, 0, unknown): the transaction that is open at its connector, of its tag before any
/// other. One that was settled without the charger's word is open to the charger.
fn open_transaction(entries: &[Entry], charger: ChargerId, update: &TransactionUpdate) -> Option<usize> {
    // Meter values of 1.6 are dated one by one.
    let sampled = update.points.iter().map(|point| point.at).max().filter(|_| update.phase == Phase::Updated);
    let at = sampled.unwrap_or(update.at);
    let of_tag = |s: &Session| update.id_tag.is_some() && s.id_tag == update.id_tag;
    let open = |s: &Session| {
        let same_connector = update.connector.is_none_or(|connector| s.connector == connector);
        let since_then = s.started_at.is_none_or(|began| began.since(at) <= OLDER_MS);
        // A stop with a wrong id must not end whatever runs: it has to name the right tag.
        let may_end = update.transaction.is_none() || update.phase != Phase::Ended || of_tag(s);
        s.charger == charger && same_connector && since_then && may_end
    };
    let runs = |s: &Session| s.status == Status::Active;
    let settled = |s: &Session| s.status == Status::Finished && s.ended_at.is_none() && s.transaction.is_some();
    let all = |test: &dyn Fn(&Session) -> bool| {
        let fits = |entry: &Entry| !entry.gone && open(&entry.session) && test(&entry.session);
        entries.iter().enumerate().filter(|(_, entry)| fits(entry)).map(|(n, _)| n).collect::<Vec<_>>()
    };
    // One that was refused stands beside the charge of its place.
    let wishes: [&dyn Fn(&Session) -> bool; 5] =
        [&|s| runs(s) && of_tag(s), &|s| settled(s) && of_tag(s), &|s| runs(s) && !s.refused, &runs, &settled];
    let found = wishes.into_iter().map(|wish| all(wish)).find(|found| !found.is_empty())?;
    // Which of several is meant, nobody knows.
    if let [only] = found[..] { Some(only) } else { None }
}
