//! Lists for the operator, a page at a time, newest first.

use std::collections::HashMap;

use evm_domain::ChargerId;
use sqlx::QueryBuilder;

use crate::chargers::{self, Charger, Connector};
use crate::engine::{Db, on};
use crate::{Result, id};

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// How many to leave out before it.
    pub offset: i64,
    /// How many at most.
    pub limit: i64,
}

async fn count(db: &mut Db, sql: &'static str) -> Result<i64> {
    let (total,): (i64,) = on!(db, conn => sqlx::query_as(sql).fetch_one(conn).await?);
    Ok(total)
}

/// Stations in the order of their identities, with the states of their connectors, and how many there are in all.
pub async fn chargers(db: &mut Db, page: Page) -> Result<(i64, Vec<(Charger, Vec<Connector>)>)> {
    let total = count(db, "SELECT COUNT(*) FROM chargers").await?;
    let before: Option<(String,)> = on!(&mut *db, conn => {
        sqlx::query_as("SELECT identity FROM chargers ORDER BY identity LIMIT 1 OFFSET $1")
            .bind((page.offset - 1).max(0))
            .fetch_optional(conn)
            .await?
    });
    let after = match (page.offset, before) {
        (..=0, _) => String::new(),
        (_, Some((identity,))) => identity,
        (_, None) => return Ok((total, Vec::new())),
    };
    let found = chargers::list(db, &after, page.limit).await?;
    let mut states = connectors_of(db, &found.iter().map(|charger| charger.id).collect::<Vec<_>>()).await?;
    let with_states = found.into_iter().map(|charger| {
        let connectors = states.remove(&charger.id).unwrap_or_default();
        (charger, connectors)
    });
    Ok((total, with_states.collect()))
}

#[derive(sqlx::FromRow)]
struct ConnectorRow {
    charger_id: String,
    #[sqlx(flatten)]
    connector: Connector,
}

async fn connectors_of(db: &mut Db, chargers: &[ChargerId]) -> Result<HashMap<ChargerId, Vec<Connector>>> {
    let mut all: HashMap<ChargerId, Vec<Connector>> = HashMap::new();
    if chargers.is_empty() {
        return Ok(all);
    }
    let rows: Vec<ConnectorRow> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT charger_id, connector, state, error, at FROM connectors WHERE NOT forgotten AND charger_id IN (");
        let mut list = sql.separated(", ");
        for charger in chargers {
            list.push_bind(charger.to_string());
        }
        sql.push(") ORDER BY connector");
        sql.build_query_as().fetch_all(conn).await?
    });
    for row in rows {
        all.entry(id(&row.charger_id)?).or_default().push(row.connector);
    }
    Ok(all)
}

/// A charging session as the operator sees it. Times are ms since 1970.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SessionLine {
    /// 24 hexadecimal digits.
    pub id: String,
    /// The purchase it ends in.
    pub purchase_id: String,
    /// The station.
    pub identity: String,
    /// 1.6 connectorId or 2.0.1 evse id.
    pub connector: i32,
    /// The device, where one is registered.
    pub device_id: Option<String>,
    /// The number on its plate.
    pub device_number: Option<String>,
    /// Who pays, where known.
    pub customer_id: Option<String>,
    /// E.164.
    pub phone: Option<String>,
    /// `requested`, `active`, `finished` or `failed`.
    pub status: String,
    /// The tag that belongs to it.
    pub id_tag: Option<String>,
    /// The OCPP transaction id.
    pub transaction_ref: Option<String>,
    /// Why it failed.
    pub fail_reason: Option<String>,
    /// Why it ended.
    pub stop_reason: Option<String>,
    /// Why a human should look at it; [`SessionLine::doubts`] may say more.
    pub review: Option<String>,
    /// What is doubtful of its figures, as [`evm_domain::Doubts`] keeps it.
    pub doubts: Option<String>,
    /// When the customer asked, or the charger began.
    pub requested_at: i64,
    /// When the charger says it began.
    pub started_at: Option<i64>,
    /// When the charger says it ended.
    pub ended_at: Option<i64>,
    /// Wh.
    pub energy_wh: i64,
    /// Milliseconds.
    pub waiting_ms: i64,
}

/// Sessions, newest first, and how many there are in all; `status` keeps those of one status.
pub async fn sessions(db: &mut Db, status: Option<&str>, page: Page) -> Result<(i64, Vec<SessionLine>)> {
    let (total,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM sessions s");
        if let Some(status) = status {
            sql.push(" WHERE s.status = ").push_bind(status);
        }
        sql.build_query_as().fetch_one(conn).await?
    });
    let rows = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "SELECT s.id, s.purchase_id, h.identity, s.connector, s.device_id, d.device_number, s.customer_id, c.phone, s.status, \
             s.id_tag, s.transaction_ref, s.fail_reason, s.stop_reason, \
             s.review, s.doubts, s.requested_at, s.started_at, s.ended_at, \
             COALESCE(s.register_wh - s.baseline_wh, 0) + s.unmetered_wh AS energy_wh, s.waiting_ms \
             FROM sessions s JOIN chargers h ON h.id = s.charger_id LEFT JOIN devices d ON d.id = s.device_id \
             LEFT JOIN customers c ON c.id = s.customer_id",
        );
        if let Some(status) = status {
            sql.push(" WHERE s.status = ").push_bind(status);
        }
        sql.push(" ORDER BY s.id DESC LIMIT ").push_bind(page.limit).push(" OFFSET ").push_bind(page.offset);
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok((total, rows))
}

/// A customer as the operator sees them.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CustomerLine {
    /// 24 hexadecimal digits.
    pub id: String,
    /// E.164.
    pub phone: String,
    /// As the customer wrote it.
    pub name: String,
    /// As the customer wrote it.
    pub email: String,
    /// Möngö.
    pub balance: i64,
    /// Möngö still to be paid for charges.
    pub owed: i64,
    /// When first seen, ms since 1970.
    pub created_at: i64,
}

/// Customers, newest first, and how many there are in all.
pub async fn customers(db: &mut Db, page: Page) -> Result<(i64, Vec<CustomerLine>)> {
    let total = count(db, "SELECT COUNT(*) FROM customers").await?;
    let rows = on!(db, conn => {
        sqlx::query_as(
            "SELECT c.id, c.phone, c.name, c.email, c.balance, c.created_at, CAST(COALESCE((SELECT SUM(p.amount - p.paid) \
             FROM purchases p WHERE p.customer_id = c.id AND p.status IN ('unpaid', 'pending')), 0) AS BIGINT) AS owed \
             FROM customers c ORDER BY c.id DESC LIMIT $1 OFFSET $2",
        )
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(conn)
        .await?
    });
    Ok((total, rows))
}
