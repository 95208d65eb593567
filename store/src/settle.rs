//! The end of a charge: session, purchase, ledger and event in the caller's one transaction.

use evm_domain::ledger::{charge, pay_from_balance};
use evm_domain::{Bill, Money, PurchaseId, Session, SessionId, Status, Timestamp, Wh};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::ledger::Booking;
use crate::outbox::{Event, charging_payload};
use crate::rows::push_rows;
use crate::{Result, invoices, ledger, new_id, outbox, sessions};

/// What a charge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Its purchase.
    pub purchase: PurchaseId,
    /// Its lines.
    pub bill: Bill,
}

/// Finishes sessions and makes their purchases. The caller saves the sessions in the same transaction, and holds
/// them locked, so that no two settle one.
pub async fn settle(db: &mut Db, over: &mut [&mut Session], now: Timestamp) -> Result<()> {
    let mut paid_by = Vec::new();
    for session in over.iter_mut() {
        assert!(session.status.is_live(), "only a live session is settled");
        session.status = Status::Finished;
        if let (Some(customer), Some(device)) = (session.customer, session.device) {
            paid_by.push((&**session, customer, device, session.bill()));
        } else if session.review.is_none() {
            session.review = Some("no_customer".into());
        }
    }
    if paid_by.is_empty() {
        return Ok(());
    }
    on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(
            "INSERT INTO purchases (id, session_id, customer_id, device_id, energy_wh, waiting_s, start_amount, energy_amount, \
             waiting_amount, adjustment_amount, energy_part, waiting_part, vat_amount, amount, status, created_at, paid_at) ",
        );
        push_rows(&mut sql, &paid_by, |row, (session, customer, device, bill)| {
            // Nothing to pay is paid; it must not keep its customer from the next charge.
            let free = bill.total() == Money::ZERO;
            let (energy_part, waiting_part) = bill.parts();
            row.bind(session.purchase.to_string())
                .bind(session.id.to_string())
                .bind(customer.to_string())
                .bind(device.to_string())
                .bind(bill.energy.0)
                .bind(bill.waiting_s)
                .bind(bill.start_amount.0)
                .bind(bill.energy_amount.0)
                .bind(bill.waiting_amount.0)
                .bind(bill.adjustment_amount.0)
                .bind(energy_part.0)
                .bind(waiting_part.0)
                .bind(bill.vat_amount.0)
                .bind(bill.total().0)
                .bind(if free { "paid" } else { "unpaid" })
                .bind(now.0)
                .bind(free.then_some(now.0));
        });
        sql.build().execute(conn).await?;
    });
    let bookings: Vec<_> = paid_by
        .iter()
        .map(|(session, customer, _, bill)| Booking {
            key: format!("charge:{}", session.id),
            kind: "charge",
            customer: Some(*customer),
            purchase: Some(session.purchase),
            note: None,
            postings: charge(bill, &Bill::default()),
        })
        .collect();
    ledger::post_all(db, &bookings, now).await?;
    let events: Vec<_> = paid_by
        .iter()
        .map(|(session, customer, _, bill)| Event {
            customer: *customer,
            name: "CHARGING",
            event_id: format!("charging-{}", session.id),
            payload: charging_payload(bill),
        })
        .collect();
    outbox::add(db, &events, now).await
}

/// Ends a live session with the figures so far: its charger is silent, refuses to stop, or never began. `None`: it
/// was over before. A later end told by the charger corrects the bill.
pub async fn settle_by_id(db: &mut Db, session: SessionId, reason: &str, now: Timestamp) -> Result<Option<Settled>> {
    let Some(mut session) = sessions::by_id(db, session).await?.filter(|s| s.status.is_live()) else {
        return Ok(None);
    };
    session.stop_reason.get_or_insert_with(|| reason.to_owned());
    settle(db, &mut [&mut session], now).await?;
    sessions::save(db, &[&session], now).await?;
    Ok(Some(Settled { purchase: session.purchase, bill: session.bill() }))
}

#[derive(sqlx::FromRow)]
struct Booked {
    customer_id: String,
    energy_wh: i64,
    waiting_s: i64,
    start_amount: i64,
    energy_amount: i64,
    waiting_amount: i64,
    adjustment_amount: i64,
    vat_amount: i64,
    paid: i64,
    status: String,
}

/// Books the difference that late news made to a finished session: more is owed, or the surplus of what was
/// paid goes back to the balance. `false`: no difference, or nobody to bill.
pub async fn correct(db: &mut Db, session: &Session, now: Timestamp) -> Result<bool> {
    let lock = db.for_update();
    let booked: Option<Booked> = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new(
            "SELECT s.customer_id, s.energy_wh, s.waiting_s, s.start_amount, s.energy_amount, s.waiting_amount, s.adjustment_amount, \
             s.vat_amount, s.paid, s.status FROM purchases s WHERE s.id = ",
        );
        sql.push_bind(session.purchase.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    // What was given back whole stays so.
    let Some(booked) = booked.filter(|booked| booked.status != "refunded") else { return Ok(false) };
    let before = Bill {
        energy: Wh(booked.energy_wh),
        waiting_s: booked.waiting_s,
        start_amount: Money(booked.start_amount),
        energy_amount: Money(booked.energy_amount),
        waiting_amount: Money(booked.waiting_amount),
        adjustment_amount: Money(booked.adjustment_amount),
        vat_amount: Money(booked.vat_amount),
    };
    let bill = session.bill();
    if bill == before {
        return Ok(false);
    }
    let customer = crate::id(&booked.customer_id)?;
    let total = bill.total();
    let (energy_part, waiting_part) = bill.parts();
    let surplus = (Money(booked.paid) - total).max(Money::ZERO);
    let paid = Money(booked.paid) - surplus;
    on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE purchases SET energy_wh = $2, waiting_s = $3, energy_amount = $4, waiting_amount = $5, amount = $6, paid = $7, \
             start_amount = $9, adjustment_amount = $10, energy_part = $11, waiting_part = $12, vat_amount = $13, \
             status = CASE WHEN $7 >= $6 THEN 'paid' WHEN status = 'pending' THEN 'pending' ELSE 'unpaid' END, \
             paid_at = CASE WHEN $7 < $6 THEN NULL ELSE COALESCE(paid_at, $8) END WHERE id = $1",
        )
        .bind(session.purchase.to_string())
        .bind(bill.energy.0)
        .bind(bill.waiting_s)
        .bind(bill.energy_amount.0)
        .bind(bill.waiting_amount.0)
        .bind(total.0)
        .bind(paid.0)
        .bind(now.0)
        .bind(bill.start_amount.0)
        .bind(bill.adjustment_amount.0)
        .bind(energy_part.0)
        .bind(waiting_part.0)
        .bind(bill.vat_amount.0)
        .execute(conn)
        .await?;
    });
    if paid >= total && booked.status == "pending" {
        invoices::cancel_open_of(db, session.purchase, now).await?;
    }
    // The row is locked and the difference comes from it, so a repeat finds no difference and books nothing.
    let mut booking = Booking {
        key: format!("correct:{}:{}", session.id, new_id()),
        kind: "correction",
        customer: Some(customer),
        purchase: Some(session.purchase),
        note: session.stop_reason.clone(),
        postings: charge(&bill, &before),
    };
    if surplus > Money::ZERO {
        let back = pay_from_balance(-surplus);
        booking.postings = join(booking.postings, back);
    }
    ledger::post(db, booking, now).await?;
    let event = Event {
        customer,
        name: "CHARGING",
        event_id: format!("charging-{}-{}", session.id, new_id()),
        payload: charging_payload(&bill),
    };
    outbox::add(db, &[event], now).await?;
    Ok(true)
}

/// One line an account.
fn join(
    postings: Vec<evm_domain::ledger::Posting>,
    more: Vec<evm_domain::ledger::Posting>,
) -> Vec<evm_domain::ledger::Posting> {
    let mut all = postings;
    for posting in more {
        match all.iter_mut().find(|p| p.account == posting.account) {
            Some(same) => same.amount += posting.amount,
            None => all.push(posting),
        }
    }
    all.retain(|p| p.amount != Money::ZERO);
    all
}
