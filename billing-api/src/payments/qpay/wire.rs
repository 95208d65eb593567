//! What goes to the gateway and comes back, read leniently: numbers as numbers or texts, fields that may be missing.

use evm_domain::Money;
use reqwest::Url;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::error::QpayError;

/// Rows of one page of payments, the most that the gateway gives.
pub(super) const PAGE_LIMIT: usize = 100;
/// Most bytes of an id that the gateway gives.
const MAX_ID: usize = 100;
/// Most bytes of its other texts that are kept; the QR code is by far the longest.
const MAX_TEXT: usize = 512 * 1024;

/// An invoice to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewInvoice<'a> {
    /// Our number of the attempt: up to 45 letters, digits and hyphens, never used before.
    pub sender_invoice_no: &'a str,
    /// Whom the invoice is for, up to 45 characters.
    pub receiver_code: &'a str,
    /// What the payer reads, up to 255 characters.
    pub description: &'a str,
    /// Whole tögrög, at least 1.
    pub amount_mnt: u64,
    /// Called with GET after a payment, up to 255 characters; an unguessable token belongs in its path.
    pub callback_url: &'a str,
}

/// An invoice as the gateway made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The gateway's id.
    pub invoice_id: String,
    /// Where the payer's browser goes: the contract's `url`.
    pub short_url: String,
    /// The text of the QR code.
    pub qr_text: String,
    /// The QR code as a PNG in base64, where the gateway gave it.
    pub qr_image: Option<String>,
}

/// An invoice as the gateway holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceState {
    /// The gateway's word, such as `OPEN` or `CLOSED`; an open set.
    pub status: String,
    /// Our number of the attempt, where the gateway gives it.
    pub sender_invoice_no: Option<String>,
    /// What it asks for, where the gateway gives it.
    pub amount: Option<Money>,
}

/// What became of an invoice that was to be canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// It can no longer be paid.
    Canceled,
    /// It was paid before (`INVOICE_PAID`): check it.
    Paid,
}

/// One payment of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The gateway's id of the payment, the key to settle by.
    pub payment_id: String,
    /// How far it is.
    pub status: PaymentStatus,
    /// What the payer paid, before the gateway's fee.
    pub amount: Money,
    /// `MNT` for all that counts.
    pub currency: String,
    /// The gateway's fee; 0 where it gave none.
    pub fee: Money,
    /// How it was paid.
    pub kind: PaymentKind,
}

impl Payment {
    /// What counts towards the invoice: the amount where it is paid and in MNT, else nothing.
    pub fn counts(&self) -> Money {
        if self.status == PaymentStatus::Paid && self.currency == "MNT" { self.amount } else { Money::ZERO }
    }
}

/// How far a payment is; the gateway's set is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStatus {
    /// Begun.
    New,
    /// Did not come about.
    Failed,
    /// The money is there.
    Paid,
    /// Paid in part.
    Partial,
    /// Given back.
    Refunded,
    /// Another word of the gateway.
    Other(String),
}

/// How a payment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentKind {
    /// From bank to bank: the gateway cannot give it back.
    P2p,
    /// By card: the gateway can give it back.
    Card,
    /// Another or none named; to be treated like [`PaymentKind::P2p`].
    Other,
}

/// One payment and the invoice that it was made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentOrigin {
    /// The payment.
    pub payment: Payment,
    /// The gateway's id of the invoice, where it names one.
    pub invoice_id: Option<String>,
}

impl NewInvoice<'_> {
    /// The body of `POST /invoice`.
    pub(super) fn body(&self, invoice_code: &str) -> Result<Value, QpayError> {
        let number = self.sender_invoice_no;
        let plain = number.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if number.is_empty() || number.len() > 45 || !plain {
            return Err(QpayError::Invalid("sender_invoice_no is 1 to 45 letters, digits and hyphens"));
        }
        if self.receiver_code.is_empty() || self.receiver_code.len() > 45 {
            return Err(QpayError::Invalid("invoice_receiver_code is 1 to 45 characters"));
        }
        if self.description.is_empty() || self.description.chars().count() > 255 {
            return Err(QpayError::Invalid("invoice_description is 1 to 255 characters"));
        }
        if self.callback_url.is_empty() || self.callback_url.len() > 255 {
            return Err(QpayError::Invalid("callback_url is 1 to 255 characters"));
        }
        if self.amount_mnt == 0 {
            return Err(QpayError::Invalid("amount is at least 1 tögrög"));
        }
        Ok(json!({
            "invoice_code": invoice_code,
            "sender_invoice_no": number,
            "invoice_receiver_code": self.receiver_code,
            "invoice_description": self.description,
            "amount": self.amount_mnt,
            "callback_url": self.callback_url,
        }))
    }
}

/// The body of `POST /payment/check`.
pub(super) fn check_body(invoice_id: &str, page: usize) -> Value {
    let offset = json!({ "page_number": page, "page_limit": PAGE_LIMIT });
    json!({ "object_type": "INVOICE", "object_id": invoice_id, "offset": offset })
}

/// The URL of a call below the gateway's base; ids are escaped.
pub(super) fn at(base: &Url, path: &[&str]) -> Result<Url, QpayError> {
    if path.iter().any(|part| part.is_empty() || part.len() > MAX_ID || matches!(*part, "." | "..")) {
        return Err(QpayError::Invalid("an id is 1 to 100 characters"));
    }
    let mut url = base.clone();
    url.path_segments_mut().map_err(|()| QpayError::Invalid("the gateway's URL"))?.pop_if_empty().extend(path);
    Ok(url)
}

pub(super) fn invoice(answer: &Value) -> Result<Invoice, QpayError> {
    Ok(Invoice {
        invoice_id: id(&answer["invoice_id"]).ok_or_else(|| unreadable("invoice_id"))?,
        short_url: web_url(&answer["qPay_shortUrl"]).ok_or_else(|| unreadable("qPay_shortUrl"))?,
        qr_text: text(&answer["qr_text"]).unwrap_or_default(),
        qr_image: text(&answer["qr_image"]),
    })
}

pub(super) fn invoice_state(answer: &Value) -> Result<InvoiceState, QpayError> {
    let amount = ["total_amount", "amount"].iter().find_map(|name| money(&answer[*name]));
    Ok(InvoiceState {
        status: word(&answer["invoice_status"]).ok_or_else(|| unreadable("invoice_status"))?,
        sender_invoice_no: id(&answer["sender_invoice_no"]),
        amount,
    })
}

/// One page of payments, `None` for an attempt at one that cannot be read, and how many there are in all by the gateway's
/// word. The first page without any must say so.
pub(super) fn payments(answer: &Value, page: usize) -> Result<(Vec<Option<Payment>>, Option<usize>), QpayError> {
    let rows = match &answer["rows"] {
        Value::Array(rows) => rows.as_slice(),
        Value::Null if answer.is_object() => &[],
        _ => return Err(unreadable("rows")),
    };
    let count = decimal(&answer["count"]).and_then(|count| usize::try_from(count).ok());
    let said_none = count == Some(0) || (count.is_none() && answer["rows"].is_array());
    if rows.is_empty() && !said_none && page == 1 {
        return Err(unreadable("rows"));
    }
    let read = |row| match payment(row) {
        Err(_) if !was_paid(row) => Ok(None),
        payment => payment.map(Some),
    };
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, count))
}

/// Whether a row of payments is about money that came; one without a status may be.
fn was_paid(row: &Value) -> bool {
    word(&row["payment_status"]).is_none_or(|status| matches!(status.as_str(), "PAID" | "REFUNDED"))
}

pub(super) fn origin(answer: &Value) -> Result<PaymentOrigin, QpayError> {
    let of_invoice = word(&answer["object_type"]).is_none_or(|kind| kind == "INVOICE");
    Ok(PaymentOrigin { payment: payment(answer)?, invoice_id: id(&answer["object_id"]).filter(|_| of_invoice) })
}

fn payment(row: &Value) -> Result<Payment, QpayError> {
    let status = match word(&row["payment_status"]).ok_or_else(|| unreadable("payment_status"))? {
        word if word == "NEW" => PaymentStatus::New,
        word if word == "FAILED" => PaymentStatus::Failed,
        word if word == "PAID" => PaymentStatus::Paid,
        word if word == "PARTIAL" => PaymentStatus::Partial,
        word if word == "REFUNDED" => PaymentStatus::Refunded,
        word => PaymentStatus::Other(word),
    };
    let amount = match money(&row["payment_amount"]) {
        Some(amount) if amount >= Money::ZERO => amount,
        // Where nothing was paid, nothing hangs on it.
        _ if status != PaymentStatus::Paid => Money::ZERO,
        _ => return Err(unreadable("payment_amount")),
    };
    // The fee goes into the book to the möngö; what is finer is the gateway's own affair.
    let fee = ["trx_fee", "payment_fee"].iter().find_map(|name| decimal(&row[*name]));
    let fee = fee.and_then(|fee| Money::from_mnt(fee.round_dp(2)).ok()).filter(|fee| *fee > Money::ZERO);
    let kind = match word(&row["payment_type"]).or_else(|| word(&row["transaction_type"])).as_deref() {
        Some("P2P") => PaymentKind::P2p,
        Some("CARD") => PaymentKind::Card,
        _ => PaymentKind::Other,
    };
    Ok(Payment {
        payment_id: id(&row["payment_id"]).ok_or_else(|| unreadable("payment_id"))?,
        status,
        amount,
        // The gateway keeps accounts in MNT; where it names none it means that.
        currency: word(&row["payment_currency"]).unwrap_or_else(|| "MNT".into()),
        fee: fee.unwrap_or_default(),
        kind,
    })
}

/// The call was carried out, but what came of it cannot be read.
fn unreadable(field: &str) -> QpayError {
    QpayError::Unknown(format!("no {field} in the answer that can be read"))
}

/// A number, written as a number or as a text.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if text.len() > 40 {
        return None;
    }
    text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()
}

fn money(value: &Value) -> Option<Money> {
    Money::from_mnt(decimal(value)?).ok()
}

/// An id, which is text but may come as a number; printable without spaces, so that it can be stored and shown.
fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= MAX_ID && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

/// A word of one of the gateway's sets, in capitals.
fn word(value: &Value) -> Option<String> {
    id(value).map(|word| word.to_ascii_uppercase())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
}

/// A URL that a phone may be sent to.
fn web_url(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| text.len() <= 2000)?;
    let url = Url::parse(text).ok()?;
    matches!(url.scheme(), "https" | "http").then(|| text.to_owned())
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
