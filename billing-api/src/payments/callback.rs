use axum::extract::{Path, State};
use evm_store::{checks, failpoint, now};
use serde::Deserialize;

use crate::App;
use crate::http::extract::Query;
use crate::http::problem::{Answer, Code, refusals};

/// Most characters of an id that the gateway gives.
const LONGEST_ID: usize = 100;

/// What the gateway appends.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Hint {
    /// The gateway's id of a payment.
    #[param(required = false)]
    qpay_payment_id: Option<String>,
}

refusals!(CallbackRefusals: NotFound);

/// The gateway says that something was paid. It proves nothing: the gateway is asked about the invoice afterwards, and only
/// its answer moves money. Repeats change nothing.
#[utoipa::path(
    get, path = "/payments/qpay/callback/{token}", operation_id = "qpayCallback", tag = "gateway", security(()),
    params(("token" = String, Path, description = "Stands in the URL that the gateway was given with the invoice."), Hint),
    responses((status = 200, body = String, content_type = "text/plain", description = "Always `SUCCESS`."), CallbackRefusals)
)]
pub(crate) async fn callback(
    State(app): State<App>,
    token: Result<Path<String>, axum::extract::rejection::PathRejection>,
    Query(hint): Query<Hint>,
) -> Answer<&'static str> {
    let Path(token) = token.map_err(|_| Code::NotFound)?;
    let sane = |id: &String| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let payment = hint.qpay_payment_id.filter(sane);
    let hex = token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if token.len() != 40 || !hex {
        return Err(Code::NotFound.into());
    }
    let mut db = app.store.begin().await?;
    let invoice = checks::hint(&mut db, &token, payment.as_deref(), now()).await?.ok_or(Code::NotFound)?;
    db.commit().await?;
    failpoint("callback.noted");
    tracing::debug!(%invoice, "the gateway called back");
    app.nudge.notify_one();
    Ok("SUCCESS")
}
