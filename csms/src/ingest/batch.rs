//! One batch in one transaction: load what it touches, apply it in memory, write the differences, commit.

use evm_domain::credit::Rules;
use evm_domain::{ChargerEvent, StatusReport};
use evm_store::chargers::{self, Boot, Connected};
use evm_store::{Result, Store, frames, settle};

use super::charge::{Desk, Running};
use super::writer::frame_of;
use super::{Answer, Then, Told, Work};
use crate::ocpp::{self, Outcome, TagStatus, frame};

/// What is said to whom after the commit.
pub(super) enum Reply {
    None,
    Connected(Connected),
    Answer(Answer),
}

/// A committed batch.
pub(super) struct Done {
    /// In the order of the batch.
    pub(super) replies: Vec<Reply>,
    /// Whether the outbox has something new.
    pub(super) has_events: bool,
}

/// What a writer is told once.
pub(super) struct Settings {
    pub(super) node: String,
    pub(super) heartbeat_s: u32,
    pub(super) most_readings: u32,
    pub(super) credit: Rules,
}

/// Writes a batch, all or nothing.
pub(super) async fn write(store: &Store, batch: &[Work], running: &mut Running, settings: &Settings) -> Result<Done> {
    let now = evm_store::now();
    let mut db = store.begin().await?;
    let told: Vec<&Told> = batch.iter().filter_map(told_of).collect();

    let mut desk = Desk::open(&mut db, &told, running, settings.credit).await?;
    let mut outcomes = Vec::with_capacity(told.len());
    for message in &told {
        outcomes.push(desk.take(message));
    }
    let (mut has_events, committed) = desk.close(&mut db, &mut outcomes, settings.most_readings, now).await?;

    let mut outcomes = outcomes.into_iter();
    let mut replies = Vec::with_capacity(batch.len());
    let mut kept = Vec::with_capacity(batch.len());
    for work in batch {
        replies.push(match work {
            Work::Tell(told, _) => {
                let taken = outcomes.next().unwrap_or_default();
                let answer = ocpp::answer(told.version, &told.action, taken.outcome, now, settings.heartbeat_s);
                let text = frame::result(&told.message_id, &answer);
                let problem = taken.problem.or_else(|| told.decoded.problem.clone());
                if told.is_kept {
                    kept.push(frame_of(told, answer, problem));
                }
                Reply::Answer(Answer { text, then: taken.then, wrong_tag: taken.wrong_tag })
            }
            Work::Note(frame) => {
                kept.push((**frame).clone());
                Reply::None
            }
            Work::Settle(_, session) => {
                has_events |= settle::settle_by_id(&mut db, *session, "messages_missing", now).await?.is_some();
                Reply::None
            }
            Work::Availability(charger, inoperative) => {
                chargers::set_inoperative(&mut db, *charger, *inoperative).await?;
                Reply::None
            }
            Work::Connect(..) | Work::Disconnect(..) => Reply::None,
        });
    }
    frames::insert(&mut db, &kept).await?;
    note_connections(&mut db, batch, &mut replies, &settings.node).await?;
    note_stations(&mut db, &told).await?;
    db.commit().await?;
    running.put(committed);
    Ok(Done { replies, has_events })
}

fn told_of(work: &Work) -> Option<&Told> {
    match work {
        Work::Tell(told, _) => Some(told),
        _ => None,
    }
}

async fn note_connections(db: &mut evm_store::Db, batch: &[Work], replies: &mut [Reply], node: &str) -> Result<()> {
    let now = evm_store::now();
    let new: Vec<_> = batch
        .iter()
        .filter_map(|work| match work {
            Work::Connect(arrival, _) => Some(arrival),
            _ => None,
        })
        .collect();
    let connected = chargers::connect(db, &new, node, now).await?;
    for (work, reply) in batch.iter().zip(replies) {
        if let Work::Connect(arrival, _) = work
            && let Some(connected) = connected.iter().find(|connected| connected.charger == arrival.charger)
        {
            *reply = Reply::Connected(*connected);
        }
    }
    let gone: Vec<_> = batch
        .iter()
        .filter_map(|work| match work {
            Work::Disconnect(charger, epoch) => Some((*charger, *epoch)),
            _ => None,
        })
        .collect();
    chargers::disconnect(db, &gone, now).await
}

async fn note_stations(db: &mut evm_store::Db, told: &[&Told]) -> Result<()> {
    let mut boots = Vec::new();
    let mut reports = Vec::new();
    for message in told {
        match &message.decoded.event {
            ChargerEvent::Booted { vendor, model, serial, firmware } => boots.push(Boot {
                charger: message.charger,
                vendor: vendor.clone(),
                model: model.clone(),
                serial: serial.clone(),
                firmware: firmware.clone(),
            }),
            ChargerEvent::Status(report) => {
                // By our clock: it is compared with what we have written.
                reports.push((message.charger, StatusReport { at: message.received, ..report.clone() }));
            }
            _ => {}
        }
    }
    chargers::booted(db, &boots, evm_store::now()).await?;
    chargers::set_states(db, &reports).await
}

/// What became of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) outcome: Outcome,
    /// Why it was set aside for review.
    pub(super) problem: Option<String>,
    /// What is to be asked of the station then.
    pub(super) then: Option<Then>,
    /// It named a tag that is nobody's.
    pub(super) wrong_tag: bool,
}

impl Taken {
    pub(super) fn tag(status: TagStatus) -> Self {
        let wrong_tag = status == TagStatus::Invalid;
        Self { outcome: Outcome { tag: Some(status), ..Outcome::default() }, wrong_tag, ..Self::default() }
    }

    pub(super) fn aside(problem: &str) -> Self {
        Self { problem: Some(problem.to_owned()), ..Self::default() }
    }
}
