//! A purchase is given back. The book says so first, in one transaction; then the gateway is asked to give card payments
//! out, again and again until it answers, so that a process that dies in between changes nothing about the end.

use evm_domain::ledger::{Account, refund, refund_to_balance};
use evm_domain::{CustomerId, InvoiceId, Money, PurchaseId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::invoices::{self, PROVIDER};
use crate::ledger::Booking;
use crate::{Result, StoreError, failpoint, id, ledger};

/// The first wait before the gateway is asked again; it doubles each time.
const RETRY_MS: i64 = 15_000;
/// The longest.
const LONGEST_RETRY_MS: i64 = 3_600_000;

/// A refund, asked for now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Whose purchase it was.
    pub customer: CustomerId,
    /// All that is given back.
    pub amount: Money,
    /// The payments of it that the gateway gives out, by card, or has given out by itself.
    pub cards: Vec<CardRefund>,
}

/// A card payment that the gateway is to give back.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CardRefund {
    /// The gateway's id.
    pub payment_id: String,
    /// Our invoice.
    pub invoice_id: String,
    /// Möngö.
    pub amount: i64,
    /// `requested`, `refunded` or `balance`.
    pub refund: String,
    /// How often the gateway was asked.
    pub refund_tries: i32,
}

impl CardRefund {
    /// Our invoice.
    ///
    /// # Errors
    /// [`StoreError::Broken`] where what is stored is no id.
    pub fn invoice(&self) -> Result<InvoiceId> {
        id(&self.invoice_id)
    }
}

/// Why a purchase is not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrefundable {
    /// No such purchase.
    NotFound,
    /// Nothing, or not all, was paid.
    NotPaid,
}

/// Books the refund of a paid purchase: what it earned is taken back, card payments leave through the gateway, all else
/// becomes balance. A second call gives the first one's refund as it stands.
pub async fn book(
    db: &mut Db,
    purchase: PurchaseId,
    note: &str,
    now: Timestamp,
) -> Result<std::result::Result<Refund, Unrefundable>> {
    let Some(asked) = invoices::lock_purchase(db, purchase).await? else { return Ok(Err(Unrefundable::NotFound)) };
    let customer: CustomerId = id(&asked.customer_id)?;
    let paid = Money(asked.paid);
    if asked.status == "refunded" {
        return Ok(Ok(Refund { customer, amount: paid, cards: cards_of(db, purchase).await? }));
    }
    if asked.status != "paid" || paid <= Money::ZERO {
        return Ok(Err(Unrefundable::NotPaid));
    }
    let mut to_gateway = Money::ZERO;
    for (payment, amount) in refundable(db, purchase).await? {
        // A correction may have given a part of a payment back already; the gateway gives payments back whole.
        if to_gateway + amount <= paid {
            to_gateway += amount;
            request(db, &payment, now).await?;
        }
    }
    let earned = earned(db, purchase).await?;
    let postings = refund(&earned, paid - to_gateway, to_gateway).ok_or_else(|| {
        StoreError::Broken(format!("purchase {purchase} was paid {paid}, which is not what it earned"))
    })?;
    let booking = Booking {
        key: format!("refund:{purchase}"),
        kind: "refund",
        customer: Some(customer),
        purchase: Some(purchase),
        note: Some(note.to_owned()),
        postings,
    };
    ledger::post(db, booking, now).await?;
    on!(&mut *db, conn => {
        sqlx::query("UPDATE purchases SET status = 'refunded' WHERE id = $1").bind(purchase.to_string()).execute(conn).await?;
    });
    failpoint("refund.booked");
    Ok(Ok(Refund { customer, amount: paid, cards: cards_of(db, purchase).await? }))
}

/// Payments that went to a purchase whole and that the gateway has given back by itself; then those it can give back.
async fn refundable(db: &mut Db, purchase: PurchaseId) -> Result<Vec<(String, Money)>> {
    let rows: Vec<(String, i64)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT g.payment_id, g.amount FROM gateway_payments g JOIN invoices i ON i.id = g.invoice_id \
             WHERE i.purchase_id = $1 AND g.applied = g.amount AND g.refund IS NULL \
             AND (g.kind = 'CARD' OR g.flag = 'refunded_at_gateway') \
             ORDER BY CASE WHEN g.flag = 'refunded_at_gateway' THEN 0 ELSE 1 END, g.credited_at, g.payment_id",
        )
        .bind(purchase.to_string())
        .fetch_all(conn)
        .await?
    });
    Ok(rows.into_iter().map(|(payment, amount)| (payment, Money(amount))).collect())
}

/// The gateway is to give a payment back, unless it has.
async fn request(db: &mut Db, payment_id: &str, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "UPDATE gateway_payments SET refund = CASE WHEN flag = 'refunded_at_gateway' THEN 'refunded' ELSE 'requested' END, \
             refund_next_at = CASE WHEN flag = 'refunded_at_gateway' THEN NULL ELSE $3 END WHERE provider = $1 AND payment_id = $2",
        )
        .bind(PROVIDER)
        .bind(payment_id)
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// What a purchase earned, account by account.
async fn earned(db: &mut Db, purchase: PurchaseId) -> Result<Vec<(Account, Money)>> {
    let rows: Vec<(String, i64)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT e.account, CAST(SUM(e.amount) AS BIGINT) FROM ledger_transactions t \
             JOIN ledger_entries e ON e.transaction_id = t.id WHERE t.purchase_id = $1 GROUP BY e.account",
        )
        .bind(purchase.to_string())
        .fetch_all(conn)
        .await?
    });
    let known = rows.into_iter().map(|(word, amount)| {
        let account = Account::parse(&word).ok_or_else(|| StoreError::Broken(format!("account {word:?}")))?;
        Ok((account, Money(amount)))
    });
    Ok(known.collect::<Result<Vec<_>>>()?.into_iter().filter(|(account, _)| account.is_earned()).collect())
}

const CARDS: &str = "SELECT g.payment_id, g.invoice_id, g.amount, g.refund, g.refund_tries FROM gateway_payments g \
    JOIN invoices i ON i.id = g.invoice_id WHERE ";

async fn cards_of(db: &mut Db, purchase: PurchaseId) -> Result<Vec<CardRefund>> {
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new(CARDS);
        sql.push("g.refund IS NOT NULL AND i.purchase_id = ").push_bind(purchase.to_string()).push(" ORDER BY g.credited_at, g.payment_id");
        sql.build_query_as().fetch_all(conn).await?
    }))
}

/// Card payments that the gateway is to be asked to give back by now.
pub async fn due(db: &mut Db, now: Timestamp) -> Result<Vec<CardRefund>> {
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new(CARDS);
        sql.push("g.refund = 'requested' AND g.refund_next_at <= ").push_bind(now.0);
        sql.push(" ORDER BY g.refund_next_at LIMIT 50");
        sql.build_query_as().fetch_all(conn).await?
    }))
}

/// Holds a card payment for one question to the gateway; the next comes after a wait that doubles. How often it was asked
/// before comes back; `None`: somebody else asks.
pub async fn claim(db: &mut Db, payment_id: &str, now: Timestamp) -> Result<Option<i32>> {
    let row: Option<(i32,)> = on!(&mut *db, conn => {
        sqlx::query_as(
            "UPDATE gateway_payments SET refund_tries = refund_tries + 1, refund_next_at = $3 WHERE provider = $1 \
             AND payment_id = $2 AND refund = 'requested' AND refund_next_at <= $4 RETURNING refund_tries",
        )
        .bind(PROVIDER)
        .bind(payment_id)
        .bind(now.plus_millis(RETRY_MS).0)
        .bind(now.0)
        .fetch_optional(&mut *conn)
        .await?
    });
    let Some((tries,)) = row else { return Ok(None) };
    let wait = RETRY_MS.saturating_mul(1 << tries.clamp(0, 20)).min(LONGEST_RETRY_MS);
    on!(db, conn => {
        sqlx::query("UPDATE gateway_payments SET refund_next_at = $3 WHERE provider = $1 AND payment_id = $2")
            .bind(PROVIDER)
            .bind(payment_id)
            .bind(now.plus_millis(wait).0)
            .execute(conn)
            .await?;
    });
    Ok(Some(tries - 1))
}

/// The gateway gave a card payment back.
pub async fn given_out(db: &mut Db, payment_id: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "UPDATE gateway_payments SET refund = 'refunded', refund_next_at = NULL \
             WHERE provider = $1 AND payment_id = $2 AND refund = 'requested'",
        )
        .bind(PROVIDER)
        .bind(payment_id)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// The gateway will not give a card payment back: it becomes balance, and the operator is told. Booked once.
pub async fn not_given_out(db: &mut Db, payment_id: &str, now: Timestamp) -> Result<()> {
    let row: Option<(String, Option<String>, i64)> = on!(&mut *db, conn => {
        sqlx::query_as(
            "UPDATE gateway_payments SET refund = 'balance', refund_next_at = NULL, flag = 'refund_failed' \
             WHERE provider = $1 AND payment_id = $2 AND refund = 'requested' RETURNING customer_id, \
             (SELECT i.purchase_id FROM invoices i WHERE i.id = invoice_id), amount",
        )
        .bind(PROVIDER)
        .bind(payment_id)
        .fetch_optional(conn)
        .await?
    });
    let Some((customer, purchase, amount)) = row else { return Ok(()) };
    let booking = Booking {
        key: format!("refund-to-balance:{PROVIDER}:{payment_id}"),
        kind: "refund",
        customer: Some(id(&customer)?),
        purchase: crate::optional_id(purchase.as_deref())?,
        note: None,
        postings: refund_to_balance(Money(amount)),
    };
    ledger::post(db, booking, now).await
}
