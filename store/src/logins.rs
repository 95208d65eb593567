//! Logins. Tokens and event passwords are stored as hashes only.

use evm_domain::{CustomerId, Timestamp};

use crate::engine::{Db, on};
use crate::{Result, id, new_id};

/// A login: its id is the customer's user name for events.
#[derive(Debug, Clone)]
pub struct Login {
    /// The id.
    pub id: String,
    /// Whose.
    pub customer: CustomerId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, kept to the hour.
    pub seen_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    customer_id: String,
    created_at: i64,
    seen_at: i64,
}

impl TryFrom<Row> for Login {
    type Error = crate::StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Login {
            id: row.id,
            customer: id(&row.customer_id)?,
            created_at: Timestamp(row.created_at),
            seen_at: Timestamp(row.seen_at),
        })
    }
}

/// Logins of one customer at a time; one more ends the oldest.
const MOST_LOGINS: i64 = 50;

/// Stores a login. Expired ones of the customer, and the oldest beyond 50, are ended.
pub async fn create(
    db: &mut Db,
    customer: CustomerId,
    token_hash: &str,
    events_hash: &str,
    now: Timestamp,
    lives_ms: i64,
) -> Result<Login> {
    let login = Login { id: new_id().to_string(), customer, created_at: now, seen_at: now };
    on!(&mut *db, conn => {
        sqlx::query(
            "DELETE FROM login_sessions WHERE customer_id = $1 AND (expires_at <= $2 OR id NOT IN \
             (SELECT id FROM login_sessions WHERE customer_id = $1 ORDER BY created_at DESC, id DESC LIMIT $3))",
        )
        .bind(customer.to_string())
        .bind(now.0)
        .bind(MOST_LOGINS - 1)
        .execute(&mut *conn)
        .await?;
        // A push token goes with its login.
        sqlx::query(
            "UPDATE customers SET fcm_token = NULL, fcm_login = NULL WHERE id = $1 AND fcm_login IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM login_sessions l WHERE l.id = fcm_login)",
        )
        .bind(customer.to_string())
        .execute(conn)
        .await?;
    });
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO login_sessions (id, customer_id, token_hash, events_hash, created_at, seen_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $5, $6)",
        )
        .bind(&login.id)
        .bind(customer.to_string())
        .bind(token_hash)
        .bind(events_hash)
        .bind(now.0)
        .bind(now.plus_millis(lives_ms).0)
        .execute(conn)
        .await?;
    });
    Ok(login)
}

/// The login of a token, while it is good.
pub async fn by_token(db: &mut Db, token_hash: &str, now: Timestamp) -> Result<Option<Login>> {
    let row: Option<Row> = on!(db, conn => {
        sqlx::query_as(
            "SELECT id, customer_id, created_at, seen_at FROM login_sessions \
             WHERE token_hash = $1 AND revoked_at IS NULL AND expires_at > $2",
        )
        .bind(token_hash)
        .bind(now.0)
        .fetch_optional(conn)
        .await?
    });
    row.map(Login::try_from).transpose()
}

/// Says that a login is used now.
pub async fn seen(db: &mut Db, login: &str, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE login_sessions SET seen_at = $2 WHERE id = $1").bind(login).bind(now.0).execute(conn).await?;
    });
    Ok(())
}

/// The logins of a customer that are good, newest first.
pub async fn of_customer(db: &mut Db, customer: CustomerId, now: Timestamp) -> Result<Vec<Login>> {
    let rows: Vec<Row> = on!(db, conn => {
        sqlx::query_as(
            "SELECT id, customer_id, created_at, seen_at FROM login_sessions \
             WHERE customer_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY created_at DESC, id DESC",
        )
        .bind(customer.to_string())
        .bind(now.0)
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(Login::try_from).collect()
}

/// Ends a login, and with it its tokens: for the API, for events, and for push messages where this login gave it.
/// `false`: the customer has no such login.
pub async fn end(db: &mut Db, customer: CustomerId, login: &str) -> Result<bool> {
    Ok(on!(db, conn => {
        sqlx::query("UPDATE customers SET fcm_token = NULL, fcm_login = NULL WHERE id = $1 AND fcm_login = $2")
            .bind(customer.to_string())
            .bind(login)
            .execute(&mut *conn)
            .await?;
        sqlx::query("DELETE FROM login_sessions WHERE id = $1 AND customer_id = $2")
            .bind(login)
            .bind(customer.to_string())
            .execute(&mut *conn)
            .await?
            .rows_affected()
    }) > 0)
}

/// The hash of a login's event password and the customer's topic, while the login is good.
pub async fn events_of(db: &mut Db, login: &str, now: Timestamp) -> Result<Option<(String, String)>> {
    Ok(on!(db, conn => {
        sqlx::query_as(
            "SELECT l.events_hash, c.topic FROM login_sessions l JOIN customers c ON c.id = l.customer_id \
             WHERE l.id = $1 AND l.revoked_at IS NULL AND l.expires_at > $2",
        )
        .bind(login)
        .bind(now.0)
        .fetch_optional(conn)
        .await?
    }))
}

/// Whether a login is good.
pub async fn is_good(db: &mut Db, login: &str, now: Timestamp) -> Result<bool> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as("SELECT id FROM login_sessions WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2")
            .bind(login)
            .bind(now.0)
            .fetch_optional(conn)
            .await?
    });
    Ok(row.is_some())
}
