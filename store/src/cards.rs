//! Cards that start a charge at the charger.

use evm_domain::{CustomerId, Timestamp};

use crate::Result;
use crate::engine::{Db, on};

/// Gives a card to a customer, or takes it over from another. Tags know no case, and are stored in upper case. Where
/// `blocked` is not told it stays, at first not.
pub async fn put(
    db: &mut Db,
    id_tag: &str,
    customer: CustomerId,
    blocked: impl Into<Option<bool>>,
    now: Timestamp,
) -> Result<()> {
    let blocked = blocked.into();
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO cards (id_tag, customer_id, blocked, created_at) VALUES ($1, $2, COALESCE($3, FALSE), $4) \
             ON CONFLICT (id_tag) DO UPDATE SET customer_id = excluded.customer_id, blocked = COALESCE($3, cards.blocked)",
        )
        .bind(id_tag.to_ascii_uppercase())
        .bind(customer.to_string())
        .bind(blocked)
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Forgets a card. `false`: this customer has no such card.
pub async fn remove(db: &mut Db, id_tag: &str, customer: CustomerId) -> Result<bool> {
    let gone = on!(db, conn => {
        sqlx::query("DELETE FROM cards WHERE id_tag = $1 AND customer_id = $2")
            .bind(id_tag.to_ascii_uppercase())
            .bind(customer.to_string())
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(gone > 0)
}
