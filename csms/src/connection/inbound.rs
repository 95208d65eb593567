//! What the station sends: each message is read, stored and answered, or refused, before the next is looked at.

use std::time::Duration;

use evm_domain::{ChargerEvent, Phase, Timestamp};
use evm_store::frames::NewFrame;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::setup::Setup;
use super::{Connection, End, Samples, farewell};
use crate::allowance::{Keep, PART};
use crate::ingest::Told;
use crate::ocpp::frame::{self, BadFrame, ErrorCode, Frame};
use crate::ocpp::{self, Decision, Reach, Version, payload, secrets};
use crate::registry::Why;

/// Of other messages than those whose samples grow with a charge, no more is read; bytes.
const LONGEST_OTHER: usize = 4 * 1024 * 1024;
/// A running charge without a sample for so long is asked for more, once a connection.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(8);
/// Of what is refused, no more is kept; characters.
const KEPT_OF_REFUSED: usize = 4096;
/// Questions of ours that wait for the station; it makes no sense to pile them up.
const MOST_FOLLOW_UPS: usize = 8;

impl Connection {
    pub(super) async fn on_message(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), End> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            // Some stations send their text so.
            Some(Ok(Message::Binary(bytes))) => String::from_utf8_lossy(&bytes).into_owned().into(),
            Some(Ok(Message::Close(_))) | None => return Err((CloseCode::Normal, "closed by the charger")),
            Some(Ok(control)) => {
                self.hear();
                if matches!(control, Message::Pong(_)) {
                    self.allowance.ponged();
                }
                self.pause();
                return Ok(());
            }
            Some(Err(WsError::Utf8(_))) => return Err((CloseCode::Invalid, "the text is not UTF-8")),
            Some(Err(WsError::Capacity(_))) => return Err((CloseCode::Size, "the frame is too large")),
            Some(Err(_)) => return Err((CloseCode::Protocol, "the connection broke")),
        };
        self.hear();
        self.handling = self.unless_ended(self.node.room.to_handle(text.len())).await?;
        let text = frame::clean(&text);
        match frame::parse(&text) {
            Ok(Frame::Call { id, action, payload }) => {
                if self.is_echo(&id, &action) {
                    Box::pin(self.give_up_for(&text)).await;
                }
                self.on_call(id, action, payload.get()).await
            }
            Ok(Frame::Result { id, payload }) => {
                let answer = payload::light(payload.get()).map(Ok);
                Box::pin(self.on_answer(&id, &text, answer)).await;
                Ok(())
            }
            Ok(Frame::Error { id, code, description, details }) => {
                let details = payload::light(details.get()).unwrap_or_default();
                Box::pin(self.on_answer(&id, &text, Some(Err((code, description, details))))).await;
                Ok(())
            }
            Err(_) if text.trim().is_empty() => Ok(()),
            Err(_) if self.is_broken_answer(&text) => {
                self.pause();
                Box::pin(self.give_up_for(&text)).await;
                Ok(())
            }
            Err(bad) => Box::pin(self.on_bad_frame(&text, bad)).await,
        }
    }

    async fn on_call(&mut self, id: String, action: String, payload: &str) -> Result<(), End> {
        let received = evm_store::now();
        if action == "Heartbeat" {
            return self.send(frame::result(&id, &ocpp::heartbeat_answer(received))).await;
        }
        let received = ocpp::apart(received, payload);
        let (decision, reach) = match self.decode(&action, payload, received) {
            Ok(decoded) => decoded,
            Err(why) => return Box::pin(self.refuse(id, action, payload, ErrorCode::Formation, why)).await,
        };
        let decoded = match decision {
            Decision::Heartbeat => return self.send(frame::result(&id, &ocpp::heartbeat_answer(received))).await,
            Decision::Unknown => {
                let why = "no such message from a station";
                return Box::pin(self.refuse(id, action, payload, ErrorCode::NotImplemented, why)).await;
            }
            Decision::Ingest(decoded) => decoded,
        };
        if let ChargerEvent::Authorize { id_tag } = &decoded.event
            && Box::pin(self.answers_guess(&id, &action, id_tag, received)).await?
        {
            return Ok(());
        }
        if let ChargerEvent::Transaction(update) = &decoded.event
            && update.begun_by().is_some()
        {
            self.hold_back(self.node.guesses.wait(self.charger, Instant::now())).await?;
        }
        let boots = matches!(decoded.event, ChargerEvent::Booted { .. });
        self.watch_samples(&decoded.event);
        let (kept, is_kept) = self.whole_or_part(payload, matches!(decoded.event, ChargerEvent::Transaction(_)));
        let told = Told {
            charger: self.charger,
            epoch: self.epoch,
            version: self.version,
            received,
            reach,
            message_id: id,
            action,
            payload: kept,
            is_kept,
            decoded,
        };
        // No answer, no error: the station keeps what it said and says it again to whoever answers next.
        let Some(answer) = self.node.ingest.tell(told).await else {
            return Err(farewell(Why::StoreDown));
        };
        if answer.wrong_tag {
            Box::pin(self.count_wrong_tag()).await;
        }
        self.booted |= boots;
        if boots && self.setup.is_none() {
            self.setup = Some(Setup::new(self.version));
        }
        if let Some(then) = answer.then.filter(|_| self.booted && self.follow_ups.len() < MOST_FOLLOW_UPS) {
            self.follow_ups.push_back(then);
        }
        self.send(answer.text).await
    }

    /// The payload's tree lives in here only: it is large beside its text, and the store may let wait.
    fn decode(&mut self, action: &str, payload: &str, received: Timestamp) -> Result<(Decision, Reach), &'static str> {
        if payload.len() > LONGEST_OTHER && !ocpp::may_be_long(action) {
            return Err("the payload is longer than such a message can be");
        }
        // What cannot be read must not be taken for an empty payload: an empty stop ends a charge.
        let value = payload::value(payload).filter(|value| value.is_object() || value.is_null());
        let value = value.ok_or("the payload is no object that can be read")?;
        let reach = Reach::of(received, self.away, &value);
        let mut decision = ocpp::decode(self.version, action, &value, &reach);
        if let Decision::Ingest(decoded) = &mut decision {
            match &mut decoded.event {
                ChargerEvent::Status(report) if self.version == Version::V201 => {
                    self.plugs.fold(report, ocpp::plug(&value));
                }
                ChargerEvent::Booted { .. } => self.plugs.forget(),
                _ => {}
            }
        }
        Ok((decision, reach))
    }

    /// What is kept of a payload, and whether anything is.
    fn whole_or_part(&self, payload: &str, bills: bool) -> (String, bool) {
        let kept = self.kept(payload);
        let keep = self.allowance.keep(kept.len(), bills, self.node.config.frame_bytes_a_day, evm_store::now());
        match keep {
            Keep::Whole => (kept, true),
            Keep::Part | Keep::Nothing => (kept.chars().take(PART).collect(), keep == Keep::Part),
        }
    }

    /// What is kept of a text that tells nothing.
    pub(super) fn kept_in_part(&self, text: &str) -> String {
        self.kept(text).chars().take(KEPT_OF_REFUSED).collect()
    }

    /// A text as it is kept.
    pub(super) fn kept(&self, text: &str) -> String {
        secrets::hide_told(text, &self.told_secrets).into_owned()
    }

    fn watch_samples(&mut self, event: &ChargerEvent) {
        let ChargerEvent::Transaction(update) = event else { return };
        self.samples = match (&self.samples, update.phase) {
            (Samples::Asked, _) => Samples::Asked,
            (_, Phase::Ended) => Samples::Quiet,
            (_, Phase::Started | Phase::Updated) => Samples::Watched(Instant::now() + SAMPLE_PATIENCE),
        };
    }

    async fn refuse(
        &mut self,
        id: String,
        action: String,
        payload: &str,
        code: ErrorCode,
        why: &str,
    ) -> Result<(), End> {
        self.pause();
        let text = frame::error(self.version, &id, code, why);
        self.note_refused(id, action, payload, Some(text.clone()), why).await;
        self.send(text).await
    }

    async fn on_bad_frame(&mut self, text: &str, bad: BadFrame) -> Result<(), End> {
        self.pause();
        let code = match (&bad.id, bad.unknown_type) {
            (_, true) => ErrorCode::MessageType,
            (Some(_), false) => ErrorCode::Formation,
            (None, false) => ErrorCode::Framework,
        };
        // 2.0.1 answers even what has no id, as "-1"; 1.6 has no word for it.
        let id = bad.id.or_else(|| (self.version == Version::V201).then(|| "-1".to_owned()));
        let answer = id.as_deref().map(|id| frame::error(self.version, id, code, bad.what));
        self.note_refused(id.unwrap_or_default(), String::new(), text, answer.clone(), bad.what).await;
        match answer {
            Some(answer) => self.send(answer).await,
            None => Ok(()),
        }
    }

    async fn note_refused(&self, message_id: String, action: String, text: &str, answer: Option<String>, why: &str) {
        let (charger, epoch, at) = (self.charger, self.epoch, evm_store::now());
        let (payload, answered_at, problem) =
            (self.kept_in_part(text), answer.as_ref().map(|_| at), Some(why.to_owned()));
        let incoming = true;
        self.note(NewFrame { charger, epoch, incoming, message_id, action, payload, answer, problem, at, answered_at })
            .await;
    }
}
