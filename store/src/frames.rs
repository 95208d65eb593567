//! What went over the sockets: a CALL and its answer in one row. Heartbeats are not kept.

mod days;

use std::collections::BTreeSet;

use evm_domain::{ChargerId, Timestamp};
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};
use crate::rows::{push_is_one_of_numbers, push_rows};

pub use days::make as make_days;

/// A CALL with what came of it.
#[derive(Debug, Clone)]
pub struct NewFrame {
    /// Whose socket.
    pub charger: ChargerId,
    /// Which connection.
    pub epoch: i64,
    /// From the charger, or to it.
    pub incoming: bool,
    /// The OCPP message id.
    pub message_id: String,
    /// The OCPP action; empty where none could be read.
    pub action: String,
    /// The payload, or the whole text where it could not be read.
    pub payload: String,
    /// The CALLRESULT's payload, or the CALLERROR from its code on.
    pub answer: Option<String>,
    /// Why it was set aside.
    pub problem: Option<String>,
    /// Time of receipt or sending.
    pub at: Timestamp,
    /// Time of the answer.
    pub answered_at: Option<Timestamp>,
}

impl NewFrame {
    /// No message, but a remark on those of a charger.
    pub fn remark(charger: ChargerId, epoch: i64, problem: String, at: Timestamp) -> Self {
        let (message_id, action, payload) = (String::new(), String::new(), String::new());
        let (answer, answered_at, problem) = (None, None, Some(problem));
        Self { charger, epoch, incoming: true, message_id, action, payload, answer, problem, at, answered_at }
    }
}

/// Keeps frames.
pub async fn insert(db: &mut Db, frames: &[NewFrame]) -> Result<()> {
    for frames in frames.chunks(500) {
        on!(db, conn => {
            let mut sql = QueryBuilder::new(
                "INSERT INTO frames (charger_id, epoch, incoming, message_id, action, payload, answer, problem, at, answered_at) ",
            );
            push_rows(&mut sql, frames, |row, frame| {
                row.bind(frame.charger.to_string())
                    .bind(frame.epoch)
                    .bind(frame.incoming)
                    .bind(storable(&frame.message_id))
                    .bind(storable(&frame.action))
                    .bind(storable(&frame.payload))
                    .bind(frame.answer.as_deref().map(storable))
                    .bind(&frame.problem)
                    .bind(frame.at.0)
                    .bind(frame.answered_at.map(|at| at.0));
            });
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}

/// PostgreSQL keeps no NUL in a text.
fn storable(text: &str) -> String {
    text.replace('\0', "")
}

/// A kept frame.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Frame {
    /// Grows with time.
    pub id: i64,
    /// Which connection.
    pub epoch: i64,
    /// From the charger, or to it.
    pub incoming: bool,
    /// The OCPP message id.
    pub message_id: String,
    /// The OCPP action.
    pub action: String,
    /// The payload as text, or its beginning.
    pub payload: String,
    /// Characters of the whole payload.
    pub payload_length: i64,
    /// The answer as text, or its beginning.
    pub answer: Option<String>,
    /// Characters of the whole answer.
    pub answer_length: Option<i64>,
    /// Why it was set aside.
    pub problem: Option<String>,
    /// Time of receipt or sending, ms since 1970.
    pub at: i64,
    /// Time of the answer, ms since 1970.
    pub answered_at: Option<i64>,
}

/// The index has a charger's frames together within so many ids: in an index by charger alone nearly each frame would have a
/// page of its own to write. The migrations name the number, too.
const BLOCK: i64 = 4096;
/// Blocks that are looked through in one statement, at most.
const MOST_BLOCKS: i64 = 1024;

/// A charger's frames, newest first, older than the frame `before`; of a payload or an answer `most` characters.
pub async fn newest(db: &mut Db, charger: ChargerId, before: Option<i64>, limit: i64, most: i32) -> Result<Vec<Frame>> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let before = before.unwrap_or(i64::MAX);
    let (oldest, newest) = ends(db).await?;
    let (mut top, mut blocks) = (newest.min(before / BLOCK), 1);
    let mut ids = Vec::new();
    while top >= oldest && ids.len() < limit {
        let low = oldest.max(top - blocks + 1);
        let missing = i64::try_from(limit - ids.len()).unwrap_or(i64::MAX);
        ids.extend(ids_within(db, charger, &(low..=top).collect::<Vec<_>>(), before, missing).await?);
        (top, blocks) = (low - 1, MOST_BLOCKS.min(blocks * 4));
    }
    of_ids(db, charger, &ids, most).await
}

/// The oldest and the newest block; none lies between them where there is no frame.
async fn ends(db: &mut Db) -> Result<(i64, i64)> {
    let (oldest, newest): (Option<i64>, Option<i64>) = on!(db, conn => {
        sqlx::query_as(
            "SELECT (SELECT id / 4096 FROM frames ORDER BY id / 4096 LIMIT 1), \
             (SELECT id / 4096 FROM frames ORDER BY id / 4096 DESC LIMIT 1)",
        )
        .fetch_one(conn)
        .await?
    });
    Ok((oldest.unwrap_or(0), newest.unwrap_or(-1)))
}

/// The ids of a charger's frames in these blocks, newest first; of the index alone.
async fn ids_within(db: &mut Db, charger: ChargerId, blocks: &[i64], before: i64, limit: i64) -> Result<Vec<i64>> {
    let rows: Vec<(i64,)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT id FROM frames WHERE charger_id = ");
        sql.push_bind(charger.to_string()).push(" AND id < ").push_bind(before).push(" AND id / 4096");
        push_is_one_of_numbers(&mut sql, blocks);
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// A charger's frames of these ids, newest first.
async fn of_ids(db: &mut Db, charger: ChargerId, ids: &[i64], most: i32) -> Result<Vec<Frame>> {
    let blocks: BTreeSet<i64> = ids.iter().map(|id| id / BLOCK).collect();
    let blocks: Vec<i64> = blocks.into_iter().collect();
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT id, epoch, incoming, message_id, action, substr(payload, 1, ");
        sql.push_bind(most);
        sql.push(") AS payload, CAST(length(payload) AS BIGINT) AS payload_length, substr(answer, 1, ").push_bind(most);
        sql.push(") AS answer, CAST(length(answer) AS BIGINT) AS answer_length, problem, at, answered_at FROM frames ");
        sql.push("WHERE charger_id = ").push_bind(charger.to_string()).push(" AND id / 4096");
        push_is_one_of_numbers(&mut sql, &blocks);
        sql.push(" AND id");
        push_is_one_of_numbers(&mut sql, ids);
        sql.push(" ORDER BY id DESC");
        sql.build_query_as().fetch_all(conn).await?
    }))
}

/// One of a charger's frames, whole.
pub async fn by_id(db: &mut Db, charger: ChargerId, id: i64) -> Result<Option<Frame>> {
    Ok(of_ids(db, charger, &[id], i32::MAX).await?.pop())
}

/// Forgets frames from before a moment. SQLite the oldest some at a time: ids grow with time, and no index on time is kept;
/// PostgreSQL whole days at once. The count of those that went one by one comes back.
pub async fn forget(db: &mut Db, before: Timestamp) -> Result<u64> {
    match db {
        Db::Sqlite(handle) => {
            Ok(sqlx::query("DELETE FROM frames WHERE id IN (SELECT id FROM frames ORDER BY id LIMIT 5000) AND at < $1")
                .bind(before.0)
                .execute(handle.get())
                .await?
                .rows_affected())
        }
        Db::Postgres(handle) => days::forget(handle.get(), before).await.map(|()| 0),
    }
}
