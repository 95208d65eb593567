use axum::Json;
use axum::extract::State;
use evm_domain::{CustomerId, Money, PurchaseId, Status};
use evm_store::invoices::{self, CUSTOMER_GAP_MS, Invoice, State as InvoiceState};
use evm_store::{now, purchases};
use serde::{Deserialize, Serialize};

use super::charge_of;
use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, PathId};
use crate::http::problem::{Answer, Code, refusals};
use crate::http::units::Mnt;
use crate::payments::ask;

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

/// `pending` until all the money is here; then one of the others, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
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
    let mut db = app.store.read().await?;
    let Some(found) = purchases::by_id(&mut db, caller.customer, purchase).await? else {
        let session = charge_of(&mut db, caller.customer, purchase).await?;
        return match session.filter(|_| body.invoice_id == purchase.to_string()) {
            Some(s) if s.status == Status::Active => {
                let amount = Mnt(s.bill_at(now(), true).total());
                Ok(Json(InvoiceStatus { status: PaymentStatus::Pending, amount }))
            }
            // It never began: nothing is to be paid.
            Some(s) if s.status == Status::Finished => {
                Ok(Json(InvoiceStatus { status: PaymentStatus::Success, amount: Mnt(Money::ZERO) }))
            }
            _ => Err(Code::NotFound.into()),
        };
    };
    drop(db);
    // A payment from the balance has the purchase's own id.
    if body.invoice_id != found.id {
        let invoice = invoice_of(&app, caller.customer, &body.invoice_id, Some(purchase)).await?;
        return Ok(Json(ask::fresh(&app, invoice, CUSTOMER_GAP_MS).await?.into()));
    }
    let paid = matches!(found.status.as_str(), "paid" | "refunded");
    let status = if paid { PaymentStatus::Success } else { PaymentStatus::Pending };
    Ok(Json(InvoiceStatus { status, amount: Mnt(Money(found.amount)) }))
}

/// An invoice of this customer, for this purchase or, without one, a top-up.
pub(crate) async fn invoice_of(
    app: &App,
    customer: CustomerId,
    invoice: &str,
    purchase: Option<PurchaseId>,
) -> Answer<Invoice> {
    let id = invoice.parse().map_err(|_| Code::NotFound)?;
    let found = invoices::by_id(&mut app.store.read().await?, Some(customer), id).await?;
    Ok(found.filter(|invoice| invoice.purchase == purchase).ok_or(Code::NotFound)?)
}

impl From<Invoice> for InvoiceStatus {
    fn from(invoice: Invoice) -> Self {
        let status = match invoice.state {
            InvoiceState::Creating | InvoiceState::Pending => PaymentStatus::Pending,
            InvoiceState::Success => PaymentStatus::Success,
            InvoiceState::Error => PaymentStatus::Error,
            InvoiceState::Canceled => PaymentStatus::Canceled,
        };
        Self { status, amount: Mnt(invoice.amount) }
    }
}
