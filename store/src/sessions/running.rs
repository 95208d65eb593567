//! What goes on by itself: the charges that run, and those that must be ended.

use evm_domain::{CustomerId, DeviceId, Money, Session, SessionId, Status, Timestamp};

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

/// All running charges that somebody pays for, `after` an id, oldest first; but none that was refused: its customer may have
/// another one.
pub async fn running(db: &mut Db, after: &str, limit: i64) -> Result<Vec<Live>> {
    let rows = on!(db, conn => {
        sqlx::query_as::<_, LiveRow>(concat!(
            "SELECT ",
            columns!(),
            ", c.topic, c.balance, s.stop_asked_at, h.identity, h.epoch, h.online \
             FROM sessions s JOIN customers c ON c.id = s.customer_id JOIN chargers h ON h.id = s.charger_id \
             LEFT JOIN tariff_versions t ON t.id = s.tariff_id LEFT JOIN devices d ON d.id = s.device_id \
             WHERE s.status = 'active' AND NOT s.refused AND s.id > $1 ORDER BY s.id LIMIT $2"
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

/// Active sessions of which their stations know nothing since before `lost`.
pub async fn lost(db: &mut Db, lost: Timestamp) -> Result<Vec<SessionId>> {
    ids(on!(db, conn => {
        sqlx::query_as("SELECT id FROM sessions WHERE status = 'active' AND lost_at < $1 ORDER BY id LIMIT 500")
            .bind(lost.0)
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

/// Notes that the charger agreed to end a charge for its customer, and has not told its end.
pub async fn note_finish(db: &mut Db, session: SessionId, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "UPDATE sessions SET version = version + 1, finish_asked_at = $2 \
             WHERE id = $1 AND status = 'active' AND finish_asked_at IS NULL",
        )
        .bind(session.to_string())
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Whether the charger agreed to end a charge before.
pub async fn finish_was_agreed(db: &mut Db, session: SessionId) -> Result<bool> {
    let row: Option<(bool,)> = on!(db, conn => {
        sqlx::query_as("SELECT finish_asked_at IS NOT NULL FROM sessions WHERE id = $1")
            .bind(session.to_string())
            .fetch_optional(conn)
            .await?
    });
    Ok(row.is_some_and(|(agreed,)| agreed))
}

/// How many of a customer's newest starts at a device, one after the other, were accepted by the charger and never became a
/// charge, ten at most; and when the newest of them was over. Those that the charger refused, or could not be asked for, do
/// not count.
pub async fn never_begun_in_a_row(
    db: &mut Db,
    customer: CustomerId,
    device: DeviceId,
    since: Timestamp,
) -> Result<Option<(u32, Timestamp)>> {
    let rows: Vec<(bool, i64)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT transaction_ref IS NULL, COALESCE(settled_at, requested_at) FROM sessions WHERE customer_id = $1 \
             AND device_id = $2 AND requested_at > $3 AND (status IN ('active', 'finished') OR fail_reason = 'not_begun') \
             ORDER BY id DESC LIMIT 10",
        )
        .bind(customer.to_string())
        .bind(device.to_string())
        .bind(since.0)
        .fetch_all(conn)
        .await?
    });
    let in_a_row: Vec<i64> = rows.into_iter().take_while(|(never_began, _)| *never_began).map(|(_, at)| at).collect();
    let count = u32::try_from(in_a_row.len()).unwrap_or(u32::MAX);
    Ok(in_a_row.first().map(|over| (count, Timestamp(*over))))
}

fn ids(rows: Vec<(String,)>) -> Result<Vec<SessionId>> {
    rows.iter().map(|(text,)| id(text)).collect()
}
