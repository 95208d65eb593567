use axum::Json;
use axum::extract::{Path, State};
use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_store::chargers;
use serde::Serialize;
use serde_json::Value;

use crate::App;
use crate::chargers::{Failed, ask};
use crate::http::extract::Body;
use crate::http::problem::{Answer, Code, Problem, refusals};

/// What the charger answered: a result or an error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CommandAnswer {
    /// The payload of its CALLRESULT.
    #[schema(value_type = Object)]
    Result(Value),
    /// Its CALLERROR.
    Error {
        /// The OCPP error code.
        #[schema(example = "NotSupported")]
        code: String,
        description: String,
        #[schema(value_type = Object)]
        details: Value,
    },
}

refusals!(CommandRefusals: InvalidRequest, NotFound, ChargerOffline, ChargerNoAnswer, BusUnavailable);

/// Sends any command of the charger's OCPP version, checked against its schema.
#[utoipa::path(
    post, path = "/chargers/{identity}/commands/{action}", operation_id = "command", tag = "operator: chargers",
    params(
        ("identity" = String, Path, description = "The OCPP identity.", example = "UB-0001"),
        ("action" = String, Path, description = "The OCPP action.", example = "Reset"),
    ),
    request_body(content = Object, description = "The payload in the charger's OCPP version.", example = json!({ "type": "Soft" })),
    responses((status = 200, body = CommandAnswer), CommandRefusals)
)]
pub(crate) async fn command(
    State(app): State<App>,
    Path((identity, action)): Path<(String, String)>,
    Body(payload): Body<Value>,
) -> Answer<Json<CommandAnswer>> {
    let charger = chargers::by_identity(&mut app.store.read().await?, &identity).await?.ok_or(Code::NotFound)?;
    if !charger.online {
        return Err(Code::ChargerOffline.into());
    }
    tracing::info!(identity, action, "operator command");
    let request = ChargerRequest::Raw { action: action.clone(), payload };
    match ask(&app, &charger.identity, charger.epoch, request).await {
        Ok(ChargerReply::Result(payload)) => Ok(Json(CommandAnswer::Result(payload))),
        Ok(ChargerReply::Error { code, description, details }) => {
            Ok(Json(CommandAnswer::Error { code, description, details }))
        }
        Ok(ChargerReply::UnknownAction) => {
            Err(Code::NotFound.because(format!("this charger's OCPP version has no command {action:.60}")))
        }
        Ok(ChargerReply::Invalid { field, message }) => Err(Problem::field(field, message)),
        Ok(other) => {
            tracing::error!(?other, "an unexpected reply to an operator's command");
            Err(Code::Internal.into())
        }
        Err(Failed::Offline) => Err(Code::ChargerOffline.into()),
        Err(Failed::BusDown) => Err(Code::BusUnavailable.into()),
        Err(Failed::NoAnswer) => Err(Code::ChargerNoAnswer.into()),
    }
}
