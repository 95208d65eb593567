use axum::Json;
use axum::extract::State;
use evm_domain::{Money, PurchaseId};
use evm_store::purchases;
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, PathId};
use crate::http::problem::{Answer, Code, refusals};
use crate::http::units::Mnt;

/// Which payment.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvoiceQuestion {
    /// What `pay` or `replenish` answered.
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    pub(crate) invoice_id: String,
}

/// Where a payment stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InvoiceStatus {
    pub(crate) status: PaymentStatus,
    pub(crate) amount: Mnt,
}

/// `pending` until the money is here; then one of the others, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)] // Payments from the balance neither fail late nor are canceled.
pub(crate) enum PaymentStatus {
    Pending,
    Success,
    Error,
    Canceled,
}

refusals!(StatusRefusals: InvalidRequest, NotFound);

/// Whether a purchase is paid; asks the gateway now.
#[utoipa::path(
    post, path = "/purchases/{id}/status", operation_id = "purchaseStatus", tag = "purchases",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = InvoiceQuestion, responses((status = 200, body = InvoiceStatus), StatusRefusals)
)]
pub(crate) async fn status(
    State(app): State<App>,
    caller: Caller,
    PathId(purchase): PathId<PurchaseId>,
    Body(body): Body<InvoiceQuestion>,
) -> Answer<Json<InvoiceStatus>> {
    let found =
        purchases::by_id(&mut app.store.read().await?, caller.customer, purchase).await?.ok_or(Code::NotFound)?;
    // A payment from the balance has the purchase's own id.
    if body.invoice_id != found.id {
        return Err(Code::NotFound.into());
    }
    let paid = matches!(found.status.as_str(), "paid" | "refunded");
    let status = if paid { PaymentStatus::Success } else { PaymentStatus::Pending };
    Ok(Json(InvoiceStatus { status, amount: Mnt(Money(found.amount)) }))
}
