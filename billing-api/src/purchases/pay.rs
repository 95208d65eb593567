use axum::extract::State;
use axum::{Extension, Json};
use evm_domain::{CustomerId, PurchaseId, Status};
use evm_store::purchases::{self, Unpayable};
use evm_store::{Db, now, sessions};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, PathId};
use crate::http::idempotency::Held;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;

/// How to pay.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Pay {
    /// One of `payment-options` that is not disabled.
    #[schema(example = "EVM")]
    option: String,
}

/// A purchase paid from the balance.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Paid {
    #[schema(example = "EVM")]
    option: &'static str,
    /// The purchase's id.
    invoice_id: String,
    new_balance: Mnt,
}

refusals!(PayRefusals:
    InvalidRequest, NotFound, AlreadyPaid, InsufficientBalance, ChargeRunning, PaymentOptionDisabled,
);

/// Pays a purchase, all that is due of it.
#[utoipa::path(
    post, path = "/purchases/{id}/pay", operation_id = "pay", tag = "purchases",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = Pay, responses((status = 200, body = Paid), PayRefusals)
)]
pub(crate) async fn pay(
    State(app): State<App>,
    caller: Caller,
    PathId(purchase): PathId<PurchaseId>,
    held: Option<Extension<Held>>,
    Body(body): Body<Pay>,
) -> Answer<Json<Paid>> {
    if body.option != "EVM" {
        return Err(Code::PaymentOptionDisabled.into());
    }
    let mut db = app.store.begin().await?;
    let balance = match purchases::pay_from_evm(&mut db, caller.customer, purchase, now()).await? {
        Ok(balance) => balance,
        Err(why) => return Err(refusal(&mut db, caller.customer, purchase, why).await?),
    };
    let paid = Paid { option: "EVM", invoice_id: purchase.to_string(), new_balance: Mnt(balance) };
    Held::seal(held.as_deref(), &mut db, &paid).await?;
    db.commit().await?;
    app.hint_outbox().await;
    Ok(Json(paid))
}

async fn refusal(db: &mut Db, customer: CustomerId, purchase: PurchaseId, why: Unpayable) -> Answer<Problem> {
    Ok(match why {
        Unpayable::NotFound => {
            let session = sessions::of_purchase(db, purchase).await?;
            let running = session.is_some_and(|s| s.customer == Some(customer) && s.status == Status::Active);
            if running { Code::ChargeRunning.into() } else { Code::NotFound.into() }
        }
        Unpayable::AlreadyPaid => Code::AlreadyPaid.into(),
        Unpayable::InsufficientBalance { balance, due } => {
            Code::InsufficientBalance.because(format!("the balance is {balance}, due are {due}"))
        }
    })
}
