//! The ceiling: a bare tokio-tungstenite server that only answers the frames. It keeps nothing and checks nothing.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Serves for ever.
pub(crate) async fn run(listener: TcpListener, buffers: WebSocketConfig) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A socket that breaks is the load's to report.
            let _ = serve(stream, buffers).await;
        });
    }
}

async fn serve(stream: TcpStream, buffers: WebSocketConfig) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = Box::pin(accept_hdr_async_with_config(stream, agree, Some(buffers))).await?;
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            socket.send(Message::Text(answer(text.as_str()).into())).await?;
        }
    }
    Ok(())
}

#[allow(clippy::result_large_err, reason = "the library's signature")]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let asked = request.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, asked.unwrap_or(HeaderValue::from_static("ocpp1.6")));
    Ok(response)
}

fn answer(call: &str) -> String {
    let mut parts = call.split('"').skip(1).step_by(2);
    let (id, action) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let payload = match action {
        "Heartbeat" => r#"{"currentTime":"2026-01-01T00:00:00.000Z"}"#,
        "BootNotification" => r#"{"status":"Accepted","currentTime":"2026-01-01T00:00:00.000Z","interval":300}"#,
        "StartTransaction" => r#"{"transactionId":1,"idTagInfo":{"status":"Accepted"}}"#,
        "Authorize" => r#"{"idTagInfo":{"status":"Accepted"}}"#,
        _ => "{}",
    };
    ["[3,\"", id, "\",", payload, "]"].concat()
}
