use axum::extract::State;
use axum::http::StatusCode;
use evm_store::customers;
use serde::Deserialize;

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, short};
use crate::http::problem::{Answer, Problem, refusals};

/// What the customer says of themself.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Info {
    #[schema(max_length = 100)]
    name: String,
    /// Empty, or with an `@`.
    #[schema(max_length = 254, example = "name@example.mn")]
    email: String,
}

refusals!(UpdateInfoRefusals: InvalidRequest);

/// Changes name and email.
#[utoipa::path(
    post, path = "/customer/update-info", operation_id = "updateInfo", tag = "profile",
    request_body = Info, responses((status = 200, description = "Changed."), UpdateInfoRefusals)
)]
pub(crate) async fn update_info(State(app): State<App>, caller: Caller, Body(info): Body<Info>) -> Answer<StatusCode> {
    short("name", &info.name, 100)?;
    short("email", &info.email, 254)?;
    if !info.email.is_empty() && !info.email.contains('@') {
        return Err(Problem::field("email", "is no email address"));
    }
    let mut db = app.store.begin().await?;
    customers::set_info(&mut db, caller.customer, info.name.trim(), info.email.trim()).await?;
    db.commit().await?;
    Ok(StatusCode::OK)
}
