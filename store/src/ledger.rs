//! The book: append only, every transaction sums to zero, each booked once by its key.

use evm_domain::ledger::{Account, Posting};
use evm_domain::{CustomerId, Money, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::{Result, new_id};

/// A ledger transaction to be booked.
#[derive(Debug, Clone)]
pub struct Booking {
    /// What is booked, e.g. `settle:{session}`: the same is never booked twice.
    pub key: String,
    /// What kind of thing it is.
    pub kind: &'static str,
    /// The customer whose personal accounts it touches.
    pub customer: Option<CustomerId>,
    /// Words of the operator.
    pub note: Option<String>,
    /// The lines; they sum to zero.
    pub postings: Vec<Posting>,
}

/// Books one transaction, the customer's balance included.
///
/// # Errors
/// [`crate::StoreError::Refused`] with `BookedOnce`, or `BalanceNotNegative` where the balance is too small.
pub async fn post(db: &mut Db, booking: Booking, now: Timestamp) -> Result<()> {
    let moved: Money = booking.postings.iter().filter(|p| p.account == Account::Customer).map(|p| p.amount).sum();
    let customer = booking.customer;
    post_all(db, &[booking], now).await?;
    if let Some(customer) = customer.filter(|_| moved != Money::ZERO) {
        on!(db, conn => {
            sqlx::query("UPDATE customers SET balance = balance + $2 WHERE id = $1")
                .bind(customer.to_string())
                .bind(moved.0)
                .execute(conn)
                .await?;
        });
    }
    Ok(())
}

/// Books many transactions that touch no balance, in two statements.
pub(crate) async fn post_all(db: &mut Db, bookings: &[Booking], now: Timestamp) -> Result<()> {
    let with_ids: Vec<_> =
        bookings.iter().filter(|b| !b.postings.is_empty()).map(|booking| (new_id().to_string(), booking)).collect();
    if with_ids.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> =
        with_ids.iter().flat_map(|(id, booking)| booking.postings.iter().map(move |p| (id, booking, p))).collect();
    on!(db, conn => {
        let mut sql = QueryBuilder::new("INSERT INTO ledger_transactions (id, key, kind, customer_id, note, created_at) ");
        sql.push_values(&with_ids, |mut row, (id, booking)| {
            row.push_bind(id)
                .push_bind(&booking.key)
                .push_bind(booking.kind)
                .push_bind(booking.customer.map(|id| id.to_string()))
                .push_bind(&booking.note)
                .push_bind(now.0);
        });
        sql.build().execute(&mut *conn).await?;
        let mut sql = QueryBuilder::new("INSERT INTO ledger_entries (transaction_id, account, customer_id, amount) ");
        sql.push_values(&lines, |mut row, (id, booking, posting)| {
            let owner = booking.customer.filter(|_| posting.account.is_personal());
            row.push_bind(*id)
                .push_bind(posting.account.as_str())
                .push_bind(owner.map(|id| id.to_string()).unwrap_or_default())
                .push_bind(posting.amount.0);
        });
        sql.build().execute(&mut *conn).await?;
    });
    Ok(())
}
