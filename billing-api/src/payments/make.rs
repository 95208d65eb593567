//! Makes invoices at the gateway.

use std::time::Duration;

use evm_domain::{CustomerId, Money, PurchaseId, Timestamp};
use evm_store::invoices::{self, Begun, Invoice, State};
use evm_store::purchases::Unpayable;
use evm_store::{StoreError, failpoint, now};

use super::ask;
use super::qpay::{NewInvoice, QpayClient, QpayError};
use crate::App;
use crate::http::problem::{Answer, Code, Problem};

/// How long to wait for an invoice that another request is making; how often to look.
const OTHERS_TIME: Duration = Duration::from_secs(14);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The invoice for what is due of a purchase: a new one, or the one that is open already.
pub(crate) async fn for_purchase(
    app: &App,
    customer: CustomerId,
    purchase: PurchaseId,
) -> Answer<Result<Invoice, Unpayable>> {
    let qpay = offered(app)?;
    let deadline = tokio::time::Instant::now() + OTHERS_TIME;
    let mut replace = false;
    loop {
        let mut db = app.store.begin().await?;
        let expires = expiry(app);
        match invoices::begin_purchase(&mut db, customer, purchase, expires, replace, now()).await? {
            Err(why) => return Ok(Err(why)),
            Ok(Begun::New(invoice)) => {
                db.commit().await?;
                return make(app, qpay, invoice).await.map(Ok);
            }
            Ok(Begun::Open(invoice)) if invoice.state == State::Pending => return Ok(Ok(invoice)),
            Ok(Begun::Open(_)) => {
                drop(db);
                if tokio::time::Instant::now() >= deadline {
                    return Err(Code::GatewayNoAnswer.into());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(Begun::Outdated(invoice)) => {
                drop(db);
                // Where the gateway does not answer, what was paid becomes balance.
                ask::fresh(app, invoice, 0).await?;
                replace = true;
            }
        }
    }
}

/// A new invoice that tops the balance up.
pub(crate) async fn for_top_up(app: &App, customer: CustomerId, amount: Money) -> Answer<Invoice> {
    let qpay = offered(app)?;
    let mut db = app.store.begin().await?;
    let begun = invoices::begin_replenish(&mut db, customer, amount, expiry(app), now()).await?;
    let Some(invoice) = begun else {
        return Err(Code::TooManyRequests
            .because("too many top-ups are open; pay one, or let them expire")
            .retry_after(60));
    };
    db.commit().await?;
    make(app, qpay, invoice).await
}

fn offered(app: &App) -> Answer<QpayClient> {
    app.config.qpay.clone().ok_or_else(|| Code::PaymentOptionDisabled.into())
}

fn expiry(app: &App) -> Timestamp {
    now().plus_millis(i64::try_from(app.config.qpay_expiry.as_millis()).unwrap_or(i64::MAX))
}

/// Makes a stored invoice at the gateway, on a task of its own: a phone that hangs up must not lose the answer.
async fn make(app: &App, qpay: QpayClient, invoice: Invoice) -> Answer<Invoice> {
    failpoint("invoice.committed");
    let task = app.clone();
    let made = app.work.spawn(async move { call(&task, &qpay, &invoice).await });
    made.await.unwrap_or_else(|error| {
        tracing::error!(%error, "making an invoice broke");
        Err(Code::Internal.into())
    })
}

async fn call(app: &App, qpay: &QpayClient, invoice: &Invoice) -> Answer<Invoice> {
    let number = invoice.id.to_string();
    let description = match invoice.purchase {
        Some(purchase) => format!("Charging {purchase}"),
        None => "EVM balance".to_owned(),
    };
    let new = NewInvoice {
        sender_invoice_no: &number,
        receiver_code: &invoice.customer.to_string(),
        description: &description,
        amount_mnt: u64::try_from(invoice.asked().0 / 100).unwrap_or_default(),
        callback_url: &format!("{}/api/v1/payments/qpay/callback/{}", app.config.public_url, invoice.callback_token),
    };
    let made = qpay.create_invoice(&new).await;
    failpoint("invoice.made");
    match made {
        Ok(made) => {
            let mut db = app.store.begin().await?;
            let opened = invoices::opened(&mut db, invoice.id, &made.invoice_id, Some(&made.short_url), now()).await;
            let opened = match opened {
                // The gateway's id is another invoice's: nothing that it says of this one can be believed.
                Err(StoreError::Refused(_)) => {
                    drop(db);
                    tracing::error!(invoice = %invoice.id, "the gateway gave an id that another invoice has");
                    return not_made(app, invoice, Code::GatewayRefused.into()).await;
                }
                opened => opened?,
            };
            db.commit().await?;
            failpoint("invoice.opened");
            if opened.hints > 0 || !opened.state.is_open() {
                app.nudge.notify_one();
            }
            ended(opened.state).map_or(Ok(opened), |code| Err(code.into()))
        }
        Err(error) => not_made(app, invoice, refusal(&error)).await,
    }
}

/// Why nobody should pay an invoice that the gateway made: it ended while the gateway was being asked.
fn ended(state: State) -> Option<Code> {
    match state {
        State::Creating | State::Pending => None,
        // Its purchase was paid otherwise.
        State::Canceled => Some(Code::AlreadyPaid),
        // Another node took the answer for lost.
        State::Success | State::Error => Some(Code::GatewayNoAnswer),
    }
}

async fn not_made(app: &App, invoice: &Invoice, problem: Problem) -> Answer<Invoice> {
    let mut db = app.store.begin().await?;
    invoices::not_opened(&mut db, invoice.id, now()).await?;
    db.commit().await?;
    app.hint_outbox().await;
    Err(problem)
}

/// What the customer is told of a call that failed; the log has the rest.
fn refusal(error: &QpayError) -> Problem {
    match error {
        QpayError::NotSent(_) | QpayError::BreakerOpen | QpayError::Refused { status: 429, .. } => {
            Problem::from(Code::GatewayUnavailable).retry_after(10)
        }
        QpayError::Unknown(_) => Code::GatewayNoAnswer.into(),
        QpayError::Invalid(_) | QpayError::Refused { .. } | QpayError::NotFound | QpayError::Unauthorised => {
            Code::GatewayRefused.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_invoice_is_to_be_paid() {
        assert!([State::Creating, State::Pending].into_iter().all(|state| ended(state).is_none()));
        assert!([State::Success, State::Error, State::Canceled].into_iter().all(|state| ended(state).is_some()));
    }
}
