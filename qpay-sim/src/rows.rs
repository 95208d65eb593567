//! How the gateway writes amounts, invoices and payments.

use serde_json::{Value, json};

use crate::state::{Invoice, Kind, Numbers, Payment};

/// A one-pixel PNG; a picture of a QR code is for people, who have the page.
const QR_IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Möngö as tögrög with two decimals.
pub(crate) fn mnt(mongo: i64) -> String {
    format!("{}.{:02}", mongo / 100, mongo % 100)
}

/// A number as text or number; `usual` is whether the real gateway writes this one as text.
fn number(text: &str, numbers: Numbers, usual: bool) -> Value {
    let as_text = match numbers {
        Numbers::Mixed => usual,
        Numbers::Texts => true,
        Numbers::Numbers => false,
    };
    if as_text { text.into() } else { serde_json::from_str(text).unwrap_or_default() }
}

/// The answer to `POST /invoice`.
pub(crate) fn created(invoice: &Invoice, page: &str) -> Value {
    json!({
        "invoice_id": invoice.invoice_id,
        "qr_text": format!("0002010102121531{}", invoice.invoice_id.replace('-', "")),
        "qr_image": QR_IMAGE,
        "qPay_shortUrl": page,
        "urls": [{ "name": "qPay stand-in", "description": "Pay on a page", "logo": "", "link": page }],
    })
}

/// The answer to `GET /invoice/{id}`.
pub(crate) fn invoice(invoice: &Invoice, numbers: Numbers) -> Value {
    let status = match (invoice.canceled, invoice.paid() >= invoice.amount) {
        (true, _) => "CANCELED",
        (_, true) => "CLOSED",
        _ => "OPEN",
    };
    json!({
        "invoice_id": invoice.invoice_id,
        "invoice_status": status,
        "sender_invoice_no": invoice.sender_invoice_no,
        "invoice_receiver_code": invoice.receiver_code,
        "invoice_description": invoice.description,
        "total_amount": number(&mnt(invoice.amount), numbers, false),
        "callback_url": invoice.callback_url,
    })
}

/// One page of the answer to `POST /payment/check`; pages count from 1.
pub(crate) fn check(invoice: &Invoice, page: usize, limit: usize, numbers: Numbers) -> Value {
    let (count, all) = (invoice.payments.len(), &invoice.payments);
    let rows: Vec<Value> =
        all.iter().skip((page - 1).saturating_mul(limit)).take(limit).map(|p| row(p, numbers)).collect();
    let mut answer = json!({ "count": number(&count.to_string(), numbers, false), "rows": rows });
    // Missing where nothing was paid.
    if invoice.paid() > 0 {
        answer["paid_amount"] = number(&mnt(invoice.paid()), numbers, false);
    }
    answer
}

/// The answer to `GET /payment/{id}`.
pub(crate) fn payment(invoice: &Invoice, payment: &Payment, numbers: Numbers) -> Value {
    let mut answer = row(payment, numbers);
    answer["object_type"] = "INVOICE".into();
    answer["object_id"] = invoice.invoice_id.as_str().into();
    answer
}

fn row(payment: &Payment, numbers: Numbers) -> Value {
    // Inner amounts are net of the fee.
    let inner = json!([{
        "transaction_currency": payment.currency,
        "transaction_amount": number(&mnt(payment.amount - payment.fee), numbers, true),
        "settlement_status": "SETTLED",
    }]);
    let (kind, p2p, card) = match payment.kind {
        Kind::P2p => ("P2P", inner, json!([])),
        Kind::Card => ("CARD", json!([]), inner),
    };
    json!({
        "payment_id": payment.payment_id,
        "payment_status": payment.status,
        "payment_amount": number(&mnt(payment.amount), numbers, true),
        "trx_fee": number(&mnt(payment.fee), numbers, true),
        "payment_currency": payment.currency,
        "payment_wallet": "qPay stand-in",
        "payment_type": kind,
        "next_payment_date": null,
        "next_payment_datetime": null,
        "card_transactions": card,
        "p2p_transactions": p2p,
    })
}
