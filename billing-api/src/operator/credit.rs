use axum::extract::{Path, State};
use axum::{Extension, Json};
use evm_domain::ledger::credit_by_operator;
use evm_domain::{CustomerId, Money};
use evm_store::ledger::Booking;
use evm_store::{Db, Rule, StoreError, customers, ledger, new_id, now};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::customer::phone;
use crate::http::extract::{Body, short};
use crate::http::idempotency::Held;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;

/// Cash taken in or given back.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credit {
    /// Negative corrects the balance down.
    amount: Mnt,
    /// Why; kept in the book.
    #[schema(min_length = 1, max_length = 500, example = "cash at the counter")]
    note: String,
}

/// The customer afterwards.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credited {
    customer_id: String,
    new_balance: Mnt,
}

refusals!(CreditRefusals: InvalidRequest, NotFound, InsufficientBalance);

/// Credits a customer's balance, in one ledger transaction. A phone works in place of the id; an unknown phone becomes
/// a customer. With an `Idempotency-Key` a request that comes twice credits once.
#[utoipa::path(
    post, path = "/customers/{id}/credit", operation_id = "credit", tag = "operator: customers",
    params(("id" = String, Path, description = "The customer's id, or a phone.", example = "+97686661488")),
    request_body = Credit, responses((status = 200, body = Credited), CreditRefusals)
)]
pub(crate) async fn credit(
    State(app): State<App>,
    Path(who): Path<String>,
    held: Option<Extension<Held>>,
    Body(body): Body<Credit>,
) -> Answer<Json<Credited>> {
    short("note", &body.note, 500)?;
    if body.note.trim().is_empty() {
        return Err(Problem::field("note", "is empty"));
    }
    if body.amount.0 == Money::ZERO {
        return Err(Problem::field("amount", "is zero"));
    }
    let mut db = app.store.begin().await?;
    let customer = customer(&app, &mut db, &who).await?;
    let booking = Booking {
        key: format!("credit:{}", new_id()),
        kind: "credit",
        customer: Some(customer),
        purchase: None,
        note: Some(body.note.trim().to_owned()),
        postings: credit_by_operator(body.amount.0),
    };
    ledger::post(&mut db, booking, now()).await.map_err(|error| match error {
        StoreError::Refused(Rule::BalanceNotNegative) => Code::InsufficientBalance.into(),
        other => Problem::from(other),
    })?;
    let balance = customers::lock_balance(&mut db, customer).await?.ok_or(Code::NotFound)?;
    let credited = Credited { customer_id: customer.to_string(), new_balance: Mnt(balance) };
    Held::seal(held.as_deref(), &mut db, &credited).await?;
    db.commit().await?;
    Ok(Json(credited))
}

/// A customer by id or phone.
pub(super) async fn customer(app: &App, db: &mut Db, who: &str) -> Answer<CustomerId> {
    match who.parse::<CustomerId>() {
        Ok(id) => Ok(customers::by_id(db, id).await?.ok_or(Code::NotFound)?.id),
        Err(_) => {
            let phone = phone::parse(who, &app.config.phone_countries).map_err(|_| Code::NotFound)?;
            Ok(customers::of_phone(db, &phone, now()).await?.id)
        }
    }
}
