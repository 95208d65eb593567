//! When the gateway is asked about an invoice, and by whom; and what a statement says afterwards.
#![allow(clippy::unwrap_used)]

mod common;
mod till;

use evm_domain::ledger::Account;
use evm_domain::{InvoiceId, Money, Timestamp};
use evm_store::checks::{self, claim};
use evm_store::gateway::Kind;
use evm_store::invoices::{self, Begun, CALLBACK_GAP_MS, CLAIM_MS, CUSTOMER_GAP_MS, GIVE_UP_MS, Invoice, State};
use evm_store::ledger::{self, Filter};
use evm_store::operator::Page;
use evm_store::statement::{self, Movement, Period, Standing};
use evm_store::{Store, audit, now};
use till::{Till, paid};

common::on_both!(
    one_asks_at_a_time_and_seldom,
    the_safety_net_is_bounded,
    a_callback_during_a_question_is_not_lost,
    silence_stretches_the_wait_and_ends_as_an_error,
    an_attempt_whose_process_died_is_given_up,
    an_invoice_made_too_late_is_closed_at_the_gateway,
    forged_callbacks_change_nothing,
    a_statement_adds_up_on_every_page,
);

const MINUTE: i64 = 60_000;

/// When the gateway is asked next without anybody's wish.
async fn next(till: &Till, invoice: InvoiceId, from: Timestamp) -> Option<i64> {
    let mut db = till.store.read().await.unwrap();
    for minutes in 0..(30 * 60) {
        let at = from.plus_millis(minutes * MINUTE);
        if checks::due(&mut db, at).await.unwrap().contains(&invoice) {
            return Some(minutes);
        }
    }
    None
}

async fn asked(till: &Till, invoice: InvoiceId, gap_ms: i64, now: Timestamp) -> Option<Invoice> {
    let mut db = till.store.begin().await.unwrap();
    let claimed = claim(&mut db, invoice, gap_ms, now).await.unwrap();
    db.commit().await.unwrap();
    claimed
}

async fn answered(till: &Till, claimed: &Invoice, now: Timestamp) {
    let mut db = till.store.begin().await.unwrap();
    checks::answered(&mut db, claimed, now).await.unwrap();
    db.commit().await.unwrap();
}

async fn unanswered(till: &Till, claimed: &Invoice, now: Timestamp) {
    let mut db = till.store.begin().await.unwrap();
    checks::unanswered(&mut db, claimed, now).await.unwrap();
    db.commit().await.unwrap();
}

async fn hint(till: &Till, token: &str, payment: Option<&str>, now: Timestamp) -> Option<InvoiceId> {
    let mut db = till.store.begin().await.unwrap();
    let found = checks::hint(&mut db, token, payment, now).await.unwrap();
    db.commit().await.unwrap();
    found
}

async fn one_asks_at_a_time_and_seldom(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(100)).await.unwrap().id;
    let start = now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = till.store.clone();
        all.spawn(async move {
            let mut db = store.begin().await.unwrap();
            let claimed = claim(&mut db, invoice, CUSTOMER_GAP_MS, start).await.unwrap();
            db.commit().await.unwrap();
            claimed
        });
    }
    let mut claimed: Vec<Invoice> = all.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    answered(&till, &claimed.remove(0), start).await;
    assert!(asked(&till, invoice, CUSTOMER_GAP_MS, start.plus_millis(CUSTOMER_GAP_MS - 1)).await.is_none());
    let later = start.plus_millis(CUSTOMER_GAP_MS);
    assert!(asked(&till, invoice, CUSTOMER_GAP_MS, later).await.is_some());
    // Its process dies: another may ask once the claim has run out.
    assert!(asked(&till, invoice, CALLBACK_GAP_MS, later.plus_millis(CLAIM_MS - 1)).await.is_none());
    assert!(asked(&till, invoice, CALLBACK_GAP_MS, later.plus_millis(CLAIM_MS)).await.is_some());
}

async fn the_safety_net_is_bounded(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(100)).await.unwrap();
    let mut minutes = Vec::new();
    let mut at = invoice.created_at;
    while let Some(wait) = next(&till, invoice.id, at).await {
        at = at.plus_millis(wait * MINUTE);
        minutes.push((at.0 - invoice.created_at.0) / MINUTE);
        let claimed = asked(&till, invoice.id, CALLBACK_GAP_MS, at).await.unwrap();
        answered(&till, &claimed, at).await;
        if at >= invoice.expires_at {
            let mut db = till.store.begin().await.unwrap();
            let ended = checks::closed(&mut db, invoice.id, at).await.unwrap();
            db.commit().await.unwrap();
            assert_eq!((ended.state, ended.closed), (State::Canceled, true));
        }
    }
    assert_eq!(minutes, [1, 5, 30, 60]);
}

async fn a_callback_during_a_question_is_not_lost(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(100)).await.unwrap();
    let at = now().plus_millis(10_000);
    assert_eq!(next(&till, invoice.id, at).await, Some(1));
    assert_eq!(hint(&till, &invoice.callback_token, Some("P-1"), at).await, Some(invoice.id));
    let claimed = asked(&till, invoice.id, CALLBACK_GAP_MS, at).await.unwrap();
    assert_eq!(claimed.hint_payment, None, "the gateway's id is known");
    for _ in 0..100 {
        hint(&till, &invoice.callback_token, None, at).await;
    }
    answered(&till, &claimed, at).await;
    let again = at.plus_millis(CALLBACK_GAP_MS);
    let mut db = till.store.read().await.unwrap();
    assert!(checks::due(&mut db, again.plus_millis(-1)).await.unwrap().is_empty());
    assert_eq!(checks::due(&mut db, again).await.unwrap(), [invoice.id]);
    drop(db);
    let claimed = asked(&till, invoice.id, CALLBACK_GAP_MS, again).await.unwrap();
    answered(&till, &claimed, again).await;
    assert_eq!(next(&till, invoice.id, again).await, Some(1), "a hundred callbacks, one more question");
}

async fn silence_stretches_the_wait_and_ends_as_an_error(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    let mut at = invoice.created_at.plus_millis(MINUTE);
    let mut waits = Vec::new();
    while let Some(claimed) = asked(&till, invoice.id, CALLBACK_GAP_MS, at).await {
        unanswered(&till, &claimed, at).await;
        let seconds = |wait: i64| at.plus_millis(wait * 1000);
        let mut db = till.store.read().await.unwrap();
        let mut wait = 1;
        while wait < 4000 && checks::due(&mut db, seconds(wait)).await.unwrap().is_empty() {
            wait += 1 + wait / 20;
        }
        if wait >= 4000 {
            break;
        }
        waits.push(wait);
        at = seconds(wait);
    }
    assert!(waits.is_sorted() && waits[0] == 5 && *waits.last().unwrap() < 2_000, "{waits:?}");
    assert!(waits.len() < 80, "a day and an hour at half an hour each: {}", waits.len());
    assert!(at > invoice.expires_at.plus_millis(GIVE_UP_MS));
    let ended = till.find(invoice.id).await;
    assert_eq!((ended.state, ended.closed), (State::Error, true));
    assert_eq!(till.purchase(purchase).await.status, "unpaid");
    assert_eq!(till.events("PAYMENT").await, [r#"{"status":"fail","amount":850}"#]);
    assert_eq!(till.purchase(purchase).await.option, None);
    // A callback years later is money all the same, also where the gateway is silent at first; but not for ever.
    hint(&till, &invoice.callback_token, None, at).await;
    let mut questions = 0;
    while let Some(minutes) = next(&till, invoice.id, at).await {
        at = at.plus_millis(minutes * MINUTE);
        let claimed = asked(&till, invoice.id, 0, at).await.unwrap();
        unanswered(&till, &claimed, at).await;
        questions += 1;
    }
    assert_eq!(questions, 10);
    // One that comes while the last question is asked is not lost.
    hint(&till, &invoice.callback_token, None, at).await;
    for _ in 0..10 {
        let claimed = asked(&till, invoice.id, 0, at).await.unwrap();
        hint(&till, &invoice.callback_token, None, at).await;
        unanswered(&till, &claimed, at).await;
        at = at.plus_millis(next(&till, invoice.id, at).await.unwrap() * MINUTE);
    }
    till.settle(invoice.id, &[paid("P-1", 85_000, Kind::P2p)]).await;
    assert_eq!((till.balance().await, till.flags().await), (Money(85_000), vec![Some("late".into())]));
    till.audit().await;
}

async fn begin(till: &Till, purchase: evm_domain::PurchaseId, now: Timestamp) -> Begun {
    let mut db = till.store.begin().await.unwrap();
    let begun = invoices::begin_purchase(&mut db, till.customer, purchase, till.later(), false, now).await.unwrap();
    db.commit().await.unwrap();
    begun.unwrap()
}

async fn an_attempt_whose_process_died_is_given_up(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let Begun::New(first) = begin(&till, purchase, now()).await else { panic!() };
    assert!(matches!(begin(&till, purchase, now()).await, Begun::Open(same) if same.id == first.id));
    let later = first.claimed_until;
    assert_eq!(checks::due(&mut till.store.read().await.unwrap(), later).await.unwrap(), [first.id]);
    let Begun::New(second) = begin(&till, purchase, later).await else { panic!() };
    assert_eq!(till.find(first.id).await.state, State::Error);
    assert_ne!(second.id, first.id, "a number of its own");
    assert!(till.events("PAYMENT").await.is_empty(), "the customer is at it");
    // Nobody asks again: what the safety net does.
    let mut db = till.store.begin().await.unwrap();
    let ended = invoices::not_opened(&mut db, second.id, later).await.unwrap();
    db.commit().await.unwrap();
    assert_eq!(ended.state, State::Error);
    assert_eq!(till.events("PAYMENT").await, [r#"{"status":"fail","amount":850}"#]);
    assert_eq!(till.purchase(purchase).await.status, "unpaid");
    assert!(
        checks::due(&mut till.store.read().await.unwrap(), later.plus_millis(86_400_000)).await.unwrap().is_empty()
    );
    // Somebody paid the one whose answer was lost.
    hint(&till, &first.callback_token, Some("P-7"), later).await;
    let claimed = asked(&till, first.id, CALLBACK_GAP_MS, later).await.unwrap();
    assert_eq!((claimed.gateway_id, claimed.hint_payment.as_deref()), (None, Some("P-7")));
    till.audit().await;
}

async fn an_invoice_made_too_late_is_closed_at_the_gateway(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let Begun::New(slow) = begin(&till, purchase, now()).await else { panic!() };
    till.credit(Money(85_000)).await;
    till.pay(purchase).await.unwrap();
    let opened = till.opened(slow.id).await;
    assert_eq!((opened.state, opened.closed), (State::Canceled, false));
    assert_eq!(checks::due(&mut till.store.read().await.unwrap(), now()).await.unwrap(), [slow.id], "to be closed");
    till.close(slow.id).await;
    assert!(checks::due(&mut till.store.read().await.unwrap(), till.later()).await.unwrap().is_empty());
    assert_eq!(till.events("PAYMENT").await.len(), 1);
    // The gateway gives one id twice: the second is refused, and its attempt stays as it is.
    let second = till.bill(1000).await;
    let Begun::New(twin) = begin(&till, second, now()).await else { panic!() };
    let mut db = till.store.begin().await.unwrap();
    assert!(invoices::opened(&mut db, twin.id, &format!("G-{}", slow.id), None, now()).await.is_err());
    drop(db);
    assert_eq!(till.find(twin.id).await.state, State::Creating);
    till.audit().await;
}

async fn forged_callbacks_change_nothing(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(100)).await.unwrap();
    for token in ["", "x", invoice.id.to_string().as_str(), invoice.gateway_id.as_deref().unwrap()] {
        assert_eq!(hint(&till, token, Some("P-1"), now()).await, None);
    }
    assert_eq!(till.find(invoice.id).await, invoice);
    assert!(checks::due(&mut till.store.read().await.unwrap(), now()).await.unwrap().is_empty());
}

async fn a_statement_adds_up_on_every_page(store: Store, _: String) {
    let till = Till::open(store).await;
    till.credit(Money(200_000)).await;
    let first = till.bill(1000).await;
    till.pay(first).await.unwrap();
    let second = till.bill(1000).await;
    let invoice = till.invoice(second).await;
    till.settle(invoice.id, &[paid("C-1", 85_000, Kind::Card), paid("P-2", 50_000, Kind::P2p)]).await;
    till.bill(500).await;
    till.refund(second).await.unwrap();
    let mut db = till.store.read().await.unwrap();
    let all = Page { offset: 0, limit: 100 };
    let whole = statement::page(&mut db, till.customer, Period::default(), all).await.unwrap();
    let closing = Standing { balance: 165_000, owed: 42_500 };
    assert_eq!((whole.total, whole.opening, whole.closing), (8, Standing::default(), closing));
    assert_eq!((whole.movements.len(), whole.movements[0].after), (8, closing));
    let kinds: std::collections::BTreeSet<_> = whole.movements.iter().map(|movement| movement.kind.as_str()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["charge", "credit", "gateway_payment", "payment", "refund"]);
    let refund = whole.movements.iter().find(|movement| movement.kind == "refund").unwrap();
    assert_eq!((refund.amount, refund.balance_change, refund.owed_change), (85_000, 0, 0), "back on the card");
    assert_eq!(refund.purchase_id, Some(second.to_string()));

    let mut by_page: Vec<Movement> = Vec::new();
    for offset in [0, 3, 6] {
        let page = statement::page(&mut db, till.customer, Period::default(), Page { offset, limit: 3 }).await.unwrap();
        by_page.extend(page.movements);
    }
    assert_eq!(by_page, whole.movements);
    let mut exported: Vec<Movement> = Vec::new();
    loop {
        let part = statement::next(&mut db, till.customer, Period::default(), exported.last(), 3).await.unwrap();
        if part.is_empty() {
            break;
        }
        exported.extend(part);
    }
    exported.reverse();
    assert_eq!(exported, whole.movements);

    let middle = Timestamp(whole.movements[4].created_at);
    let late = Period { from: Some(middle), to: None };
    let early = Period { from: None, to: Some(middle) };
    let late = statement::page(&mut db, till.customer, late, all).await.unwrap();
    let early = statement::page(&mut db, till.customer, early, all).await.unwrap();
    assert_eq!((early.total + late.total, early.closing, late.closing), (8, late.opening, closing));
    let other = evm_domain::CustomerId(evm_store::new_id());
    assert_eq!(statement::page(&mut db, other, Period::default(), all).await.unwrap(), statement::Statement::default());
    the_book_lists_by_filter(&till).await;
}

async fn the_book_lists_by_filter(till: &Till) {
    let mut db = till.store.read().await.unwrap();
    let all = Page { offset: 0, limit: 100 };
    let clearing = Filter { account: Some(Account::QpayClearing), ..Filter::default() };
    let (total, lines) = ledger::list(&mut db, &clearing, all).await.unwrap();
    assert_eq!((total, lines.len()), (3, 3));
    assert!(lines.iter().all(|line| line.entries.iter().map(|entry| entry.amount).sum::<i64>() == 0));
    let mine = Filter { customer: Some(till.customer), ..Filter::default() };
    let (total, lines) = ledger::list(&mut db, &mine, all).await.unwrap();
    assert_eq!(total, 8);
    let first = ledger::next(&mut db, &mine, None, 5).await.unwrap();
    let rest = ledger::next(&mut db, &mine, first.last(), 5).await.unwrap();
    let ids = |lines: &[ledger::LedgerLine]| lines.iter().map(|line| line.id.clone()).collect::<Vec<_>>();
    let mut forward = [ids(&first), ids(&rest)].concat();
    forward.reverse();
    assert_eq!(forward, ids(&lines));
    let none = Filter { to: Some(Timestamp(1)), ..mine };
    assert_eq!(ledger::list(&mut db, &none, all).await.unwrap().0, 0);
    assert!(audit::run(&mut db).await.unwrap().violations.is_empty());
}
