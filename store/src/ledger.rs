//! The book: append only, every transaction sums to zero, each booked once by its key.

use std::collections::HashMap;

use evm_domain::ledger::{Account, Posting};
use evm_domain::{CustomerId, Money, PurchaseId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::operator::Page;
use crate::rows::{push_is_one_of, push_rows};
use crate::{Result, new_id};

/// A ledger transaction to be booked.
#[derive(Debug, Clone)]
pub struct Booking {
    /// What is booked, e.g. `settle:{session}`: the same is never booked twice.
    pub key: String,
    /// What kind of thing it is.
    pub kind: &'static str,
    /// The customer whose personal accounts it touches.
    pub customer: Option<CustomerId>,
    /// The purchase it is about.
    pub purchase: Option<PurchaseId>,
    /// Words of the operator.
    pub note: Option<String>,
    /// The lines; they sum to zero.
    pub postings: Vec<Posting>,
}

/// Books one transaction, the customer's balance included.
///
/// # Errors
/// [`crate::StoreError::Refused`] with `BookedOnce`, or `BalanceNotNegative` where the balance is too small.
pub async fn post(db: &mut Db, booking: Booking, now: Timestamp) -> Result<()> {
    let moved: Money = booking.postings.iter().filter(|p| p.account == Account::Customer).map(|p| p.amount).sum();
    let customer = booking.customer;
    post_all(db, &[booking], now).await?;
    if let Some(customer) = customer.filter(|_| moved != Money::ZERO) {
        on!(db, conn => {
            sqlx::query("UPDATE customers SET balance = balance + $2 WHERE id = $1")
                .bind(customer.to_string())
                .bind(moved.0)
                .execute(conn)
                .await?;
        });
    }
    Ok(())
}

/// Books many transactions that touch no balance, in two statements.
pub(crate) async fn post_all(db: &mut Db, bookings: &[Booking], now: Timestamp) -> Result<()> {
    let with_ids: Vec<_> =
        bookings.iter().filter(|b| !b.postings.is_empty()).map(|booking| (new_id().to_string(), booking)).collect();
    if with_ids.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> =
        with_ids.iter().flat_map(|(id, booking)| booking.postings.iter().map(move |p| (id, booking, p))).collect();
    on!(db, conn => {
        let mut sql = QueryBuilder::new("INSERT INTO ledger_transactions (id, key, kind, customer_id, purchase_id, note, created_at) ");
        push_rows(&mut sql, &with_ids, |row, (id, booking)| {
            row.bind(id)
                .bind(&booking.key)
                .bind(booking.kind)
                .bind(booking.customer.map(|id| id.to_string()))
                .bind(booking.purchase.map(|id| id.to_string()))
                .bind(&booking.note)
                .bind(now.0);
        });
        sql.build().execute(&mut *conn).await?;
        let mut sql = QueryBuilder::new("INSERT INTO ledger_entries (transaction_id, account, customer_id, amount) ");
        push_rows(&mut sql, &lines, |row, (id, booking, posting)| {
            let owner = booking.customer.filter(|_| posting.account.is_personal());
            row.bind(*id)
                .bind(posting.account.as_str())
                .bind(owner.map(|id| id.to_string()).unwrap_or_default())
                .bind(posting.amount.0);
        });
        sql.build().execute(&mut *conn).await?;
    });
    Ok(())
}

/// One line of a ledger transaction.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EntryLine {
    /// The word of [`Account::as_str`].
    pub account: String,
    /// Whose, for personal accounts; else empty.
    pub customer_id: String,
    /// Möngö; credit is positive.
    pub amount: i64,
}

/// A ledger transaction.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LedgerLine {
    /// 24 hexadecimal digits.
    pub id: String,
    /// What was booked.
    pub key: String,
    /// What kind of thing it is.
    pub kind: String,
    /// The customer it is about.
    pub customer_id: Option<String>,
    /// The purchase it is about.
    pub purchase_id: Option<String>,
    /// Words of the operator, or what it came from.
    pub note: Option<String>,
    /// ms since 1970.
    pub created_at: i64,
    /// Its lines.
    #[sqlx(skip)]
    pub entries: Vec<EntryLine>,
}

/// Which ledger transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that post to this account.
    pub account: Option<Account>,
    /// Those about this customer.
    pub customer: Option<CustomerId>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

macro_rules! push_filter {
    ($sql:expr, $filter:expr) => {{
        $sql.push(" WHERE TRUE");
        if let Some(customer) = $filter.customer {
            $sql.push(" AND t.customer_id = ").push_bind(customer.to_string());
        }
        if let Some(from) = $filter.from {
            $sql.push(" AND t.created_at >= ").push_bind(from.0);
        }
        if let Some(to) = $filter.to {
            $sql.push(" AND t.created_at < ").push_bind(to.0);
        }
        if let Some(account) = $filter.account {
            $sql.push(" AND EXISTS (SELECT 1 FROM ledger_entries e WHERE e.transaction_id = t.id AND e.account = ");
            $sql.push_bind(account.as_str()).push(")");
        }
    }};
}

const LINES: &str =
    "SELECT t.id, t.key, t.kind, t.customer_id, t.purchase_id, t.note, t.created_at FROM ledger_transactions t";

/// Ledger transactions with their lines, newest first, and how many there are in all.
pub async fn list(db: &mut Db, filter: &Filter, page: Page) -> Result<(i64, Vec<LedgerLine>)> {
    let (total,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM ledger_transactions t");
        push_filter!(sql, filter);
        sql.build_query_as().fetch_one(conn).await?
    });
    let lines = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(LINES);
        push_filter!(sql, filter);
        sql.push(" ORDER BY t.created_at DESC, t.id DESC LIMIT ").push_bind(page.limit);
        sql.push(" OFFSET ").push_bind(page.offset);
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok((total, with_entries(db, lines).await?))
}

/// The next ledger transactions with their lines, oldest first, `after` the last of those before: for an export in parts.
pub async fn next(db: &mut Db, filter: &Filter, after: Option<&LedgerLine>, limit: i64) -> Result<Vec<LedgerLine>> {
    let lines = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(LINES);
        push_filter!(sql, filter);
        if let Some(after) = after {
            sql.push(" AND (t.created_at, t.id) > (").push_bind(after.created_at).push(", ").push_bind(&after.id).push(")");
        }
        sql.push(" ORDER BY t.created_at, t.id LIMIT ").push_bind(limit);
        sql.build_query_as().fetch_all(conn).await?
    });
    with_entries(db, lines).await
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    transaction_id: String,
    #[sqlx(flatten)]
    entry: EntryLine,
}

async fn with_entries(db: &mut Db, mut lines: Vec<LedgerLine>) -> Result<Vec<LedgerLine>> {
    if lines.is_empty() {
        return Ok(lines);
    }
    let rows: Vec<EntryRow> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT transaction_id, account, customer_id, amount FROM ledger_entries WHERE transaction_id");
        push_is_one_of(&mut sql, lines.iter().map(|line| line.id.clone()));
        sql.push(" ORDER BY transaction_id, account");
        sql.build_query_as().fetch_all(conn).await?
    });
    let mut by_id: HashMap<String, Vec<EntryLine>> = HashMap::new();
    for row in rows {
        by_id.entry(row.transaction_id).or_default().push(row.entry);
    }
    for line in &mut lines {
        line.entries = by_id.remove(&line.id).unwrap_or_default();
    }
    Ok(lines)
}
