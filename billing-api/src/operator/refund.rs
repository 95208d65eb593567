use axum::extract::State;
use axum::{Extension, Json};
use evm_domain::{Money, PurchaseId};
use evm_store::refunds::{self, CardRefund, Refund, Unrefundable};
use evm_store::{failpoint, now};
use serde::{Deserialize, Deserializer, Serialize};

use crate::App;
use crate::http::extract::{Body, PathId, short};
use crate::http::idempotency::Held;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::Mnt;
use crate::payments::refund::give_out;

/// What of a purchase is given back, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToRefund {
    /// Kept in the book.
    #[schema(min_length = 1, max_length = 500, example = "broken cable")]
    note: String,
    /// Above 0, at most what is left of what was paid; left out: all that is left.
    #[serde(default, deserialize_with = "given")]
    #[schema(required = false, nullable = false)]
    amount: Option<Mnt>,
}

/// Where it stands it is a number: `null` must not mean all that is left.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mnt>, D::Error> {
    Mnt::deserialize(deserializer).map(Some)
}

/// What was given back of a purchase.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refunded {
    purchase_id: String,
    customer_id: String,
    /// What is given back now; asked again without an amount after all was given back, all of it.
    amount: Mnt,
    /// The part of that which is balance again.
    to_balance: Mnt,
    /// The parts of that which the gateway gives back to cards.
    cards: Vec<CardView>,
    /// What was given back of the purchase up to now.
    refunded: Mnt,
    /// What can still be given back of it.
    left: Mnt,
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

/// Gives a purchase back, or a part of what is paid of it: card payments that it covers whole through the gateway, all else as
/// balance. Several parts add up to the whole. Asked again without an amount after all was given back, it gives nothing twice
/// and tells how far the gateway is; a part is given back again, so send an `Idempotency-Key`.
#[utoipa::path(
    post, path = "/purchases/{id}/refund", operation_id = "refund", tag = "operator: customers",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = ToRefund, responses((status = 200, body = Refunded), RefundRefusals)
)]
pub(crate) async fn refund(
    State(app): State<App>,
    PathId(purchase): PathId<PurchaseId>,
    held: Option<Extension<Held>>,
    Body(body): Body<ToRefund>,
) -> Answer<Json<Refunded>> {
    short("note", &body.note, 500)?;
    if body.note.trim().is_empty() {
        return Err(Problem::field("note", "is empty"));
    }
    let amount = body.amount.map(|Mnt(amount)| amount);
    if amount.is_some_and(|amount| amount <= Money::ZERO) {
        return Err(Problem::field("amount", "must be above 0"));
    }
    let held = held.as_deref();
    let mut db = app.store.begin().await?;
    let booked = refunds::book(&mut db, purchase, amount, body.note.trim(), now()).await?;
    let mut booked = booked.map_err(|why| match why {
        Unrefundable::NotFound => Code::NotFound.into(),
        Unrefundable::NotPaid => Code::NotRefundable.into(),
        Unrefundable::NotWithin { left } => Problem::field("amount", format!("{left} are left to give back")),
    })?;
    // With the booking: whoever asks again with the key gives no second part back.
    Held::seal(held, &mut db, &answer(purchase, &booked)).await?;
    db.commit().await?;
    failpoint("refund.committed");
    if !booked.cards.is_empty() {
        give_out_all(&app, &booked).await;
        // It is booked: whatever fails from here on must not look as if it were not.
        if let Err(problem) = look_again(&app, purchase, &mut booked, held).await {
            tracing::warn!(%purchase, ?problem, "how far the gateway is with a refund is not known now");
        }
    }
    Ok(Json(answer(purchase, &booked)))
}

/// How far the gateway is by now, for the answer and for who asks again with the key.
async fn look_again(app: &App, purchase: PurchaseId, booked: &mut Refund, held: Option<&Held>) -> Answer<()> {
    let mut db = app.store.begin().await?;
    let known = refunds::cards_of(&mut db, purchase).await?;
    for card in &mut booked.cards {
        if let Some(known) = known.iter().find(|known| known.payment_id == card.payment_id) {
            card.refund = known.refund.clone();
        }
    }
    Held::seal(held, &mut db, &answer(purchase, booked)).await?;
    Ok(db.commit().await?)
}

/// Asks the gateway now. What it does not do now is tried again by itself.
async fn give_out_all(app: &App, booked: &Refund) {
    for card in booked.cards.iter().filter(|card| card.refund == "requested") {
        if let Err(error) = give_out(app, card).await {
            tracing::warn!(payment = card.payment_id, %error, "a card payment is not given back yet");
        }
    }
}

fn answer(purchase: PurchaseId, booked: &Refund) -> Refunded {
    let to_gateway: Money =
        booked.cards.iter().filter(|card| card.refund != "balance").map(|card| Money(card.amount)).sum();
    Refunded {
        purchase_id: purchase.to_string(),
        customer_id: booked.customer.to_string(),
        amount: Mnt(booked.amount),
        to_balance: Mnt(booked.amount - to_gateway),
        cards: booked.cards.iter().cloned().map(CardView::from).collect(),
        refunded: Mnt(booked.refunded),
        left: Mnt(booked.left),
    }
}
