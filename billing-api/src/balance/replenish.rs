use evm_domain::Money;
use serde::{Deserialize, Serialize};

use crate::http::auth::Caller;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;

/// How much to top up, and how.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Replenish {
    /// Above 0.
    amount: Mnt,
    /// One of `payment-options` that takes top-ups.
    #[schema(example = "QPAY")]
    option: String,
}

/// Where to pay.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToPay {
    #[schema(example = "QPAY")]
    option: &'static str,
    invoice_id: String,
    /// To be opened on the phone.
    url: String,
}

refusals!(ReplenishRefusals: InvalidRequest, PaymentOptionDisabled);

/// Tops the balance up.
#[utoipa::path(
    post, path = "/customer/replenish", operation_id = "replenish", tag = "balance",
    request_body = Replenish, responses((status = 200, body = ToPay), ReplenishRefusals)
)]
pub(crate) async fn replenish(_: Caller, Body(body): Body<Replenish>) -> Answer<axum::Json<ToPay>> {
    if body.amount.0 <= Money::ZERO {
        return Err(Problem::field("amount", "must be above 0"));
    }
    tracing::debug!(option = body.option, "a top-up was asked for");
    Err(Code::PaymentOptionDisabled.into())
}
