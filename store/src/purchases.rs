//! What charges cost and how they were paid. They are made in [`crate::settle`].

use evm_domain::ledger::pay_from_balance;
use evm_domain::{CustomerId, Money, PurchaseId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::ledger::Booking;
use crate::outbox::Event;
use crate::{Result, StoreError, failpoint, id, invoices, ledger, new_id, outbox, sessions};

/// A purchase with what the customer sees of its charge.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Purchase {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Whose.
    pub customer_id: String,
    /// Where.
    pub device_id: String,
    /// The device's number.
    pub device_number: String,
    /// 1e-7 degrees.
    pub longitude: i64,
    /// 1e-7 degrees.
    pub latitude: i64,
    /// When it began, ms since 1970.
    pub started_at: i64,
    /// When it ended, ms since 1970.
    pub finished_at: i64,
    /// Wh.
    pub energy_wh: i64,
    /// Seconds.
    pub waiting_s: i64,
    /// Möngö a kWh.
    pub energy_price: i64,
    /// Möngö a minute.
    pub waiting_price: i64,
    /// The start fee, möngö.
    pub start_amount: i64,
    /// The energy line, möngö.
    pub energy_amount: i64,
    /// The waiting line, möngö.
    pub waiting_amount: i64,
    /// What lifted the sum to the minimum, or, negative, lowered it to the cap, möngö.
    pub adjustment_amount: i64,
    /// The VAT that is in the amount, möngö.
    pub vat_amount: i64,
    /// The sum of the lines, möngö.
    pub amount: i64,
    /// Möngö.
    pub paid: i64,
    /// What of that was given back, möngö.
    pub refunded: i64,
    /// `unpaid`, `pending`, `paid` or `refunded`.
    pub status: String,
    /// How it was paid.
    pub option: Option<String>,
    /// 1 to 5.
    pub feedback_score: Option<i16>,
    /// The customer's words.
    pub feedback_text: Option<String>,
}

const SELECT: &str = "SELECT p.id, p.customer_id, p.device_id, d.device_number, d.longitude, d.latitude, \
    COALESCE(s.started_at, s.requested_at) AS started_at, COALESCE(s.ended_at, p.created_at) AS finished_at, p.energy_wh, \
    p.waiting_s, t.energy_price, t.waiting_price, p.start_amount, p.energy_amount, p.waiting_amount, p.adjustment_amount, \
    p.vat_amount, p.amount, p.paid, p.refunded, p.status, p.option, p.feedback_score, p.feedback_text \
    FROM purchases p JOIN sessions s ON s.id = p.session_id JOIN devices d ON d.id = p.device_id \
    JOIN tariff_versions t ON t.id = s.tariff_id WHERE ";

/// A page of purchases, newest first, and how many there are in all. Of one customer, or of all.
pub async fn page(db: &mut Db, customer: Option<CustomerId>, offset: i64, limit: i64) -> Result<(i64, Vec<Purchase>)> {
    let owner = customer.map(|id| id.to_string());
    let (total,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM purchases p");
        if let Some(owner) = &owner {
            sql.push(" WHERE p.customer_id = ").push_bind(owner);
        }
        sql.build_query_as().fetch_one(conn).await?
    });
    let items = on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        match &owner {
            // The id was given out at the start, the purchase made at the end: they can differ in their order.
            Some(owner) => sql.push("p.customer_id = ").push_bind(owner).push(" ORDER BY p.created_at DESC, p.id DESC"),
            None => sql.push("TRUE ORDER BY p.id DESC"),
        };
        sql.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok((total, items))
}

/// The purchases of charges that the chargers agreed to end and that are not over, as they stand. They cannot be paid yet.
pub async fn running(db: &mut Db, customer: CustomerId, now: Timestamp) -> Result<Vec<Purchase>> {
    let mut found: Vec<Purchase> = on!(&mut *db, conn => {
        sqlx::query_as(
            "SELECT s.purchase_id AS id, s.customer_id, s.device_id, d.device_number, d.longitude, d.latitude, \
             COALESCE(s.started_at, s.requested_at) AS started_at, COALESCE(s.ended_at, s.finish_asked_at) AS finished_at, \
             t.energy_price, t.waiting_price, CAST(0 AS BIGINT) AS energy_wh, CAST(0 AS BIGINT) AS waiting_s, \
             CAST(0 AS BIGINT) AS start_amount, CAST(0 AS BIGINT) AS energy_amount, CAST(0 AS BIGINT) AS waiting_amount, \
             CAST(0 AS BIGINT) AS adjustment_amount, CAST(0 AS BIGINT) AS vat_amount, CAST(0 AS BIGINT) AS amount, \
             CAST(0 AS BIGINT) AS paid, CAST(0 AS BIGINT) AS refunded, 'pending' AS status, CAST(NULL AS TEXT) AS option, \
             CAST(NULL AS SMALLINT) AS feedback_score, CAST(NULL AS TEXT) AS feedback_text \
             FROM sessions s JOIN devices d ON d.id = s.device_id JOIN tariff_versions t ON t.id = s.tariff_id \
             WHERE s.customer_id = $1 AND s.status = 'active' AND s.finish_asked_at IS NOT NULL ORDER BY s.id DESC LIMIT 10",
        )
        .bind(customer.to_string())
        .fetch_all(conn)
        .await?
    });
    for purchase in &mut found {
        let Some(session) = sessions::of_purchase(db, id(&purchase.id)?).await? else { continue };
        let bill = session.bill_at(now, true);
        (purchase.energy_wh, purchase.waiting_s) = (bill.energy.0, bill.waiting_s);
        (purchase.start_amount, purchase.energy_amount) = (bill.start_amount.0, bill.energy_amount.0);
        (purchase.waiting_amount, purchase.adjustment_amount) = (bill.waiting_amount.0, bill.adjustment_amount.0);
        (purchase.vat_amount, purchase.amount) = (bill.vat_amount.0, bill.total().0);
    }
    Ok(found)
}

/// One purchase of a customer.
pub async fn by_id(db: &mut Db, customer: CustomerId, purchase: PurchaseId) -> Result<Option<Purchase>> {
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push("p.id = ").push_bind(purchase.to_string());
        sql.push(" AND p.customer_id = ").push_bind(customer.to_string());
        sql.build_query_as().fetch_optional(conn).await?
    }))
}

/// The oldest purchase that the customer still has to pay.
pub async fn oldest_unpaid(db: &mut Db, customer: CustomerId) -> Result<Option<String>> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as("SELECT id FROM purchases WHERE customer_id = $1 AND status IN ('unpaid', 'pending') ORDER BY id LIMIT 1")
            .bind(customer.to_string())
            .fetch_optional(conn)
            .await?
    });
    Ok(row.map(|(id,)| id))
}

/// Why a purchase was not paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpayable {
    /// No such purchase of this customer.
    NotFound,
    /// Nothing is left to pay.
    AlreadyPaid,
    /// An invoice is open, on which money may have come in: ask the gateway, then pay `despite_invoice`.
    InvoiceOpen,
    /// The balance is smaller than what is due; empty, where a part would do.
    InsufficientBalance {
        /// The balance.
        balance: Money,
        /// What is due.
        due: Money,
    },
}

/// How a purchase is paid from the balance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FromBalance {
    /// Also where an invoice is open, which is canceled then.
    pub despite_invoice: bool,
    /// What the balance has, where that is less than what is due.
    pub partial: bool,
}

/// A purchase, or a part of it, paid from the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// What was paid now.
    pub amount: Money,
    /// What is still due.
    pub due: Money,
    /// The balance afterwards.
    pub balance: Money,
}

/// Pays what is due from the balance: purchase, payment, book, balance and event in the caller's one transaction.
pub async fn pay_from_evm(
    db: &mut Db,
    customer: CustomerId,
    purchase: PurchaseId,
    how: FromBalance,
    now: Timestamp,
) -> Result<std::result::Result<Paid, Unpayable>> {
    let lock = db.for_update();
    let row: Option<(i64, i64, String)> = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT s.amount, s.paid, s.status FROM purchases s WHERE s.id = ");
        sql.push_bind(purchase.to_string()).push(" AND s.customer_id = ").push_bind(customer.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    let Some((amount, paid, status)) = row else { return Ok(Err(Unpayable::NotFound)) };
    let due = Money(amount - paid);
    if due <= Money::ZERO {
        return Ok(Err(Unpayable::AlreadyPaid));
    }
    if status == "pending" && !how.despite_invoice {
        return Ok(Err(Unpayable::InvoiceOpen));
    }
    let lock = db.for_update();
    let (balance,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT s.balance FROM customers s WHERE s.id = ");
        sql.push_bind(customer.to_string()).push(lock);
        sql.build_query_as().fetch_one(conn).await?
    });
    let balance = Money(balance);
    let part = if how.partial { due.min(balance) } else { due };
    if part > balance || part == Money::ZERO {
        return Ok(Err(Unpayable::InsufficientBalance { balance, due }));
    }
    move_from_balance(db, customer, purchase, part, Money(paid), now).await?;
    if status == "pending" {
        // What still comes in on its invoice becomes balance.
        invoices::cancel_open_of(db, purchase, now).await?;
    }
    failpoint("pay.booked");
    Ok(Ok(Paid { amount: part, due: due - part, balance: balance - part }))
}

/// Moves a part of the balance, both locked, to a purchase of which `paid` was paid before.
async fn move_from_balance(
    db: &mut Db,
    customer: CustomerId,
    purchase: PurchaseId,
    part: Money,
    paid: Money,
    now: Timestamp,
) -> Result<()> {
    let payment = new_id();
    // It may be paid in parts, and a correction can give paid money back: one purchase is paid more than once.
    let (earlier,): (i64,) = on!(&mut *db, conn => {
        sqlx::query_as("SELECT COUNT(*) FROM payments WHERE purchase_id = $1")
            .bind(purchase.to_string())
            .fetch_one(conn)
            .await?
    });
    let moved = on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE purchases SET paid = paid + $4, status = CASE WHEN paid + $4 = amount THEN 'paid' ELSE 'unpaid' END, option = 'EVM', \
             paid_at = CASE WHEN paid + $4 = amount THEN $2 END WHERE id = $1 AND paid = $3",
        )
        .bind(purchase.to_string())
        .bind(now.0)
        .bind(paid.0)
        .bind(part.0)
        .execute(conn)
        .await?
        .rows_affected()
    });
    if moved != 1 {
        return Err(StoreError::conflict());
    }
    on!(&mut *db, conn => {
        sqlx::query(
            "INSERT INTO payments (id, purchase_id, customer_id, option, amount, status, created_at, ended_at) \
             VALUES ($1, $2, $3, 'EVM', $4, 'success', $5, $5)",
        )
        .bind(payment.to_string())
        .bind(purchase.to_string())
        .bind(customer.to_string())
        .bind(part.0)
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    let booking = Booking {
        key: format!("pay:{purchase}:{earlier}"),
        kind: "payment",
        customer: Some(customer),
        purchase: Some(purchase),
        note: Some(purchase.to_string()),
        postings: pay_from_balance(part),
    };
    ledger::post(db, booking, now).await?;
    let payload = format!(r#"{{"status":"success","amount":{}}}"#, part.to_mnt());
    let event = Event { customer, name: "PAYMENT", event_id: format!("payment-{payment}"), payload };
    outbox::add(db, &[event], now).await
}

/// Keeps what the customer thinks of a charge. `false`: no such purchase of this customer.
pub async fn set_feedback(
    db: &mut Db,
    customer: CustomerId,
    purchase: PurchaseId,
    score: i16,
    text: &str,
) -> Result<bool> {
    let changed = on!(db, conn => {
        sqlx::query("UPDATE purchases SET feedback_score = $3, feedback_text = $4 WHERE id = $1 AND customer_id = $2")
            .bind(purchase.to_string())
            .bind(customer.to_string())
            .bind(score)
            .bind(text)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(changed > 0)
}
