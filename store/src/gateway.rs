//! Money that came in at a payment gateway. Only the gateway's own answer moves it, and each of its payments moves it once,
//! whoever heard of it first: callback, the customer's question or the safety net.

use evm_domain::ledger::gateway_payment;
use evm_domain::{InvoiceId, Money, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::invoices::{self, Asked, Invoice, PROVIDER, State};
use crate::ledger::Booking;
use crate::operator::Page;
use crate::outbox::Event;
use crate::{Result, failpoint, ledger, new_id, outbox};

/// How a payment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From bank to bank; the gateway cannot give it back.
    P2p,
    /// By card; the gateway can give it back.
    Card,
    /// Another; as from bank to bank.
    Other,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::P2p => "P2P",
            Self::Card => "CARD",
            Self::Other => "OTHER",
        }
    }
}

/// A payment that the gateway says is paid, in MNT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The gateway's id.
    pub payment_id: String,
    /// What the customer paid, the fee included.
    pub amount: Money,
    /// What the gateway keeps of it.
    pub fee: Money,
    /// How.
    pub kind: Kind,
}

/// What the gateway answered about one invoice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Payments that are paid.
    pub received: Vec<Received>,
    /// Ids of payments that were given back.
    pub refunded: Vec<String>,
}

/// What settling found new.
#[derive(Debug)]
pub struct Settled {
    /// The invoice as it stands now.
    pub invoice: Invoice,
    /// Money that was credited now.
    pub credited: Money,
}

/// Credits what is new in the gateway's answer: payments, book, purchase, balance, invoice and events in the caller's one
/// transaction. An open invoice's money first pays its purchase; the rest, and all that comes after its end, is balance.
pub async fn settle(db: &mut Db, invoice: InvoiceId, findings: &Findings, now: Timestamp) -> Result<Settled> {
    let (mut invoice, mut asked) = invoices::lock(db, invoice).await?;
    let before = invoice.credited;
    for received in findings.received.iter().filter(|received| received.amount > Money::ZERO) {
        credit(db, &mut invoice, asked.as_mut(), received, now).await?;
    }
    for payment in &findings.refunded {
        note_refunded(db, payment).await?;
    }
    let credited = invoice.credited - before;
    let covered = invoice.credited >= invoice.amount || asked.is_some_and(|asked| asked.paid >= asked.amount);
    if credited > Money::ZERO {
        on!(&mut *db, conn => {
            sqlx::query("UPDATE invoices SET credited = $2 WHERE id = $1")
                .bind(invoice.id.to_string())
                .bind(invoice.credited.0)
                .execute(conn)
                .await?;
        });
        if invoice.state.is_open() && covered {
            invoices::end(db, &mut invoice, State::Success, true, now).await?;
        }
    }
    failpoint("settle.booked");
    Ok(Settled { invoice, credited })
}

/// Credits one payment; does nothing where it is known.
async fn credit(
    db: &mut Db,
    invoice: &mut Invoice,
    asked: Option<&mut Asked>,
    received: &Received,
    now: Timestamp,
) -> Result<()> {
    let due = asked.as_ref().map_or(Money::ZERO, |asked| Money(asked.amount - asked.paid));
    let applied = if invoice.state.is_open() { received.amount.min(due) } else { Money::ZERO };
    let fee = received.fee.clamp(Money::ZERO, received.amount);
    let to_balance = received.amount - applied;
    let flag = flag(invoice, received.amount, to_balance);
    let new = on!(&mut *db, conn => {
        sqlx::query(
            "INSERT INTO gateway_payments (id, provider, payment_id, invoice_id, customer_id, kind, amount, fee, applied, flag, \
             credited_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (provider, payment_id) DO NOTHING",
        )
        .bind(new_id().to_string())
        .bind(PROVIDER)
        .bind(&received.payment_id)
        .bind(invoice.id.to_string())
        .bind(invoice.customer.to_string())
        .bind(received.kind.as_str())
        .bind(received.amount.0)
        .bind(fee.0)
        .bind(applied.0)
        .bind(flag)
        .bind(now.0)
        .execute(conn)
        .await?
        .rows_affected()
    });
    if new == 0 {
        return Ok(());
    }
    let booking = Booking {
        key: format!("{PROVIDER}:{}", received.payment_id),
        kind: "gateway_payment",
        customer: Some(invoice.customer),
        purchase: invoice.purchase,
        note: Some(invoice.id.to_string()),
        postings: gateway_payment(received.amount, fee, applied),
    };
    ledger::post(db, booking, now).await?;
    failpoint("settle.posted");
    if let (Some(asked), Some(purchase)) = (asked, invoice.purchase) {
        asked.paid += applied.0;
        on!(&mut *db, conn => {
            sqlx::query(
                "UPDATE purchases SET paid = paid + $2, option = CASE WHEN $2 > 0 THEN 'QPAY' ELSE option END, \
                 status = CASE WHEN status <> 'refunded' AND paid + $2 = amount THEN 'paid' ELSE status END, \
                 paid_at = CASE WHEN $2 > 0 AND paid + $2 = amount THEN $3 ELSE paid_at END WHERE id = $1",
            )
            .bind(purchase.to_string())
            .bind(applied.0)
            .bind(now.0)
            .execute(conn)
            .await?;
        });
    }
    invoice.credited += received.amount;
    // A top-up, or money that became one. The möngö of a purchase rounded up to a whole tögrög are no news.
    if invoice.purchase.is_none() || flag.is_some() {
        let payload = format!(r#"{{"status":"success","amount":{}}}"#, to_balance.to_mnt());
        let event_id = format!("replenishment-{PROVIDER}-{}", received.payment_id);
        outbox::add(db, &[Event { customer: invoice.customer, name: "REPLENISHMENT", event_id, payload }], now).await?;
    }
    if let Some(flag) = flag {
        tracing::warn!(invoice = %invoice.id, flag, "more came in at the gateway than was asked for");
    }
    Ok(())
}

/// Why the operator should look at a payment.
fn flag(invoice: &Invoice, amount: Money, to_balance: Money) -> Option<&'static str> {
    match invoice.state {
        State::Error | State::Canceled => Some("late"),
        State::Success => Some("surplus"),
        // Möngö beyond the exact amount were asked for by ourselves.
        State::Creating | State::Pending if invoice.purchase.is_some() => {
            (to_balance > invoice.asked() - invoice.amount).then_some("surplus")
        }
        State::Creating | State::Pending => (invoice.credited + amount > invoice.asked()).then_some("surplus"),
    }
}

/// The gateway says that a payment was given back: as we asked, or without our doing, which the operator should see.
async fn note_refunded(db: &mut Db, payment_id: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "UPDATE gateway_payments SET flag = CASE WHEN refund = 'requested' THEN flag ELSE 'refunded_at_gateway' END, \
             refund = CASE WHEN refund = 'requested' THEN 'refunded' ELSE refund END, \
             refund_next_at = NULL WHERE provider = $1 AND payment_id = $2 AND (refund IS NULL OR refund <> 'refunded')",
        )
        .bind(PROVIDER)
        .bind(payment_id)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// A payment at the gateway as the operator sees it. Money in möngö, times in ms since 1970.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PaymentLine {
    /// 24 hexadecimal digits.
    pub id: String,
    /// The gateway's name.
    pub provider: String,
    /// The gateway's id of the payment.
    pub payment_id: String,
    /// Our invoice.
    pub invoice_id: String,
    /// What the invoice was for; empty for a top-up.
    pub purchase_id: Option<String>,
    /// Who paid.
    pub customer_id: String,
    /// `P2P`, `CARD` or `OTHER`.
    pub kind: String,
    /// What the customer paid.
    pub amount: i64,
    /// What the gateway kept of it.
    pub fee: i64,
    /// The part that paid the purchase; the rest is balance.
    pub applied: i64,
    /// `surplus`, `late`, `refunded_at_gateway` or `refund_failed`: why to look.
    pub flag: Option<String>,
    /// `requested`, `refunded` or `balance`.
    pub refund: Option<String>,
    /// When it was credited.
    pub credited_at: i64,
}

/// Payments at the gateway, newest first, and how many there are in all; `flagged` keeps those to look at.
pub async fn page(db: &mut Db, flagged: bool, page: Page) -> Result<(i64, Vec<PaymentLine>)> {
    let filter = if flagged { " WHERE p.flag IS NOT NULL" } else { "" };
    let (total,): (i64,) = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM gateway_payments p");
        sql.push(filter);
        sql.build_query_as().fetch_one(conn).await?
    });
    let rows = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "SELECT p.id, p.provider, p.payment_id, p.invoice_id, i.purchase_id, p.customer_id, p.kind, p.amount, p.fee, p.applied, \
             p.flag, p.refund, p.credited_at FROM gateway_payments p JOIN invoices i ON i.id = p.invoice_id",
        );
        sql.push(filter).push(" ORDER BY p.credited_at DESC, p.id DESC LIMIT ").push_bind(page.limit);
        sql.push(" OFFSET ").push_bind(page.offset);
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok((total, rows))
}
