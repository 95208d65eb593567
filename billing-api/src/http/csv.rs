//! Lists as CSV (RFC 4180), sent a part at a time, so that a list may have any length.

use std::fmt::Display;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use evm_domain::Money;
use evm_store::StoreError;
use futures_util::{StreamExt, stream};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::problem::Answer;

/// How many things are read from the store for one part.
pub(crate) const PART: i64 = 500;
/// What a spreadsheet takes for the begin of a formula; it knows the wide letters, too.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// How a list is answered.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// `json` is one page; `csv` is everything, oldest first, as a file.
    #[param(required = false, inline)]
    #[serde(default)]
    pub(crate) format: Format,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Json,
    Csv,
}

/// Rows as they are written.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    text: String,
    inside: bool,
}

impl Rows {
    /// A cell with words of others: none of it becomes a formula.
    pub(crate) fn text(&mut self, words: &str) -> &mut Self {
        self.cell(&harmless(words))
    }

    /// A cell of our own: an id, a moment, a word from a fixed list.
    pub(crate) fn own(&mut self, value: impl Display) -> &mut Self {
        self.cell(&value.to_string())
    }

    /// A number in MNT with two decimals.
    pub(crate) fn money(&mut self, Money(amount): Money) -> &mut Self {
        self.own(Decimal::new(amount, 2))
    }

    /// The end of the row.
    pub(crate) fn end(&mut self) {
        self.text.push_str("\r\n");
        self.inside = false;
    }

    fn cell(&mut self, value: &str) -> &mut Self {
        if self.inside {
            self.text.push(',');
        }
        self.inside = true;
        if value.contains([',', '"', '\r', '\n', ';', '\t']) {
            self.text.push('"');
            self.text.push_str(&value.replace('"', "\"\""));
            self.text.push('"');
        } else {
            self.text.push_str(value);
        }
        self
    }
}

/// Puts a single quote before what a spreadsheet would take for a formula (OWASP, CSV injection): at the begin, and also
/// behind every separator, for a spreadsheet may split at another one than the comma, and then the quotes protect nothing.
fn harmless(words: &str) -> String {
    let mut out = String::with_capacity(words.len() + 1);
    if words.starts_with(['\t', '\r', '\n']) {
        out.push('\'');
    }
    let mut at_begin = true;
    for letter in words.chars() {
        if at_begin && FORMULA.contains(&letter) {
            out.push('\'');
        }
        at_begin = match letter {
            ',' | ';' | '\t' | '\r' | '\n' => true,
            ' ' | '"' => at_begin,
            _ => false,
        };
        out.push(letter);
    }
    out
}

/// A list that is read a part at a time.
pub(crate) trait Export: Send + 'static {
    /// The name of the file.
    const FILE: &str;
    /// The first row.
    const COLUMNS: &[&str];

    /// Writes the next part; whether there may be more after it.
    fn next(&mut self, rows: &mut Rows) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Answers with all rows. No connection to the store is held while the client reads, and what is not read yet is not in
/// memory. Where the store fails on the way, the transfer breaks off, so that the file does not look whole.
pub(crate) async fn download<E: Export>(mut export: E) -> Answer<Response> {
    let mut rows = Rows::default();
    for column in E::COLUMNS {
        rows.own(column);
    }
    rows.end();
    // Before the answer's head: a store that is down can still be told as such.
    let more = export.next(&mut rows).await?;
    let first = Ok(Bytes::from(rows.text));
    let rest = stream::try_unfold((export, more), |(mut export, more)| async move {
        if !more {
            return Ok(None);
        }
        let mut rows = Rows::default();
        let more = export
            .next(&mut rows)
            .await
            .inspect_err(|error| tracing::warn!(%error, file = E::FILE, "an export breaks off"))?;
        Ok::<_, StoreError>(Some((Bytes::from(rows.text), (export, more))))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename={}", E::FILE)),
    ];
    Ok((headers, Body::from_stream(stream::iter([first]).chain(rest))).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use evm_ports::Networks;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    fn cell(words: &str) -> String {
        let mut rows = Rows::default();
        rows.text(words).end();
        rows.text.strip_suffix("\r\n").unwrap().to_owned()
    }

    #[test]
    fn rows_are_rfc_4180() {
        let mut rows = Rows::default();
        rows.own("a").own(5).text("").text("x, y").end();
        rows.text("said \"no\"").text("two\nlines").text("").end();
        assert_eq!(rows.text, "a,5,,\"x, y\"\r\n\"said \"\"no\"\"\",\"two\nlines\",\r\n");
    }

    #[test]
    fn words_that_would_be_a_formula_are_words() {
        for (words, written) in [
            ("cash at the counter", "cash at the counter"),
            ("a-b=c", "a-b=c"),
            ("Бэлэн мөнгө", "Бэлэн мөнгө"),
            ("=1+2", "'=1+2"),
            ("+976", "'+976"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("  =1", "  '=1"),
            ("\t=1", "\"'\t'=1\""),
            ("\rx", "\"'\rx\""),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            // Elsewhere in the world spreadsheets split at the semicolon; the quotes are letters then.
            ("x;=cmd|' /C calc'!A0;", "\"x;'=cmd|' /C calc'!A0;\""),
            ("x\n=1", "\"x\n'=1\""),
            ("x;\"=1\"", "\"x;\"\"'=1\"\"\""),
        ] {
            assert_eq!(cell(words), written, "{words:?}");
        }
    }

    #[test]
    fn money_stays_a_number() {
        let mut rows = Rows::default();
        rows.money(Money(-1250)).money(Money(0)).money(Money(5)).money(Money(100_000_000)).end();
        assert_eq!(rows.text, "-12.50,0.00,0.05,1000000.00\r\n");
    }

    /// Counts down, and fails at this number.
    struct Countdown(u32, u32);

    impl Export for Countdown {
        const FILE: &str = "countdown.csv";
        const COLUMNS: &[&str] = &["left"];

        async fn next(&mut self, rows: &mut Rows) -> Result<bool, StoreError> {
            // Let the server send what it has.
            tokio::task::yield_now().await;
            if self.0 == self.1 {
                return Err(StoreError::timed_out());
            }
            rows.own(self.0).end();
            self.0 -= 1;
            Ok(self.0 > 0)
        }
    }

    /// All that comes over the socket.
    async fn over_the_wire(fails_at: u32) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(async move || download(Countdown(3, fails_at)).await));
        let token = shutdown.clone();
        let served =
            tokio::spawn(async move { crate::server::serve(listener, router, 8, &Networks::default(), &token).await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        shutdown.cancel();
        served.await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn what_breaks_on_the_way_does_not_look_whole() {
        const LAST_CHUNK: &str = "\r\n0\r\n\r\n";
        let whole = over_the_wire(9).await;
        assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with(LAST_CHUNK), "{whole}");
        for header in [
            "content-type: text/csv; charset=utf-8; header=present\r\n",
            "content-disposition: attachment; filename=countdown.csv\r\n",
            "left\r\n3\r\n",
        ] {
            assert!(whole.contains(header), "{whole}");
        }
        let broken = over_the_wire(1).await;
        assert!(broken.starts_with("HTTP/1.1 200") && !broken.contains(LAST_CHUNK), "{broken}");
        let down = over_the_wire(3).await;
        assert!(down.starts_with("HTTP/1.1 503") && down.contains("store_unavailable"), "{down}");
    }
}
