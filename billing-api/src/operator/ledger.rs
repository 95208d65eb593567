use axum::Json;
use axum::extract::State;
use evm_domain::Money;
use evm_store::ledger::{self, EntryLine, Filter, LedgerLine};
use serde::Serialize;

use crate::App;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::http::time::Iso;
use crate::http::units::Mnt;

/// A ledger transaction; its postings sum to zero.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LedgerView {
    id: String,
    /// What was booked; the same is never booked twice.
    key: String,
    #[schema(example = "charge")]
    kind: String,
    customer_id: Option<String>,
    note: Option<String>,
    at: Iso,
    postings: Vec<PostingView>,
}

/// One line; credit is positive.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostingView {
    #[schema(example = "revenue_energy")]
    account: String,
    /// Whose, for personal accounts.
    customer_id: Option<String>,
    amount: Mnt,
}

impl From<LedgerLine> for LedgerView {
    fn from(line: LedgerLine) -> Self {
        Self {
            id: line.id,
            key: line.key,
            kind: line.kind,
            customer_id: line.customer_id,
            note: line.note,
            at: Iso(line.created_at),
            postings: line.entries.into_iter().map(PostingView::from).collect(),
        }
    }
}

impl From<EntryLine> for PostingView {
    fn from(entry: EntryLine) -> Self {
        Self {
            account: entry.account,
            customer_id: Some(entry.customer_id).filter(|id| !id.is_empty()),
            amount: Mnt(Money(entry.amount)),
        }
    }
}

refusals!(LedgerRefusals: InvalidRequest);

/// The book, newest first.
#[utoipa::path(
    get, path = "/ledger", operation_id = "ledger", tag = "operator: lists", params(Paging),
    responses((status = 200, body = Paged<LedgerView>), LedgerRefusals)
)]
pub(crate) async fn ledger(State(app): State<App>, Query(paging): Query<Paging>) -> Answer<Json<Paged<LedgerView>>> {
    let page = paging.check()?;
    let (total, rows) = ledger::list(&mut app.store.read().await?, &Filter::default(), page).await?;
    Ok(Json(paging.with(total, rows.into_iter().map(LedgerView::from).collect())))
}
