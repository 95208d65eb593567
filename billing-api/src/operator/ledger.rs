use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use evm_domain::Money;
use evm_domain::ledger::Account;
use evm_store::ledger::{self, EntryLine, Filter, LedgerLine};
use evm_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::csv::{self, Export, Format, PART, Rows, Wanted};
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, Problem, refusals};
use crate::http::time::{Between, Iso};
use crate::http::units::Mnt;

/// Which ledger transactions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct About {
    /// Those that post to this account, with all their postings: `customer`, `receivable`, `cash`, `revenue_energy`,
    /// `revenue_waiting`, `vat`, `qpay_clearing` or `qpay_fee`.
    #[param(required = false, example = "customer")]
    account: Option<String>,
    /// Those about the customer with this id.
    #[param(required = false, example = "6917500011aac7a1e93f0001")]
    customer: Option<String>,
}

impl About {
    /// As the store takes it.
    fn check(&self, between: &Between) -> Answer<Filter> {
        let no_account = || {
            let words: Vec<_> = Account::ALL.iter().map(|account| account.as_str()).collect();
            Problem::field("account", format!("is one of {}", words.join(", ")))
        };
        let account = self.account.as_deref().map(|word| Account::parse(word).ok_or_else(no_account)).transpose()?;
        let customer = self.customer.as_deref().map(str::parse).transpose();
        let customer = customer.map_err(|_| Problem::field("customer", "is no id: 24 hexadecimal digits"))?;
        let period = between.check()?;
        Ok(Filter { account, customer, from: period.from, to: period.to })
    }
}

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
    purchase_id: Option<String>,
    /// Words of the operator or of a charger, or what it came from.
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
            purchase_id: line.purchase_id,
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

/// All of a filter.
struct Whole {
    store: Store,
    filter: Filter,
    last: Option<LedgerLine>,
}

impl Export for Whole {
    const FILE: &str = "ledger.csv";
    const COLUMNS: &[&str] = &["id", "key", "kind", "customerId", "purchaseId", "note", "at", "account", "amount"];

    async fn next(&mut self, rows: &mut Rows) -> Result<bool, StoreError> {
        let mut db = self.store.read().await?;
        let mut part = ledger::next(&mut db, &self.filter, self.last.as_ref(), PART).await?;
        for (line, entry) in part.iter().flat_map(|line| line.entries.iter().map(move |entry| (line, entry))) {
            rows.own(&line.id).text(&line.key).own(&line.kind);
            rows.own(line.customer_id.as_deref().unwrap_or_default());
            rows.own(line.purchase_id.as_deref().unwrap_or_default());
            rows.text(line.note.as_deref().unwrap_or_default()).own(Iso(line.created_at));
            rows.own(&entry.account).money(Money(entry.amount)).end();
        }
        let full = i64::try_from(part.len()) == Ok(PART);
        self.last = part.pop();
        Ok(full)
    }
}

refusals!(LedgerRefusals: InvalidRequest);

/// The book, newest first. With `format=csv` it is a file with all that the filter lets through, oldest first, a posting
/// a row: money is MNT with two decimals, moments are UTC, lines end with CRLF (RFC 4180). What a spreadsheet would take
/// for a formula in a key or a note has a single quote before it.
#[utoipa::path(
    get, path = "/ledger", operation_id = "ledger", tag = "operator: lists",
    params(About, Between, Wanted, Paging),
    responses((
        status = 200, description = "A page of the book, or with `format=csv` the whole of it as a file.",
        content(
            (Paged<LedgerView> = "application/json", example = json!({
                "page": 1, "pageSize": 50, "total": 1, "items": [{
                    "id": "691750b2aa10c7a1e93f0051", "key": "credit:691750b2aa10c7a1e93f0050", "kind": "credit",
                    "customerId": "6917500011aac7a1e93f0001", "purchaseId": null, "note": "cash at the counter",
                    "at": "2026-01-31T08:15:30.000Z", "postings": [
                        { "account": "cash", "customerId": null, "amount": -20000 },
                        { "account": "customer", "customerId": "6917500011aac7a1e93f0001", "amount": 20000 }
                    ]
                }]
            })),
            (String = "text/csv", example = "id,key,kind,customerId,purchaseId,note,at,account,amount\r\n\
                691750b2aa10c7a1e93f0051,credit:691750b2aa10c7a1e93f0050,credit,6917500011aac7a1e93f0001,,\
                cash at the counter,2026-01-31T08:15:30.000Z,cash,-20000.00\r\n\
                691750b2aa10c7a1e93f0051,credit:691750b2aa10c7a1e93f0050,credit,6917500011aac7a1e93f0001,,\
                cash at the counter,2026-01-31T08:15:30.000Z,customer,20000.00\r\n")
        )
    ), LedgerRefusals)
)]
pub(crate) async fn ledger(
    State(app): State<App>,
    Query(about): Query<About>,
    Query(between): Query<Between>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Answer<Response> {
    let (filter, page) = (about.check(&between)?, paging.check()?);
    if wanted.format == Format::Csv {
        return csv::download(Whole { store: app.store, filter, last: None }).await;
    }
    let (total, rows) = ledger::list(&mut app.store.read().await?, &filter, page).await?;
    Ok(Json(paging.with(total, rows.into_iter().map(LedgerView::from).collect())).into_response())
}
