//! Reading what the gateway says, in every shape it may have.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

fn row(changes: Value) -> Value {
    let mut row = json!({
        "payment_id": "858747721226956", "payment_status": "PAID", "payment_amount": "100.00", "trx_fee": "1.00",
        "payment_currency": "MNT", "payment_type": "P2P",
    });
    for (name, value) in changes.as_object().unwrap() {
        row[name] = value.clone();
    }
    row
}

fn one(row: Value) -> Result<Payment, QpayError> {
    payments(&json!({ "count": 1, "paid_amount": 100, "rows": [row] }), 1).map(|(mut all, _)| all.remove(0).unwrap())
}

#[test]
fn reads_a_payment_exactly() {
    let usual = one(row(json!({}))).unwrap();
    assert_eq!(
        usual,
        Payment {
            payment_id: "858747721226956".into(),
            status: PaymentStatus::Paid,
            amount: Money(10_000),
            currency: "MNT".into(),
            fee: Money(100),
            kind: PaymentKind::P2p,
        }
    );
    for same in [
        json!({ "payment_amount": 100, "trx_fee": 1, "payment_id": 858_747_721_226_956_u64 }),
        json!({ "payment_amount": "100", "payment_status": "paid", "payment_type": "p2p" }),
        json!({ "payment_amount": serde_json::from_str::<Value>("1.0e2").unwrap(), "trx_fee": "1.000" }),
        json!({ "payment_currency": null }),
    ] {
        assert_eq!(one(row(same)), Ok(usual.clone()));
    }
    let cents: Value = serde_json::from_str(r#"{ "payment_amount": 70000000.07, "trx_fee": 0.005 }"#).unwrap();
    assert_eq!(one(row(cents)).unwrap().amount, Money(7_000_000_007));
}

#[test]
fn only_paid_tögrögs_count() {
    let counts = |changes| one(row(changes)).unwrap().counts();
    assert_eq!(counts(json!({})), Money(10_000));
    for status in ["NEW", "FAILED", "PARTIAL", "REFUNDED", "WHATEVER"] {
        assert_eq!(counts(json!({ "payment_status": status })), Money::ZERO);
    }
    assert_eq!(counts(json!({ "payment_currency": "USD" })), Money::ZERO);
    assert_eq!(counts(json!({ "payment_status": "NEW", "payment_amount": null })), Money::ZERO);
}

#[test]
fn a_payment_that_cannot_be_read_spoils_the_answer() {
    for odd in [
        json!({ "payment_amount": "100.005" }),
        json!({ "payment_amount": "-1" }),
        json!({ "payment_amount": "a lot" }),
        json!({ "payment_amount": null }),
        json!({ "payment_amount": "9".repeat(50) }),
        json!({ "payment_id": "" }),
        json!({ "payment_id": "a\nb" }),
        json!({ "payment_id": "1".repeat(101) }),
        json!({ "payment_status": null }),
        json!({ "payment_id": null }),
        json!({ "payment_id": null, "payment_status": null }),
        json!({ "payment_id": null, "payment_status": "refunded" }),
    ] {
        assert!(one(row(odd.clone())).is_err_and(|e| e.may_have_reached()), "{odd}");
    }
    for odd in [
        json!(null),
        json!([]),
        json!({}),
        json!({ "count": 1 }),
        json!({ "count": 1, "rows": [] }),
        json!({ "rows": {} }),
        json!("OK"),
    ] {
        assert!(payments(&odd, 1).is_err(), "{odd}");
    }
}

#[test]
fn an_attempt_that_cannot_be_read_spoils_nothing() {
    for odd in [
        json!({ "payment_id": null, "payment_status": "NEW" }),
        json!({ "payment_id": "", "payment_status": "failed", "payment_amount": null }),
        json!({ "payment_id": null, "payment_status": "UNHEARD_OF" }),
    ] {
        let (read, count) = payments(&json!({ "count": 2, "rows": [row(odd.clone()), row(json!({}))] }), 1).unwrap();
        assert_eq!((read.len(), count), (2, Some(2)), "{odd}");
        assert!(read[0].is_none() && read[1].as_ref().is_some_and(|paid| paid.counts() == Money(10_000)), "{odd}");
    }
}

#[test]
fn nothing_paid_has_no_amount() {
    assert_eq!(payments(&json!({ "count": 0, "rows": [] }), 1), Ok((vec![], Some(0))));
    assert_eq!(payments(&json!({ "count": "0" }), 1), Ok((vec![], Some(0))));
    assert_eq!(payments(&json!({ "rows": [] }), 1), Ok((vec![], None)));
    assert_eq!(payments(&json!({ "count": 100, "rows": [] }), 2), Ok((vec![], Some(100))));
}

#[test]
fn invoices_need_an_id_and_a_web_address() {
    let answer = json!({ "invoice_id": "ad2f", "qr_text": "0002", "qPay_shortUrl": "https://s.example/x" });
    let made = invoice(&answer).unwrap();
    assert_eq!((made.short_url.as_str(), made.qr_image), ("https://s.example/x", None));
    for (name, odd) in [
        ("invoice_id", json!(null)),
        ("invoice_id", json!("a b")),
        ("qPay_shortUrl", json!(null)),
        ("qPay_shortUrl", json!("javascript:alert(1)")),
    ] {
        let mut answer = answer.clone();
        answer[name] = odd;
        assert!(invoice(&answer).is_err());
    }
}

#[test]
fn what_the_gateway_would_refuse_is_not_sent() {
    let good = NewInvoice {
        sender_invoice_no: "A-1",
        receiver_code: "terminal",
        description: "Charging",
        amount_mnt: 1,
        callback_url: "https://ev.example/c",
    };
    assert_eq!(good.body("TEST").unwrap()["amount"].to_string(), "1");
    let (long, wide) = ("x".repeat(256), "ө".repeat(255));
    assert!(NewInvoice { description: &wide, ..good }.body("TEST").is_ok());
    for bad in [
        NewInvoice { sender_invoice_no: "", ..good },
        NewInvoice { sender_invoice_no: "A_1", ..good },
        NewInvoice { sender_invoice_no: &long[..46], ..good },
        NewInvoice { receiver_code: &long[..46], ..good },
        NewInvoice { description: &long, ..good },
        NewInvoice { callback_url: &long, ..good },
        NewInvoice { amount_mnt: 0, ..good },
    ] {
        assert!(matches!(bad.body("TEST"), Err(QpayError::Invalid(_))), "{bad:?}");
    }
}

#[test]
fn ids_stay_inside_their_part_of_the_path() {
    let base = Url::parse("https://gateway.example/v2/").unwrap();
    assert_eq!(
        at(&base, &["invoice", "a/../b?c"]).unwrap().as_str(),
        "https://gateway.example/v2/invoice/a%2F..%2Fb%3Fc"
    );
    assert!(at(&base, &["invoice", ".."]).is_err() && at(&base, &["invoice", ""]).is_err());
}
