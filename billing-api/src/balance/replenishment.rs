use axum::Json;
use axum::extract::State;
use evm_store::invoices::CUSTOMER_GAP_MS;

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::Body;
use crate::http::problem::{Answer, refusals};
use crate::payments::ask;
use crate::purchases::status::{InvoiceQuestion, InvoiceStatus, invoice_of};

refusals!(ReplenishmentRefusals: InvalidRequest, NotFound);

/// Where a top-up stands; asks the gateway now.
#[utoipa::path(
    post, path = "/customer/replenishment", operation_id = "replenishment", tag = "balance",
    request_body = InvoiceQuestion, responses((status = 200, body = InvoiceStatus), ReplenishmentRefusals)
)]
pub(crate) async fn replenishment(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<InvoiceQuestion>,
) -> Answer<Json<InvoiceStatus>> {
    let invoice = invoice_of(&app, caller.customer, &body.invoice_id, None).await?;
    Ok(Json(ask::fresh(&app, invoice, CUSTOMER_GAP_MS).await?.into()))
}
