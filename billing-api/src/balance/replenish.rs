use axum::Json;
use axum::extract::State;
use evm_domain::Money;
use evm_store::invoices::Invoice;
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;
use crate::payments::make;

/// Largest top-up.
const MOST: Money = Money(10_000_000_000);

/// How much to top up, and how.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replenish {
    /// Whole tögrög, above 0, at most 100 million.
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

impl From<Invoice> for ToPay {
    fn from(invoice: Invoice) -> Self {
        Self { option: "QPAY", invoice_id: invoice.id.to_string(), url: invoice.url.unwrap_or_default() }
    }
}

refusals!(ReplenishRefusals:
    InvalidRequest, PaymentOptionDisabled, TooManyRequests, GatewayRefused, GatewayUnavailable, GatewayNoAnswer,
);

/// Tops the balance up. The customer pays at `url`; `replenishment` or the event `REPLENISHMENT` tells when.
#[utoipa::path(
    post, path = "/customer/replenish", operation_id = "replenish", tag = "balance",
    request_body = Replenish, responses((status = 200, body = ToPay), ReplenishRefusals)
)]
pub(crate) async fn replenish(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Replenish>,
) -> Answer<Json<ToPay>> {
    let amount = body.amount.0;
    if amount <= Money::ZERO {
        return Err(Problem::field("amount", "must be above 0"));
    }
    if body.option != "QPAY" {
        return Err(Code::PaymentOptionDisabled.into());
    }
    if amount.0 % 100 != 0 || amount > MOST {
        return Err(Problem::field("amount", format!("whole tögrög, at most {}", MOST.to_mnt())));
    }
    Ok(Json(make::for_top_up(&app, caller.customer, amount).await?.into()))
}
