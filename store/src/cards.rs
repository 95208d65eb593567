//! Cards that start a charge at the charger.

use evm_domain::{CustomerId, Timestamp};

use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_is_one_of;
use crate::{Result, id};

/// A card that starts a charge.
#[derive(Debug, Clone)]
pub struct Card {
    /// Its tag.
    pub id_tag: String,
    /// Who pays for what it starts.
    pub customer: CustomerId,
    /// It starts nothing.
    pub blocked: bool,
}

/// Those of these tags that are cards.
pub async fn of_tags(db: &mut Db, tags: &[String]) -> Result<Vec<Card>> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String, bool)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT id_tag, customer_id, blocked FROM cards WHERE id_tag");
        push_is_one_of(&mut sql, tags.iter().cloned());
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter().map(|(id_tag, customer, blocked)| Ok(Card { id_tag, customer: id(&customer)?, blocked })).collect()
}

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
