use axum::Json;
use axum::extract::{Path, State};
use evm_store::frames::Frame;
use evm_store::{chargers, frames};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::App;
use crate::http::extract::Query;
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::time::Iso;

/// Characters of a payload or an answer in a list of messages, so that a page has some megabytes at most.
const SHORT: i32 = 16 * 1024;

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
    /// As it came, without passwords; a text where it is no JSON, or where it is long: then its beginning.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    /// The CALLRESULT's payload, or the CALLERROR as a list; null where none came.
    #[schema(value_type = serde_json::Value)]
    answer: Box<RawValue>,
    /// Where the whole message is, if only the beginning of its payload or answer stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
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

/// A text as JSON, never as a tree of values: that is many times as large.
fn json(text: &str, whole: bool) -> Box<RawValue> {
    let read = if whole { serde_json::from_str(text) } else { to_raw_value(text) };
    read.or_else(|_| to_raw_value(text)).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl Message {
    fn of(identity: &str, frame: Frame) -> Self {
        let is_whole = |text: &str, length: i64| i64::try_from(text.chars().count()).is_ok_and(|short| short == length);
        let payload_whole = is_whole(&frame.payload, frame.payload_length);
        let answer_whole =
            frame.answer.as_ref().is_none_or(|answer| is_whole(answer, frame.answer_length.unwrap_or_default()));
        let identity = utf8_percent_encode(identity, NON_ALPHANUMERIC);
        let link = || format!("/admin/v1/chargers/{identity}/messages/{}", frame.id);
        Self {
            id: frame.id,
            epoch: frame.epoch,
            direction: if frame.incoming { Direction::In } else { Direction::Out },
            whole: (!payload_whole || !answer_whole).then(link),
            message_id: frame.message_id,
            action: frame.action,
            payload: json(&frame.payload, payload_whole),
            answer: frame.answer.map_or_else(|| RawValue::NULL.to_owned(), |answer| json(&answer, answer_whole)),
            problem: frame.problem,
            at: Iso(frame.at),
            answered_at: frame.answered_at.map(Iso),
        }
    }
}

refusals!(MessagesRefusals: InvalidRequest, NotFound);

/// What went over a charger's sockets, newest first. Heartbeats are not kept. Long payloads are shortened here.
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
    let rows = frames::newest(&mut db, charger.id, part.before, part.limit, SHORT).await?;
    Ok(Json(rows.into_iter().map(|frame| Message::of(&identity, frame)).collect()))
}

refusals!(MessageRefusals: NotFound);

/// One message, whole.
#[utoipa::path(
    get, path = "/chargers/{identity}/messages/{message}", operation_id = "message", tag = "operator: chargers",
    params(
        ("identity" = String, Path, description = "The OCPP identity.", example = "UB-0001"),
        ("message" = i64, Path, description = "The message's `id`.", example = 1),
    ),
    responses((status = 200, body = Message), MessageRefusals)
)]
pub(crate) async fn message(
    State(app): State<App>,
    Path((identity, message)): Path<(String, String)>,
) -> Answer<Json<Message>> {
    let message = message.parse().map_err(|_| Code::NotFound)?;
    let mut db = app.store.read().await?;
    let charger = chargers::by_identity(&mut db, &identity).await?.ok_or(Code::NotFound)?;
    let frame = frames::by_id(&mut db, charger.id, message).await?.ok_or(Code::NotFound)?;
    Ok(Json(Message::of(&identity, frame)))
}
