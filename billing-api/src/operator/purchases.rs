use axum::Json;
use axum::extract::State;
use evm_store::purchases as store;
use serde::Serialize;

use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::purchases::list::Purchase;

/// A purchase and whose it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PurchaseView {
    customer_id: String,
    #[serde(flatten)]
    purchase: Purchase,
}

refusals!(PurchasesRefusals: InvalidRequest);

/// All purchases, newest first.
#[utoipa::path(
    get, path = "/purchases", operation_id = "allPurchases", tag = "operator: lists", params(Paging),
    responses((status = 200, body = Paged<PurchaseView>), PurchasesRefusals)
)]
pub(crate) async fn purchases(
    State(app): State<App>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Paged<PurchaseView>>> {
    let page = paging.check()?;
    let (total, rows) = store::page(&mut app.store.read().await?, None, page.offset, page.limit).await?;
    let views = rows.into_iter().map(|row| PurchaseView { customer_id: row.customer_id.clone(), purchase: row.into() });
    Ok(Json(paging.with(total, views.collect())))
}
