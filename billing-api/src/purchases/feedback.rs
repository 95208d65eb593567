use axum::extract::State;
use axum::http::StatusCode;
use evm_domain::{PurchaseId, Status};
use evm_store::purchases;
use serde::Deserialize;

use super::charge_of;
use super::list::Feedback;
use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, PathId, short};
use crate::http::problem::{Answer, Code, Problem, refusals};

/// What the customer thinks of a charge.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct GiveFeedback {
    feedback: Feedback,
}

refusals!(FeedbackRefusals: InvalidRequest, NotFound, ChargeRunning);

/// Keeps what the customer thinks of a charge; a later one replaces it.
#[utoipa::path(
    post, path = "/purchases/{id}/feedback", operation_id = "feedback", tag = "purchases",
    params(("id" = String, Path, description = "The purchase's id.", example = "12d76c8bfca2a22c07a6fca1")),
    request_body = GiveFeedback, responses((status = 200, description = "Kept."), FeedbackRefusals)
)]
pub(crate) async fn feedback(
    State(app): State<App>,
    caller: Caller,
    PathId(purchase): PathId<PurchaseId>,
    Body(GiveFeedback { feedback }): Body<GiveFeedback>,
) -> Answer<StatusCode> {
    if !(1..=5).contains(&feedback.score) {
        return Err(Problem::field("feedback.score", "from 1 to 5"));
    }
    short("feedback.description", &feedback.description, 2000)?;
    let mut db = app.store.begin().await?;
    if !purchases::set_feedback(&mut db, caller.customer, purchase, feedback.score, &feedback.description).await? {
        let session = charge_of(&mut db, caller.customer, purchase).await?;
        let running = session.is_some_and(|session| session.status == Status::Active);
        return Err(if running { Code::ChargeRunning.into() } else { Code::NotFound.into() });
    }
    db.commit().await?;
    Ok(StatusCode::OK)
}
