//! From a TCP connection to a known charger: the HTTP upgrade, read with bounds, and refused before the 101.
//!
//! OCPP-J 1.6 section 3, 2.0.1 part 4 section 3: identity in the path, Basic credentials, subprotocol.

use std::time::Duration;

use base64::Engine;
use evm_domain::ChargerId;
use evm_store::chargers::{self, Charger};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Node;
use crate::ocpp::Version;

const HEAD_LIMIT: usize = 8 * 1024;
const HEAD_TIME: Duration = Duration::from_secs(10);

/// A charger that may speak.
pub(crate) struct Checked {
    pub(crate) charger: ChargerId,
    pub(crate) identity: String,
    /// `None`: nothing in common; the handshake is finished and then closed.
    pub(crate) version: Option<Version>,
    /// The 101 to send.
    pub(crate) welcome: String,
    /// Whether a boot of it was accepted before.
    pub(crate) booted: bool,
    /// What came behind the head already.
    pub(crate) rest: Vec<u8>,
}

/// A refused upgrade: HTTP status and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    NotFound,
    Unauthorized,
    NotAnUpgrade,
    TooLarge,
    StoreDown,
    BusDown,
}

impl Refusal {
    fn response(self) -> String {
        let (status, extra, code) = match self {
            Self::Malformed => ("400 Bad Request", "", "invalid_request"),
            Self::NotFound => ("404 Not Found", "", "unknown_charger"),
            Self::Unauthorized => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"ocpp\"\r\n", "unauthorized"),
            Self::NotAnUpgrade => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "websocket_only")
            }
            Self::TooLarge => ("431 Request Header Fields Too Large", "", "head_too_large"),
            Self::StoreDown => ("503 Service Unavailable", "Retry-After: 10\r\n", "store_down"),
            Self::BusDown => ("503 Service Unavailable", "Retry-After: 10\r\n", "bus_down"),
        };
        let body = format!(r#"{{"code":"{code}"}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: application/problem+json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }
}

/// What the head of the upgrade says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    identity: String,
    key: String,
    protocols: Vec<String>,
    /// User and password bytes.
    credentials: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads the upgrade and checks it. `None`: refused, or gone.
pub(crate) async fn check(stream: &mut TcpStream, node: &Node) -> Option<Checked> {
    let (head, rest) = match tokio::time::timeout(HEAD_TIME, read_head(stream)).await {
        Ok(Ok(read)) => read,
        Ok(Err(Some(refusal))) => {
            refuse(stream, refusal).await;
            return None;
        }
        Ok(Err(None)) | Err(_) => return None,
    };
    match look_up(&head, node).await {
        Ok((charger, version)) => {
            let protocol = version
                .filter(|version| head.protocols.iter().any(|offer| offer == version.subprotocol()))
                .map(|version| format!("Sec-WebSocket-Protocol: {}\r\n", version.subprotocol()))
                .unwrap_or_default();
            let accept = derive_accept_key(head.key.as_bytes());
            let welcome = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
            );
            let booted = charger.booted_at.is_some();
            Some(Checked { charger: charger.id, identity: charger.identity, version, welcome, booted, rest })
        }
        Err(refusal) => {
            tracing::info!(identity = %head.identity, ?refusal, "charger refused");
            refuse(stream, refusal).await;
            None
        }
    }
}

/// Answers with a refusal.
pub(crate) async fn refuse(stream: &mut TcpStream, refusal: Refusal) {
    let write = async {
        stream.write_all(refusal.response().as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}

async fn read_head(stream: &mut TcpStream) -> Result<(Head, Vec<u8>), Option<Refusal>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await.map_err(|_| None)? == 0 {
            return Err(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let head = understand(&request)?;
                return Ok((head, bytes[length..].to_vec()));
            }
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_LIMIT => return Err(Some(Refusal::TooLarge)),
            Ok(httparse::Status::Partial) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Some(Refusal::TooLarge)),
            Err(_) => return Err(Some(Refusal::Malformed)),
        }
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Head, Refusal> {
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    let mut head = Head { identity: identity(path)?, ..Head::default() };
    let mut upgrade = false;
    for header in request.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else { continue };
        match header.name.to_ascii_lowercase().as_str() {
            "upgrade" => upgrade |= value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-key" => head.key = value.trim().to_owned(),
            "sec-websocket-protocol" => {
                head.protocols.extend(value.split(',').map(|offer| offer.trim().to_ascii_lowercase()));
            }
            "authorization" => head.credentials = Some(basic(value)?),
            _ => {}
        }
    }
    if !upgrade || head.key.is_empty() || request.method != Some("GET") {
        return Err(Refusal::NotAnUpgrade);
    }
    Ok(head)
}

/// The last part of `/ocpp/{identity}`, percent-decoded once.
fn identity(path: &str) -> Result<String, Refusal> {
    let raw = path.strip_prefix("/ocpp/").ok_or(Refusal::NotFound)?;
    let identity = percent_decode_str(raw).decode_utf8().map_err(|_| Refusal::NotFound)?;
    let fits = (1..=48).contains(&identity.chars().count())
        && !identity.chars().any(|c| c.is_control() || c == '/' || c == ':');
    if fits { Ok(identity.into_owned()) } else { Err(Refusal::NotFound) }
}

/// User and password as bytes, split at the first colon: a 1.6 AuthorizationKey may hold any byte.
fn basic(value: &str) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let (scheme, encoded) = value.trim().split_once(' ').ok_or(Refusal::Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refusal::Unauthorized);
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).map_err(|_| Refusal::Unauthorized)?;
    let colon = plain.iter().position(|byte| *byte == b':').ok_or(Refusal::Unauthorized)?;
    Ok((plain[..colon].to_vec(), plain[colon + 1..].to_vec()))
}

async fn look_up(head: &Head, node: &Node) -> Result<(Charger, Option<Version>), Refusal> {
    let lookup = async { chargers::by_identity(&mut node.store.read().await?, &head.identity).await };
    let found = tokio::time::timeout(Duration::from_secs(5), lookup).await;
    let charger = match found {
        Ok(Ok(Some(charger))) => charger,
        Ok(Ok(None)) => return Err(Refusal::NotFound),
        Ok(Err(error)) => {
            tracing::warn!(%error, "charger refused: the store does not answer");
            return Err(Refusal::StoreDown);
        }
        Err(_) => return Err(Refusal::StoreDown),
    };
    if let Some(stored) = &charger.password_hash {
        let (user, password) = head.credentials.as_ref().ok_or(Refusal::Unauthorized)?;
        let right = is_right(&node.config.server_secret, password, stored);
        if !right || user != head.identity.as_bytes() {
            return Err(Refusal::Unauthorized);
        }
    }
    let version = if head.protocols.is_empty() {
        Version::ALL.into_iter().find(|v| charger.without_subprotocol.as_deref() == Some(v.as_str()))
    } else {
        Version::ALL.into_iter().find(|v| head.protocols.iter().any(|offer| offer == v.subprotocol()))
    };
    Ok((charger, version))
}

/// Whether these are the password's bytes, or those that its hexadecimal digits stand for: so a 1.6 AuthorizationKey is
/// set, and shown (1.6 security whitepaper, `AuthorizationKey`).
fn is_right(server_secret: &[u8; 32], shown: &[u8], stored: &str) -> bool {
    let matches = |bytes: &[u8]| {
        let hash = chargers::password_hash(server_secret, bytes);
        bool::from(hash.as_bytes().ct_eq(stored.as_bytes()))
    };
    let digits = || shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    matches(shown) || matches(digits().as_bytes()) || matches(digits().to_ascii_uppercase().as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(text: &str) -> Result<Head, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(text.as_bytes()).unwrap().is_complete());
        understand(&request)
    }

    fn upgrade(path: &str, extra: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n{extra}\r\n"
        )
    }

    #[test]
    fn reads_identity_protocols_and_credentials() {
        let read = head(&upgrade(
            "/ocpp/CP%201",
            "Sec-WebSocket-Protocol: ocpp1.6, ocpp2.0.1\r\nAuthorization: Basic Q1AgMTphOmI=\r\n",
        ))
        .unwrap();
        assert_eq!(read.identity, "CP 1");
        assert_eq!(read.protocols, ["ocpp1.6", "ocpp2.0.1"]);
        assert_eq!(read.credentials, Some((b"CP 1".to_vec(), b"a:b".to_vec())));
    }

    #[test]
    fn a_key_is_shown_as_it_is_or_as_the_bytes_of_its_digits() {
        let key = [9; 32];
        let stored = chargers::password_hash(&key, b"00FF3031323334353637383961626364");
        assert!(is_right(&key, b"00FF3031323334353637383961626364", &stored));
        assert!(is_right(&key, b"\x00\xff0123456789abcd", &stored));
        assert!(!is_right(&key, b"\x00\xff0123456789abce", &stored));
        assert!(!is_right(&key, b"", &stored));
        let lower = chargers::password_hash(&key, b"00ff3031323334353637383961626364");
        assert!(is_right(&key, b"\x00\xff0123456789abcd", &lower));
    }

    #[test]
    fn refuses_what_is_no_charger() {
        for path in ["/", "/ocpp/", "/ocpp/a/b", "/ocpp/%00", "/ocpp/%ff", "/ocpp/a%3Ab"] {
            assert_eq!(head(&upgrade(path, "")).unwrap_err(), Refusal::NotFound, "{path}");
        }
        assert_eq!(head(&upgrade(&format!("/ocpp/{}", "x".repeat(49)), "")).unwrap_err(), Refusal::NotFound);
        assert_eq!(head("GET /ocpp/A HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err(), Refusal::NotAnUpgrade);
        let basic = upgrade("/ocpp/A", "Authorization: Basic !!!\r\n");
        assert_eq!(head(&basic).unwrap_err(), Refusal::Unauthorized);
    }
}
