//! Which charge a message of an id belongs to: stations begin one id again after a reboot (2.0.1), and tell things in any
//! order. An id alone does not make two messages one charge; their times do.

use crate::event::{Phase, TransactionUpdate};
use crate::meter::PointKind;
use crate::session::Session;
use crate::units::{Timestamp, Wh};

/// A begin that is told again may be dated anew, by so much.
const TOLD_AGAIN_MS: u64 = 5 * 60_000;
/// Of one charge two ends may be told, so far apart.
const TWO_ENDS_MS: u64 = 60_000;

/// Whose a message is, among the charges that were told under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This one's.
    Of(usize),
    /// It is dated before or after this one, and of no other.
    Beside(usize),
    /// It ends this one. The later end that was told so far is another's.
    EndsEarlier(usize),
    /// Another's, of which nothing was told so far. What this one was told outside of its own time may be its.
    Another {
        /// The nearest one.
        near: usize,
    },
}

/// Finds whose an update is that names the station's own id of a transaction. `told` are the charges of that id, one at
/// least.
pub fn whose(told: &[&Session], update: &TransactionUpdate) -> Whose {
    let fitting = (0..told.len()).filter(|n| fits(told[*n], update));
    if let Some(of) = fitting.min_by_key(|n| distance(told[*n], update)) {
        return Whose::Of(of);
    }
    let near = (0..told.len()).min_by_key(|n| apart(told[*n], update.at)).unwrap_or_default();
    let around = (0..told.len()).find(|n| told[*n].side_of(update.at).is_none() && told[*n].started_at.is_some());
    match (update.phase, around) {
        (Phase::Ended, Some(around)) => Whose::EndsEarlier(around),
        (Phase::Started, Some(around)) => Whose::Another { near: around },
        (Phase::Started | Phase::Ended, None) => Whose::Another { near },
        (Phase::Updated, _) if begins_anew(told[near], update) => Whose::Another { near },
        (Phase::Updated, _) => Whose::Beside(near),
    }
}

/// What goes over from one charge to another of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Readings from here on …
    pub from: Timestamp,
    /// … and before this.
    pub until: Timestamp,
    /// The end, too.
    pub end: bool,
}

/// What goes over from `near` to the other charge that an update makes known.
pub fn share(near: &Session, update: &TransactionUpdate) -> Share {
    let after = |at: Timestamp| Timestamp((at.0.div_euclid(1000) + 1).saturating_mul(1000));
    let (first, last) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    let over_before = near.ended_at.filter(|ended| *ended < update.at || keeps_its_end(near, *ended, update));
    let within = near.side_of(update.at).is_none() && near.started_at.is_some();
    match (update.phase, over_before) {
        (_, Some(ended)) => Share { from: after(ended), until: last, end: false },
        (Phase::Started, None) if within => Share { from: update.at, until: last, end: near.ended_at.is_some() },
        (Phase::Ended, None) if within => Share { from: after(update.at), until: last, end: true },
        (Phase::Started, None) => Share { from: update.at, until: near.started_at.unwrap_or(update.at), end: false },
        (Phase::Ended | Phase::Updated, None) => Share { from: first, until: after(update.at), end: false },
    }
}

/// Whether an end is a charge's own, though another of its id is said to have begun before it: by a clock that is a little
/// off, or with a register that had been reached by then.
fn keeps_its_end(session: &Session, ended: Timestamp, update: &TransactionUpdate) -> bool {
    let begin = update.points.iter().find(|point| point.kind == PointKind::Begin).map(|point| Wh(point.value));
    let reached = begin.zip(session.meter.register).is_some_and(|(begin, last)| begin >= last);
    let charged = session.meter.energy() > Wh(0);
    update.phase == Phase::Started && (gap(ended, update.at) <= TWO_ENDS_MS || (reached && charged))
}

fn fits(session: &Session, update: &TransactionUpdate) -> bool {
    let (began, ended) = (session.started_at, session.ended_at);
    match update.phase {
        Phase::Started => {
            let over_before = ended.is_some_and(|ended| ended < update.at);
            let told_late = update.timeless && began.is_none();
            (!over_before || told_late) && began.is_none_or(|began| is_told_again(session, began, update))
        }
        Phase::Ended => {
            let of_one_end = ended.is_none_or(|ended| gap(ended, update.at) <= TWO_ENDS_MS);
            session.may_end(update) && (of_one_end || session.is_end_replaced_by(update))
        }
        Phase::Updated => session.side_of(update.at).is_none() || session.is_missing(update),
    }
}

/// Whether a begin is told once more, at another time perhaps, but with the same register.
fn is_told_again(session: &Session, began: Timestamp, update: &TransactionUpdate) -> bool {
    let register = update.points.iter().find(|point| point.kind == PointKind::Begin).map(|point| Wh(point.value));
    let same = register.zip(session.meter.baseline).map(|(register, baseline)| register == baseline);
    let soon = gap(began, update.at) <= TOLD_AGAIN_MS || (update.timeless && session.ended_at.is_none());
    // Where the register has risen since, the same one cannot begin another charge; nor where it goes on without a boot.
    let runs =
        session.ended_at.is_none() && (session.lost_at.is_none() || session.meter.register > session.meter.baseline);
    let numbered = update.seq_no.is_some_and(|number| session.seq_nos.contains(number));
    began == update.at || (soon && same != Some(false)) || (runs && numbered && same == Some(true))
}

/// Whether a part is none of the charge before: it says that it is for somebody else, or its number was told already.
fn begins_anew(session: &Session, update: &TransactionUpdate) -> bool {
    let over_before = session.ended_at.is_some_and(|ended| ended < update.at) && !session.is_just_after_end(update.at);
    let again = update.seq_no.is_some_and(|number| session.seq_nos.contains(number));
    over_before && (again || is_for_another(session, update))
}

/// Whether it names another start than the one that began a charge. Stations repeat the token and the remoteStartId of a
/// charge with what they tell of it.
fn is_for_another(session: &Session, update: &TransactionUpdate) -> bool {
    match (session.remote_start_id.zip(update.remote_start_id), update.begun_by()) {
        (Some((own, told)), _) => own != told,
        (None, tag) => tag.is_some() && session.id_tag.as_ref() != tag,
    }
}

/// Where several fit: the one that ended just then, or else began last before it.
fn distance(session: &Session, update: &TransactionUpdate) -> (bool, bool, u64) {
    let another_end = update.phase == Phase::Ended && session.ended_at != Some(update.at);
    let unbegun = update.phase != Phase::Started && session.started_at.is_none();
    let anchor = session.started_at.or(session.ended_at);
    (another_end, unbegun, anchor.map_or(u64::MAX, |at| gap(at, update.at)))
}

/// How far a moment lies outside of a charge.
fn apart(session: &Session, at: Timestamp) -> u64 {
    let bounds = [session.started_at, session.ended_at];
    bounds.into_iter().flatten().map(|bound| gap(bound, at)).min().unwrap_or(u64::MAX)
}

fn gap(one: Timestamp, other: Timestamp) -> u64 {
    one.0.abs_diff(other.0)
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
