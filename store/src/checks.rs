//! Who asks the gateway about an invoice, and when: one at a time over all nodes, seldom, and until it has ended.

use evm_domain::{InvoiceId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::invoices::{self, CALLBACK_GAP_MS, CLAIM_MS, GIVE_UP_MS, Invoice, PROVIDER, State};
use crate::{Result, id};

/// The first wait after a question without an answer; it doubles each time.
const RETRY_MS: i64 = 5_000;
/// The longest.
const LONGEST_RETRY_MS: i64 = 1_800_000;
/// After so many questions in a row without an answer, some three quarters of an hour, an invoice may be given up.
const FEW_FAILURES: i32 = 9;
/// Invoices that are looked after in one go.
const MOST_DUE: i64 = 50;

/// Holds an invoice for a question to the gateway. `None`: somebody is asking, or asked less than `gap_ms` ago.
pub async fn claim(db: &mut Db, invoice: InvoiceId, gap_ms: i64, now: Timestamp) -> Result<Option<Invoice>> {
    let held = on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE invoices SET claimed_until = $2, checked_at = $3 WHERE id = $1 AND claimed_until <= $3 \
             AND (checked_at IS NULL OR checked_at <= $4)",
        )
        .bind(invoice.to_string())
        .bind(now.plus_millis(CLAIM_MS).0)
        .bind(now.0)
        .bind(now.plus_millis(-gap_ms).0)
        .execute(conn)
        .await?
        .rows_affected()
    });
    if held == 0 { Ok(None) } else { invoices::by_id(db, None, invoice).await }
}

/// Ends a claim after the gateway answered and what it said is booked.
pub async fn answered(db: &mut Db, claimed: &Invoice, now: Timestamp) -> Result<()> {
    let (invoice, _) = invoices::lock(db, claimed.id).await?;
    // A callback that came while the gateway was being asked may tell of more than it answered.
    let next =
        if invoice.hints == claimed.hints { invoice.next_check(now) } else { Some(now.plus_millis(CALLBACK_GAP_MS)) };
    release(db, claimed.id, 0, next, now).await
}

/// Ends a claim without an answer: asked again later, each time after a longer wait, and given up a day after the expiry,
/// unless news came just now or it was not asked often enough yet.
pub async fn unanswered(db: &mut Db, claimed: &Invoice, now: Timestamp) -> Result<()> {
    let (mut invoice, _) = invoices::lock(db, claimed.id).await?;
    let over = now > invoice.expires_at.plus_millis(GIVE_UP_MS);
    if over && invoice.failures >= FEW_FAILURES && invoice.hints == claimed.hints {
        tracing::error!(invoice = %invoice.id, "given up: the gateway says nothing about it");
        close(db, &mut invoice, State::Error, now).await?;
        return release(db, invoice.id, 0, None, now).await;
    }
    let wait = RETRY_MS.saturating_mul(1 << invoice.failures.clamp(0, 20)).min(LONGEST_RETRY_MS);
    release(db, invoice.id, invoice.failures.saturating_add(1), Some(now.plus_millis(wait)), now).await
}

async fn release(
    db: &mut Db,
    invoice: InvoiceId,
    failures: i32,
    next: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "UPDATE invoices SET claimed_until = 0, failures = $2, next_check_at = $3, checked_at = $4 WHERE id = $1",
        )
        .bind(invoice.to_string())
        .bind(failures)
        .bind(next.map(|at| at.0))
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Nobody can pay the invoice any more; an open one ends as canceled.
pub async fn closed(db: &mut Db, invoice: InvoiceId, now: Timestamp) -> Result<Invoice> {
    let (mut invoice, _) = invoices::lock(db, invoice).await?;
    close(db, &mut invoice, State::Canceled, now).await?;
    Ok(invoice)
}

async fn close(db: &mut Db, invoice: &mut Invoice, state: State, now: Timestamp) -> Result<()> {
    invoice.closed = true;
    if invoice.state.is_open() {
        return invoices::end(db, invoice, state, true, now).await;
    }
    on!(db, conn => {
        sqlx::query("UPDATE invoices SET closed_at = COALESCE(closed_at, $2), next_check_at = NULL WHERE id = $1")
            .bind(invoice.id.to_string())
            .bind(now.0)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Notes a callback: the invoice is to be asked about soon. It proves nothing; `payment` is what it names. `None`: no such
/// token.
pub async fn hint(db: &mut Db, token: &str, payment: Option<&str>, now: Timestamp) -> Result<Option<InvoiceId>> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as(
            "UPDATE invoices SET hints = hints + 1, next_check_at = CASE WHEN next_check_at < $2 THEN next_check_at ELSE $2 END, \
             hint_payment_id = CASE WHEN gateway_invoice_id IS NULL THEN COALESCE($3, hint_payment_id) END \
             WHERE callback_token = $1 RETURNING id",
        )
        .bind(token)
        .bind(now.0)
        .bind(payment)
        .fetch_optional(conn)
        .await?
    });
    row.map(|(invoice,)| id(&invoice)).transpose()
}

/// A callback named a payment that is none of this invoice's: it is forgotten.
pub async fn forget_hint(db: &mut Db, invoice: InvoiceId) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE invoices SET hint_payment_id = NULL WHERE id = $1")
            .bind(invoice.to_string())
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Invoices that the gateway is to be asked about by now.
pub async fn due(db: &mut Db, now: Timestamp) -> Result<Vec<InvoiceId>> {
    let rows: Vec<(String,)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT id FROM invoices WHERE next_check_at <= ");
        sql.push_bind(now.0).push(" AND claimed_until <= ").push_bind(now.0);
        sql.push(" AND provider = ").push_bind(PROVIDER).push(" ORDER BY next_check_at LIMIT ").push_bind(MOST_DUE);
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter().map(|(invoice,)| id(&invoice)).collect()
}
