//! A thin charger's socket: sends a text, waits for the answer, checks that it is the right one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The small buffers of a socket that carries small frames, on both sides of every measurement.
pub(crate) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0).max_write_buffer_size(1024 * 1024)
}

/// A connected charger.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects and upgrades with Basic credentials and this subprotocol.
    pub(crate) async fn connect(
        address: SocketAddr,
        identity: &str,
        password: &str,
        protocol: &'static str,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}/ocpp/{identity}").into_client_request()?;
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{identity}:{password}"));
        request.headers_mut().insert(AUTHORIZATION, format!("Basic {credentials}").parse()?);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol.parse()?);
        let upgrade = Box::pin(client_async_with_config(request, stream, Some(small_buffers())));
        let (socket, _) = upgrade.await.with_context(|| format!("{identity} was not let in"))?;
        Ok(Self(socket))
    }

    /// Sends a CALL; its answer's payload comes back.
    ///
    /// # Errors
    /// Where the answer is a CALLERROR or to another id, or the socket closes.
    pub(crate) async fn call(&mut self, id: &str, frame: String) -> anyhow::Result<Utf8Bytes> {
        self.0.send(Message::Text(frame.into())).await?;
        loop {
            let text = self.text().await?;
            if self.accept(text.as_str()).await? {
                continue;
            }
            let payload = text.as_str().strip_prefix("[3,\"").and_then(|rest| rest.strip_prefix(id));
            let right = payload.is_some_and(|rest| rest.starts_with("\",{") && rest.ends_with("}]"));
            ensure!(right, "the answer to {id} is {text}");
            return Ok(text);
        }
    }

    /// Waits for a RemoteStartTransaction and accepts it. Its tag comes back, and how long the charger took.
    pub(crate) async fn accept_start(&mut self) -> anyhow::Result<(String, Duration)> {
        loop {
            let text = self.text().await?;
            let heard = Instant::now();
            ensure!(self.accept(text.as_str()).await?, "{text} is an answer to nothing");
            let took = heard.elapsed();
            if text.contains(r#""RemoteStartTransaction""#) {
                let tag = text.split_once(r#""idTag":""#).and_then(|(_, rest)| rest.split('"').next());
                return Ok((tag.context("a start without a tag")?.to_owned(), took));
            }
        }
    }

    async fn text(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => bail!("closed by the server: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the socket ended"),
            }
        }
    }

    /// Answers a CALL of the server's with Accepted; `false`: it is none.
    async fn accept(&mut self, text: &str) -> anyhow::Result<bool> {
        let Some(call) = text.strip_prefix("[2,\"") else { return Ok(false) };
        let theirs = call.split('"').next().unwrap_or_default();
        self.0.send(Message::Text(format!(r#"[3,"{theirs}",{{"status":"Accepted"}}]"#).into())).await?;
        Ok(true)
    }

    /// Says goodbye and waits for the other side's.
    pub(crate) async fn close(mut self) {
        let _ = self.0.close(None).await;
        while let Some(Ok(_)) = self.0.next().await {}
    }
}
