//! The callback: a GET to the merchant that says that something was paid, and proves nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the merchant may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of its answer.
const MAX_ANSWER: u64 = 64 * 1024;

/// What the merchant answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; the gateway expects exactly `SUCCESS`.
    pub body: String,
}

/// Why the merchant gave none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no answer to the callback: {0}")]
pub struct NoAnswer(String);

/// The callback URL with the payment appended to its query.
pub(crate) fn with_payment(url: &str, payment_id: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let join = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{join}qpay_payment_id={payment_id}")
}

/// Calls a URL with GET. Plain HTTP only: the merchant runs next to the stand-in.
pub(crate) async fn get(url: &str) -> Result<Answer, NoAnswer> {
    match timeout(LIMIT, exchange(url)).await {
        Ok(answer) => answer.map_err(NoAnswer),
        Err(_) => Err(NoAnswer("none in time".into())),
    }
}

async fn exchange(url: &str) -> Result<Answer, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// URLs are called back")?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the callback URL is not one".into());
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    // HTTP/1.0: the answer ends with the socket and is not chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| "not HTTP".into())
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_the_payment_to_any_query() {
        for (url, full) in [
            ("http://a/c", "http://a/c?qpay_payment_id=1"),
            ("http://a/c?", "http://a/c?qpay_payment_id=1"),
            ("http://a/c?x=y", "http://a/c?x=y&qpay_payment_id=1"),
            ("http://a/c?x=y#z", "http://a/c?x=y&qpay_payment_id=1"),
        ] {
            assert_eq!(with_payment(url, "1"), full);
        }
    }

    #[test]
    fn reads_an_answer() {
        let answer = parse("HTTP/1.0 200 OK\r\ncontent-length: 7\r\n\r\nSUCCESS");
        assert_eq!(answer, Some(Answer { status: 200, body: "SUCCESS".into() }));
        assert_eq!(parse("SUCCESS"), None);
    }
}
