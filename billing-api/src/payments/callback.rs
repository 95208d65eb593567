use axum::extract::{Path, RawQuery, State};
use evm_store::{checks, failpoint, now};

use crate::App;
use crate::http::problem::{Answer, Code, refusals};

/// Most characters of an id that the gateway gives.
const LONGEST_ID: usize = 100;

refusals!(CallbackRefusals: NotFound);

/// The gateway says that something was paid. It proves nothing: the gateway is asked about the invoice afterwards, and only
/// its answer moves money. Repeats change nothing.
#[utoipa::path(
    get, path = "/payments/qpay/callback/{token}", operation_id = "qpayCallback", tag = "gateway", security(()),
    params(
        ("token" = String, Path, description = "Stands in the URL that the gateway was given with the invoice."),
        ("qpay_payment_id" = Option<String>, Query, description = "The gateway's id of a payment."),
    ),
    responses((status = 200, body = String, content_type = "text/plain", description = "Always `SUCCESS`."), CallbackRefusals)
)]
pub(crate) async fn callback(
    State(app): State<App>,
    token: Result<Path<String>, axum::extract::rejection::PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<&'static str> {
    let Path(token) = token.map_err(|_| Code::NotFound)?;
    let sane = |id: &String| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    // Whatever else the query holds: a hint that is refused may be the only one.
    let pairs = query.as_deref().map(|query| form_urlencoded::parse(query.as_bytes())).into_iter().flatten();
    let ids = pairs.filter(|(name, _)| name == "qpay_payment_id").map(|(_, id)| id.into_owned());
    let payment = ids.filter(sane).last();
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
