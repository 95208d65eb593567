//! What the rules of credit ([`evm_domain::credit`]) are checked against.

use evm_domain::credit::{Rules, Standing};
use evm_domain::session::BALANCE_REACHED;
use evm_domain::{CustomerId, Money, SessionId, Status, Timestamp};

use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_is_one_of;
use crate::{Result, id, sessions};

const NOTHING: &str = "CAST(0 AS BIGINT)";

/// A figure of a customer's purchases that are not paid.
macro_rules! owed {
    ($figure:literal) => {
        concat!(
            "(SELECT ",
            $figure,
            " FROM purchases p WHERE p.customer_id = c.id AND p.status IN ('unpaid', 'pending'))"
        )
    };
}

/// What a customer has and owes. `None`: no such customer.
///
/// Ask after [`crate::sessions::request`] in the same transaction, and let that go where the rules say no: the request waits
/// for a charge of the customer's that is being settled, whose purchase would not be seen before.
pub async fn standing(db: &mut Db, customer: CustomerId, rules: &Rules) -> Result<Option<Standing>> {
    Ok(standings(db, &[customer], rules).await?.pop().map(|(_, standing)| standing))
}

/// What these customers have and owe, as far as the rules look at it: the rest stays 0.
pub async fn standings(db: &mut Db, customers: &[CustomerId], rules: &Rules) -> Result<Vec<(CustomerId, Standing)>> {
    if customers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, i64, i64, i64)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT c.id, c.balance, ");
        sql.push(if rules.start_with_unpaid { NOTHING } else { owed!("COUNT(*)") }).push(", ");
        let debt = owed!("CAST(COALESCE(SUM(p.amount - p.paid), 0) AS BIGINT)");
        sql.push(if rules.most_debt.is_some() { debt } else { NOTHING }).push(" FROM customers c WHERE c.id");
        push_is_one_of(&mut sql, customers.iter().map(|customer| customer.to_string()));
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter()
        .map(|(customer, balance, unpaid, debt)| {
            Ok((id(&customer)?, Standing { balance: Money(balance), unpaid, debt: Money(debt) }))
        })
        .collect()
}

/// Notes that a running charge is to be stopped because it has reached its customer's balance. `false`: it is over, or
/// its charger was asked after `asked_before`.
pub async fn claim_stop(db: &mut Db, session: SessionId, asked_before: Timestamp, now: Timestamp) -> Result<bool> {
    sessions::claim_stop(db, session, Status::Active, Some(BALANCE_REACHED), asked_before, now).await
}
