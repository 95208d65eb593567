use axum::Json;
use axum::extract::State;
use evm_domain::{Money, Wh};
use evm_store::{now, purchases};
use serde::Serialize;

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::Query;
use crate::http::page::{Paged, Paging};
use crate::http::problem::{Answer, refusals};
use crate::http::time::Iso;
use crate::http::units::{Kwh, Location, Mnt};

/// A charge and what it costs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Purchase {
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    id: String,
    device: PurchaseDevice,
    started_at: Iso,
    finished_at: Iso,
    energy: Kwh,
    /// Whole seconds, the free ones included.
    waiting_time: i64,
    /// MNT a kWh.
    price: Mnt,
    /// MNT a minute of waiting.
    waiting_price: Mnt,
    amount: Mnt,
    /// What is paid of it.
    paid: Mnt,
    /// What is still to be paid.
    due: Mnt,
    /// What of it was given back.
    refunded: Mnt,
    status: PurchaseStatus,
    /// How it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, example = "EVM")]
    option: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    feedback: Option<Feedback>,
}

/// Where it was.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct PurchaseDevice {
    #[serde(rename = "_id")]
    id: String,
    device_number: String,
    location: Location,
}

/// Where a purchase stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)] // Read by the document only.
enum PurchaseStatusWord {
    Unpaid,
    Pending,
    Paid,
    Refunded,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(value_type = PurchaseStatusWord)]
#[serde(transparent)]
struct PurchaseStatus(String);

/// What the customer thinks of it.
#[derive(Debug, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub(crate) struct Feedback {
    #[schema(minimum = 1, maximum = 5)]
    pub(crate) score: i16,
    #[schema(max_length = 2000)]
    pub(crate) description: String,
}

impl From<purchases::Purchase> for Purchase {
    fn from(row: purchases::Purchase) -> Self {
        Self {
            id: row.id,
            device: PurchaseDevice {
                id: row.device_id,
                device_number: row.device_number,
                location: Location { longitude: row.longitude, latitude: row.latitude },
            },
            started_at: Iso(row.started_at),
            finished_at: Iso(row.finished_at),
            energy: Kwh(Wh(row.energy_wh)),
            waiting_time: row.waiting_s,
            price: Mnt(Money(row.energy_price)),
            waiting_price: Mnt(Money(row.waiting_price)),
            amount: Mnt(Money(row.amount)),
            paid: Mnt(Money(row.paid)),
            due: Mnt(Money(row.amount - row.paid)),
            refunded: Mnt(Money(row.refunded)),
            status: PurchaseStatus(row.status),
            option: row.option,
            feedback: row
                .feedback_score
                .map(|score| Feedback { score, description: row.feedback_text.unwrap_or_default() }),
        }
    }
}

refusals!(ListRefusals: InvalidRequest);

/// The customer's purchases, newest first. One whose charge was finished and goes on until the car is unplugged is `pending`,
/// with the figures so far.
#[utoipa::path(
    get, path = "/purchases", operation_id = "purchases", tag = "purchases", params(Paging),
    responses((status = 200, body = Paged<Purchase>), ListRefusals)
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<Paged<Purchase>>> {
    let page = paging.check()?;
    let mut db = app.store.read().await?;
    // Charges that are to end come first: they are the newest.
    let mut rows = purchases::running(&mut db, caller.customer, now()).await?;
    let running = i64::try_from(rows.len()).unwrap_or_default();
    rows = rows.split_off(usize::try_from(page.offset.min(running)).unwrap_or_default());
    rows.truncate(usize::try_from(page.limit).unwrap_or_default());
    let left = page.limit - i64::try_from(rows.len()).unwrap_or_default();
    let offset = (page.offset - running).max(0);
    let (total, over) = purchases::page(&mut db, Some(caller.customer), offset, left).await?;
    rows.extend(over);
    Ok(Json(paging.with(total + running, rows.into_iter().map(Purchase::from).collect())))
}
