//! What the gateway knows: tokens, invoices, payments, and how it is to misbehave.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::callback::{self, Answer, NoAnswer};

/// Calls that are remembered; the oldest go first.
const MAX_SEEN: usize = 100_000;

/// The settings of the stand-in.
#[derive(Debug, Clone)]
pub struct Options {
    /// The merchant's user.
    pub client_id: String,
    /// The merchant's password.
    pub client_secret: String,
    /// The one template of invoices.
    pub invoice_code: String,
    /// How long an access token lives; a refresh token lives twice as long.
    pub token_life: Duration,
    /// Whether `expires_in` is UNIX seconds, as the real gateway says it, or seconds from now.
    pub absolute_expiry: bool,
    /// The fee, in thousandths of the amount.
    pub fee_per_mille: i64,
    /// Most rows of one page of payments, whatever is asked.
    pub page_limit: usize,
    /// Where a payer's browser reaches the stand-in, without a slash at the end; where it listens if unset.
    pub public_url: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "TEST_MERCHANT".into(),
            client_secret: "test-merchant-password".into(),
            invoice_code: "TEST_INVOICE".into(),
            token_life: Duration::from_secs(24 * 3600),
            absolute_expiry: true,
            fee_per_mille: 10,
            page_limit: 100,
            public_url: None,
        }
    }
}

/// The calls of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `POST /auth/token`
    Token,
    /// `POST /auth/refresh`
    Refresh,
    /// `POST /invoice`
    CreateInvoice,
    /// `GET /invoice/{id}`
    GetInvoice,
    /// `DELETE /invoice/{id}`
    CancelInvoice,
    /// `POST /payment/check`
    Check,
    /// `GET /payment/{id}`
    GetPayment,
    /// `DELETE /payment/refund/{id}`
    Refund,
    /// `DELETE /payment/cancel/{id}`
    CancelPayment,
}

/// A way to fail one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status and does nothing.
    Status(u16),
    /// Answers this status with an error that has no key, as what stands before the gateway may, and does nothing.
    Keyless(u16),
    /// Answers 200 with a page of HTML and does nothing.
    NotJson,
    /// Answers 200 with three million bytes and does nothing.
    TooLarge,
    /// Does nothing and closes the socket without an answer.
    Cut,
    /// Does what was asked and closes the socket without an answer.
    LostAnswer,
    /// Does what was asked and answers, but only after this time.
    Slow(Duration),
}

/// How numbers are written in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// As the real gateway does: amounts of rows as texts, sums and counts as numbers.
    #[default]
    Mixed,
    /// All as texts.
    Texts,
    /// All as numbers.
    Numbers,
}

/// How a payment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From bank to bank; cannot be given back.
    P2p,
    /// By card.
    Card,
}

/// The buttons of an invoice's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// Pays all that is left.
    Pay,
    /// Pays half of the amount, or what is left if that is less.
    PayHalf,
    /// The payer pays nothing more.
    Cancel,
}

/// An invoice.
#[derive(Debug, Clone)]
pub struct Invoice {
    /// The gateway's id.
    pub invoice_id: String,
    /// The merchant's number.
    pub sender_invoice_no: String,
    /// Whom it is for.
    pub receiver_code: String,
    /// What the payer reads.
    pub description: String,
    /// What it asks for, möngö.
    pub amount: i64,
    /// Where payments are told.
    pub callback_url: String,
    /// Whether it was canceled.
    pub canceled: bool,
    /// Its payments, oldest first.
    pub payments: Vec<Payment>,
    /// What the newest callback was answered.
    pub last_callback: Option<Result<Answer, NoAnswer>>,
}

impl Invoice {
    /// What was paid on it, möngö.
    pub fn paid(&self) -> i64 {
        self.payments.iter().filter(|payment| payment.status == "PAID").map(|payment| payment.amount).sum()
    }

    /// What is left to pay, möngö.
    pub fn left(&self) -> i64 {
        (self.amount - self.paid()).max(0)
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The gateway's id.
    pub payment_id: String,
    /// `PAID`, `NEW`, `FAILED`, `PARTIAL`, `REFUNDED`, `CANCELED` or whatever a test says.
    pub status: String,
    /// Möngö, before the fee.
    pub amount: i64,
    /// Möngö.
    pub fee: i64,
    /// `MNT`, unless a test says otherwise.
    pub currency: String,
    /// How it was paid.
    pub kind: Kind,
}

/// One call that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which.
    pub call: Call,
    /// When it came.
    pub at: Instant,
    /// What it was answered; `None` while it is under way, and for ever where the socket was cut.
    pub status: Option<u16>,
}

/// No invoice or payment has this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such invoice or payment")]
pub struct Unknown;

/// Everything that changes.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) access_tokens: HashMap<String, Instant>,
    pub(crate) refresh_tokens: HashMap<String, Instant>,
    pub(crate) refuse_tokens: bool,
    pub(crate) invoices: HashMap<String, Invoice>,
    /// Invoice ids, oldest first.
    pub(crate) order: Vec<String>,
    /// Numbers of the merchant that are used up.
    pub(crate) numbers_used: HashSet<String>,
    /// Which invoice a payment is of.
    pub(crate) payment_of: HashMap<String, String>,
    pub(crate) faults: Vec<(Option<Call>, u32, Fault)>,
    pub(crate) delay: Duration,
    pub(crate) pay_early: u32,
    pub(crate) numbers: Numbers,
    pub(crate) seen: std::collections::VecDeque<Seen>,
    /// Calls that were forgotten.
    pub(crate) forgotten: usize,
}

impl State {
    /// Notes a call and gives its place for [`State::answered`].
    pub(crate) fn note(&mut self, call: Call) -> usize {
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
            self.forgotten += 1;
        }
        self.seen.push_back(Seen { call, at: Instant::now(), status: None });
        self.forgotten + self.seen.len() - 1
    }

    pub(crate) fn answered(&mut self, place: usize, status: u16) {
        if let Some(seen) = place.checked_sub(self.forgotten).and_then(|place| self.seen.get_mut(place)) {
            seen.status = Some(status);
        }
    }

    /// The fault that this call is to meet, which is used up by it.
    pub(crate) fn take_fault(&mut self, call: Call) -> Option<Fault> {
        let place = self.faults.iter().position(|(of, ..)| of.is_none_or(|of| of == call))?;
        let (_, left, fault) = &mut self.faults[place];
        let fault = *fault;
        *left -= 1;
        if *left == 0 {
            self.faults.remove(place);
        }
        Some(fault)
    }

    /// Books a payment and gives its id.
    pub(crate) fn add_payment(
        &mut self,
        invoice_id: &str,
        amount: i64,
        kind: Kind,
        status: &str,
        fee_per_mille: i64,
    ) -> Result<String, Unknown> {
        let invoice = self.invoices.get_mut(invoice_id).ok_or(Unknown)?;
        let payment_id = rand::rng().random_range(100_000_000_000_000_u64..1_000_000_000_000_000).to_string();
        invoice.payments.push(Payment {
            payment_id: payment_id.clone(),
            status: status.to_owned(),
            amount,
            fee: amount * fee_per_mille / 1000,
            currency: "MNT".into(),
            kind,
        });
        self.payment_of.insert(payment_id.clone(), invoice_id.to_owned());
        Ok(payment_id)
    }

    /// Does what a button does and gives the URL to call back. `None`: nothing, because the invoice is paid or canceled.
    pub(crate) fn click(
        &mut self,
        invoice_id: &str,
        button: Button,
        fee_per_mille: i64,
    ) -> Result<Option<String>, Unknown> {
        let invoice = self.invoices.get_mut(invoice_id).ok_or(Unknown)?;
        let (left, url) = (invoice.left(), invoice.callback_url.clone());
        if invoice.canceled || left == 0 {
            return Ok(None);
        }
        let amount = match button {
            Button::Pay => left,
            Button::PayHalf => left.min(invoice.amount / 2),
            Button::Cancel => {
                invoice.canceled = true;
                return Ok(Some(url));
            }
        };
        let payment_id = self.add_payment(invoice_id, amount, Kind::P2p, "PAID", fee_per_mille)?;
        Ok(Some(callback::with_payment(&url, &payment_id)))
    }

    pub(crate) fn payment(&mut self, payment_id: &str) -> Option<&mut Payment> {
        let invoice = self.invoices.get_mut(self.payment_of.get(payment_id)?)?;
        invoice.payments.iter_mut().find(|payment| payment.payment_id == payment_id)
    }
}
