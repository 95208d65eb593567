use axum::Json;
use axum::extract::State;
use evm_domain::Money;
use evm_store::operator;
use serde::Serialize;

use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::http::time::Iso;
use crate::http::units::Mnt;

/// A customer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CustomerView {
    id: String,
    phone: String,
    name: String,
    email: String,
    balance: Mnt,
    /// Still to be paid for charges.
    owed: Mnt,
    created_at: Iso,
}

refusals!(CustomersRefusals: InvalidRequest);

/// All customers, newest first.
#[utoipa::path(
    get, path = "/customers", operation_id = "customers", tag = "operator: lists", params(Paging),
    responses((status = 200, body = Paged<CustomerView>), CustomersRefusals)
)]
pub(crate) async fn customers(
    State(app): State<App>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Paged<CustomerView>>> {
    let page = paging.check()?;
    let (total, rows) = operator::customers(&mut app.store.read().await?, page).await?;
    let views = rows.into_iter().map(|line| CustomerView {
        id: line.id,
        phone: line.phone,
        name: line.name,
        email: line.email,
        balance: Mnt(Money(line.balance)),
        owed: Mnt(Money(line.owed)),
        created_at: Iso(line.created_at),
    });
    Ok(Json(paging.with(total, views.collect())))
}
