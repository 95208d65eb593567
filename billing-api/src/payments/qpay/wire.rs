//! What goes to the gateway and comes back, read leniently: numbers as numbers or texts, fields that may be missing.

use evm_domain::Money;

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
