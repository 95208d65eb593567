//! A clock that was an hour ahead and is right again: nothing waits for the hour.
#![allow(clippy::unwrap_used)]

mod common;
mod till;

use evm_domain::{Money, Timestamp};
use evm_store::codes::{Requester, Tries};
use evm_store::gateway::Kind;
use evm_store::invoices::{self, CUSTOMER_GAP_MS};
use evm_store::limits::{self, Limit};
use evm_store::outbox::{self, Event};
use evm_store::{Store, checks, codes, idempotency, leases, now, pushes, refunds};
use till::{Till, paid};

common::on_both!(
    an_invoice_is_asked_about_although_it_was_made_later,
    a_refund_and_a_push_message_are_tried_again,
    a_code_may_be_asked_for_again,
    a_lease_from_the_future_is_nobodys,
    a_dead_process_does_not_hold_a_key_for_the_hour,
);

const HOUR: i64 = 3_600_000;

fn ahead() -> Timestamp {
    now().plus_millis(HOUR)
}

async fn an_invoice_is_asked_about_although_it_was_made_later(store: Store, _: String) {
    let till = Till::open(store).await;
    let invoice = till.top_up(Money(1000)).await.unwrap();
    let mut db = till.store.begin().await.unwrap();
    let late = invoices::begin_replenish(&mut db, till.customer, Money(500), ahead().plus_millis(HOUR), ahead()).await;
    let late = late.unwrap().unwrap();
    let claimed = checks::claim(&mut db, invoice.id, CUSTOMER_GAP_MS, ahead()).await.unwrap().unwrap();
    checks::unanswered(&mut db, &claimed, ahead()).await.unwrap();
    db.commit().await.unwrap();
    assert!(checks::due(&mut till.store.read().await.unwrap(), now()).await.unwrap().is_empty());

    till.store.mend_times().await;
    let mut due = checks::due(&mut till.store.read().await.unwrap(), now()).await.unwrap();
    due.sort();
    let mut both = vec![invoice.id, late.id];
    both.sort();
    assert_eq!(due, both);
    let mut db = till.store.begin().await.unwrap();
    let claimed = checks::claim(&mut db, late.id, CUSTOMER_GAP_MS, now()).await.unwrap();
    checks::answered(&mut db, &claimed.expect("nobody is asking"), now()).await.unwrap();
    db.commit().await.unwrap();
    let again = checks::due(&mut till.store.read().await.unwrap(), now().plus_millis(61_000)).await.unwrap();
    assert!(again.contains(&late.id), "its next question comes after a minute, not after the hour");

    till.store.mend_times().await;
    let due = checks::due(&mut till.store.read().await.unwrap(), now()).await.unwrap();
    assert_eq!(due, [invoice.id], "what waits for a good time goes on waiting");
}

async fn a_refund_and_a_push_message_are_tried_again(store: Store, _: String) {
    let till = Till::open(store).await;
    let purchase = till.bill(1000).await;
    let invoice = till.invoice(purchase).await;
    till.settle(invoice.id, &[paid("C-1", 85_000, Kind::Card)]).await;
    till.refund(purchase).await.unwrap();
    let mut db = till.store.begin().await.unwrap();
    assert_eq!(refunds::claim(&mut db, "C-1", ahead()).await.unwrap(), Some(0));
    let event = Event { customer: till.customer, name: "PAYMENT", event_id: "e-1".into(), payload: "{}".into() };
    outbox::add(&mut db, &[event], now()).await.unwrap();
    let all = pushes::due(&mut db, now(), 100).await.unwrap();
    for due in &all {
        pushes::failed(&mut db, due.id, ahead().plus_millis(HOUR)).await.unwrap();
    }
    db.commit().await.unwrap();
    assert!(refunds::due(&mut till.store.read().await.unwrap(), now()).await.unwrap().is_empty());

    till.store.mend_times().await;
    let mut db = till.store.begin().await.unwrap();
    assert_eq!(refunds::due(&mut db, now()).await.unwrap().len(), 1);
    assert_eq!(pushes::due(&mut db, now(), 100).await.unwrap().len(), all.len());
    assert_eq!(refunds::claim(&mut db, "C-1", now()).await.unwrap(), Some(1));
    db.commit().await.unwrap();
    till.store.mend_times().await;
    let soon = refunds::due(&mut till.store.read().await.unwrap(), now().plus_millis(20_000)).await.unwrap();
    assert!(soon.is_empty(), "a wait of half a minute is no time of a wrong clock");
}

async fn a_code_may_be_asked_for_again(store: Store, _: String) {
    store.migrate().await.unwrap();
    let limit = [Limit { key: "code:phone:1", most: 1, window_ms: 60_000 }];
    let mut db = store.begin().await.unwrap();
    assert_eq!(limits::take(&mut db, &limit, ahead()).await.unwrap(), None);
    let asker = Requester { who: "hash of a network".into(), known: false };
    codes::put(&mut db, "+97686661488", &asker, "hash", ahead(), 300_000).await.unwrap();
    db.commit().await.unwrap();
    store.mend_times().await;
    let mut db = store.begin().await.unwrap();
    assert_eq!(limits::take(&mut db, &limit, now()).await.unwrap(), None);
    let tries = Tries { own: 5, others: 5 };
    assert!(codes::standing(&mut db, "+97686661488", &asker, tries, now()).await.unwrap().guessable);
    let later = now().plus_millis(301_000);
    assert!(!codes::standing(&mut db, "+97686661488", &asker, tries, later).await.unwrap().guessable);
    db.commit().await.unwrap();
    store.mend_times().await;
    let wait = limits::wait(&mut store.read().await.unwrap(), &limit, now()).await.unwrap();
    assert!(wait.is_some(), "what was counted by a good clock counts");
}

async fn a_lease_from_the_future_is_nobodys(store: Store, url: String) {
    store.migrate().await.unwrap();
    let take = async |holder: &str, ttl: i64| {
        let mut db = store.begin().await.unwrap();
        let mine = leases::take(&mut db, "work", holder, ttl).await.unwrap();
        db.commit().await.unwrap();
        mine
    };
    assert!(take("a", 10_000).await && take("a", 10_000).await);
    assert!(!take("b", 10_000).await, "somebody has it");
    // As a clock that is an hour ahead would have written it.
    assert!(take("a", HOUR).await);
    assert!(take("b", 10_000).await, "{url}");
    assert!(!take("a", 10_000).await);
}

async fn a_dead_process_does_not_hold_a_key_for_the_hour(store: Store, _: String) {
    use idempotency::Known;
    store.migrate().await.unwrap();
    let begin = async |at: Timestamp| {
        let mut db = store.begin().await.unwrap();
        let known = idempotency::begin(&mut db, "owner", "key", "hash", None, at).await.unwrap();
        db.commit().await.unwrap();
        known
    };
    assert_eq!(begin(ahead()).await, Known::New);
    assert_eq!(begin(ahead().plus_millis(1_000)).await, Known::InFlight);
    assert_eq!(begin(now()).await, Known::New);
    assert_eq!(begin(now()).await, Known::InFlight);
}
