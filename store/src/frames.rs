//! What went over the sockets: a CALL and its answer in one row. Heartbeats are not kept.

use evm_domain::{ChargerId, Timestamp};
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};
use crate::rows::push_rows;

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

/// The columns of a [`Frame`], its texts cut to `$2` characters.
macro_rules! frame_columns {
    () => {
        "id, epoch, incoming, message_id, action, substr(payload, 1, $2) AS payload, CAST(length(payload) AS BIGINT) AS \
         payload_length, substr(answer, 1, $2) AS answer, CAST(length(answer) AS BIGINT) AS answer_length, problem, at, \
         answered_at"
    };
}

/// A charger's frames, newest first, older than the frame `before`; of a payload or an answer `most` characters.
pub async fn newest(db: &mut Db, charger: ChargerId, before: Option<i64>, limit: i64, most: i32) -> Result<Vec<Frame>> {
    Ok(on!(db, conn => {
        sqlx::query_as(concat!(
            "SELECT ", frame_columns!(), " FROM frames WHERE charger_id = $1 AND id < $3 ORDER BY id DESC LIMIT $4",
        ))
        .bind(charger.to_string())
        .bind(most)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(conn)
        .await?
    }))
}

/// One of a charger's frames, whole.
pub async fn by_id(db: &mut Db, charger: ChargerId, id: i64) -> Result<Option<Frame>> {
    Ok(on!(db, conn => {
        sqlx::query_as(concat!("SELECT ", frame_columns!(), " FROM frames WHERE charger_id = $1 AND id = $3"))
            .bind(charger.to_string())
            .bind(i32::MAX)
            .bind(id)
            .fetch_optional(conn)
            .await?
    }))
}

/// Forgets frames from before a moment, the oldest some at a time: ids grow with time, and no index on time is kept. The count of those forgotten comes back.
pub async fn forget(db: &mut Db, before: Timestamp) -> Result<u64> {
    Ok(on!(db, conn => {
        sqlx::query("DELETE FROM frames WHERE id IN (SELECT id FROM frames ORDER BY id LIMIT 5000) AND at < $1")
            .bind(before.0)
            .execute(conn)
            .await?
            .rows_affected()
    }))
}
