//! What goes on by itself: the charges that run, and those that must be ended.

use evm_domain::{Money, Session, SessionId, Status, Timestamp};

use super::{Row, columns};
use crate::engine::{Db, on};
use crate::tariffs::tariff_columns;
use crate::{Result, id};

/// A live session with what the live event needs.
#[derive(Debug, Clone)]
pub struct Live {
    /// The session.
    pub session: Session,
    /// Its customer's topic.
    pub topic: String,
    /// Its customer's balance.
    pub balance: Money,
    /// When its charger was last asked to stop because the balance is reached.
    pub stop_asked_at: Option<Timestamp>,
    /// Its charger's identity.
    pub identity: String,
    /// Its charger's newest connection.
    pub epoch: i64,
    /// Whether its charger is connected.
    pub online: bool,
}

#[derive(sqlx::FromRow)]
struct LiveRow {
    #[sqlx(flatten)]
    session: Row,
    topic: String,
    balance: i64,
    stop_asked_at: Option<i64>,
    identity: String,
    epoch: i64,
    online: bool,
}

/// All running charges that somebody pays for, `after` an id, oldest first.
pub async fn running(db: &mut Db, after: &str, limit: i64) -> Result<Vec<Live>> {
    let rows = on!(db, conn => {
        sqlx::query_as::<_, LiveRow>(concat!(
            "SELECT ",
            columns!(),
            ", c.topic, c.balance, s.stop_asked_at, h.identity, h.epoch, h.online \
             FROM sessions s JOIN customers c ON c.id = s.customer_id JOIN chargers h ON h.id = s.charger_id \
             LEFT JOIN tariff_versions t ON t.id = s.tariff_id LEFT JOIN devices d ON d.id = s.device_id \
             WHERE s.status = 'active' AND s.id > $1 ORDER BY s.id LIMIT $2"
        ))
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?
    });
    rows.into_iter()
        .map(|row| {
            Ok(Live {
                session: row.session.try_into()?,
                topic: row.topic,
                balance: Money(row.balance),
                stop_asked_at: row.stop_asked_at.map(Timestamp),
                identity: row.identity,
                epoch: row.epoch,
                online: row.online,
            })
        })
        .collect()
}

/// Requested sessions older than `before`.
pub async fn requested_before(db: &mut Db, before: Timestamp) -> Result<Vec<SessionId>> {
    ids(on!(db, conn => {
        sqlx::query_as("SELECT id FROM sessions WHERE status = 'requested' AND requested_at < $1 ORDER BY requested_at LIMIT 500")
            .bind(before.0)
            .fetch_all(conn)
            .await?
    }))
}

/// Active sessions to be ended without the charger: it is offline and was last heard before `silent`; its connector is
/// free since before `silent`, by our clock; or it told the end without a start before `lone`.
pub async fn abandoned(db: &mut Db, silent: Timestamp, lone: Timestamp) -> Result<Vec<SessionId>> {
    ids(on!(db, conn => {
        sqlx::query_as(
            "SELECT s.id FROM sessions s JOIN chargers c ON c.id = s.charger_id WHERE s.status = 'active' \
             AND ((NOT c.online AND s.heard_at < $1 AND COALESCE(c.last_seen_at, 0) < $1) \
             OR (s.ended_at IS NOT NULL AND s.heard_at < $2) \
             OR (s.heard_at < $1 AND EXISTS (SELECT 1 FROM connectors k WHERE k.charger_id = s.charger_id \
             AND k.connector = s.connector AND k.state = 'available' AND k.at > s.requested_at AND k.at < $1))) \
             ORDER BY s.id LIMIT 500",
        )
        .bind(silent.0)
        .bind(lone.0)
        .fetch_all(conn)
        .await?
    }))
}

/// Notes that the charger is to be asked to end a charge of this status, and why where nothing was said of that before.
/// `false`: it has another status, its charger has told the end, or was asked after `asked_before`.
pub async fn claim_stop(
    db: &mut Db,
    session: SessionId,
    status: Status,
    reason: Option<&str>,
    asked_before: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let claimed = on!(db, conn => {
        sqlx::query(
            "UPDATE sessions SET version = version + 1, stop_asked_at = $3, stop_reason = COALESCE(stop_reason, $4) \
             WHERE id = $1 AND status = $5 AND ended_at IS NULL AND (stop_asked_at IS NULL OR stop_asked_at <= $2)",
        )
        .bind(session.to_string())
        .bind(asked_before.0)
        .bind(now.0)
        .bind(reason)
        .bind(status.as_str())
        .execute(conn)
        .await?
        .rows_affected()
    });
    Ok(claimed > 0)
}

fn ids(rows: Vec<(String,)>) -> Result<Vec<SessionId>> {
    rows.iter().map(|(text,)| id(text)).collect()
}
