//! Events that must go out whatever dies: written with what they tell of, published afterwards, at least once.

use evm_domain::{Bill, CustomerId, Timestamp};
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};
use crate::rows::{push_is_one_of_numbers, push_rows};

/// An event for a customer.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose.
    pub customer: CustomerId,
    /// `CHARGING`, `PAYMENT` or `REPLENISHMENT`.
    pub name: &'static str,
    /// The same for every repeat.
    pub event_id: String,
    /// JSON.
    pub payload: String,
}

/// Puts events into the outbox; one that is there already stays as it is.
pub async fn add(db: &mut Db, events: &[Event], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("INSERT INTO outbox (event_id, customer_id, name, payload, created_at) ");
        push_rows(&mut sql, events, |row, event| {
            row.bind(&event.event_id)
                .bind(event.customer.to_string())
                .bind(event.name)
                .bind(&event.payload)
                .bind(now.0);
        });
        sql.push(" ON CONFLICT (event_id) DO NOTHING");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// An event that waits to be published.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Waiting {
    /// Grows in the order of writing.
    pub id: i64,
    /// The same for every repeat.
    pub event_id: String,
    /// The customer's topic.
    pub topic: String,
    /// The event's name.
    pub name: String,
    /// JSON.
    pub payload: String,
}

/// The oldest events that wait.
pub async fn waiting(db: &mut Db, limit: i64) -> Result<Vec<Waiting>> {
    Ok(on!(db, conn => {
        sqlx::query_as(
            "SELECT o.id, o.event_id, c.topic, o.name, o.payload FROM outbox o JOIN customers c ON c.id = o.customer_id \
             WHERE o.published_at IS NULL ORDER BY o.id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(conn)
        .await?
    }))
}

/// Marks events as published; as pushed too where nobody pushes, so that they do not wait for it.
pub async fn published(db: &mut Db, ids: &[i64], nobody_pushes: bool, now: Timestamp) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE outbox SET published_at = ");
        sql.push_bind(now.0);
        if nobody_pushes {
            sql.push(", pushed_at = ").push_bind(now.0);
        }
        sql.push(" WHERE id");
        push_is_one_of_numbers(&mut sql, ids);
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// An event as it was written.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Written {
    /// Grows in the order of writing; one that was written beside others may come to sight after them.
    pub id: i64,
    /// The event's name.
    pub name: String,
    /// JSON.
    pub payload: String,
    /// When it happened, milliseconds since 1970.
    pub created_at: i64,
    /// When it went out, milliseconds since 1970.
    pub published_at: Option<i64>,
}

/// A customer's events after this one, oldest first.
pub async fn after(db: &mut Db, customer: CustomerId, after: i64, limit: i64) -> Result<Vec<Written>> {
    Ok(on!(db, conn => {
        sqlx::query_as(
            "SELECT id, name, payload, created_at, published_at FROM outbox WHERE customer_id = $1 AND id > $2 \
             ORDER BY id LIMIT $3",
        )
        .bind(customer.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?
    }))
}

/// The newest event of a customer that was written before a moment; 0 where there is none.
pub async fn newest_before(db: &mut Db, customer: CustomerId, before: Timestamp) -> Result<i64> {
    let (newest,): (i64,) = on!(db, conn => {
        sqlx::query_as("SELECT COALESCE(MAX(id), 0) FROM outbox WHERE customer_id = $1 AND created_at < $2")
            .bind(customer.to_string())
            .bind(before.0)
            .fetch_one(conn)
            .await?
    });
    Ok(newest)
}

/// Forgets events that were published before a moment.
pub async fn forget(db: &mut Db, before: Timestamp) -> Result<u64> {
    Ok(on!(db, conn => {
        sqlx::query("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT 5000) AND published_at < $1")
            .bind(before.0)
            .execute(conn)
            .await?
            .rows_affected()
    }))
}

/// The payload of a `CHARGING` event: kWh, whole seconds, MNT.
pub fn charging_payload(bill: &Bill) -> String {
    format!(
        r#"{{"energy":{},"waitingTime":{},"amount":{}}}"#,
        bill.energy.to_kwh(),
        bill.waiting_s,
        bill.total().to_mnt()
    )
}
