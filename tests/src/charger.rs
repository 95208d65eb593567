//! A charger made by hand over a bare WebSocket, for what well-behaved chargers never do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::poll::{SOON, eventually};
use crate::tap::Tap;

/// The protocol that a charger speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// OCPP 1.6J.
    V16,
    /// OCPP 2.0.1.
    V201,
}

impl Version {
    /// Its WebSocket subprotocol.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::V16 => "ocpp1.6",
            Self::V201 => "ocpp2.0.1",
        }
    }

    /// The version of a WebSocket subprotocol.
    pub fn from_protocol(protocol: &str) -> Option<Self> {
        [Self::V16, Self::V201].into_iter().find(|version| version.protocol() == protocol)
    }
}

/// The time now, as the specification writes it.
pub fn now() -> String {
    at(Duration::ZERO)
}

/// The time `ago` before now.
pub fn at(ago: Duration) -> String {
    (chrono::Utc::now() - ago).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// What a CALL came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// CALLRESULT and its payload.
    Result(Value),
    /// CALLERROR and its code.
    Error(String),
    /// The connection ended first.
    Closed,
}

impl Reply {
    /// The payload of a CALLRESULT.
    #[track_caller]
    pub fn ok(self) -> Value {
        match self {
            Self::Result(payload) => payload,
            other => panic!("expected a CALLRESULT, got {other:?}"),
        }
    }

    /// The code of a CALLERROR.
    #[track_caller]
    pub fn error(self) -> String {
        match self {
            Self::Error(code) => code,
            other => panic!("expected a CALLERROR, got {other:?}"),
        }
    }
}

/// How the charger answers a CALL of the central system.
#[derive(Debug, Clone)]
pub enum Policy {
    /// With this CALLRESULT.
    Answer(Value),
    /// With this CALLERROR.
    Refuse(&'static str),
    /// Not at all.
    Silence,
}

/// A CALL of the central system.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its message id.
    pub id: String,
    /// Its action.
    pub action: String,
    /// Its payload.
    pub payload: Value,
}

#[derive(Default)]
struct Shared {
    waiting: HashMap<String, oneshot::Sender<Reply>>,
    commands: VecDeque<Asked>,
    settings: Vec<Asked>,
    policies: HashMap<String, Policy>,
    stray: Vec<String>,
    closed: bool,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Outgoing = Arc<tokio::sync::Mutex<SplitSink<Socket, Message>>>;

/// One connection of one charger.
pub struct RawCharger {
    /// Its identity.
    pub identity: String,
    /// The version it speaks.
    pub version: Version,
    out: Outgoing,
    shared: Arc<Mutex<Shared>>,
    reader: AbortHandle,
    next_id: u64,
}

impl RawCharger {
    /// Connects without a password.
    pub async fn connect(tap: &Tap, identity: &str, version: Version) -> Self {
        match Self::try_connect(tap, identity, &[version.protocol()], None).await {
            Ok(charger) => charger,
            Err(status) => panic!("{identity} was refused: {status}"),
        }
    }

    /// Connects offering these subprotocols; gives the HTTP status where it is refused (0: no HTTP answer).
    pub async fn try_connect(
        tap: &Tap,
        identity: &str,
        protocols: &[&str],
        password: Option<&str>,
    ) -> Result<Self, u16> {
        let mut request = tap.url(identity).into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.join(", ").parse().unwrap());
        }
        if let Some(password) = password {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{identity}:{password}"));
            request.headers_mut().insert("authorization", format!("Basic {pair}").parse().unwrap());
        }
        let (socket, answer) = match tokio::time::timeout(SOON, connect_async(request)).await {
            Ok(Ok(done)) => done,
            Ok(Err(tungstenite::Error::Http(answer))) => return Err(answer.status().as_u16()),
            Ok(Err(_)) => return Err(0),
            Err(_) => panic!("{identity}: the handshake hangs"),
        };
        let agreed = answer.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        let version = agreed.and_then(Version::from_protocol).unwrap_or(Version::V16);
        let (sink, stream) = socket.split();
        let out = Arc::new(tokio::sync::Mutex::new(sink));
        let shared = Arc::new(Mutex::new(Shared::default()));
        let reader = tokio::spawn(read(stream, Arc::clone(&out), Arc::clone(&shared))).abort_handle();
        Ok(Self { identity: identity.to_owned(), version, out, shared, reader, next_id: 0 })
    }

    /// Answers CALLs of this action so from now on; others get an answer that means yes.
    pub fn on(&self, action: &str, policy: Policy) {
        self.shared.lock().unwrap().policies.insert(action.to_owned(), policy);
    }

    /// Sends a text as it is.
    pub async fn send(&self, text: &str) {
        let mut out = self.out.lock().await;
        // Where the other side closed, the test sees it by `is_closed`.
        let _ = out.send(Message::text(text)).await;
    }

    /// Sends a text in a binary message.
    pub async fn send_as_binary(&self, text: &str) {
        let _ = self.out.lock().await.send(Message::binary(text.as_bytes().to_vec())).await;
    }

    /// Sends a CALL and waits for what it comes to.
    pub async fn call(&mut self, action: &str, payload: Value) -> Reply {
        self.next_id += 1;
        let id = format!("{}-{}", action.chars().take(20).collect::<String>(), self.next_id);
        self.call_as(&id, action, payload).await
    }

    /// Sends a CALL under a message id of the test's own.
    pub async fn call_as(&self, id: &str, action: &str, payload: Value) -> Reply {
        let text = json!([2, id, action, payload]).to_string();
        self.ask(id, &text).await
    }

    /// Sends a text and waits for the answer that carries this message id.
    pub async fn ask(&self, id: &str, text: &str) -> Reply {
        let (sender, receiver) = oneshot::channel();
        {
            let mut shared = self.shared.lock().unwrap();
            if shared.closed {
                return Reply::Closed;
            }
            shared.waiting.insert(id.to_owned(), sender);
        }
        self.send(text).await;
        match tokio::time::timeout(Duration::from_secs(40), receiver).await {
            Ok(reply) => reply.unwrap_or(Reply::Closed),
            Err(_) => panic!("{}: no answer to {text}", self.identity),
        }
    }

    /// Waits for the next CALL of this action from the central system and gives its payload.
    pub async fn command(&self, action: &str) -> Value {
        self.asked(action).await.payload
    }

    /// [`RawCharger::command`] with the message id, to answer it by hand.
    pub async fn asked(&self, action: &str) -> Asked {
        eventually(&format!("{action} at {}", self.identity), async || {
            let mut shared = self.shared.lock().unwrap();
            let at = shared.commands.iter().position(|asked| asked.action == action)?;
            shared.commands.remove(at)
        })
        .await
    }

    /// The CALLs of the central system that the test has not taken yet.
    pub fn waiting(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().commands.iter().cloned().collect()
    }

    /// What the central system set by itself after the boot: lists of measurands.
    pub fn settings(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().settings.clone()
    }

    /// Whether the central system closed the connection, or it broke.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().unwrap().closed
    }

    /// Waits until the connection is closed.
    pub async fn closed(&self) {
        eventually(&format!("the close of {}", self.identity), async || self.is_closed().then_some(())).await;
    }

    /// Messages that answered nothing.
    pub fn stray(&self) -> Vec<String> {
        self.shared.lock().unwrap().stray.clone()
    }

    /// Closes the connection as a good charger does.
    pub async fn close(self) {
        let _ = self.out.lock().await.close().await;
    }
}

impl Drop for RawCharger {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut stream: SplitStream<Socket>, out: Outgoing, shared: Arc<Mutex<Shared>>) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        if let Some(answer) = shared.lock().unwrap().take(&text) {
            let out = Arc::clone(&out);
            tokio::spawn(async move {
                let _ = out.lock().await.send(Message::text(answer)).await;
            });
        }
    }
    let mut shared = shared.lock().unwrap();
    shared.closed = true;
    for (_, waiting) in shared.waiting.drain() {
        let _ = waiting.send(Reply::Closed);
    }
}

impl Shared {
    /// Sorts one message in; gives the answer to send if it was a CALL.
    fn take(&mut self, text: &str) -> Option<String> {
        let Ok(Value::Array(parts)) = serde_json::from_str(text) else {
            self.stray.push(text.to_owned());
            return None;
        };
        match parts.as_slice() {
            [kind, Value::String(id), Value::String(action), payload] if kind == 2 => {
                let asked = Asked { id: id.clone(), action: action.clone(), payload: payload.clone() };
                if sets_measurands(payload) {
                    self.settings.push(asked)
                } else {
                    self.commands.push_back(asked)
                }
                match self.policies.get(action) {
                    Some(Policy::Silence) => None,
                    Some(Policy::Answer(answer)) => Some(json!([3, id, answer]).to_string()),
                    Some(Policy::Refuse(code)) => Some(json!([4, id, code, "said by the test", {}]).to_string()),
                    None => Some(json!([3, id, yes(action, payload)]).to_string()),
                }
            }
            [kind, Value::String(id), rest @ ..] if kind == 3 || kind == 4 => {
                let reply = if kind == 3 {
                    Reply::Result(rest.first().cloned().unwrap_or_default())
                } else {
                    Reply::Error(rest.first().and_then(Value::as_str).unwrap_or_default().to_owned())
                };
                match self.waiting.remove(id) {
                    Some(waiting) => drop(waiting.send(reply)),
                    None => self.stray.push(text.to_owned()),
                }
                None
            }
            _ => {
                self.stray.push(text.to_owned());
                None
            }
        }
    }
}

/// Whether a CALL sets what is measured, which no test asks for.
fn sets_measurands(payload: &Value) -> bool {
    let name = payload["key"].as_str().or_else(|| payload["setVariableData"][0]["variable"]["name"].as_str());
    let lists = ["MeterValuesSampledData", "StopTxnSampledData"];
    name.is_some_and(|name| lists.contains(&name) || (name.starts_with("Tx") && name.ends_with("Measurands")))
}

/// The answer of a charger that agrees to everything.
fn yes(action: &str, payload: &Value) -> Value {
    match action {
        "GetConfiguration" => json!({ "unknownKey": payload["key"].as_array().cloned().unwrap_or_default() }),
        "UnlockConnector" => json!({ "status": "Unlocked" }),
        "GetTransactionStatus" => json!({ "messagesInQueue": false }),
        "GetVariables" => each(payload, "getVariableData", "getVariableResult"),
        "SetVariables" => each(payload, "setVariableData", "setVariableResult"),
        _ => json!({ "status": "Accepted" }),
    }
}

fn each(payload: &Value, asked: &str, answered: &str) -> Value {
    let results: Vec<Value> = payload[asked]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            json!({
                "attributeStatus": if asked == "setVariableData" { "Accepted" } else { "UnknownVariable" },
                "component": one["component"],
                "variable": one["variable"],
            })
        })
        .collect();
    json!({ answered: results })
}

/// What both versions tell, in each one's words.
impl RawCharger {
    /// BootNotification, which must be accepted.
    pub async fn boot(&mut self) {
        let payload = match self.version {
            Version::V16 => json!({ "chargePointVendor": "Hand", "chargePointModel": "Made" }),
            Version::V201 => json!({
                "reason": "PowerUp", "chargingStation": { "vendorName": "Hand", "model": "Made" },
            }),
        };
        assert_eq!(self.call("BootNotification", payload).await.ok()["status"], "Accepted");
    }

    /// StatusNotification of a connector, in the words of the version.
    pub async fn status(&mut self, connector: u32, status: &str) {
        let payload = match self.version {
            Version::V16 => json!({
                "connectorId": connector, "errorCode": if status == "Faulted" { "GroundFailure" } else { "NoError" },
                "status": status, "timestamp": now(),
            }),
            Version::V201 => json!({
                "timestamp": now(), "connectorStatus": status, "evseId": connector, "connectorId": 1,
            }),
        };
        self.call("StatusNotification", payload).await.ok();
    }

    /// 1.6 StartTransaction; gives the transaction's id.
    pub async fn start(&mut self, connector: u32, id_tag: &str, meter_start: i64) -> i64 {
        let payload = json!({
            "connectorId": connector, "idTag": id_tag, "meterStart": meter_start, "timestamp": now(),
        });
        let answer = self.call("StartTransaction", payload).await.ok();
        answer["transactionId"].as_i64().unwrap()
    }

    /// 1.6 MeterValues with one register sample in Wh.
    pub async fn meter(&mut self, connector: u32, transaction: i64, wh: i64) {
        let payload = json!({
            "connectorId": connector, "transactionId": transaction,
            "meterValue": [{ "timestamp": now(), "sampledValue": [{ "value": wh.to_string() }] }],
        });
        self.call("MeterValues", payload).await.ok();
    }

    /// 1.6 StopTransaction.
    pub async fn stop(&mut self, transaction: i64, meter_stop: i64) -> Value {
        let payload = json!({ "transactionId": transaction, "meterStop": meter_stop, "timestamp": now() });
        self.call("StopTransaction", payload).await.ok()
    }

    /// Waits for the remote start and gives its idTag (1.6), or its idToken's text and remoteStartId (2.0.1).
    pub async fn remote_start(&self) -> (String, i64) {
        match self.version {
            Version::V16 => {
                let asked = self.command("RemoteStartTransaction").await;
                (asked["idTag"].as_str().unwrap().to_owned(), 0)
            }
            Version::V201 => {
                let asked = self.command("RequestStartTransaction").await;
                let token = asked["idToken"]["idToken"].as_str().unwrap().to_owned();
                (token, asked["remoteStartId"].as_i64().unwrap())
            }
        }
    }
}
