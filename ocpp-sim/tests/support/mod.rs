//! A tiny central system: takes sockets, hands over what arrives, answers by rules that a test gives.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used)]

use futures_util::{SinkExt, StreamExt};
use ocpp_sim::{Charger, ChargerConfig, Version};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What a refused handshake is answered with, and the last handshake's path and credentials.
#[derive(Debug, Default)]
pub(crate) struct Door {
    pub(crate) refuse: Option<u16>,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

/// The listening side.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) door: Arc<Mutex<Door>>,
    version: Version,
}

impl Server {
    pub(crate) async fn new(version: Version) -> Server {
        Server { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), door: Arc::default(), version }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ocpp", self.listener.local_addr().unwrap())
    }

    /// A charger of this server, with waits short enough for tests.
    pub(crate) fn config(&self, identity: &str) -> ChargerConfig {
        let mut config = ChargerConfig::new(self.url(), identity, self.version);
        config.reconnect_min = Duration::from_millis(20);
        config.reconnect_max = Duration::from_millis(50);
        config.reset_time = Duration::from_millis(20);
        config.boot_retry = Duration::from_millis(50);
        config.message_retry_interval = Duration::from_millis(50);
        config.sample_interval = Duration::from_millis(100);
        config.start_meter_wh = 1_000;
        config.speed = 1_000;
        config
    }

    /// One handshake: the socket, or `None` when it was refused.
    pub(crate) async fn handshake(&self) -> Option<WebSocketStream<TcpStream>> {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        let (door, protocol) = (self.door.clone(), self.version.subprotocol());
        #[allow(clippy::result_large_err)]
        let check = move |request: &Request, mut response: Response| {
            let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
            let mut door = door.lock().unwrap();
            door.path = request.uri().path().to_owned();
            door.authorization = header("authorization");
            if let Some(status) = door.refuse {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = status.try_into().unwrap();
                return Err(refusal);
            }
            assert_eq!(header("sec-websocket-protocol").as_deref(), Some(protocol));
            let value = protocol.parse().unwrap();
            response.headers_mut().insert("sec-websocket-protocol", value);
            Ok(response)
        };
        timeout(LIMIT, accept_hdr_async(stream, check)).await.unwrap().ok()
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(self.handshake().await.unwrap())
    }

    /// A charger that is connected, and accepted after its BootNotification.
    pub(crate) async fn booted(&self, config: ChargerConfig) -> (Charger, Peer) {
        let charger = Charger::spawn(config);
        let mut peer = self.accept().await;
        peer.boot().await;
        charger.wait_until(LIMIT, |s| s.booted).await.unwrap();
        (charger, peer)
    }
}

/// One charger's socket at the server.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    next_id: u32,
    /// Every CALL of the charger: action and payload.
    pub(crate) seen: Vec<(String, Value)>,
}

/// A frame as it came.
pub(crate) type Raw = Vec<Value>;

impl Peer {
    pub(crate) fn new(socket: WebSocketStream<TcpStream>) -> Peer {
        Peer { socket, next_id: 0, seen: Vec::new() }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(crate) async fn frame(&mut self) -> Option<Raw> {
        loop {
            match timeout(LIMIT, self.socket.next()).await.expect("nothing came in time") {
                Some(Ok(Message::Text(text))) => {
                    let frame: Raw = serde_json::from_str(&text).unwrap();
                    if frame[0] == 2 {
                        self.seen.push((frame[2].as_str().unwrap().to_owned(), frame[3].clone()));
                    }
                    return Some(frame);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn answer(&mut self, call: &Raw, payload: Value) {
        self.send(json!([3, call[1], payload])).await;
    }

    pub(crate) async fn fail(&mut self, call: &Raw) {
        self.send(json!([4, call[1], "InternalError", "as the test wants", {}])).await;
    }

    /// The usual kind answer to everything that is not a transaction's start.
    pub(crate) async fn answer_kindly(&mut self, call: &Raw) {
        let payload = match call[2].as_str().unwrap() {
            "BootNotification" => json!({
                "status": "Accepted", "interval": 300, "currentTime": "2026-01-01T00:00:00.000Z"
            }),
            "Heartbeat" => json!({ "currentTime": "2026-01-01T00:00:00.000Z" }),
            "Authorize" => {
                let status = if call[3].to_string().contains("BAD") { "Blocked" } else { "Accepted" };
                json!({ "idTagInfo": { "status": status }, "idTokenInfo": { "status": status } })
            }
            "StartTransaction" => json!({ "transactionId": 77, "idTagInfo": { "status": "Accepted" } }),
            _ => json!({}),
        };
        self.answer(call, payload).await;
    }

    /// The next CALL of this action; answers the others on the way kindly, but not this one.
    pub(crate) async fn until(&mut self, action: &str) -> Raw {
        self.until_where(action, |_| true).await
    }

    pub(crate) async fn until_where(&mut self, action: &str, wish: impl Fn(&Value) -> bool) -> Raw {
        loop {
            let frame = self.frame().await.expect("the charger hung up");
            if frame[0] == 2 && frame[2] == action && wish(&frame[3]) {
                return frame;
            }
            if frame[0] == 2 {
                self.answer_kindly(&frame).await;
            }
        }
    }

    /// Like `until`, and answers it kindly too. Gives the payload.
    pub(crate) async fn take(&mut self, action: &str) -> Value {
        let call = self.until(action).await;
        self.answer_kindly(&call).await;
        call[3].clone()
    }

    pub(crate) async fn take_where(&mut self, action: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let call = self.until_where(action, wish).await;
        self.answer_kindly(&call).await;
        call[3].clone()
    }

    pub(crate) async fn boot(&mut self) -> Value {
        let call = self.frame().await.unwrap();
        assert_eq!(call[2], "BootNotification", "{call:?}");
        self.answer_kindly(&call).await;
        call[3].clone()
    }

    /// Sends a command and gives what it is answered; answers the charger's own calls kindly meanwhile.
    pub(crate) async fn command(&mut self, action: &str, payload: Value) -> Value {
        let frame = self.command_frame(action, payload).await;
        assert_eq!(frame[0], 3, "{frame:?}");
        frame[2].clone()
    }

    pub(crate) async fn command_frame(&mut self, action: &str, payload: Value) -> Raw {
        self.next_id += 1;
        let id = format!("s{}", self.next_id);
        self.send(json!([2, id, action, payload])).await;
        loop {
            let frame = self.frame().await.expect("the charger hung up");
            if frame[0] == 2 {
                self.answer_kindly(&frame).await;
            } else if frame[1] == id.as_str() {
                return frame;
            }
        }
    }

    /// Answers kindly until the charger hangs up.
    pub(crate) async fn until_closed(&mut self) {
        while let Some(frame) = self.frame().await {
            if frame[0] == 2 {
                self.answer_kindly(&frame).await;
            }
        }
    }

    /// Every payload seen so far of this action.
    pub(crate) fn payloads(&self, action: &str) -> Vec<&Value> {
        self.seen.iter().filter(|(a, _)| a == action).map(|(_, p)| p).collect()
    }
}
