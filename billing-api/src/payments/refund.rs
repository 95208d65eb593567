//! Has the gateway give card payments back whose refund is booked.

use evm_store::refunds::{self, CardRefund};
use evm_store::{StoreError, failpoint, gateway, invoices, now};

use super::PaymentError;
use super::ask::findings;
use super::qpay::{QpayClient, QpayError};
use crate::App;

/// Asks the gateway, on a task of its own, unless somebody does or did a moment ago.
pub(crate) async fn give_out(app: &App, card: &CardRefund) -> Result<(), PaymentError> {
    let (task, card) = (app.clone(), card.clone());
    let asked = app.work.spawn(async move { claimed(&task, &card).await });
    asked.await.unwrap_or_else(|error| Err(StoreError::Broken(format!("a refund broke: {error}")).into()))
}

async fn claimed(app: &App, card: &CardRefund) -> Result<(), PaymentError> {
    let mut db = app.store.begin().await?;
    let Some(tries) = refunds::claim(&mut db, &card.payment_id, now()).await? else { return Ok(()) };
    db.commit().await?;
    let qpay = app.config.qpay.as_ref().ok_or_else(|| QpayError::NotSent("QPay is not set up".into()))?;
    // An earlier try may have succeeded without our hearing of it; the gateway is not asked twice to give money away.
    if tries > 0 && already(app, qpay, card).await? {
        return Ok(());
    }
    let answer = qpay.refund(&card.payment_id).await;
    failpoint("refund.answered");
    match answer {
        Ok(()) => {}
        Err(QpayError::NotFound | QpayError::Invalid(_)) => return not_given_out(app, qpay, card).await,
        Err(QpayError::Refused { status, .. }) if status != 429 => return not_given_out(app, qpay, card).await,
        Err(error) => return Err(error.into()),
    }
    let mut db = app.store.begin().await?;
    refunds::given_out(&mut db, &card.payment_id).await?;
    Ok(db.commit().await?)
}

/// The gateway refused, so the money becomes balance; unless it refused because it was given back before.
async fn not_given_out(app: &App, qpay: &QpayClient, card: &CardRefund) -> Result<(), PaymentError> {
    if already(app, qpay, card).await? {
        return Ok(());
    }
    let mut db = app.store.begin().await?;
    refunds::not_given_out(&mut db, &card.payment_id, now()).await?;
    db.commit().await?;
    tracing::warn!(payment = card.payment_id, "the gateway does not give a card payment back: it is balance now");
    Ok(())
}

/// Whether the gateway says that the payment was given back; the store takes note.
async fn already(app: &App, qpay: &QpayClient, card: &CardRefund) -> Result<bool, PaymentError> {
    let invoice = card.invoice()?;
    let stored = invoices::by_id(&mut app.store.read().await?, None, invoice).await?;
    let Some(gateway_id) = stored.and_then(|invoice| invoice.gateway_id) else { return Ok(false) };
    let found = findings(qpay, &gateway_id).await?;
    let mut db = app.store.begin().await?;
    gateway::settle(&mut db, invoice, &found, now()).await?;
    db.commit().await?;
    Ok(found.refunded.contains(&card.payment_id))
}
