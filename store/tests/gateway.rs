//! Money from a payment gateway, on both engines: credited once for what was really paid, whatever comes when.
#![allow(clippy::unwrap_used)]

mod common;
mod till;

use evm_domain::Money;
use evm_store::gateway::{self, Findings, Kind};
use evm_store::invoices::{self, Begun, State};
use evm_store::operator::Page;
use evm_store::purchases::{self, FromBalance, Unpayable};
use evm_store::refunds::{self, Unrefundable};
use evm_store::{Store, now, outbox};
use till::{Till, paid};
use tokio::task::JoinSet;

common::on_both!(
    a_hundred_who_settle_the_same_credit_it_once,
    half_then_the_other_half,
    too_much_and_twice_become_balance,
    late_money_becomes_balance,
    an_invoice_that_a_clock_ahead_ended_pays_into_the_balance,
    paid_from_the_balance_meanwhile,
    a_corrected_bill_meets_its_open_invoice,
    top_ups,
    a_hundred_who_begin_get_one_invoice,
    a_refund_goes_where_the_money_came_from,
    what_the_gateway_gives_back_by_itself_is_flagged,
    of_two_hundred_payments_a_balance_for_a_hundred_pays_a_hundred,
);

const ALL: Page = Page { offset: 0, limit: 1000 };

async fn a_hundred_who_settle_the_same_credit_it_once(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1234).await;
    let invoice = till.invoice(purchase).await;
    assert_eq!((invoice.amount, invoice.asked()), (Money(104_890), Money(104_900)));
    let findings = Findings { received: vec![paid("P-1", 104_900, Kind::P2p)], refunded: vec![] };
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let (store, findings) = (till.store.clone(), findings.clone());
        all.spawn(async move {
            let mut db = store.begin().await.unwrap();
            let settled = gateway::settle(&mut db, invoice.id, &findings, now()).await.unwrap();
            db.commit().await.unwrap();
            assert_eq!(settled.invoice.state, State::Success);
            settled.credited
        });
    }
    let credited: Vec<Money> = all.join_all().await;
    assert_eq!(credited.iter().filter(|credited| **credited == Money(104_900)).count(), 1, "{credited:?}");
    assert_eq!(credited.iter().copied().sum::<Money>(), Money(104_900));
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.paid, bought.option.as_deref()), ("paid", 104_890, Some("QPAY")));
    assert_eq!(till.balance().await, Money(10), "what was asked for to a whole tögrög");
    assert_eq!(till.account("qpay_clearing").await, -(104_900 - 1_049));
    assert_eq!(till.account("qpay_fee").await, -1_049);
    assert_eq!(till.flags().await, [None]);
    assert_eq!(till.events("PAYMENT").await, [r#"{"status":"success","amount":1048.9}"#]);
    assert!(till.events("REPLENISHMENT").await.is_empty());
    till.audit().await;
}

async fn half_then_the_other_half(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(2000).await;
    let invoice = till.invoice(purchase).await;
    let half = paid("P-1", 85_000, Kind::Card);
    assert_eq!(till.settle(invoice.id, std::slice::from_ref(&half)).await, State::Pending);
    assert_eq!(
        (till.purchase(purchase).await.status.as_str(), till.purchase(purchase).await.paid),
        ("pending", 85_000)
    );
    assert!(till.events("PAYMENT").await.is_empty());
    till.audit().await;
    let mut db = till.store.begin().await.unwrap();
    let again = invoices::begin_purchase(&mut db, till.customer, purchase, till.later(), false, now()).await.unwrap();
    assert!(matches!(again, Ok(Begun::Open(open)) if open.id == invoice.id), "the same invoice takes the rest");
    drop(db);
    assert_eq!(till.settle(invoice.id, &[half, paid("P-2", 85_000, Kind::P2p)]).await, State::Success);
    assert_eq!(till.purchase(purchase).await.status, "paid");
    assert_eq!(till.events("PAYMENT").await, [r#"{"status":"success","amount":1700}"#]);
    assert_eq!(till.balance().await, Money::ZERO);
    till.audit().await;
}

async fn too_much_and_twice_become_balance(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    assert_eq!(till.settle(invoice.id, &[paid("P-1", 100_000, Kind::P2p)]).await, State::Success);
    assert_eq!(till.balance().await, Money(15_000));
    let twice = [paid("P-1", 100_000, Kind::P2p), paid("P-2", 85_000, Kind::P2p)];
    assert_eq!(till.settle(invoice.id, &twice).await, State::Success);
    assert_eq!(till.balance().await, Money(100_000));
    assert_eq!(till.flags().await, [Some("surplus".into()), Some("surplus".into())]);
    let topped_up = [r#"{"status":"success","amount":150}"#, r#"{"status":"success","amount":850}"#];
    assert_eq!(till.events("REPLENISHMENT").await, topped_up);
    assert_eq!(till.events("PAYMENT").await.len(), 1);
    till.audit().await;
}

async fn late_money_becomes_balance(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    till.close(invoice.id).await;
    assert_eq!(till.purchase(purchase).await.option.as_deref(), None, "nothing was paid so");
    assert_eq!(till.purchase(purchase).await.status, "unpaid");
    assert_eq!(till.events("PAYMENT").await, [r#"{"status":"fail","amount":850}"#]);
    assert_eq!(till.settle(invoice.id, &[paid("P-1", 85_000, Kind::Card)]).await, State::Canceled);
    assert_eq!((till.purchase(purchase).await.status.as_str(), till.balance().await), ("unpaid", Money(85_000)));
    assert_eq!(till.flags().await, [Some("late".into())]);
    let second = till.invoice(purchase).await;
    assert_eq!(till.purchase(purchase).await.option.as_deref(), Some("QPAY"), "while it is open");
    assert_ne!(second.id, invoice.id);
    // The other invoice's payment, told for this one: nothing new.
    assert_eq!(till.settle(second.id, &[paid("P-1", 85_000, Kind::Card)]).await, State::Pending);
    assert_eq!(till.balance().await, Money(85_000));
    till.audit().await;
}

/// With the server's clock an hour ahead, an invoice that was good for an hour has run out and is canceled. Who pays it all the
/// same has the amount as balance, and owes it: no money is lost, but the balance is off by this purchase.
async fn an_invoice_that_a_clock_ahead_ended_pays_into_the_balance(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(306).await;
    let invoice = till.invoice(purchase).await;
    let ahead = till.later().plus_millis(1000);
    let mut db = till.store.begin().await.unwrap();
    assert_eq!(evm_store::checks::due(&mut db, ahead).await.unwrap(), [invoice.id]);
    let ended = evm_store::checks::closed(&mut db, invoice.id, ahead).await.unwrap();
    assert_eq!(ended.state, State::Canceled);
    db.commit().await.unwrap();
    // The clock is right again.
    till.settle(invoice.id, &[paid("P-1", 26_100, Kind::P2p)]).await;
    let bought = till.purchase(purchase).await;
    assert_eq!((bought.status.as_str(), bought.amount, bought.paid), ("unpaid", 26_010, 0));
    assert_eq!((till.balance().await, till.flags().await), (Money(26_100), vec![Some("late".into())]));
    till.audit().await;
    assert_eq!(till.pay(purchase).await, Ok(Money(90)));
    till.audit().await;
}

async fn paid_from_the_balance_meanwhile(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("P-1", 40_000, Kind::P2p)]).await;
    till.credit(Money(45_000)).await;
    let mut db = till.store.begin().await.unwrap();
    let refused =
        purchases::pay_from_evm(&mut db, till.customer, purchase, FromBalance::default(), now()).await.unwrap();
    assert_eq!(refused, Err(Unpayable::InvoiceOpen), "the gateway is asked first");
    drop(db);
    assert_eq!(till.pay(purchase).await, Ok(Money::ZERO), "only what is still due");
    assert_eq!(till.find(invoice.id).await.state, State::Canceled);
    assert!(till.events("PAYMENT").await.iter().all(|event| event.contains("success")));
    assert_eq!(till.settle(invoice.id, &[paid("P-2", 45_000, Kind::P2p)]).await, State::Canceled);
    assert_eq!(till.balance().await, Money(45_000));
    assert_eq!(till.flags().await, [None, Some("late".into())]);
    till.audit().await;
}

async fn a_corrected_bill_meets_its_open_invoice(store: Store, _: String) {
    let till = Till::open(store).await;
    let (purchase, session) = till.charge(1000).await;
    let invoice = till.invoice(purchase).await;
    till.correct(session, 1200).await;
    assert_eq!(till.purchase(purchase).await.status, "pending");
    let mut db = till.store.begin().await.unwrap();
    let begun = invoices::begin_purchase(&mut db, till.customer, purchase, till.later(), false, now()).await.unwrap();
    assert!(matches!(begun, Ok(Begun::Outdated(old)) if old.id == invoice.id));
    let begun = invoices::begin_purchase(&mut db, till.customer, purchase, till.later(), true, now()).await.unwrap();
    let Ok(Begun::New(second)) = begun else { panic!("{begun:?}") };
    db.commit().await.unwrap();
    assert_eq!((second.amount, till.find(invoice.id).await.state), (Money(102_000), State::Canceled));
    till.audit().await;
    // Down to what is paid: nothing is left to wait for.
    till.opened(second.id).await;
    till.settle(second.id, &[paid("P-1", 42_500, Kind::P2p)]).await;
    till.correct(session, 400).await;
    assert_eq!(till.purchase(purchase).await.status, "paid");
    assert_eq!((till.find(second.id).await.state, till.balance().await), (State::Canceled, Money(8_500)));
    assert_eq!(till.purchase(purchase).await.option.as_deref(), Some("QPAY"), "a part was paid so");
    // Down to nothing: not even that.
    let (purchase, session) = till.charge(1000).await;
    till.invoice(purchase).await;
    till.correct(session, 0).await;
    let free = till.purchase(purchase).await;
    assert_eq!((free.status.as_str(), free.option), ("paid", None));
    till.audit().await;
}

async fn top_ups(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(1_006_900)).await.unwrap();
    assert_eq!(till.settle(invoice.id, &[paid("P-1", 500_000, Kind::P2p)]).await, State::Pending);
    let whole = [paid("P-1", 500_000, Kind::P2p), paid("P-2", 506_900, Kind::P2p)];
    assert_eq!(till.settle(invoice.id, &whole).await, State::Success);
    assert_eq!(till.balance().await, Money(1_006_900));
    assert_eq!(till.flags().await, [None, None]);
    let events = [r#"{"status":"success","amount":5000}"#, r#"{"status":"success","amount":5069}"#];
    assert_eq!(till.events("REPLENISHMENT").await, events);
    assert_eq!(till.settle(invoice.id, &[paid("P-3", 100, Kind::P2p)]).await, State::Success);
    assert_eq!(till.flags().await, [None, None, Some("surplus".into())]);
    for _ in 0..10 {
        till.top_up(Money(100)).await.unwrap();
    }
    assert!(till.top_up(Money(100)).await.is_none(), "so many open top-ups are enough");
    till.audit().await;
}

async fn a_hundred_who_begin_get_one_invoice(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let (store, customer, later) = (till.store.clone(), till.customer, till.later());
        all.spawn(async move {
            let mut db = store.begin().await.unwrap();
            let begun = invoices::begin_purchase(&mut db, customer, purchase, later, false, now()).await.unwrap();
            db.commit().await.unwrap();
            match begun.unwrap() {
                Begun::New(invoice) => (1, invoice.id),
                Begun::Open(invoice) => (0, invoice.id),
                Begun::Outdated(invoice) => panic!("{invoice:?}"),
            }
        });
    }
    let all = all.join_all().await;
    assert_eq!(all.iter().map(|(new, _)| new).sum::<i32>(), 1);
    assert!(all.iter().all(|(_, id)| *id == all[0].1));
    till.audit().await;
}

async fn a_refund_goes_where_the_money_came_from(store: Store, _: String) {
    let till = Till::open(store).await;
    let (purchase, session) = till.charge(3000).await;
    assert_eq!(till.refund(purchase).await, Err(Unrefundable::NotPaid));
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("C-1", 100_000, Kind::Card), paid("B-1", 50_000, Kind::P2p)]).await;
    till.settle(invoice.id, &[paid("C-2", 50_000, Kind::Card)]).await;
    till.credit(Money(55_000)).await;
    till.pay(purchase).await.unwrap();
    let refund = till.refund(purchase).await.unwrap();
    assert_eq!(refund.amount, Money(255_000));
    let cards: Vec<_> = refund.cards.iter().map(|card| (card.payment_id.as_str(), card.refund.as_str())).collect();
    assert_eq!(cards, [("C-1", "requested"), ("C-2", "requested")]);
    assert_eq!(till.balance().await, Money(105_000), "bank and balance go back to the balance");
    assert_eq!(till.purchase(purchase).await.status, "refunded");
    assert_eq!(till.account("revenue_energy").await + till.account("vat").await, 0);
    till.audit().await;
    assert_eq!(till.refund(purchase).await.unwrap(), refund, "once");

    let mut db = till.store.begin().await.unwrap();
    assert_eq!(refunds::due(&mut db, now()).await.unwrap().len(), 2);
    assert_eq!(refunds::claim(&mut db, "C-1", now()).await.unwrap(), Some(0));
    assert_eq!(refunds::claim(&mut db, "C-1", now()).await.unwrap(), None, "one asks at a time");
    refunds::given_out(&mut db, "C-1").await.unwrap();
    for _ in 0..2 {
        refunds::not_given_out(&mut db, "C-2", now()).await.unwrap();
    }
    assert!(refunds::due(&mut db, now().plus_millis(86_400_000)).await.unwrap().is_empty());
    db.commit().await.unwrap();
    assert_eq!(till.balance().await, Money(155_000));
    assert_eq!(till.account("qpay_clearing").await + till.account("qpay_fee").await, -200_000 + 100_000);
    assert_eq!(till.flags().await, [None, None, Some("refund_failed".into())]);
    till.correct(session, 5000).await;
    assert_eq!(till.purchase(purchase).await.status, "refunded", "given back is given back");
    assert_eq!(till.pay(purchase).await, Err(Unpayable::AlreadyPaid));
    till.audit().await;
    let nobody = evm_domain::PurchaseId(evm_store::new_id());
    assert_eq!(till.refund(nobody).await, Err(Unrefundable::NotFound));
}

async fn what_the_gateway_gives_back_by_itself_is_flagged(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("C-1", 85_000, Kind::Card)]).await;
    let refunded = Findings { received: vec![], refunded: vec!["C-1".into(), "C-9".into()] };
    let settle_it = async || {
        let mut db = till.store.begin().await.unwrap();
        gateway::settle(&mut db, invoice.id, &refunded, now()).await.unwrap();
        db.commit().await.unwrap();
    };
    settle_it().await;
    assert_eq!(till.flags().await, [Some("refunded_at_gateway".into())]);
    let refund = till.refund(purchase).await.unwrap();
    let cards: Vec<_> = refund.cards.iter().map(|card| (card.payment_id.as_str(), card.refund.as_str())).collect();
    assert_eq!((cards, till.balance().await), (vec![("C-1", "refunded")], Money::ZERO), "not a second time");
    assert!(refunds::due(&mut till.store.read().await.unwrap(), till.later()).await.unwrap().is_empty());
    till.audit().await;

    let second = till.bill(1000).await;
    let invoice = till.invoice(second).await;
    till.settle(invoice.id, &[paid("C-2", 85_000, Kind::Card)]).await;
    till.refund(second).await.unwrap();
    let refunded = Findings { received: vec![], refunded: vec!["C-2".into()] };
    let mut db = till.store.begin().await.unwrap();
    gateway::settle(&mut db, invoice.id, &refunded, now()).await.unwrap();
    assert!(refunds::due(&mut db, now().plus_millis(86_400_000)).await.unwrap().is_empty(), "as we asked");
    db.commit().await.unwrap();
    let (flagged, lines) = gateway::page(&mut till.store.read().await.unwrap(), true, ALL).await.unwrap();
    assert_eq!((flagged, lines[0].payment_id.as_str()), (1, "C-1"));
    till.audit().await;
}

async fn of_two_hundred_payments_a_balance_for_a_hundred_pays_a_hundred(store: Store, _: String) {
    let till = Till::open(store).await;
    let mut purchases = Vec::new();
    for _ in 0..200 {
        purchases.push(till.bill(1000).await);
    }
    till.credit(Money(8_500_000)).await;
    let mut all = JoinSet::new();
    for purchase in purchases {
        let (store, customer) = (till.store.clone(), till.customer);
        all.spawn(async move {
            // On a busy machine the last of them wait longer for a connection than anybody would.
            let mut db = loop {
                match store.begin().await {
                    Err(error) if error.is_down() => {}
                    begun => break begun.unwrap(),
                }
            };
            let paid =
                purchases::pay_from_evm(&mut db, customer, purchase, FromBalance::default(), now()).await.unwrap();
            db.commit().await.unwrap();
            paid
        });
    }
    let all = all.join_all().await;
    assert_eq!(all.iter().filter(|paid| paid.is_ok()).count(), 100);
    let refused = Err(Unpayable::InsufficientBalance { balance: Money::ZERO, due: Money(85_000) });
    assert_eq!(all.iter().filter(|paid| **paid == refused).count(), 100);
    assert_eq!(till.balance().await, Money::ZERO);
    let mut db = till.store.read().await.unwrap();
    assert_eq!(
        outbox::waiting(&mut db, 1000).await.unwrap().iter().filter(|event| event.name == "PAYMENT").count(),
        100
    );
    till.audit().await;
}
