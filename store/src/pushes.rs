//! Which events of the outbox are still to be pushed to phones, beside the bus and after it in importance.

use evm_domain::{CustomerId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::{Result, id};

/// An event to be pushed.
#[derive(Debug, Clone)]
pub struct Due {
    /// The event's place in the outbox.
    pub id: i64,
    /// The same for every repeat.
    pub event_id: String,
    /// Whose.
    pub customer: CustomerId,
    /// Where to; `None`: this customer gets no push messages.
    pub token: Option<String>,
    /// The event's name.
    pub name: String,
    /// JSON.
    pub payload: String,
    /// When it happened.
    pub created_at: Timestamp,
    /// Failed tries so far.
    pub tries: i32,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    event_id: String,
    customer_id: String,
    fcm_token: Option<String>,
    name: String,
    payload: String,
    created_at: i64,
    push_tries: i32,
}

/// The oldest events whose time to be pushed has come.
pub async fn due(db: &mut Db, now: Timestamp, limit: i64) -> Result<Vec<Due>> {
    let rows: Vec<Row> = on!(db, conn => {
        sqlx::query_as(
            "SELECT o.id, o.event_id, o.customer_id, c.fcm_token, o.name, o.payload, o.created_at, o.push_tries \
             FROM outbox o JOIN customers c ON c.id = o.customer_id \
             WHERE o.pushed_at IS NULL AND o.push_next_at <= $1 ORDER BY o.id LIMIT $2",
        )
        .bind(now.0)
        .bind(limit)
        .fetch_all(conn)
        .await?
    });
    let due = rows.into_iter().map(|row| {
        Ok(Due {
            id: row.id,
            event_id: row.event_id,
            customer: id(&row.customer_id)?,
            token: row.fcm_token,
            name: row.name,
            payload: row.payload,
            created_at: Timestamp(row.created_at),
            tries: row.push_tries,
        })
    });
    due.collect()
}

/// Marks events as pushed, or as not to be pushed any more.
pub async fn done(db: &mut Db, events: &[i64], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE outbox SET pushed_at = ");
        sql.push_bind(now.0).push(" WHERE id IN (");
        let mut list = sql.separated(", ");
        for event in events {
            list.push_bind(*event);
        }
        sql.push(")");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Counts a failed try; the next one comes at `next_at`.
pub async fn failed(db: &mut Db, event: i64, next_at: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE outbox SET push_tries = push_tries + 1, push_next_at = $2 WHERE id = $1")
            .bind(event)
            .bind(next_at.0)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Forgets a token that leads nowhere any more, unless the customer has given another one meanwhile.
pub async fn drop_token(db: &mut Db, customer: CustomerId, token: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE customers SET fcm_token = NULL, fcm_login = NULL WHERE id = $1 AND fcm_token = $2")
            .bind(customer.to_string())
            .bind(token)
            .execute(conn)
            .await?;
    });
    Ok(())
}
