use axum::Json;
use axum::extract::State;
use evm_store::operator;

use super::charger::ChargerView;
use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};

refusals!(ChargersRefusals: InvalidRequest);

/// All chargers, in the order of their identities.
#[utoipa::path(
    get, path = "/chargers", operation_id = "chargers", tag = "operator: chargers", params(Paging),
    responses((status = 200, body = Paged<ChargerView>), ChargersRefusals)
)]
pub(crate) async fn chargers(State(app): State<App>, Query(paging): Query<Paging>) -> Answer<Json<Paged<ChargerView>>> {
    let page = paging.check()?;
    let (total, rows) = operator::chargers(&mut app.store.read().await?, page).await?;
    let views = rows.into_iter().map(|(charger, connectors)| ChargerView::new(charger, connectors));
    Ok(Json(paging.with(total, views.collect())))
}
