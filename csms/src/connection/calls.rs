//! The CALLs of ours on a connection, one at a time: commands of operators and customers, and what the central
//! system itself wants to know.

use std::time::Duration;

use evm_bus::Command;
use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_domain::{SessionId, Timestamp};
use evm_store::frames::NewFrame;
use serde_json::Value;
use tokio::time::Instant;

use super::{Connection, End, Samples};
use crate::ingest::Then;
use crate::ocpp::schema::{self, Misfit};
use crate::ocpp::{self, frame, secrets};

/// A customer watches: samples should come at least this often.
const SAMPLE_SECONDS: u32 = 5;
/// How long a station may take to answer a question of the central system's own. It must not hold up a customer's stop.
pub(super) const OWN_ANSWER: Duration = Duration::from_secs(5);

/// A CALL of ours that waits for its answer.
pub(super) struct Outstanding {
    id: String,
    action: String,
    payload: String,
    sent_at: Timestamp,
    pub(super) deadline: Instant,
    asker: Asker,
}

/// Who wants the answer.
pub(super) enum Asker {
    /// Nobody: it is enough to have asked.
    Nobody,
    /// A customer's start or stop: Accepted or not.
    Customer(Command),
    /// An operator: as the charger gave it.
    Operator(Command),
    /// An ended transaction some of whose messages are missing: whether more will come.
    Ended(SessionId),
    /// What the station is to measure: whether it took that.
    Setup,
}

impl Connection {
    pub(super) async fn on_command(&mut self, command: Command) -> Result<(), End> {
        let Ok(request) = serde_json::from_slice::<ChargerRequest>(&command.payload) else {
            tracing::error!("a command on the bus cannot be read");
            return Ok(());
        };
        if !self.booted {
            respond(command, &ChargerReply::Disconnected).await;
            return Ok(());
        }
        let raw = matches!(request, ChargerRequest::Raw { .. });
        let (action, payload) = ocpp::command(self.version, request);
        if let Err(misfit) = schema::check(self.version, &action, &payload) {
            let reply = match misfit {
                Misfit::UnknownAction => ChargerReply::UnknownAction,
                Misfit::Payload { field, message } => ChargerReply::Invalid { field, message },
            };
            respond(command, &reply).await;
            return Ok(());
        }
        let timeout = self.node.config.call_timeout;
        let asker = if raw { Asker::Operator(command) } else { Asker::Customer(command) };
        self.call(action, &without_empties(payload), timeout, asker).await
    }

    pub(super) async fn ask_for_samples(&mut self) -> Result<(), End> {
        self.samples = Samples::Asked;
        // Before its boot is accepted a station is asked for nothing.
        if !self.booted {
            return Ok(());
        }
        let (action, payload) = ocpp::ask_for_samples(self.version, SAMPLE_SECONDS);
        self.call(action, &payload, OWN_ANSWER, Asker::Nobody).await
    }

    /// Does what something that the station told asks for.
    pub(super) async fn follow_up(&mut self, then: Then) -> Result<(), End> {
        let ((action, payload), asker) = match then {
            Then::Stop(transaction) => {
                (ocpp::command(self.version, ChargerRequest::Stop { transaction }), Asker::Nobody)
            }
            Then::AskForRest { session, transaction } => (ocpp::ask_for_status(&transaction), Asker::Ended(session)),
        };
        match schema::check(self.version, &action, &payload) {
            Ok(()) => self.call(action, &payload, OWN_ANSWER, asker).await,
            // E.g. a transaction id longer than the version allows.
            Err(misfit) => {
                tracing::info!(charger = %self.charger, action, ?misfit, "cannot be asked");
                Ok(())
            }
        }
    }

    pub(super) async fn call(
        &mut self,
        action: String,
        payload: &Value,
        timeout: Duration,
        asker: Asker,
    ) -> Result<(), End> {
        let id = evm_store::new_id().to_string();
        let text = frame::call(&id, &action, payload);
        self.outstanding = Some(Outstanding {
            id,
            payload: secrets::hide(&action, payload).to_string(),
            action,
            sent_at: evm_store::now(),
            deadline: Instant::now() + timeout,
            asker,
        });
        self.send(text).await
    }

    pub(super) async fn on_answer(&mut self, id: &str, answer: Result<Value, (String, String, Value)>) {
        let Some(done) = self.outstanding.take_if(|outstanding| outstanding.id == id) else {
            tracing::info!(charger = %self.charger, id, "an answer came too late, or to nothing; dropped");
            return;
        };
        let kept = match &answer {
            Ok(payload) => payload.to_string(),
            Err((code, description, details)) => serde_json::json!([code, description, details]).to_string(),
        };
        self.note_call(&done, Some(kept), None).await;
        match (done.asker, answer) {
            (Asker::Customer(command) | Asker::Operator(command), Err((code, description, details))) => {
                respond(command, &ChargerReply::Error { code, description, details }).await;
            }
            (Asker::Operator(command), Ok(payload)) => respond(command, &ChargerReply::Result(payload)).await,
            (Asker::Customer(command), Ok(payload)) => {
                let reply = match payload.get("status").and_then(Value::as_str) {
                    Some("Accepted") => ChargerReply::Accepted,
                    status => ChargerReply::Refused(status.unwrap_or("no status").to_owned()),
                };
                respond(command, &reply).await;
            }
            // The gap stays for ever. Where more is to come, or nobody knows, the sweep waits a little longer.
            (Asker::Ended(session), Ok(payload)) if payload.get("messagesInQueue") == Some(&Value::Bool(false)) => {
                self.node.ingest.settle(self.charger, session).await;
            }
            (Asker::Setup, answer) => self.on_setup(answer.ok().as_ref()),
            (Asker::Ended(_) | Asker::Nobody, _) => {}
        }
    }

    /// Tells the asker of the CALL under way that no answer comes.
    pub(super) async fn give_up(&mut self, reply: ChargerReply) {
        let Some(done) = self.outstanding.take() else { return };
        let problem = if reply == ChargerReply::NoAnswer { "no answer in time" } else { "the connection ended" };
        self.note_call(&done, None, Some(problem.to_owned())).await;
        match done.asker {
            Asker::Customer(command) | Asker::Operator(command) => respond(command, &reply).await,
            // A station that does not answer is asked for nothing more.
            Asker::Setup => self.give_up_setup(),
            Asker::Ended(_) | Asker::Nobody => {}
        }
    }

    async fn note_call(&self, done: &Outstanding, answer: Option<String>, problem: Option<String>) {
        let frame = NewFrame {
            charger: self.charger,
            epoch: self.epoch,
            incoming: false,
            message_id: done.id.clone(),
            action: done.action.clone(),
            payload: done.payload.clone(),
            answered_at: answer.as_ref().map(|_| evm_store::now()),
            answer,
            problem,
            at: done.sent_at,
        };
        self.node.ingest.note(frame).await;
    }
}

pub(super) async fn respond(command: Command, reply: &ChargerReply) {
    command.respond(serde_json::to_vec(reply).unwrap_or_default()).await;
}

/// Some stations stumble over `null`, `{}` and `[]`, so an optional field that is empty stays away. What vendors put
/// into a message of their own is theirs.
fn without_empties(payload: Value) -> Value {
    match payload {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "data" | "customData" => (name, value),
                _ => (name, without_empties(value)),
            })
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_empties).collect(),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_fields_stay_away() {
        let payload = json!({ "key": [], "a": { "b": null, "c": 0 }, "list": [{ "d": {} }], "e": "", "f": false });
        assert_eq!(without_empties(payload), json!({ "a": { "c": 0 }, "list": [{}], "e": "", "f": false }));
        let vendors = json!({ "vendorId": "v", "data": { "x": [] } });
        assert_eq!(without_empties(vendors.clone()), vendors);
    }
}
