//! The calls of the gateway.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::breaker::Breaker;
use super::error::QpayError;
use super::http;
use super::token::{Renewal, Tokens};
use super::wire::{self, Canceled, Invoice, InvoiceState, NewInvoice, Payment, PaymentOrigin};

/// Most pages of payments of one invoice.
const MAX_PAGES: usize = 20;

/// The settings of the gateway.
#[derive(Clone)]
pub struct QpayConfig {
    /// Its base, `https://merchant.qpay.mn/v2`.
    pub url: String,
    /// The user of its Basic authentication.
    pub client_id: String,
    /// The password of its Basic authentication; never logged.
    pub client_secret: String,
    /// The template of our invoices, given by the gateway.
    pub invoice_code: String,
    /// How long one call may take, its retries and the wait for a token included.
    pub timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How often a call that is safe to repeat is tried again.
    pub retries: usize,
    /// After so many failures in a row the gateway is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone before one call tries again.
    pub breaker_pause: Duration,
    /// Most calls at a time; others wait for their turn within their own time.
    pub max_in_flight: usize,
}

impl QpayConfig {
    /// The defaults, with this gateway and these credentials.
    pub fn new(url: &str, client_id: &str, client_secret: &str, invoice_code: &str) -> Self {
        Self {
            url: url.to_owned(),
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            invoice_code: invoice_code.to_owned(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            retries: 2,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(10),
            max_in_flight: 32,
        }
    }
}

impl fmt::Debug for QpayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QpayConfig").field("url", &self.url).field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// The gateway. Cheap to clone; clones share token, breaker and connections.
#[derive(Clone)]
pub struct QpayClient {
    shared: Arc<Shared>,
}

struct Shared {
    config: QpayConfig,
    base: Url,
    http: reqwest::Client,
    tokens: Arc<Tokens>,
    breaker: Breaker,
    turns: Semaphore,
}

impl fmt::Debug for QpayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QpayClient").field(&self.shared.config).finish()
    }
}

/// One call of the gateway.
struct Call<'a> {
    /// For the log; a path would carry ids.
    name: &'static str,
    method: Method,
    path: &'a [&'a str],
    body: Option<Value>,
    /// Whether it may be sent again although it may have arrived.
    repeatable: bool,
}

impl QpayClient {
    /// A client of this gateway; sends nothing yet.
    ///
    /// # Errors
    /// [`QpayError::Invalid`] where the URL is not one, or not `http` or `https`.
    pub fn new(config: QpayConfig) -> Result<Self, QpayError> {
        let base = Url::parse(&config.url).map_err(|_| QpayError::Invalid("the gateway's URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(QpayError::Invalid("the gateway's URL"));
        }
        if base.scheme() == "http" && !is_loopback(&base) {
            tracing::warn!("the payment gateway's URL is not https: our credentials go over the wire as they are");
        }
        let http = http::client(config.connect_timeout)?;
        let tokens = Tokens::new(http.clone(), config.clone(), base.clone());
        let breaker = Breaker::new(config.breaker_failures, config.breaker_pause);
        let turns = Semaphore::new(config.max_in_flight.max(1));
        Ok(Self { shared: Arc::new(Shared { config, base, http, tokens, breaker, turns }) })
    }

    /// Makes an invoice. Not repeatable at the gateway: the caller stores the attempt first. After
    /// [`QpayError::Unknown`] the invoice may exist: another try takes a new `sender_invoice_no`.
    ///
    /// # Errors
    /// See [`QpayError`]; a number used before is `Refused` with status 409.
    pub async fn create_invoice(&self, new: &NewInvoice<'_>) -> Result<Invoice, QpayError> {
        let body = Some(new.body(&self.shared.config.invoice_code)?);
        let (name, method, path) = ("create invoice", Method::POST, &["invoice"]);
        wire::invoice(&self.shared.call(Call { name, method, path, body, repeatable: false }).await?)
    }

    /// The invoice as the gateway holds it.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn get_invoice(&self, invoice_id: &str) -> Result<InvoiceState, QpayError> {
        let (name, method, path) = ("get invoice", Method::GET, &["invoice", invoice_id]);
        wire::invoice_state(&self.shared.call(Call { name, method, path, body: None, repeatable: true }).await?)
    }

    /// Cancels an invoice, so that nobody can pay it any more. One that was canceled before is canceled too.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn cancel_invoice(&self, invoice_id: &str) -> Result<Canceled, QpayError> {
        let (name, method, path) = ("cancel invoice", Method::DELETE, &["invoice", invoice_id]);
        match self.shared.call(Call { name, method, path, body: None, repeatable: true }).await {
            Ok(_) => Ok(Canceled::Canceled),
            Err(QpayError::Refused { key, .. }) if key == "INVOICE_PAID" => Ok(Canceled::Paid),
            Err(QpayError::Refused { key, .. }) if key == "INVOICE_ALREADY_CANCELED" => Ok(Canceled::Canceled),
            Err(error) => Err(error),
        }
    }

    /// Every payment of an invoice, each once, whatever its status.
    ///
    /// # Errors
    /// See [`QpayError`]; a payment that is or was paid and cannot be read makes the whole answer
    /// [`QpayError::Unknown`], because leaving it out would lose money.
    pub async fn check(&self, invoice_id: &str) -> Result<Vec<Payment>, QpayError> {
        let (mut all, mut seen, mut skipped): (Vec<Payment>, HashSet<String>, usize) = Default::default();
        for page in 1..=MAX_PAGES {
            let (name, method, path) = ("check", Method::POST, &["payment", "check"]);
            let body = Some(wire::check_body(invoice_id, page));
            let answer = self.shared.call(Call { name, method, path, body, repeatable: true }).await?;
            let (rows, count) = wire::payments(&answer, page)?;
            let full = rows.len() >= wire::PAGE_LIMIT;
            let before = all.len() + skipped;
            skipped += rows.iter().filter(|row| row.is_none()).count();
            all.extend(rows.into_iter().flatten().filter(|row| seen.insert(row.payment_id.clone())));
            let known = all.len() + skipped;
            // A page that says nothing new is the last, whatever the gateway counts.
            if known == before || !(full || count.is_some_and(|count| count > known)) {
                return Ok(all);
            }
        }
        Err(QpayError::Unknown("more payments than one invoice can have".into()))
    }

    /// One payment and its invoice: for a callback of an attempt whose invoice id never came back.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn get_payment(&self, payment_id: &str) -> Result<PaymentOrigin, QpayError> {
        let (name, method, path) = ("get payment", Method::GET, &["payment", payment_id]);
        wire::origin(&self.shared.call(Call { name, method, path, body: None, repeatable: true }).await?)
    }

    /// Gives a card payment back, whole. One that was given back before, by whomever, is given back too. Never repeated by
    /// itself: after an error that is not [clear](QpayError::is_clear), [`check`](Self::check) says whether it is still `Paid`.
    ///
    /// # Errors
    /// See [`QpayError`]; a payment from bank to bank is `Refused`.
    pub async fn refund(&self, payment_id: &str) -> Result<(), QpayError> {
        let (name, method, path) = ("refund", Method::DELETE, &["payment", "refund", payment_id]);
        match self.shared.call(Call { name, method, path, body: Some(json!({})), repeatable: false }).await {
            Err(QpayError::Refused { key, .. }) if key == "PAYMENT_ALREADY_CANCELED" => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl Shared {
    async fn call(&self, call: Call<'_>) -> Result<Value, QpayError> {
        let began = Instant::now();
        let deadline = began + self.config.timeout;
        let url = wire::at(&self.base, call.path)?;
        let _turn = match timeout_at(deadline, self.turns.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(QpayError::NotSent("too many calls at a time".into())),
        };
        let entered = self.breaker.enter()?;
        let outcome = self.tries(&call, &url, deadline).await;
        match &outcome {
            Err(QpayError::NotSent(_) | QpayError::Unknown(_) | QpayError::Refused { status: 429, .. }) => {
                entered.failed()
            }
            _ => entered.succeeded(),
        }
        let took = began.elapsed();
        match &outcome {
            Ok(_) => tracing::debug!(call = call.name, ?took, "the payment gateway answered"),
            Err(error) => tracing::warn!(call = call.name, ?took, %error, "no good answer of the payment gateway"),
        }
        outcome
    }

    /// Sends a call until it gets an answer, or may not be sent again.
    async fn tries(&self, call: &Call<'_>, url: &Url, deadline: Instant) -> Result<Value, QpayError> {
        let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_jitter();
        let mut delays = delays.with_max_times(self.config.retries).build();
        let mut unknown = None;
        loop {
            let error = match self.authorised(call, url, deadline).await {
                Err(error @ (QpayError::NotSent(_) | QpayError::Unknown(_))) => error,
                outcome => return outcome,
            };
            if error.may_have_reached() {
                unknown = Some(error.clone());
            }
            let again = call.repeatable || !error.may_have_reached();
            match delays.next().filter(|delay| again && Instant::now() + *delay < deadline) {
                Some(delay) => sleep(delay).await,
                // That a later try did not arrive says nothing about an earlier one.
                None => return Err(unknown.unwrap_or(error)),
            }
        }
    }

    /// Sends a call once, and again where the gateway does not take the token: after a refresh, then after a login.
    async fn authorised(&self, call: &Call<'_>, url: &Url, deadline: Instant) -> Result<Value, QpayError> {
        let late = |_| QpayError::NotSent("no token in time".into());
        let began = Instant::now();
        let mut token = timeout_at(deadline, self.tokens.get()).await.map_err(late)??;
        let mut ways = [Renewal::Refresh, Renewal::Basic].into_iter();
        loop {
            let mut request = self.http.request(call.method.clone(), url.clone()).bearer_auth(&token.access);
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            match http::exchange(request, deadline).await {
                Err(QpayError::Unauthorised) => {}
                outcome => return outcome,
            }
            let new = token.by_basic && token.fetched >= began;
            match ways.next() {
                Some(Renewal::Basic) if new => break,
                Some(way) => {
                    token = timeout_at(deadline, self.tokens.renew(Some(token), way)).await.map_err(late)??;
                }
                None => break,
            }
        }
        self.tokens.refused();
        Err(QpayError::Unauthorised)
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none_are_refused_and_secrets_not_shown() {
        let config = |url: &str| QpayConfig::new(url, "CLIENT", "S3CRET-WORD", "CODE");
        for bad in ["", "gateway.example/v2", "ftp://gateway.example/v2", "https://gateway.example/v2?a=b"] {
            assert!(QpayClient::new(config(bad)).is_err(), "{bad}");
        }
        let shown = QpayClient::new(config("https://gateway.example/v2/")).map(|client| format!("{client:?}"));
        assert!(shown.is_ok_and(|shown| shown.contains("CLIENT") && !shown.contains("S3CRET")));
        let loopback = |url| Url::parse(url).is_ok_and(|url| is_loopback(&url));
        assert!(["http://127.0.0.1:1/v2", "http://[::1]/v2", "http://localhost/v2"].into_iter().all(loopback));
        assert!(!["http://gateway.example/v2", "http://127.0.0.1.example/v2"].into_iter().any(loopback));
    }
}
