use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::App;
use crate::http::auth::Caller;

/// A way to pay.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PaymentOption {
    #[schema(example = "EVM")]
    option: &'static str,
    /// An SVG picture as a data URL.
    icon: &'static str,
    title: &'static str,
    /// Shown, but not to be chosen now.
    disabled: bool,
}

const WALLET: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Cpath d='M3 6h16v3h2v9H3z' fill='none' stroke='%23222' stroke-width='2'/%3E%3Ccircle cx='17' cy='13' r='1.5'/%3E%3C/svg%3E";
const QR: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Cpath d='M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 14h2v2h-2zM16 16h2v2h-2zM14 18h2v2h-2zM18 18h2v2h-2z' fill='%23222'/%3E%3C/svg%3E";

/// The ways to pay, those that are disabled for now included.
#[utoipa::path(
    get, path = "/payment-options", operation_id = "paymentOptions", tag = "purchases",
    responses((status = 200, body = Vec<PaymentOption>))
)]
pub(crate) async fn payment_options(State(app): State<App>, _: Caller) -> Json<Vec<PaymentOption>> {
    Json(vec![
        PaymentOption { option: "EVM", icon: WALLET, title: "EVM balance", disabled: false },
        PaymentOption { option: "QPAY", icon: QR, title: "QPay", disabled: app.config.qpay.is_none() },
    ])
}
