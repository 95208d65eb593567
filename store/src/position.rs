//! How a purchase stands in the store: read locked, and written as the rules of [`evm_domain::ledger`] say.

use evm_domain::ledger::Position;
use evm_domain::{Bill, CustomerId, Money, PurchaseId, Timestamp, Wh};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::{Result, StoreError, id};

/// A purchase, locked until the transaction ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Locked {
    pub(crate) customer: CustomerId,
    pub(crate) position: Position,
    /// An invoice is open for it.
    pub(crate) pending: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    customer_id: String,
    energy_wh: i64,
    waiting_s: i64,
    start_amount: i64,
    energy_amount: i64,
    waiting_amount: i64,
    adjustment_amount: i64,
    vat_amount: i64,
    paid: i64,
    refunded: i64,
    status: String,
}

/// Locks a purchase. `None`: there is no such.
pub(crate) async fn lock(db: &mut Db, purchase: PurchaseId) -> Result<Option<Locked>> {
    let lock = db.for_update();
    let row: Option<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "SELECT s.customer_id, s.energy_wh, s.waiting_s, s.start_amount, s.energy_amount, s.waiting_amount, s.adjustment_amount, \
             s.vat_amount, s.paid, s.refunded, s.status FROM purchases s WHERE s.id = ",
        );
        sql.push_bind(purchase.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    let Some(row) = row else { return Ok(None) };
    let bill = Bill {
        energy: Wh(row.energy_wh),
        waiting_s: row.waiting_s,
        start_amount: Money(row.start_amount),
        energy_amount: Money(row.energy_amount),
        waiting_amount: Money(row.waiting_amount),
        adjustment_amount: Money(row.adjustment_amount),
        vat_amount: Money(row.vat_amount),
    };
    let position = Position { bill, paid: Money(row.paid), refunded: Money(row.refunded) };
    Ok(Some(Locked { customer: id(&row.customer_id)?, position, pending: row.status == "pending" }))
}

/// What is kept of a bill, in the order of the columns: `energy_wh`, `waiting_s`, `start_amount`, `energy_amount`,
/// `waiting_amount`, `adjustment_amount`, `energy_part`, `waiting_part`, `vat_amount`, `amount`.
pub(crate) fn figures(bill: &Bill) -> [i64; 10] {
    let (energy_part, waiting_part) = bill.parts();
    [
        bill.energy.0,
        bill.waiting_s,
        bill.start_amount.0,
        bill.energy_amount.0,
        bill.waiting_amount.0,
        bill.adjustment_amount.0,
        energy_part.0,
        waiting_part.0,
        bill.vat_amount.0,
        bill.total().0,
    ]
}

/// Writes how a locked purchase stands now.
pub(crate) async fn save(
    db: &mut Db,
    purchase: PurchaseId,
    locked: &Locked,
    after: &Position,
    now: Timestamp,
) -> Result<()> {
    let status = match () {
        () if after.is_refunded() => "refunded",
        () if after.due() == Money::ZERO => "paid",
        () if locked.pending => "pending",
        () => "unpaid",
    };
    let before = locked.position;
    let changed = on!(db, conn => {
        let mut update = sqlx::query(
            "UPDATE purchases SET energy_wh = $2, waiting_s = $3, start_amount = $4, energy_amount = $5, waiting_amount = $6, \
             adjustment_amount = $7, energy_part = $8, waiting_part = $9, vat_amount = $10, amount = $11, paid = $12, \
             refunded = $13, refunded_vat = $14, status = $15, \
             paid_at = CASE WHEN $12 < $11 THEN NULL ELSE COALESCE(paid_at, $16) END \
             WHERE id = $1 AND amount = $17 AND paid = $18 AND refunded = $19",
        )
        .bind(purchase.to_string());
        for figure in figures(&after.bill) {
            update = update.bind(figure);
        }
        update
            .bind(after.paid.0)
            .bind(after.refunded.0)
            .bind(after.refunded_vat().0)
            .bind(status)
            .bind(now.0)
            .bind(before.bill.total().0)
            .bind(before.paid.0)
            .bind(before.refunded.0)
            .execute(conn)
            .await?
            .rows_affected()
    });
    if changed == 1 { Ok(()) } else { Err(StoreError::conflict()) }
}
