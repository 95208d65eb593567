//! Whether the book, the balances, the purchases and the sessions agree. Each check is one statement, so that what
//! is written meanwhile is seen whole or not at all.

use crate::engine::{Db, on};
use crate::invoices::GIVE_UP_MS;
use crate::{Result, now};

/// Findings of one check that are listed.
const MOST_FINDINGS: i64 = 20;

/// What the audit found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What disagrees, in words.
    pub violations: Vec<String>,
    /// Events that wait to be published.
    pub outbox_pending: i64,
    /// Sessions under way.
    pub live_sessions: i64,
    /// Sessions in all.
    pub sessions: i64,
    /// Ledger transactions in all.
    pub ledger_transactions: i64,
}

/// A check and its statement: what it is about, and two figures that should be equal.
const CHECKS: &[(&str, &str)] = &[
    (
        "ledger transaction does not sum to zero",
        "SELECT transaction_id, CAST(SUM(amount) AS BIGINT), CAST(0 AS BIGINT) FROM ledger_entries \
         GROUP BY transaction_id HAVING SUM(amount) <> 0 LIMIT $1",
    ),
    (
        "ledger does not sum to zero",
        "SELECT 'all', CAST(SUM(amount) AS BIGINT), CAST(0 AS BIGINT) FROM ledger_entries HAVING SUM(amount) <> 0 LIMIT $1",
    ),
    (
        "ledger transaction has no entries",
        "SELECT t.id, CAST(0 AS BIGINT), CAST(2 AS BIGINT) FROM ledger_transactions t WHERE NOT EXISTS \
         (SELECT 1 FROM ledger_entries e WHERE e.transaction_id = t.id) LIMIT $1",
    ),
    (
        "customer's balance is not the sum of the postings",
        "SELECT c.id, c.balance, CAST(COALESCE(e.total, 0) AS BIGINT) FROM customers c LEFT JOIN (SELECT customer_id, SUM(amount) AS total \
         FROM ledger_entries WHERE account = 'customer' GROUP BY customer_id) e ON e.customer_id = c.id \
         WHERE c.balance <> COALESCE(e.total, 0) LIMIT $1",
    ),
    (
        "customer's receivable is not what the purchases still ask",
        "SELECT c.id, CAST(COALESCE(e.total, 0) AS BIGINT), CAST(-COALESCE(p.due, 0) AS BIGINT) FROM customers c \
         LEFT JOIN (SELECT customer_id, SUM(amount) AS total FROM ledger_entries WHERE account = 'receivable' GROUP BY customer_id) e \
         ON e.customer_id = c.id LEFT JOIN (SELECT customer_id, SUM(amount - paid) AS due FROM purchases GROUP BY customer_id) p \
         ON p.customer_id = c.id WHERE COALESCE(e.total, 0) <> -COALESCE(p.due, 0) LIMIT $1",
    ),
    (
        "revenue and VAT are not the sum of the purchases",
        "SELECT 'all', CAST(e.total AS BIGINT), CAST(p.total AS BIGINT) FROM (SELECT COALESCE(SUM(amount), 0) AS total FROM ledger_entries \
         WHERE account IN ('revenue_energy', 'revenue_waiting', 'vat')) e, (SELECT COALESCE(SUM(amount - refunded), 0) AS total FROM purchases) p \
         WHERE e.total <> p.total LIMIT $1",
    ),
    (
        "VAT is not that of the purchases",
        "SELECT 'all', CAST(e.total AS BIGINT), CAST(p.total AS BIGINT) FROM (SELECT COALESCE(SUM(amount), 0) AS total FROM ledger_entries \
         WHERE account = 'vat') e, (SELECT COALESCE(SUM(vat_amount - refunded_vat), 0) AS total FROM purchases) p WHERE e.total <> p.total LIMIT $1",
    ),
    (
        "what a purchase earned was not booked for it",
        "SELECT p.id, p.amount - p.refunded, CAST(COALESCE(b.total, 0) AS BIGINT) FROM purchases p LEFT JOIN (SELECT t.purchase_id, \
         SUM(e.amount) AS total FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id \
         WHERE e.account IN ('revenue_energy', 'revenue_waiting', 'vat') GROUP BY t.purchase_id) b ON b.purchase_id = p.id \
         WHERE p.amount - p.refunded <> COALESCE(b.total, 0) LIMIT $1",
    ),
    (
        "VAT of a purchase was not booked for it",
        "SELECT p.id, p.vat_amount - p.refunded_vat, CAST(COALESCE(b.total, 0) AS BIGINT) FROM purchases p LEFT JOIN (SELECT t.purchase_id, \
         SUM(e.amount) AS total FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id \
         WHERE e.account = 'vat' GROUP BY t.purchase_id) b ON b.purchase_id = p.id \
         WHERE p.vat_amount - p.refunded_vat <> COALESCE(b.total, 0) LIMIT $1",
    ),
    (
        "purchase's status does not fit what is paid",
        "SELECT id, paid, amount FROM purchases WHERE (status = 'paid') <> (paid = amount) AND status <> 'refunded' LIMIT $1",
    ),
    (
        "purchase's status does not fit what was given back",
        "SELECT id, refunded, amount FROM purchases WHERE (status = 'refunded') <> (refunded = amount AND amount > 0) LIMIT $1",
    ),
    (
        "purchase's energy is not its ended session's",
        "SELECT p.id, p.energy_wh, COALESCE(s.register_wh - s.baseline_wh, 0) + s.unmetered_wh FROM purchases p JOIN sessions s ON s.id = p.session_id \
         WHERE s.ended_at IS NOT NULL AND p.status <> 'refunded' AND p.energy_wh <> COALESCE(s.register_wh - s.baseline_wh, 0) + s.unmetered_wh LIMIT $1",
    ),
    (
        "finished session of a customer has no purchase",
        // A start that was refused and took nothing has none.
        "SELECT s.id, CAST(0 AS BIGINT), CAST(1 AS BIGINT) FROM sessions s WHERE s.status = 'finished' AND s.customer_id IS NOT NULL \
         AND s.device_id IS NOT NULL AND s.transaction_ref IS NOT NULL AND NOT (s.refused AND (s.ended_at IS NULL OR \
         COALESCE(s.register_wh - s.baseline_wh, 0) + s.unmetered_wh = 0)) AND NOT EXISTS (SELECT 1 FROM purchases p WHERE p.session_id = s.id) LIMIT $1",
    ),
    (
        "purchase of a session that is not finished",
        "SELECT p.id, CAST(1 AS BIGINT), CAST(0 AS BIGINT) FROM purchases p JOIN sessions s ON s.id = p.session_id \
         WHERE s.status <> 'finished' LIMIT $1",
    ),
    (
        "what is paid of a purchase was not booked for it",
        "SELECT p.id, p.paid - p.amount, CAST(COALESCE(b.total, 0) AS BIGINT) FROM purchases p LEFT JOIN (SELECT t.purchase_id, \
         SUM(e.amount) AS total FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id \
         WHERE e.account = 'receivable' GROUP BY t.purchase_id) b ON b.purchase_id = p.id \
         WHERE p.paid - p.amount <> COALESCE(b.total, 0) LIMIT $1",
    ),
    (
        "purchase waits for an invoice that is not open, or does not wait for one that is",
        "SELECT p.id, CAST(0 AS BIGINT), CAST(1 AS BIGINT) FROM purchases p WHERE (p.status = 'pending') <> EXISTS \
         (SELECT 1 FROM invoices i WHERE i.purchase_id = p.id AND i.status IN ('creating', 'pending')) LIMIT $1",
    ),
    (
        "invoice's money is not that of its payments",
        "SELECT i.id, i.credited, CAST(COALESCE(g.total, 0) AS BIGINT) FROM invoices i LEFT JOIN (SELECT invoice_id, \
         SUM(amount) AS total FROM gateway_payments GROUP BY invoice_id) g ON g.invoice_id = i.id \
         WHERE i.credited <> COALESCE(g.total, 0) LIMIT $1",
    ),
    (
        "payment at the gateway is not booked as it came",
        "SELECT g.payment_id, CAST(COALESCE(b.total, 0) AS BIGINT), g.amount FROM gateway_payments g LEFT JOIN (SELECT t.key, \
         SUM(e.amount) AS total FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id \
         WHERE t.kind = 'gateway_payment' AND e.account IN ('customer', 'receivable') GROUP BY t.key) b \
         ON b.key = g.provider || ':' || g.payment_id WHERE COALESCE(b.total, 0) <> g.amount LIMIT $1",
    ),
    (
        "the book's money at the gateway is not that of the payments",
        "SELECT 'all', CAST(e.total AS BIGINT), CAST(g.total AS BIGINT) FROM (SELECT COALESCE(SUM(amount), 0) AS total FROM ledger_entries \
         WHERE account = 'qpay_clearing') e, (SELECT COALESCE(SUM(fee - amount + refund_amount), 0) AS total FROM gateway_payments) g WHERE e.total <> g.total LIMIT $1",
    ),
    (
        "payment's part that was given back does not fit its refund",
        "SELECT payment_id, refund_amount, amount FROM gateway_payments \
         WHERE (refund_amount > 0) <> COALESCE(refund IN ('requested', 'refunded'), FALSE) LIMIT $1",
    ),
    (
        "the book's gateway fees are not those of the payments",
        "SELECT 'all', CAST(e.total AS BIGINT), CAST(g.total AS BIGINT) FROM (SELECT COALESCE(SUM(amount), 0) AS total FROM ledger_entries \
         WHERE account = 'qpay_fee') e, (SELECT COALESCE(SUM(-fee), 0) AS total FROM gateway_payments) g WHERE e.total <> g.total LIMIT $1",
    ),
];

/// How long after its last moment an invoice may still be open: it is looked after a little later.
const OPEN_MARGIN_MS: i64 = 3_600_000;

/// Audits the whole store.
pub async fn run(db: &mut Db) -> Result<Report> {
    let mut report = Report::default();
    for (what, statement) in CHECKS {
        let rows: Vec<(String, i64, i64)> = on!(&mut *db, conn => {
            sqlx::query_as(*statement).bind(MOST_FINDINGS).fetch_all(conn).await?
        });
        report
            .violations
            .extend(rows.into_iter().map(|(whose, is, should)| format!("{what}: {whose}: {is}, {should}")));
    }
    let long_over = now().plus_millis(-(GIVE_UP_MS + OPEN_MARGIN_MS));
    let stuck: Vec<(String,)> = on!(&mut *db, conn => {
        sqlx::query_as("SELECT id FROM invoices WHERE status IN ('creating', 'pending') AND expires_at < $1 LIMIT $2")
            .bind(long_over.0)
            .bind(MOST_FINDINGS)
            .fetch_all(conn)
            .await?
    });
    report.violations.extend(stuck.into_iter().map(|(invoice,)| format!("invoice never ended: {invoice}")));
    (report.outbox_pending, report.live_sessions, report.sessions, report.ledger_transactions) = on!(db, conn => {
        sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM outbox WHERE published_at IS NULL), \
             (SELECT COUNT(*) FROM sessions WHERE status IN ('requested', 'active')), \
             (SELECT COUNT(*) FROM sessions), (SELECT COUNT(*) FROM ledger_transactions)",
        )
        .fetch_one(conn)
        .await?
    });
    Ok(report)
}
