use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use evm_domain::{CustomerId, Money};
use evm_store::statement::{self as store, Period};
use evm_store::{Store, StoreError};
use serde::Serialize;

use crate::App;
use crate::http::auth::Caller;
use crate::http::csv::{self, Export, Format, PART, Rows, Wanted};
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::http::time::{Between, Iso};
use crate::http::units::Mnt;

/// What moved in a period, and how the customer stood before and after it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Statement {
    /// Before the period.
    opening: Standing,
    /// At the end of the period.
    closing: Standing,
    #[serde(flatten)]
    movements: Paged<Movement>,
}

/// How the customer stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Standing {
    /// The prepaid balance.
    balance: Mnt,
    /// What is still to be paid for charges.
    owed: Mnt,
}

/// What changed the balance or what is owed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Movement {
    #[schema(example = "69175f2e4bd0c7a1e93f0082")]
    id: String,
    /// `charge`, `correction` (of a charge), `payment` (from the balance), `gateway_payment`, `credit` (by the operator)
    /// or `refund`.
    #[schema(example = "payment")]
    kind: String,
    /// The purchase it is about.
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    purchase: Option<String>,
    at: Iso,
    /// What was moved in all; never negative.
    amount: Mnt,
    /// By how much the balance grew.
    balance_change: Mnt,
    /// By how much what is owed grew.
    owed_change: Mnt,
    /// The balance after it.
    balance: Mnt,
    /// What was owed after it.
    owed: Mnt,
}

impl From<store::Standing> for Standing {
    fn from(standing: store::Standing) -> Self {
        Self { balance: Mnt(Money(standing.balance)), owed: Mnt(Money(standing.owed)) }
    }
}

impl From<store::Movement> for Movement {
    fn from(movement: store::Movement) -> Self {
        Self {
            id: movement.id,
            kind: movement.kind,
            purchase: movement.purchase_id,
            at: Iso(movement.created_at),
            amount: Mnt(Money(movement.amount)),
            balance_change: Mnt(Money(movement.balance_change)),
            owed_change: Mnt(Money(movement.owed_change)),
            balance: Mnt(Money(movement.after.balance)),
            owed: Mnt(Money(movement.after.owed)),
        }
    }
}

/// The whole of a statement.
struct Whole {
    store: Store,
    customer: CustomerId,
    period: Period,
    last: Option<store::Movement>,
}

impl Export for Whole {
    const FILE: &str = "statement.csv";
    const COLUMNS: &[&str] =
        &["id", "kind", "purchase", "at", "amount", "balanceChange", "owedChange", "balance", "owed"];

    async fn next(&mut self, rows: &mut Rows) -> Result<bool, StoreError> {
        let mut db = self.store.read().await?;
        let mut part = store::next(&mut db, self.customer, self.period, self.last.as_ref(), PART).await?;
        for movement in &part {
            rows.own(&movement.id).own(&movement.kind).own(movement.purchase_id.as_deref().unwrap_or_default());
            rows.own(Iso(movement.created_at)).money(Money(movement.amount));
            rows.money(Money(movement.balance_change)).money(Money(movement.owed_change));
            rows.money(Money(movement.after.balance)).money(Money(movement.after.owed)).end();
        }
        let full = i64::try_from(part.len()) == Ok(PART);
        self.last = part.pop();
        Ok(full)
    }
}

refusals!(StatementRefusals: InvalidRequest);

/// The customer's statement: what moved the balance and what is owed, newest first. The opening figures and all changes
/// of the period add up to the closing ones. With `format=csv` it is a file with the whole period, oldest first, a
/// movement a row, in the columns of the JSON: money is MNT with two decimals, moments are UTC, lines end with CRLF
/// (RFC 4180).
#[utoipa::path(
    get, path = "/customer/statement", operation_id = "statement", tag = "balance",
    params(Between, Wanted, Paging),
    responses((
        status = 200, description = "A page of the statement, or with `format=csv` the whole of it as a file.",
        content(
            (Statement = "application/json", example = json!({
                "opening": { "balance": 0, "owed": 0 }, "closing": { "balance": 18951.1, "owed": 0 },
                "page": 1, "pageSize": 50, "total": 3, "items": [
                    {
                        "id": "69175f2e4bd0c7a1e93f0082", "kind": "payment", "purchase": "12d76c8bfca2a22c07a6fca1",
                        "at": "2026-01-31T09:20:00.000Z", "amount": 1048.9,
                        "balanceChange": -1048.9, "owedChange": -1048.9, "balance": 18951.1, "owed": 0
                    },
                    {
                        "id": "69175e8a1f02c7a1e93f0077", "kind": "charge", "purchase": "12d76c8bfca2a22c07a6fca1",
                        "at": "2026-01-31T09:15:00.000Z", "amount": 1048.9,
                        "balanceChange": 0, "owedChange": 1048.9, "balance": 20000, "owed": 1048.9
                    },
                    {
                        "id": "691750b2aa10c7a1e93f0051", "kind": "credit", "purchase": null,
                        "at": "2026-01-31T08:15:30.000Z", "amount": 20000,
                        "balanceChange": 20000, "owedChange": 0, "balance": 20000, "owed": 0
                    }
                ]
            })),
            (String = "text/csv", example = "id,kind,purchase,at,amount,balanceChange,owedChange,balance,owed\r\n\
                691750b2aa10c7a1e93f0051,credit,,2026-01-31T08:15:30.000Z,20000.00,20000.00,0.00,20000.00,0.00\r\n\
                69175e8a1f02c7a1e93f0077,charge,12d76c8bfca2a22c07a6fca1,2026-01-31T09:15:00.000Z,1048.90,\
                0.00,1048.90,20000.00,1048.90\r\n\
                69175f2e4bd0c7a1e93f0082,payment,12d76c8bfca2a22c07a6fca1,2026-01-31T09:20:00.000Z,1048.90,\
                -1048.90,-1048.90,18951.10,0.00\r\n")
        )
    ), StatementRefusals)
)]
pub(crate) async fn statement(
    State(app): State<App>,
    caller: Caller,
    Query(between): Query<Between>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Answer<Response> {
    let (period, page) = (between.check()?, paging.check()?);
    if wanted.format == Format::Csv {
        return csv::download(Whole { store: app.store, customer: caller.customer, period, last: None }).await;
    }
    let found = store::page(&mut app.store.read().await?, caller.customer, period, page).await?;
    let statement = Statement {
        opening: found.opening.into(),
        closing: found.closing.into(),
        movements: paging.with(found.total, found.movements.into_iter().map(Movement::from).collect()),
    };
    Ok(Json(statement).into_response())
}
