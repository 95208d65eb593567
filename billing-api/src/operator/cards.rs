use axum::extract::{Path, State};
use axum::http::StatusCode;
use evm_store::{cards, now};
use serde::Deserialize;

use super::credit::customer;
use crate::App;
use crate::http::extract::{MaybeBody, NoBody};
use crate::http::problem::{Answer, Code, Problem, refusals};

/// A card's settings.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    /// A blocked card starts nothing. Left out: as it is, at first not.
    #[schema(required = false)]
    blocked: Option<bool>,
}

refusals!(PutCardRefusals: InvalidRequest, NotFound);

/// Gives a card to a customer, who pays for what it starts at chargers. The body may be left out.
#[utoipa::path(
    put, path = "/customers/{id}/cards/{tag}", operation_id = "putCard", tag = "operator: customers",
    params(
        ("id" = String, Path, description = "The customer's id, or a phone.", example = "+97686661488"),
        ("tag" = String, Path, description = "The idTag, 1 to 36 visible characters.", example = "04A1B2C3"),
    ),
    request_body = Option<Card>, responses((status = 200, description = "Kept."), PutCardRefusals)
)]
pub(crate) async fn put_card(
    State(app): State<App>,
    Path((who, tag)): Path<(String, String)>,
    MaybeBody(card): MaybeBody<Card>,
) -> Answer<StatusCode> {
    // 20 characters in OCPP 1.6, 36 in 2.0.1.
    if !(1..=36).contains(&tag.len()) || !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::field("tag", "has 1 to 36 visible ASCII characters"));
    }
    let mut db = app.store.begin().await?;
    let owner = customer(&app, &mut db, &who).await?;
    cards::put(&mut db, &tag, owner, card.unwrap_or_default().blocked, now()).await?;
    db.commit().await?;
    Ok(StatusCode::OK)
}

refusals!(DeleteCardRefusals: NotFound);

/// Takes a card from a customer.
#[utoipa::path(
    delete, path = "/customers/{id}/cards/{tag}", operation_id = "deleteCard", tag = "operator: customers",
    params(
        ("id" = String, Path, description = "The customer's id, or a phone.", example = "+97686661488"),
        ("tag" = String, Path, description = "The idTag.", example = "04A1B2C3"),
    ),
    responses((status = 200, description = "Gone."), DeleteCardRefusals)
)]
pub(crate) async fn delete_card(
    State(app): State<App>,
    Path((who, tag)): Path<(String, String)>,
    _: NoBody,
) -> Answer<StatusCode> {
    let mut db = app.store.begin().await?;
    let owner = customer(&app, &mut db, &who).await?;
    if !cards::remove(&mut db, &tag, owner).await? {
        return Err(Code::NotFound.into());
    }
    db.commit().await?;
    Ok(StatusCode::OK)
}
