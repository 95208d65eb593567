use axum::Json;
use axum::extract::State;
use evm_store::audit;
use serde::Serialize;

use crate::App;
use crate::http::problem::Answer;

/// Whether book, balances, purchases and sessions agree.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reconciliation {
    /// What disagrees, in words; empty when all is well.
    violations: Vec<String>,
    /// Events that wait to be published.
    outbox_pending: i64,
    /// Sessions under way.
    live_sessions: i64,
    sessions: i64,
    ledger_transactions: i64,
}

/// Audits the store: every ledger transaction sums to zero, balances equal their postings, purchases their sessions.
#[utoipa::path(
    get, path = "/reconciliation", operation_id = "reconciliation", tag = "operator: lists",
    responses((status = 200, body = Reconciliation))
)]
pub(crate) async fn reconciliation(State(app): State<App>) -> Answer<Json<Reconciliation>> {
    let report = audit::run(&mut app.store.read().await?).await?;
    Ok(Json(Reconciliation {
        violations: report.violations,
        outbox_pending: report.outbox_pending,
        live_sessions: report.live_sessions,
        sessions: report.sessions,
        ledger_transactions: report.ledger_transactions,
    }))
}
