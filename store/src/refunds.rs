//! A purchase is given back. The book says so first, in one transaction; then the gateway is asked to give card payments
//! out, again and again until it answers, so that a process that dies in between changes nothing about the end.

use evm_domain::ledger::refund_to_balance;
use evm_domain::{CustomerId, InvoiceId, Money, PurchaseId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::invoices::PROVIDER;
use crate::ledger::Booking;
use crate::{Result, StoreError, failpoint, id, ledger, position};

/// The first wait before the gateway is asked again; it doubles each time.
const RETRY_MS: i64 = 15_000;
/// The longest.
const LONGEST_RETRY_MS: i64 = 3_600_000;

/// A refund, asked for now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Whose purchase it was.
    pub customer: CustomerId,
    /// What is given back by this refund.
    pub amount: Money,
    /// What was given back of the purchase up to now, this included.
    pub refunded: Money,
    /// What can still be given back of it.
    pub left: Money,
    /// The payments that the gateway gives out for this refund, by card, or has given out by itself. The rest is balance.
    pub cards: Vec<CardRefund>,
}

/// A card payment that the gateway is to give back.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CardRefund {
    /// The gateway's id.
    pub payment_id: String,
    /// Our invoice.
    pub invoice_id: String,
    /// What of it belongs to the refund, möngö.
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
    /// Nothing is paid of it, or all that is was given back.
    NotPaid,
    /// The amount is not above zero, or more than can still be given back.
    NotWithin {
        /// What can still be given back.
        left: Money,
    },
}

/// Books a refund of what is paid of a purchase, or of a part of it: what that earned is taken back, card payments that it
/// covers whole leave through the gateway, all else becomes balance. Without an amount all that is left is given back, and
/// where the whole purchase was, the refunds so far come back.
pub async fn book(
    db: &mut Db,
    purchase: PurchaseId,
    amount: Option<Money>,
    note: &str,
    now: Timestamp,
) -> Result<std::result::Result<Refund, Unrefundable>> {
    let Some(locked) = position::lock(db, purchase).await? else { return Ok(Err(Unrefundable::NotFound)) };
    let (customer, before) = (locked.customer, locked.position);
    if before.is_refunded() && amount.is_none() {
        let cards = cards_of(db, purchase).await?;
        let all = before.refunded;
        return Ok(Ok(Refund { customer, amount: all, refunded: all, left: Money::ZERO, cards }));
    }
    let left = before.left();
    if before.paid == Money::ZERO || (left == Money::ZERO && amount.is_none()) {
        return Ok(Err(Unrefundable::NotPaid));
    }
    let amount = amount.unwrap_or(left);
    if amount <= Money::ZERO || amount > left {
        return Ok(Err(Unrefundable::NotWithin { left }));
    }
    let cards = by_card(db, purchase, amount).await?;
    for card in &cards {
        request(db, card, now).await?;
    }
    let to_gateway = cards.iter().map(|card| Money(card.amount)).sum();
    let Some((after, postings)) = before.given_back(amount, to_gateway) else {
        return Err(StoreError::Broken(format!("purchase {purchase} gives {amount} back by {to_gateway}")));
    };
    position::save(db, purchase, &locked, &after, now).await?;
    let booking = Booking {
        key: format!("refund:{purchase}:{}", earlier(db, purchase).await?),
        kind: "refund",
        customer: Some(customer),
        purchase: Some(purchase),
        note: Some(note.to_owned()),
        postings,
    };
    ledger::post(db, booking, now).await?;
    failpoint("refund.booked");
    Ok(Ok(Refund { customer, amount, refunded: after.refunded, left: after.left(), cards }))
}

/// How many refunds of a purchase are booked. Its row is locked, so that two have not the same number.
async fn earlier(db: &mut Db, purchase: PurchaseId) -> Result<i64> {
    let (count,): (i64,) = on!(db, conn => {
        sqlx::query_as("SELECT COUNT(*) FROM ledger_transactions WHERE purchase_id = $1 AND kind = 'refund'")
            .bind(purchase.to_string())
            .fetch_one(conn)
            .await?
    });
    Ok(count)
}

#[derive(sqlx::FromRow)]
struct Payment {
    #[sqlx(flatten)]
    card: CardRefund,
    /// What of it paid the purchase and was not given back through the gateway.
    kept: i64,
    /// The gateway has given it back by itself.
    gone: bool,
}

/// What of a refund goes through the gateway. First what it has given back by itself, also in part, for that is with the
/// customer already; then card payments that the refund covers whole: the gateway gives no part of one.
async fn by_card(db: &mut Db, purchase: PurchaseId, amount: Money) -> Result<Vec<CardRefund>> {
    let payments: Vec<Payment> = on!(db, conn => {
        sqlx::query_as(
            "SELECT g.payment_id, g.invoice_id, g.amount, CASE WHEN g.flag = 'refunded_at_gateway' THEN 'refunded' ELSE 'requested' END AS refund, \
             g.refund_tries, g.applied - g.refund_amount AS kept, COALESCE(g.flag = 'refunded_at_gateway', FALSE) AS gone \
             FROM gateway_payments g JOIN invoices i ON i.id = g.invoice_id \
             WHERE i.purchase_id = $1 AND g.applied > g.refund_amount AND ((g.flag = 'refunded_at_gateway' AND g.refund IS NULL) \
             OR (g.flag = 'refunded_at_gateway' AND g.refund = 'refunded') OR (g.kind = 'CARD' AND g.applied = g.amount AND g.refund IS NULL)) \
             ORDER BY CASE WHEN g.flag = 'refunded_at_gateway' THEN 0 ELSE 1 END, g.amount DESC, g.credited_at, g.payment_id",
        )
        .bind(purchase.to_string())
        .fetch_all(conn)
        .await?
    });
    let mut rest = amount.0;
    let mut cards = Vec::new();
    for Payment { card, kept, gone } in payments {
        let part = if gone { kept.min(rest) } else { card.amount };
        if (1..=rest).contains(&part) {
            rest -= part;
            cards.push(CardRefund { amount: part, ..card });
        }
    }
    Ok(cards)
}

/// The gateway is to give a payment back, unless it has.
async fn request(db: &mut Db, card: &CardRefund, now: Timestamp) -> Result<()> {
    let next = (card.refund == "requested").then_some(now.0);
    on!(db, conn => {
        sqlx::query(
            "UPDATE gateway_payments SET refund = $3, refund_next_at = $4, refund_amount = refund_amount + $5 \
             WHERE provider = $1 AND payment_id = $2",
        )
        .bind(PROVIDER)
        .bind(&card.payment_id)
        .bind(&card.refund)
        .bind(next)
        .bind(card.amount)
        .execute(conn)
        .await?;
    });
    Ok(())
}

const CARDS: &str = "SELECT g.payment_id, g.invoice_id, CASE WHEN g.refund = 'balance' THEN g.amount ELSE g.refund_amount END AS amount, \
    g.refund, g.refund_tries FROM gateway_payments g JOIN invoices i ON i.id = g.invoice_id WHERE ";

/// The payments of a purchase that the gateway gives out, or has been asked to, for all its refunds.
pub async fn cards_of(db: &mut Db, purchase: PurchaseId) -> Result<Vec<CardRefund>> {
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
            "UPDATE gateway_payments SET refund = 'balance', refund_next_at = NULL, refund_amount = 0, flag = 'refund_failed' \
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
