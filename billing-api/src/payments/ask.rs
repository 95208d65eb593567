//! Asks the gateway about an invoice and books what it says; cancels there what has expired or is not wanted any more.

use std::time::Duration;

use evm_domain::{InvoiceId, Money};
use evm_store::gateway::{self, Findings, Kind, Received};
use evm_store::invoices::{self, Invoice};
use evm_store::{Result as StoreResult, StoreError, checks, failpoint, now};

use super::PaymentError;
use super::qpay::{Canceled, Payment, PaymentKind, PaymentStatus, QpayClient, QpayError};
use crate::App;
use crate::http::problem::{Answer, Code};

/// How long to wait for the answer that another request asked for; how often to look.
const OTHERS_TIME: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks now, on a task of its own: whoever wished it may go away. `None`: somebody is asking, or asked less than `gap_ms`
/// ago.
pub(crate) async fn ask(app: &App, invoice: InvoiceId, gap_ms: i64) -> Result<Option<Invoice>, PaymentError> {
    let task = app.clone();
    let asked = app.work.spawn(async move { claimed(&task, invoice, gap_ms).await });
    asked.await.unwrap_or_else(|error| Err(StoreError::Broken(format!("asking the gateway broke: {error}")).into()))
}

async fn claimed(app: &App, invoice: InvoiceId, gap_ms: i64) -> Result<Option<Invoice>, PaymentError> {
    let mut db = app.store.begin().await?;
    let Some(claimed) = checks::claim(&mut db, invoice, gap_ms, now()).await? else { return Ok(None) };
    db.commit().await?;
    failpoint("check.claimed");
    match look(app, &claimed).await {
        Ok(invoice) => Ok(Some(invoice)),
        Err(PaymentError::Gateway(error)) => {
            let mut db = app.store.begin().await?;
            checks::unanswered(&mut db, &claimed, now()).await?;
            db.commit().await?;
            app.hint_outbox().await;
            Err(error.into())
        }
        // The claim runs out by itself.
        Err(error) => Err(error),
    }
}

async fn look(app: &App, claimed: &Invoice) -> Result<Invoice, PaymentError> {
    let qpay = app.config.qpay.as_ref().ok_or_else(|| QpayError::NotSent("QPay is not set up".into()))?;
    let Some(gateway_id) = &claimed.gateway_id else { return look_for_lost(app, qpay, claimed).await };
    let mut found = findings(qpay, gateway_id).await?;
    let paid = found.received.iter().map(|received| received.amount).sum::<Money>();
    let waits = claimed.state.is_open() && claimed.expires_at > now() && paid < claimed.amount;
    let canceled = waits && canceled_there(qpay, gateway_id).await;
    if canceled {
        // Something may have been paid just before.
        found = findings(qpay, gateway_id).await?;
    }
    failpoint("check.answered");
    let mut db = app.store.begin().await?;
    let settled = gateway::settle(&mut db, claimed.id, &found, now()).await?;
    let invoice = if canceled { checks::closed(&mut db, claimed.id, now()).await? } else { settled.invoice };
    let expired = invoice.state.is_open() && invoice.expires_at <= now();
    let to_close = !invoice.closed && (expired || !invoice.state.is_open());
    if !to_close {
        checks::answered(&mut db, claimed, now()).await?;
    }
    db.commit().await?;
    failpoint("settle.committed");
    app.hint_outbox().await;
    if to_close { close(app, qpay, claimed, gateway_id).await } else { Ok(invoice) }
}

/// Whether an invoice was canceled at the gateway without our doing. Where it does not say so, the expiry ends the invoice.
async fn canceled_there(qpay: &QpayClient, gateway_id: &str) -> bool {
    match qpay.get_invoice(gateway_id).await {
        Ok(invoice) => is_canceled(&invoice.status),
        Err(QpayError::Refused { key, .. }) => key == "INVOICE_ALREADY_CANCELED",
        Err(_) => false,
    }
}

/// How the gateway spells it is not known.
fn is_canceled(word: &str) -> bool {
    matches!(word, "CANCELED" | "CANCELLED")
}

/// Cancels at the gateway; what was paid in the meantime is booked first.
async fn close(app: &App, qpay: &QpayClient, claimed: &Invoice, gateway_id: &str) -> Result<Invoice, PaymentError> {
    let late = match qpay.cancel_invoice(gateway_id).await {
        Ok(Canceled::Canceled) => Findings::default(),
        Ok(Canceled::Paid) => findings(qpay, gateway_id).await?,
        Err(error) if error.is_passing() || error == QpayError::Unauthorised => return Err(error.into()),
        Err(error) => {
            // It can still be paid there: a callback or the customer's question would tell of it, and the money become balance.
            tracing::warn!(invoice = %claimed.id, %error, "the gateway does not cancel an invoice");
            findings(qpay, gateway_id).await?
        }
    };
    failpoint("cancel.answered");
    let mut db = app.store.begin().await?;
    gateway::settle(&mut db, claimed.id, &late, now()).await?;
    let invoice = checks::closed(&mut db, claimed.id, now()).await?;
    checks::answered(&mut db, claimed, now()).await?;
    db.commit().await?;
    app.hint_outbox().await;
    Ok(invoice)
}

/// All that the gateway says was paid on an invoice, and given back. That it does not know an invoice which it made is no
/// answer.
async fn findings(qpay: &QpayClient, gateway_id: &str) -> Result<Findings, QpayError> {
    qpay.check(gateway_id).await.map(to_book)
}

/// What of the gateway's list of an invoice's payments is to be booked.
pub(crate) fn to_book(payments: Vec<Payment>) -> Findings {
    let mut found = Findings::default();
    for payment in payments {
        match payment.status {
            PaymentStatus::Paid if payment.currency == "MNT" => found.received.push(received(payment)),
            PaymentStatus::Paid => {
                tracing::error!(
                    payment = payment.payment_id,
                    currency = payment.currency,
                    "paid in another currency: not credited"
                );
            }
            PaymentStatus::Refunded => found.refunded.push(payment.payment_id),
            PaymentStatus::Other(word) if is_canceled(&word) => found.refunded.push(payment.payment_id),
            _ => {}
        }
    }
    found
}

fn received(payment: Payment) -> Received {
    let kind = match payment.kind {
        PaymentKind::P2p => Kind::P2p,
        PaymentKind::Card => Kind::Card,
        PaymentKind::Other => Kind::Other,
    };
    Received { payment_id: payment.payment_id, amount: payment.amount, fee: payment.fee, kind }
}

/// An attempt of which the gateway's id never came back. Where a callback named a payment, the gateway says which invoice
/// it is of, and that invoice must have our number; else nobody knows of the invoice, and the attempt has failed.
async fn look_for_lost(app: &App, qpay: &QpayClient, claimed: &Invoice) -> Result<Invoice, PaymentError> {
    if let Some(payment) = &claimed.hint_payment {
        let found = id_of_lost(qpay, claimed, payment).await?;
        let mut db = app.store.begin().await?;
        let adopted = match found {
            Some(gateway_id) => adopt(&mut db, claimed, &gateway_id).await?,
            None => None,
        };
        if let Some(invoice) = adopted {
            db.commit().await?;
            tracing::info!(invoice = %claimed.id, "found an invoice whose answer was lost");
            app.nudge.notify_one();
            return Ok(invoice);
        }
    }
    let mut db = app.store.begin().await?;
    checks::forget_hint(&mut db, claimed.id).await?;
    let invoice = invoices::not_opened(&mut db, claimed.id, now()).await?;
    checks::answered(&mut db, claimed, now()).await?;
    db.commit().await?;
    app.hint_outbox().await;
    Ok(invoice)
}

/// The gateway's id of the invoice that a payment is of, if that is this one.
async fn id_of_lost(qpay: &QpayClient, claimed: &Invoice, payment: &str) -> Result<Option<String>, QpayError> {
    let unknown = |error: QpayError| if error.is_clear() { Ok(None) } else { Err(error) };
    let gateway_id = match qpay.get_payment(payment).await {
        Ok(origin) => origin.invoice_id,
        Err(error) => return unknown(error),
    };
    let Some(gateway_id) = gateway_id else { return Ok(None) };
    match qpay.get_invoice(&gateway_id).await {
        Ok(state) => Ok(Some(gateway_id).filter(|_| state.sender_invoice_no == Some(claimed.id.to_string()))),
        Err(error) => unknown(error),
    }
}

/// `None`: the id is another invoice's.
async fn adopt(db: &mut evm_store::Db, claimed: &Invoice, gateway_id: &str) -> StoreResult<Option<Invoice>> {
    match invoices::opened(db, claimed.id, gateway_id, None, now()).await {
        Ok(invoice) => Ok(Some(invoice)),
        Err(StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where an invoice stands after asking the gateway now; as it is known where the gateway does not answer.
pub(crate) async fn fresh(app: &App, invoice: Invoice, gap_ms: i64) -> Answer<Invoice> {
    // One that the gateway never made nobody can pay. One that is paid can be paid twice.
    if invoice.gateway_id.is_none() || app.config.qpay.is_none() {
        return Ok(invoice);
    }
    match ask(app, invoice.id, gap_ms).await {
        Ok(Some(invoice)) => return Ok(invoice),
        Ok(None) | Err(PaymentError::Gateway(_)) => {}
        Err(PaymentError::Store(error)) => return Err(error.into()),
    }
    // Somebody else may be asking: their answer is ours.
    let deadline = tokio::time::Instant::now() + OTHERS_TIME;
    loop {
        let stored = invoices::by_id(&mut app.store.read().await?, None, invoice.id).await?.ok_or(Code::NotFound)?;
        if stored.claimed_until <= now() || tokio::time::Instant::now() >= deadline {
            return Ok(stored);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
