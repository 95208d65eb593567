//! Upgrades written by hand: what a charger sends before it is one.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::poll::SOON;

/// A connection from this address of the machine itself, which is 127.0.0.0/8.
pub async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// The n-th address of the machine itself.
pub fn loopback(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

/// The line of Basic authentication.
pub fn basic(identity: &str, password: &[u8]) -> String {
    let pair = [identity.as_bytes(), b":", password].concat();
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// A good upgrade, with these lines more.
pub fn upgrade(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp1.6\r\n{lines}\r\n"
    )
}

/// Says this, and gives the HTTP status of what comes back; 0 where nothing does. The connection stays open as long as
/// the other value is held.
pub async fn say(from: Ipv4Addr, to: SocketAddr, text: &str) -> (u16, TcpStream) {
    let mut stream = connect_from(from, to).await.unwrap();
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") && matches!(stream.read_buf(&mut answer).await, Ok(1..))
        {
        }
    };
    tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("no answer to {text:?}"));
    let line = String::from_utf8_lossy(&answer).into_owned();
    (line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(), stream)
}

/// The HTTP status for a charger with this password, from here.
pub async fn status(to: SocketAddr, identity: &str, password: impl AsRef<[u8]>) -> u16 {
    status_from(Ipv4Addr::LOCALHOST, to, identity, password).await
}

/// The HTTP status for a charger with this password, from there.
pub async fn status_from(from: Ipv4Addr, to: SocketAddr, identity: &str, password: impl AsRef<[u8]>) -> u16 {
    say(from, to, &upgrade(&format!("/ocpp/{identity}"), &basic(identity, password.as_ref()))).await.0
}
