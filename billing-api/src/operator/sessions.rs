use axum::Json;
use axum::extract::State;
use evm_domain::{Doubts, Status, Wh};
use evm_store::operator::{self, SessionLine};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, Problem, refusals};
use crate::http::time::Iso;
use crate::http::units::Kwh;

/// Which sessions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// `requested`, `active`, `finished` or `failed`.
    #[param(required = false)]
    status: Option<String>,
}

/// A charging session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionView {
    id: String,
    /// The purchase it ends in.
    purchase_id: String,
    identity: String,
    connector: i32,
    device_id: Option<String>,
    device_number: Option<String>,
    customer_id: Option<String>,
    phone: Option<String>,
    #[schema(example = "active")]
    status: String,
    id_tag: Option<String>,
    /// The OCPP transaction id.
    transaction_id: Option<String>,
    fail_reason: Option<String>,
    stop_reason: Option<String>,
    /// Why a human should look at it.
    review: Option<String>,
    /// What is doubtful of its figures, with those that contradict each other, in words.
    review_detail: Option<String>,
    requested_at: Iso,
    started_at: Option<Iso>,
    ended_at: Option<Iso>,
    energy: Kwh,
    /// Whole seconds.
    waiting_time: i64,
}

impl From<SessionLine> for SessionView {
    fn from(line: SessionLine) -> Self {
        let doubts = line.doubts.as_deref().map(Doubts::from_text).unwrap_or_default();
        Self {
            id: line.id,
            purchase_id: line.purchase_id,
            identity: line.identity,
            connector: line.connector,
            device_id: line.device_id,
            device_number: line.device_number,
            customer_id: line.customer_id,
            phone: line.phone,
            status: line.status,
            id_tag: line.id_tag,
            transaction_id: line.transaction_ref,
            fail_reason: line.fail_reason,
            stop_reason: line.stop_reason,
            review: line.review.or_else(|| doubts.first().map(|doubt| doubt.as_str().to_owned())),
            review_detail: Some(doubts.details()).filter(|text| !text.is_empty()),
            requested_at: Iso(line.requested_at),
            started_at: line.started_at.map(Iso),
            ended_at: line.ended_at.map(Iso),
            energy: Kwh(Wh(line.energy_wh)),
            waiting_time: line.waiting_ms / 1000,
        }
    }
}

refusals!(SessionsRefusals: InvalidRequest);

/// Charging sessions, newest first.
#[utoipa::path(
    get, path = "/sessions", operation_id = "sessions", tag = "operator: lists", params(Filter, Paging),
    responses((status = 200, body = Paged<SessionView>), SessionsRefusals)
)]
pub(crate) async fn sessions(
    State(app): State<App>,
    Query(filter): Query<Filter>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Paged<SessionView>>> {
    let page = paging.check()?;
    if filter.status.as_deref().is_some_and(|word| Status::parse(word).is_none()) {
        return Err(Problem::field("status", "is requested, active, finished or failed"));
    }
    let (total, rows) = operator::sessions(&mut app.store.read().await?, filter.status.as_deref(), page).await?;
    Ok(Json(paging.with(total, rows.into_iter().map(SessionView::from).collect())))
}
