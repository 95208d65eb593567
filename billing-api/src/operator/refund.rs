use axum::Json;
use axum::extract::State;
use evm_domain::{Money, PurchaseId};
use evm_store::refunds::{self, CardRefund, Unrefundable};
use evm_store::{failpoint, now};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::extract::{Body, PathId, short};
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;
use crate::payments::refund::give_out;

/// Why a purchase is given back.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToRefund {
    /// Kept in the book.
    #[schema(min_length = 1, max_length = 500, example = "broken cable")]
    note: String,
}

/// A purchase that is given back.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refunded {
    purchase_id: String,
    customer_id: String,
    /// All of it.
    amount: Mnt,
    /// The part that is balance again.
    to_balance: Mnt,
    /// The parts that the gateway gives back to cards.
    cards: Vec<CardView>,
}

/// A card payment that is given back.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CardView {
    /// The gateway's id.
    payment_id: String,
    amount: Mnt,
    /// `requested`: the gateway is asked until it answers; `refunded`; `balance`: it refused, so the money is balance.
    #[schema(example = "refunded")]
    refund: String,
}

impl From<CardRefund> for CardView {
    fn from(card: CardRefund) -> Self {
        Self { payment_id: card.payment_id, amount: Mnt(Money(card.amount)), refund: card.refund }
    }
}

refusals!(RefundRefusals: InvalidRequest, NotFound, NotRefundable);

/// Gives a paid purchase back: card payments through the gateway, all else as balance. Asked again, it gives nothing twice
/// and tells how far the gateway is.
#[utoipa::path(
    post, path = "/purchases/{id}/refund", operation_id = "refund", tag = "operator: customers",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = ToRefund, responses((status = 200, body = Refunded), RefundRefusals)
)]
pub(crate) async fn refund(
    State(app): State<App>,
    PathId(purchase): PathId<PurchaseId>,
    Body(body): Body<ToRefund>,
) -> Answer<Json<Refunded>> {
    short("note", &body.note, 500)?;
    if body.note.trim().is_empty() {
        return Err(Problem::field("note", "is empty"));
    }
    let book = async || {
        let mut db = app.store.begin().await?;
        let booked = refunds::book(&mut db, purchase, body.note.trim(), now()).await?.map_err(|why| match why {
            Unrefundable::NotFound => Code::NotFound,
            Unrefundable::NotPaid => Code::NotRefundable,
        })?;
        db.commit().await?;
        Answer::Ok(booked)
    };
    let mut booked = book().await?;
    failpoint("refund.committed");
    let wait = booked.cards.iter().filter(|card| card.refund == "requested");
    for card in wait {
        // What the gateway does not do now is tried again by itself.
        if let Err(error) = give_out(&app, card).await {
            tracing::warn!(payment = card.payment_id, %error, "a card payment is not given back yet");
        }
    }
    if !booked.cards.is_empty() {
        booked = book().await?;
    }
    let to_gateway: Money =
        booked.cards.iter().filter(|card| card.refund != "balance").map(|card| Money(card.amount)).sum();
    Ok(Json(Refunded {
        purchase_id: purchase.to_string(),
        customer_id: booked.customer.to_string(),
        amount: Mnt(booked.amount),
        to_balance: Mnt(booked.amount - to_gateway),
        cards: booked.cards.into_iter().map(CardView::from).collect(),
    }))
}
