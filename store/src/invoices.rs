//! What a payment gateway is asked to collect. An invoice is stored before the gateway is called, ends as success, error
//! or canceled, and is looked after until nobody can pay it any more. Money is credited in [`crate::gateway`].
//!
//! Locks are taken in the order purchase, invoice, customer.

use evm_domain::{CustomerId, InvoiceId, Money, PurchaseId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::outbox::Event;
use crate::purchases::Unpayable;
use crate::{Result, StoreError, failpoint, id, new_id, optional_id, outbox, random};

/// The gateway.
pub const PROVIDER: &str = "qpay";
/// How long one node may take over one question to the gateway before another may ask.
pub const CLAIM_MS: i64 = 15_000;
/// How often the gateway is asked about one invoice at the customer's wish.
pub const CUSTOMER_GAP_MS: i64 = 5_000;
/// How often the gateway is asked about one invoice after callbacks.
pub const CALLBACK_GAP_MS: i64 = 1_000;
/// When the gateway is asked without anybody's wish: after the making, and when the invoice expires.
const SAFETY_NET_MS: [i64; 3] = [60_000, 300_000, 1_800_000];
/// How long after its expiry an invoice is given up that the gateway says nothing about.
pub const GIVE_UP_MS: i64 = 24 * 3_600_000;
/// Top-ups that a customer may have open at a time.
const MOST_OPEN: i64 = 10;

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Stored; the gateway has not answered yet.
    Creating,
    /// To be paid, or paid in part.
    Pending,
    /// Paid.
    Success,
    /// It never came about, or the gateway was silent for too long.
    Error,
    /// Expired, or not wanted any more. What still comes in becomes balance.
    Canceled,
}

impl State {
    const ALL: [Self; 5] = [Self::Creating, Self::Pending, Self::Success, Self::Error, Self::Canceled];

    /// The word the store uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Error => "error",
            Self::Canceled => "canceled",
        }
    }

    /// Whether it waits for money.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Creating | Self::Pending)
    }
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The id, and our number of the attempt at the gateway.
    pub id: InvoiceId,
    /// Who is asked to pay.
    pub customer: CustomerId,
    /// What for; `None`: a top-up.
    pub purchase: Option<PurchaseId>,
    /// What is asked for.
    pub amount: Money,
    /// What came in so far.
    pub credited: Money,
    /// Stands in the path of the callback.
    pub callback_token: String,
    /// The gateway's own id, once it answered.
    pub gateway_id: Option<String>,
    /// Where the customer pays.
    pub url: Option<String>,
    /// Where it stands.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is canceled if it is not paid.
    pub expires_at: Timestamp,
    /// Until when one node asks the gateway.
    pub claimed_until: Timestamp,
    /// Callbacks so far.
    pub hints: i64,
    /// The payment that a callback named while the gateway's id was not known.
    pub hint_payment: Option<String>,
    /// Questions in a row that the gateway did not answer.
    pub failures: i32,
    /// Whether nobody can pay it any more.
    pub closed: bool,
}

impl Invoice {
    /// What the gateway is asked for: it takes whole tögrög, so the next.
    pub fn asked(&self) -> Money {
        Money(self.amount.0.saturating_add(99) / 100 * 100)
    }

    /// When to ask the gateway next if nobody else wishes it; `None`: never again by itself.
    pub(crate) fn next_check(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.state.is_open() {
            return (self.gateway_id.is_some() && !self.closed).then_some(now);
        }
        // One that was made by a clock that was ahead is not waited for.
        let made = self.created_at.min(now);
        let net = SAFETY_NET_MS.map(|after| made.plus_millis(after));
        Some(net.into_iter().filter(|at| *at > now).min().unwrap_or(self.expires_at).min(self.expires_at))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    customer_id: String,
    purchase_id: Option<String>,
    amount: i64,
    credited: i64,
    callback_token: String,
    gateway_invoice_id: Option<String>,
    url: Option<String>,
    status: String,
    created_at: i64,
    expires_at: i64,
    claimed_until: i64,
    hints: i64,
    hint_payment_id: Option<String>,
    failures: i32,
    closed_at: Option<i64>,
}

const COLUMNS: &str = "id, customer_id, purchase_id, amount, credited, callback_token, gateway_invoice_id, url, status, \
    created_at, expires_at, claimed_until, hints, hint_payment_id, failures, closed_at";

impl TryFrom<Row> for Invoice {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let state = State::ALL.into_iter().find(|state| state.as_str() == row.status);
        Ok(Self {
            id: id(&row.id)?,
            customer: id(&row.customer_id)?,
            purchase: optional_id(row.purchase_id.as_deref())?,
            amount: Money(row.amount),
            credited: Money(row.credited),
            callback_token: row.callback_token,
            gateway_id: row.gateway_invoice_id,
            url: row.url,
            state: state.ok_or_else(|| StoreError::Broken(row.status))?,
            created_at: Timestamp(row.created_at),
            expires_at: Timestamp(row.expires_at),
            claimed_until: Timestamp(row.claimed_until),
            hints: row.hints,
            hint_payment: row.hint_payment_id,
            failures: row.failures,
            closed: row.closed_at.is_some(),
        })
    }
}

/// An invoice by id, of this customer where one is named.
pub async fn by_id(db: &mut Db, customer: Option<CustomerId>, invoice: InvoiceId) -> Result<Option<Invoice>> {
    let row: Option<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM invoices WHERE id = ").push_bind(invoice.to_string());
        if let Some(customer) = customer {
            sql.push(" AND customer_id = ").push_bind(customer.to_string());
        }
        sql.build_query_as().fetch_optional(conn).await?
    });
    row.map(Invoice::try_from).transpose()
}

/// The open invoice of a purchase.
pub async fn open_of(db: &mut Db, purchase: PurchaseId) -> Result<Option<Invoice>> {
    let row: Option<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM invoices WHERE status IN ('creating', 'pending') AND purchase_id = ");
        sql.push_bind(purchase.to_string());
        sql.build_query_as().fetch_optional(conn).await?
    });
    row.map(Invoice::try_from).transpose()
}

/// What of a purchase is asked for and paid, locked until the transaction ends.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Asked {
    pub(crate) customer_id: String,
    pub(crate) amount: i64,
    pub(crate) paid: i64,
}

pub(crate) async fn lock_purchase(db: &mut Db, purchase: PurchaseId) -> Result<Option<Asked>> {
    let lock = db.for_update();
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT s.customer_id, s.amount, s.paid FROM purchases s WHERE s.id = ");
        sql.push_bind(purchase.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    }))
}

/// An invoice and its purchase, both locked until the transaction ends.
pub(crate) async fn lock(db: &mut Db, invoice: InvoiceId) -> Result<(Invoice, Option<Asked>)> {
    let gone = || StoreError::Broken(format!("no invoice {invoice}"));
    let found = by_id(db, None, invoice).await?.ok_or_else(gone)?;
    let asked = match found.purchase {
        Some(purchase) => lock_purchase(db, purchase).await?,
        None => None,
    };
    let lock = db.for_update();
    let row: Option<Row> = on!(&mut *db, conn => {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM invoices s WHERE s.id = ").push_bind(invoice.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    Ok((row.ok_or_else(gone)?.try_into()?, asked))
}

/// What the wish to pay a purchase at the gateway met.
#[derive(Debug)]
pub enum Begun {
    /// A new invoice, held for the caller, who calls the gateway after the commit.
    New(Invoice),
    /// One that is open already, made or being made.
    Open(Invoice),
    /// One that does not take what is due, for it expires or asks for another amount: look after it, then begin again with `replace`.
    Outdated(Invoice),
}

/// Begins an invoice for what is due of a purchase; `replace` cancels one that is outdated.
pub async fn begin_purchase(
    db: &mut Db,
    customer: CustomerId,
    purchase: PurchaseId,
    expires_at: Timestamp,
    replace: bool,
    now: Timestamp,
) -> Result<std::result::Result<Begun, Unpayable>> {
    let asked = lock_purchase(db, purchase).await?.filter(|asked| asked.customer_id == customer.to_string());
    let Some(asked) = asked else { return Ok(Err(Unpayable::NotFound)) };
    let due = Money(asked.amount - asked.paid);
    if due <= Money::ZERO {
        return Ok(Err(Unpayable::AlreadyPaid));
    }
    if let Some(mut open) = open_of(db, purchase).await? {
        let being_made = open.state == State::Creating && open.claimed_until > now;
        let takes_it = open.url.is_some() && open.expires_at > now && open.amount - open.credited == due;
        if being_made || (open.state == State::Pending && takes_it) {
            return Ok(Ok(Begun::Open(open)));
        }
        if open.state == State::Pending && !replace {
            return Ok(Ok(Begun::Outdated(open)));
        }
        // Of one that was never seen made nobody knows the address; the next try has a number of its own.
        let state = if open.state == State::Creating { State::Error } else { State::Canceled };
        end(db, &mut open, state, false, now).await?;
    }
    let invoice = insert(db, customer, Some(purchase), due, expires_at, now).await?;
    on!(db, conn => {
        sqlx::query("UPDATE purchases SET status = 'pending', option = 'QPAY' WHERE id = $1")
            .bind(purchase.to_string())
            .execute(conn)
            .await?;
    });
    failpoint("invoice.stored");
    Ok(Ok(Begun::New(invoice)))
}

/// Begins an invoice that tops a balance up. `None`: the customer has too many open.
pub async fn begin_replenish(
    db: &mut Db,
    customer: CustomerId,
    amount: Money,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Invoice>> {
    let (open,): (i64,) = on!(&mut *db, conn => {
        sqlx::query_as(
            "SELECT COUNT(*) FROM invoices WHERE customer_id = $1 AND purchase_id IS NULL AND status IN ('creating', 'pending')",
        )
        .bind(customer.to_string())
        .fetch_one(conn)
        .await?
    });
    if open >= MOST_OPEN {
        return Ok(None);
    }
    let invoice = insert(db, customer, None, amount, expires_at, now).await?;
    failpoint("invoice.stored");
    Ok(Some(invoice))
}

async fn insert(
    db: &mut Db,
    customer: CustomerId,
    purchase: Option<PurchaseId>,
    amount: Money,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Invoice> {
    let claimed = now.plus_millis(CLAIM_MS);
    let row: Row = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "INSERT INTO invoices (id, provider, customer_id, purchase_id, amount, callback_token, status, created_at, expires_at, \
             claimed_until, next_check_at) VALUES (",
        );
        let mut values = sql.separated(", ");
        values.push_bind(new_id().to_string());
        values.push_bind(PROVIDER);
        values.push_bind(customer.to_string());
        values.push_bind(purchase.map(|id| id.to_string()));
        values.push_bind(amount.0);
        values.push_bind(hex::encode(random::<20>()));
        values.push("'creating'");
        values.push_bind(now.0);
        values.push_bind(expires_at.0);
        values.push_bind(claimed.0);
        values.push_bind(claimed.0);
        sql.push(") RETURNING ").push(COLUMNS);
        sql.build_query_as().fetch_one(conn).await?
    });
    row.try_into()
}

/// The gateway made the invoice. One that ended meanwhile stays ended and is canceled at the gateway.
///
/// # Errors
/// [`StoreError::Refused`] where the gateway gives an id that another invoice has.
pub async fn opened(
    db: &mut Db,
    invoice: InvoiceId,
    gateway_id: &str,
    url: Option<&str>,
    now: Timestamp,
) -> Result<Invoice> {
    let (mut invoice, _) = lock(db, invoice).await?;
    if invoice.state == State::Creating {
        invoice.state = State::Pending;
    }
    invoice.gateway_id = Some(gateway_id.to_owned());
    invoice.url = url.map(str::to_owned).or(invoice.url);
    invoice.claimed_until = Timestamp(0);
    invoice.hint_payment = None;
    // A callback that came before this answer was about money.
    let next = if invoice.hints > 0 { Some(now) } else { invoice.next_check(now) };
    on!(db, conn => {
        sqlx::query(
            "UPDATE invoices SET status = $2, gateway_invoice_id = $3, url = $4, claimed_until = 0, next_check_at = $5, \
             hint_payment_id = NULL WHERE id = $1",
        )
        .bind(invoice.id.to_string())
        .bind(invoice.state.as_str())
        .bind(gateway_id)
        .bind(&invoice.url)
        .bind(next.map(|at| at.0))
        .execute(conn)
        .await?;
    });
    Ok(invoice)
}

/// The invoice did not come about, as far as anybody knows: it ends as an error.
pub async fn not_opened(db: &mut Db, invoice: InvoiceId, now: Timestamp) -> Result<Invoice> {
    let (mut invoice, _) = lock(db, invoice).await?;
    if invoice.state == State::Creating {
        end(db, &mut invoice, State::Error, true, now).await?;
    }
    Ok(invoice)
}

/// Ends an open invoice that the caller holds locked, with its purchase. `tell` the customer how.
pub(crate) async fn end(db: &mut Db, invoice: &mut Invoice, state: State, tell: bool, now: Timestamp) -> Result<()> {
    invoice.state = state;
    invoice.closed |= state == State::Success && invoice.credited >= invoice.asked();
    let closed_at = invoice.closed.then_some(now.0);
    on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE invoices SET status = $2, ended_at = $3, closed_at = COALESCE(closed_at, $4), next_check_at = $5 WHERE id = $1",
        )
        .bind(invoice.id.to_string())
        .bind(state.as_str())
        .bind(now.0)
        .bind(closed_at)
        .bind(invoice.next_check(now).map(|at| at.0))
        .execute(conn)
        .await?;
    });
    let Some(purchase) = invoice.purchase else { return Ok(()) };
    on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE purchases SET status = 'unpaid', option = CASE WHEN EXISTS (SELECT 1 FROM gateway_payments g JOIN invoices i \
             ON i.id = g.invoice_id WHERE i.purchase_id = purchases.id AND g.applied > 0) THEN 'QPAY' WHEN paid > 0 THEN 'EVM' END \
             WHERE id = $1 AND status = 'pending'",
        )
        .bind(purchase.to_string())
        .execute(conn)
        .await?;
    });
    if !tell {
        return Ok(());
    }
    let status = if state == State::Success { "success" } else { "fail" };
    let payload = format!(r#"{{"status":"{status}","amount":{}}}"#, invoice.amount.to_mnt());
    let event =
        Event { customer: invoice.customer, name: "PAYMENT", event_id: format!("payment-{}", invoice.id), payload };
    outbox::add(db, &[event], now).await
}

/// Cancels the open invoice of a purchase that was paid otherwise and is locked by the caller. What comes in on it all the
/// same becomes balance.
pub(crate) async fn cancel_open_of(db: &mut Db, purchase: PurchaseId, now: Timestamp) -> Result<()> {
    on!(&mut *db, conn => {
        sqlx::query(
            "UPDATE invoices SET status = 'canceled', ended_at = $2, next_check_at = $2 \
             WHERE purchase_id = $1 AND status IN ('creating', 'pending')",
        )
        .bind(purchase.to_string())
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    on!(db, conn => {
        sqlx::query("UPDATE purchases SET option = NULL WHERE id = $1 AND paid = 0")
            .bind(purchase.to_string())
            .execute(conn)
            .await?;
    });
    Ok(())
}
