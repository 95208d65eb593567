use axum::extract::State;
use axum::{Extension, Json};
use evm_domain::{CustomerId, Money, PurchaseId, Status};
use evm_store::invoices::{self, CALLBACK_GAP_MS};
use evm_store::purchases::{self, FromBalance, Unpayable};
use evm_store::{Db, failpoint, now};
use serde::{Deserialize, Serialize};

use super::charge_of;
use crate::App;
use crate::balance::replenish::ToPay;
use crate::http::auth::Caller;
use crate::http::extract::{Body, PathId};
use crate::http::idempotency::Held;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;
use crate::payments::{ask, make};

/// How to pay.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pay {
    /// One of `payment-options` that is not disabled.
    #[schema(example = "EVM")]
    option: String,
    /// With `EVM`: pay what the balance has, where that is less than what is due; the rest can be paid with `QPAY`.
    #[serde(default)]
    #[schema(required = false)]
    partial: bool,
}

/// What came of it, by `option`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(crate) enum PayAnswer {
    /// Paid.
    Evm(Paid),
    /// To be paid.
    Qpay(ToPay),
}

/// A purchase paid from the balance, or a part of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Paid {
    #[schema(example = "EVM")]
    option: &'static str,
    /// The purchase's id.
    invoice_id: String,
    new_balance: Mnt,
    /// What was paid now, where that is a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    paid: Option<Mnt>,
    /// What is still to be paid, where a part was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    due: Option<Mnt>,
}

refusals!(PayRefusals:
    InvalidRequest, NotFound, AlreadyPaid, InsufficientBalance, ChargeRunning, PaymentOptionDisabled, GatewayRefused,
    GatewayUnavailable, GatewayNoAnswer,
);

/// Pays a purchase, all that is due of it, or with `partial` what the balance has. With `EVM` it is paid at once; with `QPAY`
/// the customer pays at `url`, and `status` or the event `PAYMENT` tells when. Asked again while it is open, `QPAY` answers
/// the same invoice.
#[utoipa::path(
    post, path = "/purchases/{id}/pay", operation_id = "pay", tag = "purchases",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = Pay, responses((status = 200, body = PayAnswer), PayRefusals)
)]
pub(crate) async fn pay(
    State(app): State<App>,
    caller: Caller,
    PathId(purchase): PathId<PurchaseId>,
    held: Option<Extension<Held>>,
    Body(body): Body<Pay>,
) -> Answer<Json<PayAnswer>> {
    match body.option.as_str() {
        "EVM" => from_balance(&app, caller.customer, purchase, body.partial, held.as_deref()).await,
        "QPAY" if body.partial => Err(Problem::field("partial", "only with EVM: QPAY takes all that is due")),
        "QPAY" => match make::for_purchase(&app, caller.customer, purchase).await? {
            Ok(invoice) => Ok(Json(PayAnswer::Qpay(invoice.into()))),
            Err(why) => Err(refusal(&mut app.store.begin().await?, caller.customer, purchase, why).await?),
        },
        _ => Err(Code::PaymentOptionDisabled.into()),
    }
}

async fn from_balance(
    app: &App,
    customer: CustomerId,
    purchase: PurchaseId,
    partial: bool,
    held: Option<&Held>,
) -> Answer<Json<PayAnswer>> {
    let mut how = FromBalance { partial, despite_invoice: false };
    let mut db = app.store.begin().await?;
    let mut paid = purchases::pay_from_evm(&mut db, customer, purchase, how, now()).await?;
    let invoice_open = paid == Err(Unpayable::InvoiceOpen);
    if invoice_open {
        drop(db);
        // Money that the gateway has by now pays first. Where it does not answer, money that came becomes balance.
        if let Some(open) = invoices::open_of(&mut app.store.read().await?, purchase).await? {
            ask::fresh(app, open, CALLBACK_GAP_MS).await?;
        }
        db = app.store.begin().await?;
        how.despite_invoice = true;
        paid = purchases::pay_from_evm(&mut db, customer, purchase, how, now()).await?;
    }
    let paid = match paid {
        Ok(paid) => paid,
        Err(why) => return Err(refusal(&mut db, customer, purchase, why).await?),
    };
    let part = paid.due > Money::ZERO;
    let paid = PayAnswer::Evm(Paid {
        option: "EVM",
        invoice_id: purchase.to_string(),
        new_balance: Mnt(paid.balance),
        paid: part.then_some(Mnt(paid.amount)),
        due: part.then_some(Mnt(paid.due)),
    });
    Held::seal(held, &mut db, &paid).await?;
    db.commit().await?;
    failpoint("pay.committed");
    app.hint_outbox().await;
    if invoice_open {
        app.nudge.notify_one();
    }
    Ok(Json(paid))
}

async fn refusal(db: &mut Db, customer: CustomerId, purchase: PurchaseId, why: Unpayable) -> Answer<Problem> {
    Ok(match why {
        Unpayable::NotFound => {
            let session = charge_of(db, customer, purchase).await?;
            match session.map(|session| session.status) {
                Some(Status::Active) => Code::ChargeRunning.into(),
                // Finished before it began: nothing is to be paid.
                Some(Status::Finished) => Code::AlreadyPaid.into(),
                _ => Code::NotFound.into(),
            }
        }
        Unpayable::AlreadyPaid | Unpayable::InvoiceOpen => Code::AlreadyPaid.into(),
        Unpayable::InsufficientBalance { balance, due } => {
            Code::InsufficientBalance.because(format!("the balance is {balance}, due are {due}"))
        }
    })
}
