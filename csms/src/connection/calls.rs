//! The CALLs of ours on a connection, one at a time: commands of operators and customers, and what the central
//! system itself wants to know.

use std::time::Duration;

use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_bus::{Command, Commands};
use evm_domain::{Id, SessionId, Timestamp};
use evm_store::frames::NewFrame;
use evm_store::remote_starts::{self, Asked};
use serde_json::Value;
use tokio::time::Instant;

use super::pings::pong_time;
use super::{Connection, End, Samples};
use crate::ingest::Then;
use crate::ocpp::schema::{self, Misfit};
use crate::ocpp::{self, frame, secrets};

/// Passwords that are remembered of those a station was told.
const MOST_SECRETS: usize = 8;

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
    /// Until when the station must have been heard, whatever it says, since the CALL went out.
    alive_by: Option<(Instant, Instant)>,
    asker: Asker,
}

impl Outstanding {
    /// When to look whether it was answered.
    pub(super) fn next_at(&self) -> Instant {
        self.alive_by.map_or(self.deadline, |(_, by)| by.min(self.deadline))
    }

    /// Whether the station as a whole goes out of service, or back into it, where it was told so and agrees: by connectorId 0
    /// (1.6 section 5.2), or without an EVSE or by EVSE 0 (2.0.1 G03).
    fn station_out_of_service(&self, answer: &Value) -> Option<bool> {
        let agrees = matches!(answer.get("status").and_then(Value::as_str), Some("Accepted" | "Scheduled"));
        if self.action != "ChangeAvailability" || !agrees {
            return None;
        }
        let asked: Value = serde_json::from_str(&self.payload).ok()?;
        let of_one = asked.get("connectorId").or_else(|| asked.pointer("/evse/id")).and_then(Value::as_u64);
        let wanted = asked.get("type").or_else(|| asked.get("operationalStatus")).and_then(Value::as_str)?;
        (of_one.unwrap_or(0) == 0).then_some(wanted == "Inoperative")
    }
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

/// A CALLRESULT's payload, or a CALLERROR's code, description and details.
type Answer = Result<Value, (String, String, Value)>;

impl Asker {
    async fn hears(self, reply: &ChargerReply) {
        if let Self::Customer(command) | Self::Operator(command) = self {
            respond(command, reply).await;
        }
    }
}

/// Some stations give ids back in other letters.
fn is_same(id: &str, ours: &str) -> bool {
    id.trim().eq_ignore_ascii_case(ours)
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
        // Kept before it goes out: the station may tell the number alone back, and this program may restart meanwhile.
        if let Some((number, id_tag)) = ocpp::tag_asked(self.version, &action, &payload).filter(|_| raw)
            && let Err(error) = self.keep_asked(number, id_tag).await
        {
            tracing::warn!(%error, "a start is not sent: the store does not answer");
            respond(command, &ChargerReply::Disconnected).await;
            return Ok(());
        }
        let timeout = self.node.config.call_timeout;
        let asker = if raw { Asker::Operator(command) } else { Asker::Customer(command) };
        self.call(action, &without_empties(payload), timeout, asker).await
    }

    async fn keep_asked(&self, remote_start_id: i64, id_tag: String) -> evm_store::Result<()> {
        let mut db = self.node.store.begin().await?;
        let asked = Asked { charger: self.charger, remote_start_id, id_tag, session: None };
        remote_starts::keep(&mut db, &asked, evm_store::now()).await?;
        db.commit().await
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
                if let Some(more) = self.allowance.line() {
                    tracing::info!(charger = %self.charger, action, ?misfit, more, "cannot be asked");
                }
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
        let (id, now) = (evm_store::new_id().to_string(), Instant::now());
        let is_customers = matches!(asker, Asker::Customer(_));
        let text = frame::call(&id, &action, payload);
        self.told_secrets.extend(secrets::told(payload));
        self.told_secrets.drain(..self.told_secrets.len().saturating_sub(MOST_SECRETS));
        self.outstanding = Some(Box::new(Outstanding {
            id,
            payload: self.kept(&payload.to_string()),
            action,
            sent_at: evm_store::now(),
            deadline: now + timeout,
            alive_by: is_customers.then(|| (now, now + pong_time(self.node.config.ping_every))),
            asker,
        }));
        self.send(text).await?;
        if is_customers { self.ping_along().await } else { Ok(()) }
    }

    /// Gives the CALL under way up where its time is over, or nothing at all came back since.
    pub(super) async fn look_after_call(&mut self, now: Instant) {
        let heard_at = self.heard_at();
        let Some(outstanding) = &mut self.outstanding else { return };
        let mut is_dead = false;
        if let Some((sent_at, by)) = outstanding.alive_by
            && (by <= now || heard_at > sent_at)
        {
            outstanding.alive_by = None;
            is_dead = heard_at <= sent_at && self.allowance.pongs();
        }
        if outstanding.deadline <= now || is_dead {
            self.give_up(ChargerReply::NoAnswer).await;
        }
    }

    /// What the station answers to a CALL of ours: a CALLRESULT, a CALLERROR, or nothing that can be read.
    pub(super) async fn on_answer(&mut self, id: &str, text: &str, answer: Option<Answer>) {
        let Some(outstanding) = &self.outstanding else { return self.on_stray_answer(id) };
        // An id of ours is that of a CALL that nobody waits for any more; any other is a broken answer to this one.
        if !is_same(id, &outstanding.id) {
            let is_ours = id.trim().parse::<Id>().is_ok();
            return if is_ours { self.on_stray_answer(id) } else { self.give_up_for(text).await };
        }
        let answer = match answer {
            Some(Ok(payload)) if !payload.is_object() && !payload.is_null() => None,
            answer => answer,
        };
        let Some(answer) = answer else { return self.give_up_for(text).await };
        let Some(done) = self.outstanding.take() else { return };
        let kept = match &answer {
            Ok(payload) => payload.to_string(),
            Err((code, description, details)) => serde_json::json!([code, description, details]).to_string(),
        };
        self.note_call(&done, Some(self.kept(&kept)), None).await;
        if let (Asker::Operator(_), Ok(payload)) = (&done.asker, &answer)
            && let Some(inoperative) = done.station_out_of_service(payload)
        {
            self.node.ingest.availability(self.charger, inoperative).await;
        }
        self.pass_on(done.asker, answer).await;
    }

    fn on_stray_answer(&mut self, id: &str) {
        self.pause();
        if let Some(more) = self.allowance.line() {
            tracing::info!(charger = %self.charger, id, more, "an answer came too late, or to nothing; dropped");
        }
    }

    async fn pass_on(&mut self, asker: Asker, answer: Answer) {
        match (asker, answer) {
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

    /// Whether a CALL of the station is ours, sent back.
    pub(super) fn is_echo(&self, id: &str, action: &str) -> bool {
        self.outstanding
            .as_ref()
            .is_some_and(|outstanding| is_same(id, &outstanding.id) && outstanding.action == action)
    }

    /// Whether a text that is no frame can only be the answer that is waited for.
    pub(super) fn is_broken_answer(&self, text: &str) -> bool {
        self.outstanding
            .as_ref()
            .is_some_and(|outstanding| text.contains(&outstanding.id) || !frame::begins_as_call(text))
    }

    /// The answer that is waited for cannot be read: the next in the queue, perhaps a customer's stop, must not wait for it.
    pub(super) async fn give_up_for(&mut self, answer: &str) {
        let Some(done) = self.outstanding.take() else { return };
        let kept = self.kept_in_part(answer);
        self.note_call(&done, Some(kept), Some("the answer cannot be read".to_owned())).await;
        self.goes_without(done.asker, &ChargerReply::NoAnswer).await;
    }

    /// Tells the asker of the CALL under way that no answer comes.
    pub(super) async fn give_up(&mut self, reply: ChargerReply) {
        let Some(done) = self.outstanding.take() else { return };
        let problem = if reply == ChargerReply::NoAnswer { "no answer in time" } else { "the connection ended" };
        self.note_call(&done, None, Some(problem.to_owned())).await;
        self.goes_without(done.asker, &reply).await;
    }

    async fn goes_without(&mut self, asker: Asker, reply: &ChargerReply) {
        match asker {
            // A station that does not answer is asked for nothing more.
            Asker::Setup => self.give_up_setup(),
            asker => asker.hears(reply).await,
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
        self.note(frame).await;
    }
}

/// Answers the commands of a connection that has ended, until it is `over`: none of them is sent.
pub(super) async fn turn_away(commands: &mut Commands, over: impl Future<Output = ()>) {
    let mut over = std::pin::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            Some(command) = commands.next() => respond(command, &ChargerReply::Disconnected).await,
        }
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
