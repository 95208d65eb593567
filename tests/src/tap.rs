//! A transparent TCP tap between chargers and the central system: it changes nothing, reads along, and
//! remembers what broke the rules.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::charger::Version;
use crate::frames::{Decoder, Found};
use crate::schemas;

/// One text message that passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Whether the charger sent it.
    pub from_charger: bool,
    /// The message.
    pub text: String,
}

/// What was seen of one connection.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The last segment of the path asked for, as it was written.
    pub identity: String,
    /// The HTTP status of the answer to the handshake, once it is there.
    pub status: Option<u16>,
    /// The version that was agreed on.
    pub version: Option<Version>,
    /// The messages, in the order in which they passed.
    pub messages: Vec<Passed>,
    /// The central system's close code: `Some(None)` is a close frame without one.
    pub close_code: Option<Option<u16>>,
    /// Whether the connection ended.
    pub ended: bool,
    /// CALLRESULTs of the central system.
    pub answered: usize,
    actions: HashMap<String, String>,
}

#[derive(Default)]
struct State {
    conversations: Vec<Conversation>,
    cutters: Vec<AbortHandle>,
    violations: Vec<String>,
}

/// The listening side of a tap.
pub struct Tap {
    /// Where chargers connect to.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    listener: AbortHandle,
}

impl Tap {
    /// Listens on a free port and hands every connection on to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let accept = tokio::spawn(async move {
            while let Ok((charger, _)) = listener.accept().await {
                let mut state = shared.lock().unwrap();
                let index = state.conversations.len();
                state.conversations.push(Conversation::default());
                let carry = tokio::spawn(carry(charger, upstream, Arc::clone(&shared), index));
                state.cutters.push(carry.abort_handle());
            }
        });
        Self { addr, state, listener: accept.abort_handle() }
    }

    /// The URL that a charger of this identity uses.
    pub fn url(&self, identity: &str) -> String {
        format!("ws://{}/ocpp/{identity}", self.addr)
    }

    /// All connections of this identity, oldest first.
    pub fn conversations(&self, identity: &str) -> Vec<Conversation> {
        let state = self.state.lock().unwrap();
        state.conversations.iter().filter(|seen| seen.identity == identity).cloned().collect()
    }

    /// Cuts every open connection of this identity, as a network failure would.
    pub fn cut(&self, identity: &str) {
        let mut state = self.state.lock().unwrap();
        for index in 0..state.conversations.len() {
            if state.conversations[index].identity == identity {
                state.cutters[index].abort();
                state.conversations[index].ended = true;
            }
        }
    }

    /// What the central system sent against the rules, so far.
    pub fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }

    /// The CALLERRORs that this identity was answered.
    pub fn errors(&self, identity: &str) -> Vec<String> {
        let messages = self.conversations(identity).into_iter().flat_map(|conversation| conversation.messages);
        messages
            .filter(|passed| !passed.from_charger && passed.text.starts_with("[4"))
            .map(|passed| passed.text)
            .collect()
    }

    /// How many CALLs of this identity were answered by a CALLRESULT.
    pub fn answered(&self, identity: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.conversations.iter().filter(|seen| seen.identity == identity).map(|seen| seen.answered).sum()
    }

    /// The CALLs of this identity that were answered by a CALLRESULT: message id, action, payload.
    pub fn acknowledged(&self, identity: &str) -> Vec<(String, String, Value)> {
        let mut answered = Vec::new();
        for conversation in self.conversations(identity) {
            let mut asked = HashMap::new();
            for message in &conversation.messages {
                let Ok(Value::Array(parts)) = serde_json::from_str(&message.text) else { continue };
                match (parts.as_slice(), message.from_charger) {
                    ([kind, Value::String(id), Value::String(action), payload], true) if kind == 2 => {
                        asked.insert(id.clone(), (action.clone(), payload.clone()));
                    }
                    ([kind, Value::String(id), _], false) if kind == 3 => {
                        if let Some((action, payload)) = asked.remove(id) {
                            answered.push((id.clone(), action, payload));
                        }
                    }
                    _ => {}
                }
            }
        }
        answered
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listener.abort();
        for cutter in &self.state.lock().unwrap().cutters {
            cutter.abort();
        }
    }
}

async fn carry(charger: TcpStream, upstream: SocketAddr, state: Arc<Mutex<State>>, index: usize) {
    if let Ok(central) = TcpStream::connect(upstream).await {
        charger.set_nodelay(true).unwrap();
        central.set_nodelay(true).unwrap();
        let (charger_read, charger_write) = charger.into_split();
        let (central_read, central_write) = central.into_split();
        let there = copy(charger_read, central_write, true, &state, index);
        let back = copy(central_read, charger_write, false, &state, index);
        // The end of one direction is handed on by `copy`; the other may still have something to say.
        let ((), ()) = tokio::join!(there, back);
    }
    state.lock().unwrap().conversations[index].ended = true;
}

/// Hands bytes on one way; what they hold is noted first, so that a CALL is known before its answer comes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, from_charger: bool, state: &Mutex<State>, index: usize) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        for found in decoder.feed(&buffer[..length]) {
            state.lock().unwrap().note(index, from_charger, found);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

impl State {
    fn note(&mut self, index: usize, from_charger: bool, found: Found) {
        let conversation = &mut self.conversations[index];
        match found {
            Found::Head(head) if from_charger => {
                let path = head.split(' ').nth(1).unwrap_or_default();
                conversation.identity = path.rsplit('/').next().unwrap_or_default().to_owned();
            }
            Found::Head(head) => {
                conversation.status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                conversation.version = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("sec-websocket-protocol").then(|| Version::from_protocol(value.trim()))?
                });
            }
            Found::Text(text) => {
                if from_charger {
                    if let Some((id, action)) = asked(&text) {
                        conversation.actions.insert(id, action);
                    }
                } else if let Err(wrong) = match conversation.version {
                    Some(version) => schemas::check(version, &text, &conversation.actions),
                    None => Err("comes without an agreed version".into()),
                } {
                    let said = format!("to {}: {text}: {wrong}", conversation.identity);
                    self.violations.push(said);
                }
                conversation.answered += usize::from(!from_charger && text.starts_with("[3"));
                conversation.messages.push(Passed { from_charger, text });
            }
            Found::Close(code) if !from_charger => conversation.close_code = Some(code),
            // Some stations send their text so.
            Found::Binary(bytes) if from_charger => {
                self.note(index, from_charger, Found::Text(String::from_utf8_lossy(&bytes).into_owned()));
            }
            Found::Binary(_) | Found::Garbage(_) if !from_charger => {
                self.violations.push(format!("to {}: not a text message: {found:?}", conversation.identity));
            }
            _ => {}
        }
    }
}

/// The message id and the action of whatever may be answered; a number stands for its text, and a missing action is empty.
fn asked(text: &str) -> Option<(String, String)> {
    // Control bytes are dropped, and what stands behind a NUL that ends the frame.
    let clean: String = text.trim_start_matches('\u{feff}').chars().filter(|c| *c >= ' ').collect();
    // Part by part: a payload that cannot be read is answered too.
    let mut values = serde_json::Deserializer::from_str(&clean).into_iter::<Vec<&serde_json::value::RawValue>>();
    let parts = values.next()?.ok()?;
    let word = |index: usize| match serde_json::from_str(parts.get(index)?.get()) {
        Ok(Value::String(word)) => Some(word),
        Ok(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Some((word(1)?, word(2).unwrap_or_default()))
}
