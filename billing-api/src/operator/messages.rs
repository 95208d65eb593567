use axum::Json;
use axum::extract::{Path, State};
use evm_store::frames::Frame;
use evm_store::{chargers, frames};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::App;
use crate::http::extract::Query;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::time::Iso;

/// Which part of the messages.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// Only messages older than this one; the last `id` of the part before.
    #[param(required = false, minimum = 1)]
    before: Option<i64>,
    /// How many, 50 where left out.
    #[param(required = false, minimum = 1, maximum = 200)]
    #[serde(default = "fifty")]
    limit: i64,
}

fn fifty() -> i64 {
    50
}

/// A CALL and its answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    /// Grows with time.
    id: i64,
    /// Which connection of the charger, counted from its first.
    epoch: i64,
    /// `in` from the charger, `out` to it.
    direction: Direction,
    message_id: String,
    action: String,
    /// As it came; a text where it is no JSON.
    #[schema(value_type = Object)]
    payload: Value,
    /// The CALLRESULT's payload, or the CALLERROR as a list; null where none came.
    #[schema(value_type = Object)]
    answer: Value,
    /// Why it was set aside, where it was.
    problem: Option<String>,
    at: Iso,
    answered_at: Option<Iso>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    In,
    Out,
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

impl From<Frame> for Message {
    fn from(frame: Frame) -> Self {
        Self {
            id: frame.id,
            epoch: frame.epoch,
            direction: if frame.incoming { Direction::In } else { Direction::Out },
            message_id: frame.message_id,
            action: frame.action,
            payload: json(frame.payload),
            answer: frame.answer.map_or(Value::Null, json),
            problem: frame.problem,
            at: Iso(frame.at),
            answered_at: frame.answered_at.map(Iso),
        }
    }
}

refusals!(MessagesRefusals: InvalidRequest, NotFound);

/// What went over a charger's sockets, newest first. Heartbeats are not kept.
#[utoipa::path(
    get, path = "/chargers/{identity}/messages", operation_id = "messages", tag = "operator: chargers",
    params(("identity" = String, Path, description = "The OCPP identity.", example = "UB-0001"), Part),
    responses((status = 200, body = Vec<Message>), MessagesRefusals)
)]
pub(crate) async fn messages(
    State(app): State<App>,
    Path(identity): Path<String>,
    Query(part): Query<Part>,
) -> Answer<Json<Vec<Message>>> {
    if !(1..=200).contains(&part.limit) {
        return Err(Problem::field("limit", "from 1 to 200"));
    }
    let mut db = app.store.read().await?;
    let charger = chargers::by_identity(&mut db, &identity).await?.ok_or(Code::NotFound)?;
    let rows = frames::newest(&mut db, charger.id, part.before, part.limit).await?;
    Ok(Json(rows.into_iter().map(Message::from).collect()))
}
