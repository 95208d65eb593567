//! Purchases paid and given back in parts, on both engines: what the book holds is what the operator keeps.
#![allow(clippy::unwrap_used)]

mod common;
mod till;

use evm_domain::Money;
use evm_store::gateway::{self, Findings, Kind};
use evm_store::invoices::State;
use evm_store::purchases::{Paid, Unpayable};
use evm_store::refunds::{self, Unrefundable};
use evm_store::{Store, now};
use till::{Till, paid};
use tokio::task::JoinSet;

common::on_both!(
    parts_add_up_to_the_whole,
    what_is_not_left_is_not_given_back,
    a_card_gets_its_payment_back_only_whole,
    what_the_gateway_gave_back_by_itself_counts_first,
    corrections_after_a_part_was_given_back,
    a_partly_paid_purchase_gives_back_what_is_paid,
    of_many_refunds_at_once_as_many_as_fit,
    paid_from_the_balance_in_part_and_the_rest_at_the_gateway,
    any_sequence_keeps_the_book,
);

/// Revenue and VAT in the book.
async fn earned(till: &Till) -> (i64, i64) {
    let revenue = till.account("revenue_energy").await + till.account("revenue_waiting").await;
    (revenue, till.account("vat").await)
}

async fn parts_add_up_to_the_whole(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    assert_eq!(earned(&till).await, (77_273, 7_727));
    // VAT is rounded of all that was given back, not part by part.
    for (part, back, vat) in [(10_000, 10_000, 6_818), (25_001, 35_001, 4_545), (1, 35_002, 4_545)] {
        let refund = till.refund_part(purchase, part).await.unwrap();
        assert_eq!((refund.amount, refund.refunded, refund.left), (Money(part), Money(back), Money(85_000 - back)));
        assert!(refund.cards.is_empty());
        let bought = till.purchase(purchase).await;
        assert_eq!((bought.status.as_str(), bought.paid, bought.refunded), ("paid", 85_000, back));
        assert_eq!(earned(&till).await, (85_000 - back - vat, vat));
        assert_eq!(till.balance().await, Money(back));
        till.audit().await;
    }
    let rest = till.refund(purchase).await.unwrap();
    assert_eq!((rest.amount, rest.refunded, rest.left), (Money(49_998), Money(85_000), Money::ZERO));
    assert_eq!(till.purchase(purchase).await.status, "refunded");
    assert_eq!((earned(&till).await, till.balance().await), ((0, 0), Money(85_000)));
    assert_eq!(till.refund(purchase).await.unwrap().amount, Money(85_000), "as it stands");
    assert_eq!(till.pay(purchase).await, Err(Unpayable::AlreadyPaid));
    till.audit().await;
}

async fn what_is_not_left_is_not_given_back(store: Store, _: String) {
    let till = Till::open(store).await;
    let (purchase, free) = (till.bill(1000).await, till.bill(0).await);
    assert_eq!(till.refund_part(purchase, 1).await, Err(Unrefundable::NotPaid));
    assert_eq!(till.refund(free).await, Err(Unrefundable::NotPaid));
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    let left = |left| Err(Unrefundable::NotWithin { left: Money(left) });
    for amount in [0, -5, 85_001, i64::MAX, i64::MIN] {
        assert_eq!(till.refund_part(purchase, amount).await, left(85_000), "{amount}");
    }
    till.refund_part(purchase, 84_999).await.unwrap();
    assert_eq!(till.refund_part(purchase, 2).await, left(1));
    till.refund_part(purchase, 1).await.unwrap();
    assert_eq!(till.refund_part(purchase, 1).await, left(0));
    assert_eq!(till.balance().await, Money(85_000));
    till.audit().await;
}

async fn a_card_gets_its_payment_back_only_whole(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(2000).await;
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("C-1", 100_000, Kind::Card), paid("C-2", 50_000, Kind::Card)]).await;
    till.settle(invoice.id, &[paid("B-1", 20_000, Kind::P2p)]).await;
    let cards = |refund: &refunds::Refund| -> Vec<(String, i64)> {
        refund.cards.iter().map(|card| (card.payment_id.clone(), card.amount)).collect()
    };
    let first = till.refund_part(purchase, 49_999).await.unwrap();
    assert_eq!((cards(&first), till.balance().await), (vec![], Money(49_999)));
    let second = till.refund_part(purchase, 60_000).await.unwrap();
    assert_eq!(cards(&second), [("C-2".to_owned(), 50_000)], "which the refund covers");
    assert_eq!(till.balance().await, Money(59_999));
    till.audit().await;
    // The payment of 1 000 is larger than what is left.
    let rest = till.refund(purchase).await.unwrap();
    assert_eq!((rest.amount, cards(&rest)), (Money(60_001), vec![]));
    assert_eq!(till.balance().await, Money(120_000));
    // The gateway does not do it after all.
    let mut db = till.store.begin().await.unwrap();
    refunds::not_given_out(&mut db, "C-2", now()).await.unwrap();
    db.commit().await.unwrap();
    assert_eq!((till.balance().await, earned(&till).await), (Money(170_000), (0, 0)));
    till.audit().await;
}

async fn what_the_gateway_gave_back_by_itself_counts_first(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("C-1", 85_000, Kind::Card)]).await;
    let mut db = till.store.begin().await.unwrap();
    let gone = Findings { received: vec![], refunded: vec!["C-1".into()] };
    gateway::settle(&mut db, invoice.id, &gone, now()).await.unwrap();
    db.commit().await.unwrap();
    for (part, left) in [(30_000, 55_000), (20_000, 35_000)] {
        let refund = till.refund_part(purchase, part).await.unwrap();
        assert_eq!((refund.left, refund.cards[0].amount, till.balance().await), (Money(left), part, Money::ZERO));
        till.audit().await;
    }
    till.refund(purchase).await.unwrap();
    assert_eq!((till.balance().await, till.purchase(purchase).await.status.as_str()), (Money::ZERO, "refunded"));
    assert!(refunds::due(&mut till.store.read().await.unwrap(), till.later()).await.unwrap().is_empty());
    till.audit().await;
}

async fn corrections_after_a_part_was_given_back(store: Store, _: String) {
    let till = Till::open(store).await;
    let (purchase, session) = till.charge(1000).await;
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    till.refund_part(purchase, 25_000).await.unwrap();
    // More: the difference is due, and what is given back stays so.
    till.correct(session, 2000).await;
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.amount, bought.paid), ("unpaid", 170_000, 85_000));
    till.audit().await;
    till.refund_part(purchase, 10_000).await.unwrap();
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    assert_eq!((till.purchase(purchase).await.status.as_str(), till.balance().await), ("paid", Money(35_000)));
    till.audit().await;
    // Less: what was paid beyond it is balance.
    till.correct(session, 1000).await;
    assert_eq!((till.purchase(purchase).await.refunded, till.balance().await), (35_000, Money(120_000)));
    till.audit().await;
    // Less than was given back: all of it is with the customer again.
    till.correct(session, 100).await;
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.amount, bought.refunded), ("refunded", 8_500, 8_500));
    assert_eq!((till.balance().await, earned(&till).await), (Money(170_000), (0, 0)));
    till.correct(session, 3000).await;
    assert_eq!(till.purchase(purchase).await.status, "refunded", "given back whole is given back");
    till.audit().await;
}

async fn a_partly_paid_purchase_gives_back_what_is_paid(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    till.credit(Money(40_000)).await;
    till.pay_part(purchase).await.unwrap();
    let too_much = till.refund_part(purchase, 40_001).await;
    assert_eq!(too_much, Err(Unrefundable::NotWithin { left: Money(40_000) }));
    till.refund_part(purchase, 10_000).await.unwrap();
    till.refund(purchase).await.unwrap();
    assert_eq!(till.refund(purchase).await, Err(Unrefundable::NotPaid), "nothing is left");
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.paid, bought.refunded), ("unpaid", 40_000, 40_000));
    assert_eq!(till.balance().await, Money(40_000));
    till.audit().await;
    till.credit(Money(5_000)).await;
    till.pay(purchase).await.unwrap();
    assert_eq!((till.purchase(purchase).await.status.as_str(), till.balance().await), ("paid", Money::ZERO));
    till.refund(purchase).await.unwrap();
    assert_eq!((till.purchase(purchase).await.status.as_str(), till.balance().await), ("refunded", Money(45_000)));
    till.audit().await;
}

async fn of_many_refunds_at_once_as_many_as_fit(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let store = till.store.clone();
        all.spawn(async move {
            let mut db = store.begin().await.unwrap();
            let refund = refunds::book(&mut db, purchase, Some(Money(20_000)), "broken cable", now()).await.unwrap();
            db.commit().await.unwrap();
            refund.is_ok()
        });
    }
    assert_eq!(all.join_all().await.into_iter().filter(|booked| *booked).count(), 4);
    assert_eq!((till.balance().await, till.purchase(purchase).await.refunded), (Money(80_000), 80_000));
    till.audit().await;
}

async fn paid_from_the_balance_in_part_and_the_rest_at_the_gateway(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let nothing = Unpayable::InsufficientBalance { balance: Money::ZERO, due: Money(85_000) };
    assert_eq!(till.pay_part(purchase).await, Err(nothing));
    // An invoice of the whole is open: it is canceled, for less is due.
    let first = till.invoice(purchase).await;
    till.credit(Money(60_050)).await;
    let part = Paid { amount: Money(60_050), due: Money(24_950), balance: Money::ZERO };
    assert_eq!(till.pay_part(purchase).await, Ok(part));
    assert_eq!(till.find(first.id).await.state, State::Canceled);
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.paid, bought.option.as_deref()), ("unpaid", 60_050, Some("EVM")));
    till.audit().await;
    let second = till.invoice(purchase).await;
    assert_eq!((second.amount, second.asked()), (Money(24_950), Money(25_000)));
    till.close(second.id).await;
    assert_eq!(till.purchase(purchase).await.option.as_deref(), Some("EVM"), "the gateway paid nothing");
    let third = till.invoice(purchase).await;
    assert_eq!(till.settle(third.id, &[paid("B-1", 25_000, Kind::P2p)]).await, State::Success);
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.paid, bought.option.as_deref()), ("paid", 85_000, Some("QPAY")));
    assert_eq!((till.balance().await, till.events("PAYMENT").await.len()), (Money(50), 3));
    // With enough, a part is all.
    let other = till.bill(1000).await;
    till.credit(Money(90_000)).await;
    assert_eq!(till.pay_part(other).await.unwrap().due, Money::ZERO);
    assert_eq!(till.pay_part(other).await, Err(Unpayable::AlreadyPaid));
    till.audit().await;
}

/// Payments, refunds, late news of the charge, in an order that the seed says; the audit holds after each.
async fn any_sequence_keeps_the_book(store: Store, _: String) {
    let till = Till::open(store).await;
    for seed in 1..=4_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = |most: i64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            i64::try_from(state >> 33).unwrap() % most
        };
        let (purchase, session) = till.charge(1000).await;
        for step in 0..25 {
            match next(5) {
                0 => till.credit(Money(1 + next(60_000))).await,
                1 => drop(till.pay_part(purchase).await),
                2 => drop(till.pay(purchase).await),
                3 => drop(till.refund_part(purchase, 1 + next(30_000)).await),
                _ => till.correct(session, 100 + next(2_000)).await,
            }
            let bought = till.purchase(purchase).await;
            assert!(bought.refunded <= bought.paid && bought.paid <= bought.amount, "{seed} {step} {bought:?}");
            till.audit().await;
        }
    }
    let kept = earned(&till).await;
    let (cash, owed) = (till.account("cash").await, till.account("receivable").await);
    assert_eq!(kept.0 + kept.1 + till.balance().await.0 + cash + owed, 0);
}
