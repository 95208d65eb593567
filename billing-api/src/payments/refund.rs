//! Has the gateway give card payments back whose refund is booked.

use evm_store::refunds::{self, CardRefund};
use evm_store::{StoreError, failpoint, gateway, invoices, now};

use super::PaymentError;
use super::ask::to_book;
use super::qpay::{PaymentStatus, QpayClient, QpayError};
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
    if tries > 0 && given_back(standing(app, qpay, card).await?.as_ref()) {
        return given_out(app, card).await;
    }
    let answer = qpay.refund(&card.payment_id).await;
    failpoint("refund.answered");
    match answer {
        Ok(()) => given_out(app, card).await,
        Err(error) if error.is_clear() => not_given_out(app, qpay, card, error).await,
        Err(error) => Err(error.into()),
    }
}

/// The gateway refused, so the money becomes balance; but only while the gateway lists it as paid.
async fn not_given_out(
    app: &App,
    qpay: &QpayClient,
    card: &CardRefund,
    refusal: QpayError,
) -> Result<(), PaymentError> {
    let standing = standing(app, qpay, card).await?;
    if given_back(standing.as_ref()) {
        return given_out(app, card).await;
    }
    if standing.is_none() {
        return Err(refusal.into());
    }
    let mut db = app.store.begin().await?;
    refunds::not_given_out(&mut db, &card.payment_id, now()).await?;
    db.commit().await?;
    tracing::warn!(payment = card.payment_id, %refusal, "the gateway does not give a card payment back: it is balance now");
    Ok(())
}

async fn given_out(app: &App, card: &CardRefund) -> Result<(), PaymentError> {
    let mut db = app.store.begin().await?;
    refunds::given_out(&mut db, &card.payment_id).await?;
    Ok(db.commit().await?)
}

/// The gateway's words are an open set: what was paid, and after we asked for it is not any more, is given back.
fn given_back(standing: Option<&PaymentStatus>) -> bool {
    standing.is_some_and(|status| *status != PaymentStatus::Paid)
}

/// How the gateway lists the payment now; `None`: not at all. What else it says of the invoice is booked.
async fn standing(app: &App, qpay: &QpayClient, card: &CardRefund) -> Result<Option<PaymentStatus>, PaymentError> {
    let invoice = card.invoice()?;
    let stored = invoices::by_id(&mut app.store.read().await?, None, invoice).await?;
    let Some(gateway_id) = stored.and_then(|invoice| invoice.gateway_id) else { return Ok(None) };
    let payments = qpay.check(&gateway_id).await?;
    let standing = payments.iter().find(|payment| payment.payment_id == card.payment_id);
    let standing = standing.map(|payment| payment.status.clone());
    let mut db = app.store.begin().await?;
    gateway::settle(&mut db, invoice, &to_book(payments), now()).await?;
    db.commit().await?;
    Ok(standing)
}
