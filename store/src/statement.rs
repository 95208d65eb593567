//! A customer's statement: what moved the balance and what is owed, and how they stood.

use evm_domain::{CustomerId, Timestamp};
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};
use crate::operator::Page;

/// Which time a statement is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// How a customer stands, möngö.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    /// The prepaid balance.
    pub balance: i64,
    /// What is owed for charges.
    pub owed: i64,
}

/// A ledger transaction as its customer sees it. Money in möngö.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Movement {
    /// 24 hexadecimal digits.
    pub id: String,
    /// `charge`, `correction`, `payment`, `gateway_payment`, `credit` or `refund`.
    pub kind: String,
    /// The purchase it is about.
    pub purchase_id: Option<String>,
    /// ms since 1970.
    pub created_at: i64,
    /// What was moved in all.
    pub amount: i64,
    /// By how much the balance grew.
    pub balance_change: i64,
    /// By how much what is owed grew.
    pub owed_change: i64,
    /// How the customer stood after it.
    #[sqlx(skip)]
    pub after: Standing,
}

/// A page of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statement {
    /// Movements in all.
    pub total: i64,
    /// Before the period.
    pub opening: Standing,
    /// At the end of the period.
    pub closing: Standing,
    /// Newest first.
    pub movements: Vec<Movement>,
}

/// The end of what a sum takes in.
enum Until<'a> {
    /// All before this moment.
    Moment(Timestamp),
    /// All up to this movement, itself included.
    Movement(&'a Movement),
    /// All.
    Now,
}

macro_rules! push_period {
    ($sql:expr, $customer:expr, $period:expr) => {{
        $sql.push(" WHERE t.customer_id = ").push_bind($customer.to_string());
        if let Some(from) = $period.from {
            $sql.push(" AND t.created_at >= ").push_bind(from.0);
        }
        if let Some(to) = $period.to {
            $sql.push(" AND t.created_at < ").push_bind(to.0);
        }
    }};
}

const MOVEMENTS: &str = "SELECT t.id, t.kind, t.purchase_id, t.created_at, \
    CAST(COALESCE(SUM(CASE WHEN e.amount > 0 THEN e.amount END), 0) AS BIGINT) AS amount, \
    CAST(COALESCE(SUM(CASE WHEN e.account = 'customer' THEN e.amount END), 0) AS BIGINT) AS balance_change, \
    CAST(COALESCE(SUM(CASE WHEN e.account = 'receivable' THEN -e.amount END), 0) AS BIGINT) AS owed_change \
    FROM (SELECT t.id, t.kind, t.purchase_id, t.created_at FROM ledger_transactions t";
/// Behind the part's LIMIT: only the part is summed.
const EACH: &str = ") t JOIN ledger_entries e ON e.transaction_id = t.id \
    GROUP BY t.id, t.kind, t.purchase_id, t.created_at ORDER BY t.created_at";

/// One page of a customer's statement.
pub async fn page(db: &mut Db, customer: CustomerId, period: Period, page: Page) -> Result<Statement> {
    let (total,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM ledger_transactions t");
        push_period!(sql, customer, period);
        sql.build_query_as().fetch_one(conn).await?
    });
    let mut movements: Vec<Movement> = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(MOVEMENTS);
        push_period!(sql, customer, period);
        sql.push(" ORDER BY t.created_at DESC, t.id DESC LIMIT ").push_bind(page.limit);
        sql.push(" OFFSET ").push_bind(page.offset).push(EACH).push(" DESC, t.id DESC");
        sql.build_query_as().fetch_all(conn).await?
    });
    if let Some(newest) = movements.first() {
        let mut standing = standing(db, customer, Until::Movement(newest)).await?;
        for movement in &mut movements {
            movement.after = standing;
            standing.balance -= movement.balance_change;
            standing.owed -= movement.owed_change;
        }
    }
    let opening = match period.from {
        Some(from) => standing(db, customer, Until::Moment(from)).await?,
        None => Standing::default(),
    };
    let closing = standing(db, customer, period.to.map_or(Until::Now, Until::Moment)).await?;
    Ok(Statement { total, opening, closing, movements })
}

/// The next movements, oldest first, `after` the last of those before: for an export in parts.
pub async fn next(
    db: &mut Db,
    customer: CustomerId,
    period: Period,
    after: Option<&Movement>,
    limit: i64,
) -> Result<Vec<Movement>> {
    let mut movements: Vec<Movement> = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(MOVEMENTS);
        push_period!(sql, customer, period);
        if let Some(after) = after {
            sql.push(" AND (t.created_at, t.id) > (").push_bind(after.created_at).push(", ").push_bind(&after.id).push(")");
        }
        sql.push(" ORDER BY t.created_at, t.id LIMIT ").push_bind(limit).push(EACH).push(", t.id");
        sql.build_query_as().fetch_all(conn).await?
    });
    let mut standing = match (after, period.from) {
        (Some(after), _) => after.after,
        (None, Some(from)) => standing(db, customer, Until::Moment(from)).await?,
        (None, None) => Standing::default(),
    };
    for movement in &mut movements {
        standing.balance += movement.balance_change;
        standing.owed += movement.owed_change;
        movement.after = standing;
    }
    Ok(movements)
}

async fn standing(db: &mut Db, customer: CustomerId, until: Until<'_>) -> Result<Standing> {
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "SELECT CAST(COALESCE(SUM(CASE WHEN e.account = 'customer' THEN e.amount END), 0) AS BIGINT) AS balance, \
             CAST(COALESCE(SUM(CASE WHEN e.account = 'receivable' THEN -e.amount END), 0) AS BIGINT) AS owed \
             FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id WHERE t.customer_id = ",
        );
        sql.push_bind(customer.to_string());
        match until {
            Until::Moment(moment) => {
                sql.push(" AND t.created_at < ").push_bind(moment.0);
            }
            Until::Movement(last) => {
                sql.push(" AND (t.created_at, t.id) <= (").push_bind(last.created_at).push(", ").push_bind(&last.id).push(")");
            }
            Until::Now => {}
        }
        sql.build_query_as().fetch_one(conn).await?
    }))
}
