//! What the rules of credit ([`evm_domain::credit`]) are checked against.

use evm_domain::credit::Standing;
use evm_domain::session::BALANCE_REACHED;
use evm_domain::{CustomerId, Money, SessionId, Status, Timestamp};

use crate::engine::{Db, on};
use crate::{Result, sessions};

/// What a customer has and owes. `None`: no such customer.
///
/// Ask after [`crate::sessions::request`] in the same transaction, and let that go where the rules say no: the request waits
/// for a charge of the customer's that is being settled, whose purchase would not be seen before.
pub async fn standing(db: &mut Db, customer: CustomerId) -> Result<Option<Standing>> {
    let row: Option<(i64, i64, i64)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT c.balance, COUNT(p.id), CAST(COALESCE(SUM(p.amount - p.paid), 0) AS BIGINT) FROM customers c \
             LEFT JOIN purchases p ON p.customer_id = c.id AND p.status IN ('unpaid', 'pending') WHERE c.id = $1 GROUP BY c.id, c.balance",
        )
        .bind(customer.to_string())
        .fetch_optional(conn)
        .await?
    });
    Ok(row.map(|(balance, unpaid, debt)| Standing { balance: Money(balance), unpaid, debt: Money(debt) }))
}

/// Notes that a running charge is to be stopped because it has reached its customer's balance. `false`: it is over, or
/// its charger was asked after `asked_before`.
pub async fn claim_stop(db: &mut Db, session: SessionId, asked_before: Timestamp, now: Timestamp) -> Result<bool> {
    sessions::claim_stop(db, session, Status::Active, Some(BALANCE_REACHED), asked_before, now).await
}
