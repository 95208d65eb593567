//! The client's half of the NATS text protocol, read from untrusted bytes, and the server's half written.
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>

use serde::Deserialize;

use super::HubLimits;
use crate::{ID_HEADER, MAX_EVENT, Message};

/// Longest control line, as in the real server.
pub(super) const MAX_LINE: usize = 4096;
/// Longest subscription id and queue name.
const MAX_NAME: usize = 64;

/// What a client says.
#[derive(Debug, PartialEq)]
pub(super) enum Op {
    Connect(Box<ConnectOptions>),
    Ping,
    Pong,
    Sub {
        subject: String,
        queue: Option<String>,
        sid: String,
    },
    Unsub {
        sid: String,
        max: Option<u64>,
    },
    /// `PUB` or `HPUB`, whose payload is thrown away.
    Pub {
        subject: String,
    },
}

/// The part of `CONNECT` that counts here.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ConnectOptions {
    pub(super) user: Option<String>,
    pub(super) pass: Option<String>,
    pub(super) verbose: bool,
    pub(super) headers: bool,
}

/// A violation that ends the connection, in the protocol's own words.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(super) enum Fault {
    UnknownOperation,
    LineTooLong,
    PayloadTooLarge,
}

impl Fault {
    pub(super) fn text(self) -> &'static str {
        match self {
            Fault::UnknownOperation => "Unknown Protocol Operation",
            Fault::LineTooLong => "maximum control line exceeded",
            Fault::PayloadTooLarge => "Maximum Payload Violation",
        }
    }
}

/// Cuts received bytes into operations. Holds one line and one read at most; payloads are counted, not kept.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    skip: usize,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next operation, or `None` until more bytes are pushed.
    pub(super) fn next(&mut self) -> Result<Option<Op>, Fault> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let skipped = self.skip.min(rest.len());
        self.skip -= skipped;
        self.start += skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let whole = rest.len() <= MAX_LINE;
            return if whole { Ok(None) } else { Err(Fault::LineTooLong) };
        };
        if end > MAX_LINE {
            return Err(Fault::LineTooLong);
        }
        let line = rest.get(..end).unwrap_or_default();
        let (op, skip) = parse(line)?;
        self.start += end + 1;
        self.skip = skip;
        Ok(Some(op))
    }
}

/// One control line, and how many bytes of payload follow it.
fn parse(line: &[u8]) -> Result<(Op, usize), Fault> {
    let line = std::str::from_utf8(line).map_err(|_| Fault::UnknownOperation)?.trim();
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let op = match (verb.to_ascii_uppercase().as_str(), words.as_slice()) {
        ("CONNECT", _) => {
            let options = serde_json::from_str(rest).map_err(|_| Fault::UnknownOperation)?;
            Op::Connect(Box::new(options))
        }
        ("PING", []) => Op::Ping,
        ("PONG", []) => Op::Pong,
        ("SUB", [subject, sid]) => subscription(subject, None, sid)?,
        ("SUB", [subject, queue, sid]) => subscription(subject, Some(queue), sid)?,
        ("UNSUB", [sid]) => Op::Unsub { sid: name(sid)?, max: None },
        ("UNSUB", [sid, max]) => {
            let max = max.parse().map_err(|_| Fault::UnknownOperation)?;
            Op::Unsub { sid: name(sid)?, max: Some(max) }
        }
        ("PUB", [subject, size] | [subject, _, size]) => return publication(subject, size),
        ("HPUB", [subject, _, size] | [subject, _, _, size]) => return publication(subject, size),
        _ => return Err(Fault::UnknownOperation),
    };
    Ok((op, 0))
}

fn subscription(subject: &str, queue: Option<&str>, sid: &str) -> Result<Op, Fault> {
    let queue = queue.map(name).transpose()?;
    Ok(Op::Sub { subject: subject.to_owned(), queue, sid: name(sid)? })
}

fn publication(subject: &str, size: &str) -> Result<(Op, usize), Fault> {
    let size: u64 = size.parse().map_err(|_| Fault::UnknownOperation)?;
    let size = usize::try_from(size).map_err(|_| Fault::PayloadTooLarge)?;
    if size > MAX_EVENT {
        return Err(Fault::PayloadTooLarge);
    }
    // The payload ends with a line end of its own.
    Ok((Op::Pub { subject: subject.to_owned() }, size + 2))
}

fn name(word: &str) -> Result<String, Fault> {
    if word.len() > MAX_NAME {
        return Err(Fault::UnknownOperation);
    }
    Ok(word.to_owned())
}

/// The line a server begins with.
pub(super) fn info(server_id: &str, client: u64, limits: &HubLimits) -> Vec<u8> {
    let info = serde_json::json!({
        "server_id": server_id,
        "server_name": "evm",
        // Clients read from it what the server can do.
        "version": "2.10.0",
        "proto": 1,
        "go": "",
        "host": "0.0.0.0",
        "port": limits.advertised_port,
        "headers": true,
        "auth_required": true,
        "max_payload": MAX_EVENT,
        "client_id": client,
    });
    format!("INFO {info}\r\n").into_bytes()
}

/// `-ERR`, with what would break its line or quotes left out.
pub(super) fn error(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(|c| !c.is_control() && *c != '\'').collect();
    format!("-ERR '{text}'\r\n").into_bytes()
}

/// `MSG`, or `HMSG` when there is an id and the client can read headers.
pub(super) fn message(out: &mut Vec<u8>, message: &Message, sid: &str, headers: bool) {
    let Message { subject, id, payload } = message;
    let size = payload.len();
    match id.as_ref().filter(|_| headers) {
        None => out.extend(format!("MSG {subject} {sid} {size}\r\n").bytes()),
        Some(id) => {
            let head = format!("NATS/1.0\r\n{ID_HEADER}: {id}\r\n\r\n");
            let total = head.len() + size;
            out.extend(format!("HMSG {subject} {sid} {} {total}\r\n{head}", head.len()).bytes());
        }
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn ops(bytes: &[u8], chunk: usize) -> Result<Vec<Op>, Fault> {
        let mut decoder = Decoder::default();
        let mut ops = Vec::new();
        for part in bytes.chunks(chunk) {
            decoder.push(part);
            while let Some(op) = decoder.next()? {
                ops.push(op);
            }
        }
        Ok(ops)
    }

    #[test]
    fn operations_are_read_however_they_are_cut() {
        let text = b"CONNECT {\"user\":\"u\",\"pass\":\"p\",\"verbose\":true,\"lang\":\"x\"}\r\nping\r\nPONG\n\
            SUB ev.a.> 1\r\nSUB  ev.a.X\tq  22\r\nUNSUB 1\r\nUNSUB 22 5\r\nPUB x 4\r\nPING\r\n\
            PUB x reply 0\r\n\r\nHPUB x 12 14\r\nNATS/1.0\r\n\r\nab\r\nHPUB x r 12 12\r\nNATS/1.0\r\n\r\n\r\nPING\r\n";
        let whole = ops(text, text.len()).unwrap();
        for chunk in 1..40 {
            assert_eq!(ops(text, chunk).unwrap(), whole);
        }
        let Op::Connect(options) = &whole[0] else { panic!("{whole:?}") };
        assert_eq!(options.user.as_deref(), Some("u"));
        assert!(options.verbose && !options.headers);
        let published = whole.iter().filter(|op| matches!(op, Op::Pub { .. })).count();
        let pings = whole.iter().filter(|op| **op == Op::Ping).count();
        assert_eq!((whole.len(), published, pings), (12, 4, 2));
    }

    #[test]
    fn nonsense_and_excess_are_faults() {
        let cases: [(&[u8], Fault); 11] = [
            (b"GET / HTTP/1.1\r\n", Fault::UnknownOperation),
            (b"\r\n", Fault::UnknownOperation),
            (b"\xff\xfe\n", Fault::UnknownOperation),
            (b"CONNECT {\n", Fault::UnknownOperation),
            (b"SUB a\r\n", Fault::UnknownOperation),
            (b"UNSUB 1 -5\r\n", Fault::UnknownOperation),
            (b"PUB x -1\r\n", Fault::UnknownOperation),
            (b"PING PING\r\n", Fault::UnknownOperation),
            (b"PUB x 65537\r\n", Fault::PayloadTooLarge),
            (b"PUB x 18446744073709551615\r\n", Fault::PayloadTooLarge),
            (&[b'A'; MAX_LINE + 1], Fault::LineTooLong),
        ];
        for (bytes, fault) in cases {
            assert_eq!(ops(bytes, 4096), Err(fault), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn messages_carry_an_id_to_those_who_can_read_it() {
        let event = Message { subject: "ev.a.X".to_owned(), id: Some("7".to_owned()), payload: b"{}".to_vec() };
        let mut out = Vec::new();
        message(&mut out, &event, "3", true);
        assert_eq!(out, b"HMSG ev.a.X 3 28 30\r\nNATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n{}\r\n");
        out.clear();
        message(&mut out, &event, "3", false);
        assert_eq!(out, b"MSG ev.a.X 3 2\r\n{}\r\n");
    }

    #[test]
    fn errors_stay_on_their_line() {
        assert_eq!(error("to \"a'\r\nb\""), b"-ERR 'to \"ab\"'\r\n");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300), chunk in 1usize..50) {
            let _ = ops(&bytes, chunk);
        }
    }
}
