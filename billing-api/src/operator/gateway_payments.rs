use axum::Json;
use axum::extract::State;
use evm_domain::Money;
use evm_store::gateway::{self, PaymentLine};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::http::time::Iso;
use crate::http::units::Mnt;

/// Which payments.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only those that a human should look at.
    #[param(required = false)]
    #[serde(default)]
    flagged: bool,
}

/// Money that came in at the gateway.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GatewayPaymentView {
    id: String,
    #[schema(example = "qpay")]
    provider: String,
    /// The gateway's id.
    payment_id: String,
    invoice_id: String,
    /// What the invoice was for; absent for a top-up.
    purchase_id: Option<String>,
    customer_id: String,
    /// `P2P`, `CARD` or `OTHER`.
    #[schema(example = "P2P")]
    kind: String,
    /// What the customer paid.
    amount: Mnt,
    /// What the gateway kept of it.
    fee: Mnt,
    /// The part that paid the purchase; the rest is balance.
    applied: Mnt,
    /// Why to look: `surplus` (more than was asked for), `late` (after the invoice had ended), `refunded_at_gateway` (without
    /// our doing), `refund_failed` (so that it is balance).
    flag: Option<String>,
    /// `requested`, `refunded` or `balance`.
    refund: Option<String>,
    credited_at: Iso,
}

impl From<PaymentLine> for GatewayPaymentView {
    fn from(line: PaymentLine) -> Self {
        Self {
            id: line.id,
            provider: line.provider,
            payment_id: line.payment_id,
            invoice_id: line.invoice_id,
            purchase_id: line.purchase_id,
            customer_id: line.customer_id,
            kind: line.kind,
            amount: Mnt(Money(line.amount)),
            fee: Mnt(Money(line.fee)),
            applied: Mnt(Money(line.applied)),
            flag: line.flag,
            refund: line.refund,
            credited_at: Iso(line.credited_at),
        }
    }
}

refusals!(GatewayPaymentsRefusals: InvalidRequest);

/// Payments at the gateway, newest first.
#[utoipa::path(
    get, path = "/gateway-payments", operation_id = "gatewayPayments", tag = "operator: lists", params(Which, Paging),
    responses((status = 200, body = Paged<GatewayPaymentView>), GatewayPaymentsRefusals)
)]
pub(crate) async fn gateway_payments(
    State(app): State<App>,
    Query(which): Query<Which>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Paged<GatewayPaymentView>>> {
    let page = paging.check()?;
    let (total, rows) = gateway::page(&mut app.store.read().await?, which.flagged, page).await?;
    Ok(Json(paging.with(total, rows.into_iter().map(GatewayPaymentView::from).collect())))
}
