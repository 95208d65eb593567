//! The end of a charge: session, purchase, ledger and event in the caller's one transaction.

use evm_domain::ledger::charge;
use evm_domain::{Bill, CustomerId, DeviceId, Money, PurchaseId, Session, SessionId, Status, Timestamp, Wh};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::ledger::Booking;
use crate::outbox::{Event, charging_payload};
use crate::rows::push_rows;
use crate::{Result, chargers, invoices, ledger, new_id, outbox, position, sessions};

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
        let never_began = session.status == Status::Requested;
        session.status = Status::Finished;
        if never_began {
            // No purchase of nothing: where it begins after all, [`open`] makes one.
        } else if session.customer.is_some() && session.device.is_some() {
            paid_by.extend(owed(session));
        } else if session.review.is_none() && !session.is_free() && session.meter.energy() > Wh(0) {
            session.review = Some("no_customer".into());
        }
    }
    bill(db, &paid_by, now).await
}

/// Makes the purchases of sessions that were settled before anybody knew whose they are.
pub async fn settle_late(db: &mut Db, over: &[&Session], now: Timestamp) -> Result<()> {
    let owned: Vec<_> = over.iter().filter_map(|session| owed(session)).collect();
    bill(db, &owned, now).await
}

/// Who pays how much of a charge, and where it was. A start that was refused and took nothing is no purchase of 0.
fn owed(session: &Session) -> Option<(&Session, CustomerId, DeviceId, Bill)> {
    let bill = session.bill();
    let never_began = session.refused && bill.energy == Wh(0);
    Some((session, session.customer?, session.device?, bill)).filter(|_| !never_began)
}

/// Makes the purchases of charges that begin after their customers have finished them, still without an amount: what they take
/// is a correction. Those that are there stay.
pub async fn open(db: &mut Db, late: &[&Session], now: Timestamp) -> Result<()> {
    let opened: Vec<_> = late
        .iter()
        .filter_map(|session| Some((*session, session.customer?, session.device?, Bill::default())))
        .collect();
    insert(db, &opened, now).await
}

async fn bill(db: &mut Db, paid_by: &[(&Session, CustomerId, DeviceId, Bill)], now: Timestamp) -> Result<()> {
    insert(db, paid_by, now).await?;
    let bookings: Vec<_> = paid_by
        .iter()
        .map(|(session, customer, _, bill)| Booking {
            key: format!("charge:{}", session.id),
            kind: "charge",
            customer: Some(*customer),
            purchase: Some(session.purchase),
            note: None,
            postings: charge(bill),
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

async fn insert(db: &mut Db, paid_by: &[(&Session, CustomerId, DeviceId, Bill)], now: Timestamp) -> Result<()> {
    if paid_by.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "INSERT INTO purchases (id, session_id, customer_id, device_id, energy_wh, waiting_s, start_amount, energy_amount, \
             waiting_amount, adjustment_amount, energy_part, waiting_part, vat_amount, amount, status, created_at, paid_at) ",
        );
        push_rows(&mut sql, paid_by, |row, (session, customer, device, bill)| {
            // Nothing to pay is paid; it must not keep its customer from the next charge.
            let free = bill.total() == Money::ZERO;
            row.bind(session.purchase.to_string())
                .bind(session.id.to_string())
                .bind(customer.to_string())
                .bind(device.to_string());
            for figure in position::figures(bill) {
                row.bind(figure);
            }
            row.bind(if free { "paid" } else { "unpaid" }).bind(now.0).bind(free.then_some(now.0));
        });
        sql.push(" ON CONFLICT (id) DO NOTHING");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Ends a live session with the figures so far: its charger is silent, refuses to stop, or never began. `None`: it
/// was over before. A later end told by the charger corrects the bill.
pub async fn settle_by_id(db: &mut Db, session: SessionId, reason: &str, now: Timestamp) -> Result<Option<Settled>> {
    let Some(mut session) = sessions::by_id(db, session).await?.filter(|s| s.status.is_live()) else {
        return Ok(None);
    };
    session.stop_reason.get_or_insert_with(|| reason.to_owned());
    if session.ended_at.is_none() && session.transaction.is_some() && session.has_charged() {
        chargers::set_charged(db, &[(session.charger, session.connector)], true).await?;
    }
    settle(db, &mut [&mut session], now).await?;
    sessions::save(db, &[&session], now).await?;
    Ok(Some(Settled { purchase: session.purchase, bill: session.bill() }))
}

/// Books the difference that late news made to a finished session: more is owed, or the surplus of what was
/// paid goes back to the balance. `false`: no difference, or nobody to bill.
pub async fn correct(db: &mut Db, session: &Session, now: Timestamp) -> Result<bool> {
    let Some(locked) = position::lock(db, session.purchase).await? else {
        // A start that was refused, and took something after all.
        let late: Vec<_> = owed(session).filter(|_| session.refused).into_iter().collect();
        bill(db, &late, now).await?;
        return Ok(!late.is_empty());
    };
    // What was given back whole stays so.
    if locked.position.is_refunded() {
        return Ok(false);
    }
    let bill = session.bill();
    if bill == locked.position.bill {
        return Ok(false);
    }
    let customer = locked.customer;
    let (after, postings) = locked.position.corrected(bill);
    position::save(db, session.purchase, &locked, &after, now).await?;
    if after.due() == Money::ZERO && locked.pending {
        invoices::cancel_open_of(db, session.purchase, now).await?;
    }
    // The row is locked and the difference comes from it, so a repeat finds no difference and books nothing.
    let booking = Booking {
        key: format!("correct:{}:{}", session.id, new_id()),
        kind: "correction",
        customer: Some(customer),
        purchase: Some(session.purchase),
        note: session.stop_reason.clone(),
        postings,
    };
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
