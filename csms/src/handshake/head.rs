//! The head of the upgrade: what it asks for, and what makes it none. What two readers may read in two ways is refused.

use std::net::IpAddr;

use base64::Engine;
use evm_ports::Networks;
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;

/// Longest identity, in characters.
const LONGEST_IDENTITY: usize = 48;
/// The only version of the websocket protocol there is (RFC 6455 section 4.4).
const WEBSOCKET_VERSION: &str = "13";
/// Headers that mean something here and stand once, or nobody knows which of them counts.
const ONCE: [&str; 5] = ["host", "authorization", "sec-websocket-key", "sec-websocket-version", "content-length"];

/// What was asked for, as it may be logged: never a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The client's address: the peer, or whom a trusted proxy speaks for.
    pub(crate) address: IpAddr,
    /// The identity; where there is none, the path.
    pub(crate) identity: String,
    /// The subprotocols on offer.
    pub(crate) protocols: Vec<String>,
}

impl Asked {
    pub(super) fn nothing(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), identity: String::new(), protocols: Vec::new() }
    }
}

/// What the head of a good upgrade says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) key: String,
    /// User and password bytes.
    pub(super) credentials: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads what came so far. `None`: the head has not ended yet. Beside the head: how many bytes it has.
pub(super) fn read(bytes: &[u8], asked: &mut Asked, proxies: &Networks) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            note(&request, asked, proxies);
            if !lines_end_well(bytes.get(..length).unwrap_or_default()) {
                return Err(Refusal::Malformed("a line of the head does not end in CR LF"));
            }
            understand(&request, asked).map(|head| Some((head, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::TooLarge),
        Err(_) if bytes.starts_with(&[0x16, 3]) => Err(Refusal::Malformed("TLS, where this port speaks plain HTTP")),
        Err(_) => Err(Refusal::Malformed("no HTTP request")),
    }
}

/// Writes down what was asked, whether it makes sense or not.
fn note(request: &httparse::Request<'_, '_>, asked: &mut Asked, proxies: &Networks) {
    let lines = |name: &'static str| {
        let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    };
    asked.address = evm_ports::client(asked.address, lines("x-forwarded-for"), lines("forwarded"), proxies);
    let path = path(request);
    asked.identity = identity(path).unwrap_or_else(|_| path.to_owned());
    let offers =
        lines("sec-websocket-protocol").flat_map(|line| std::str::from_utf8(line).unwrap_or_default().split(','));
    asked.protocols = offers.map(|offer| offer.trim().to_ascii_lowercase()).filter(|offer| !offer.is_empty()).collect();
}

fn path<'a>(request: &httparse::Request<'_, 'a>) -> &'a str {
    request.path.unwrap_or_default().split('?').next().unwrap_or_default()
}

/// Bare line feeds and carriage returns end a line for some readers and not for others.
fn lines_end_well(head: &[u8]) -> bool {
    let alone = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
    !head.starts_with(b"\n") && !head.windows(2).any(alone)
}

fn understand(request: &httparse::Request<'_, '_>, asked: &mut Asked) -> Result<Head, Refusal> {
    if request.version != Some(1) {
        return Err(Refusal::Malformed("not HTTP/1.1"));
    }
    asked.identity = identity(path(request))?;
    let values = |name: &'static str| {
        let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| std::str::from_utf8(header.value).map(str::trim))
    };
    let has = |name, word: &str| {
        let words = values(name).filter_map(Result::ok).flat_map(|line| line.split(','));
        words.map(str::trim).any(|found| found.eq_ignore_ascii_case(word))
    };
    if ONCE.into_iter().any(|name| values(name).count() > 1) {
        return Err(Refusal::Malformed("a header that may stand once stands twice"));
    }
    let one = |name| match values(name).next() {
        Some(Err(_)) => Err(Refusal::Malformed("a header is no text")),
        Some(Ok(value)) => Ok(Some(value)),
        None => Ok(None),
    };
    if values("transfer-encoding").next().is_some() || one("content-length")?.is_some_and(|length| length != "0") {
        return Err(Refusal::Malformed("an upgrade has no body"));
    }
    if request.method != Some("GET") || !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(Refusal::NotAnUpgrade);
    }
    if one("sec-websocket-version")? != Some(WEBSOCKET_VERSION) {
        return Err(Refusal::OtherWebsocket);
    }
    if one("host")?.is_none() {
        return Err(Refusal::Malformed("no Host"));
    }
    let key = one("sec-websocket-key")?.unwrap_or_default();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Err(Refusal::Malformed("no Sec-WebSocket-Key"));
    }
    let credentials = match values("authorization").next() {
        Some(value) => Some(basic(value.unwrap_or_default())?),
        None => None,
    };
    Ok(Head { key: key.to_owned(), credentials })
}

/// The last part of `/ocpp/{identity}`, percent-decoded once. Slashes in a row count as one, those at the end as none:
/// stations put a URL and their identity together so.
fn identity(path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::NotFound);
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (Some("ocpp"), Some(raw), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::NotFound);
    };
    let identity = percent_decode_str(raw).decode_utf8().map_err(|_| Refusal::NotFound)?;
    let fits = (1..=LONGEST_IDENTITY).contains(&identity.chars().count())
        && !identity.chars().any(|c| c.is_control() || c == '/' || c == ':');
    if fits { Ok(identity.into_owned()) } else { Err(Refusal::NotFound) }
}

/// User and password as bytes, split at the first colon: a 1.6 AuthorizationKey may hold any byte.
fn basic(value: &str) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let refusal = Refusal::Unauthorized("the Authorization is no Basic one");
    let (scheme, encoded) = value.split_once(' ').ok_or(refusal)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refusal);
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).map_err(|_| refusal)?;
    let colon = plain.iter().position(|byte| *byte == b':').ok_or(refusal)?;
    Ok((plain[..colon].to_vec(), plain[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(text: &str) -> Result<(Asked, Head), Refusal> {
        let mut asked = Asked::nothing("10.0.0.9".parse().unwrap());
        let proxies = "10.0.0.0/8".parse().unwrap();
        let (head, length) = read(text.as_bytes(), &mut asked, &proxies)?.unwrap();
        assert_eq!(length, text.len());
        Ok((asked, head))
    }

    fn upgrade(path: &str, extra: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n{extra}\r\n"
        )
    }

    #[test]
    fn reads_identity_protocols_credentials_and_the_address_behind_a_proxy() {
        let (asked, read) = head(&upgrade(
            "/ocpp/CP%201?x",
            "Sec-WebSocket-Protocol: ocpp1.6, OCPP2.0.1\r\nAuthorization: Basic Q1AgMTphOmI=\r\nX-Forwarded-For: 1.2.3.4\r\n\
             Content-Length: 0\r\n",
        ))
        .unwrap();
        assert_eq!(asked.identity, "CP 1");
        assert_eq!(asked.protocols, ["ocpp1.6", "ocpp2.0.1"]);
        assert_eq!(asked.address.to_string(), "1.2.3.4");
        assert_eq!(read.credentials, Some((b"CP 1".to_vec(), b"a:b".to_vec())));
    }

    #[test]
    fn slashes_in_a_row_count_as_one_and_those_at_the_end_as_none() {
        for path in ["/ocpp/CP-1", "/ocpp//CP-1", "/ocpp/CP-1/", "//ocpp/CP-1", "//ocpp///CP-1//", "/ocpp/CP-1/?a=/b"] {
            assert_eq!(head(&upgrade(path, "")).unwrap().0.identity, "CP-1", "{path}");
        }
    }

    #[test]
    fn refuses_what_is_no_charger() {
        let long = format!("/ocpp/{}", "x".repeat(49));
        for path in [
            "/",
            "/ocpp",
            "/ocpp/",
            "/ocpp//",
            "/ocpp/a/b",
            "/ocpp//a//b/",
            "/x/ocpp/a",
            "/OCPP/a",
            "ocpp/a",
            "/ocpp/%00",
            "/ocpp/%ff",
            "/ocpp/a%3Ab",
            "/ocpp/a%2Fb",
            "/ocpp%2Fa",
            "/ocpp/%2F",
            &long,
        ] {
            assert_eq!(head(&upgrade(path, "")).unwrap_err(), Refusal::NotFound, "{path}");
        }
        let basic = upgrade("/ocpp/A", "Authorization: Basic !!!\r\n");
        assert!(matches!(head(&basic).unwrap_err(), Refusal::Unauthorized(_)));
    }

    #[test]
    fn refuses_what_may_be_read_in_two_ways() {
        let good = upgrade("/ocpp/A", "Authorization: Basic QTpi\r\n");
        assert!(head(&good).is_ok());
        let without = |line: &str| {
            assert!(good.contains(line), "{line}");
            good.replace(line, "")
        };
        let with = |line: &str| upgrade("/ocpp/A", &format!("Authorization: Basic QTpi\r\n{line}\r\n"));
        for (what, text) in [
            ("another Authorization", with("Authorization: Basic QTpj")),
            ("the same Authorization again", with("authorization: Basic QTpi")),
            ("another key", with("Sec-WebSocket-Key: j")),
            ("another Host", with("Host: y")),
            ("another version", with("Sec-WebSocket-Version: 8")),
            ("a body", with("Content-Length: 5")),
            ("two lengths", with("Content-Length: 0\r\nContent-Length: 0")),
            ("a body in chunks", with("Transfer-Encoding: chunked")),
            ("line feeds", good.replace("\r\n", "\n")),
            ("one line feed", good.replacen("\r\n", "\n", 3).replacen('\n', "\r\n", 2)),
            ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0")),
            ("no Host", without("Host: x\r\n")),
            ("no key", without("Sec-WebSocket-Key: k\r\n")),
            ("a folded line", with("X: a\r\n b")),
            ("a space before the colon", with("Authorization : Basic QTpj")),
            ("TLS", "\u{16}\u{3}\u{1}\r\n\r\n".into()),
        ] {
            assert!(matches!(head(&text).unwrap_err(), Refusal::Malformed(_)), "{what}");
        }
        for (what, text) in [
            ("no Upgrade", without("Upgrade: WebSocket\r\n")),
            ("an Upgrade to something else", good.replace("Upgrade: WebSocket", "Upgrade: h2c")),
            ("no Connection", without("Connection: keep-alive, Upgrade\r\n")),
            ("a POST", good.replace("GET", "POST")),
        ] {
            assert_eq!(head(&text).unwrap_err(), Refusal::NotAnUpgrade, "{what}");
        }
        for text in [without("Sec-WebSocket-Version: 13\r\n"), good.replace("Version: 13", "Version: 8")] {
            assert_eq!(head(&text).unwrap_err(), Refusal::OtherWebsocket);
        }
    }
}
