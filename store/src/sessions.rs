//! Charging sessions: one row each, loaded and saved whole by the writer that holds it.

mod begin;
mod names;
mod running;

pub use begin::{Begun, NewRequest, NewSession, Requested, fail, insert, mark_begun, request, take_numbers};
pub use names::{attach, forget_names, forget_starts, merge, next_begun};
pub use running::{
    Live, abandoned, claim_stop, finish_was_agreed, lost, never_begun_in_a_row, note_finish, requested_before, running,
};

use evm_domain::{
    ChargerId, ChargingState, CustomerId, DeviceId, Doubts, Meter, PurchaseId, Session, SessionId, Status, Timestamp,
    WallClock, Wh,
};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::{push_is_one_of, push_rows};
use crate::tariffs::{self, TariffRow, tariff_columns};
use crate::{Result, StoreError, id, optional_id};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    purchase_id: String,
    charger_id: String,
    connector: i32,
    device_id: Option<String>,
    customer_id: Option<String>,
    status: String,
    id_tag: Option<String>,
    remote_start_id: Option<i64>,
    start_key: Option<String>,
    transaction_ref: Option<String>,
    told_ref: Option<String>,
    stop_reason: Option<String>,
    review: Option<String>,
    refused: bool,
    lost_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    baseline_wh: Option<i64>,
    register_wh: Option<i64>,
    register_at: i64,
    last_at: i64,
    last_kind: i16,
    waiting_ms: i64,
    quiet_ms: i64,
    step_ms: i64,
    charging_state: i16,
    power_w: Option<i64>,
    soc: Option<i64>,
    version: i64,
    utc_offset_min: i16,
    time_zone: Option<String>,
    level_at: i64,
    band_figures: Option<String>,
    meter_rest: Option<String>,
    doubts: Option<String>,
    seq_nos: Option<String>,
    #[sqlx(flatten)]
    tariff: TariffRow,
    max_power_w: Option<i64>,
}

/// The columns of [`Row`].
macro_rules! columns {
    () => {
        concat!(
            "s.id, s.purchase_id, s.charger_id, s.connector, s.device_id, s.customer_id, s.status, s.id_tag, s.remote_start_id, ",
            "s.start_key, s.transaction_ref, s.told_ref, s.stop_reason, s.review, s.refused, s.lost_at, s.started_at, s.ended_at, s.baseline_wh, s.register_wh, ",
            "s.register_at, s.last_at, s.last_kind, s.waiting_ms, s.quiet_ms, s.step_ms, s.charging_state, s.power_w, s.soc, ",
            "s.version, s.level_at, s.utc_offset_min, s.time_zone, s.band_figures, s.meter_rest, s.doubts, s.seq_nos, d.max_power_w, ",
            tariff_columns!()
        )
    };
}
use columns;

const SELECT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sessions s LEFT JOIN tariff_versions t ON t.id = s.tariff_id LEFT JOIN devices d ON d.id = s.device_id WHERE "
);

const LIVE: &str = "s.status IN ('requested', 'active')";

impl TryFrom<Row> for Session {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        // Charges that began before zones were kept have the offset of their start.
        let clock = match row.time_zone.filter(|_| row.tariff.has_bands()) {
            Some(zone) => tariffs::wall_clock(&zone),
            None => WallClock::fixed(row.utc_offset_min),
        };
        let tariff = row.tariff.tariff(clock)?;
        let mut meter = Meter {
            baseline: row.baseline_wh.map(Wh),
            register: row.register_wh.map(Wh),
            register_at: Timestamp(row.register_at),
            level_at: Timestamp(row.level_at),
            last_at: Timestamp(row.last_at),
            last_kind: row.last_kind.into(),
            waiting_ms: row.waiting_ms,
            quiet_ms: row.quiet_ms,
            step_ms: row.step_ms,
            state: ChargingState::from_code(row.charging_state.into()),
            power_w: row.power_w,
            soc: row.soc,
            told_doubts: row.doubts.as_deref().map(Doubts::from_text).unwrap_or_default().told(),
            ..Meter::default()
        };
        let broken = |_| StoreError::Broken(format!("meter {:?}", row.meter_rest));
        meter.read_rest(row.meter_rest.as_deref()).map_err(broken)?;
        Ok(Session {
            meter: tariffs::read_figures(meter, row.band_figures.as_deref(), &tariff)?,
            tariff,
            id: id(&row.id)?,
            purchase: id(&row.purchase_id)?,
            charger: id(&row.charger_id)?,
            connector: u32::try_from(row.connector).unwrap_or_default(),
            device: optional_id(row.device_id.as_deref())?,
            customer: optional_id(row.customer_id.as_deref())?,
            max_power_w: row.max_power_w,
            status: Status::parse(&row.status).ok_or_else(|| StoreError::Broken(row.status.clone()))?,
            id_tag: row.id_tag,
            remote_start_id: row.remote_start_id,
            transaction: row.transaction_ref,
            started_at: row.started_at.map(Timestamp),
            ended_at: row.ended_at.map(Timestamp),
            stop_reason: row.stop_reason,
            review: row.review,
            refused: row.refused,
            lost_at: row.lost_at.map(Timestamp),
            // Ranges that cannot be read are no reason to lose a charge: they are seen as not there.
            seq_nos: row.seq_nos.and_then(|text| text.parse().ok()).unwrap_or_default(),
        })
    }
}

fn found(rows: Vec<Row>) -> Result<Vec<Found>> {
    rows.into_iter()
        .map(|mut row| {
            let (start_key, told_as) = (row.start_key.take(), row.told_ref.take());
            Ok(Found { start_key, told_as, version: row.version, session: row.try_into()? })
        })
        .collect()
}

/// The requested and active sessions of these chargers, locked until the transaction ends.
pub async fn load_live(db: &mut Db, chargers: &[ChargerId]) -> Result<Vec<Found>> {
    if chargers.is_empty() {
        return Ok(Vec::new());
    }
    let lock = db.for_update();
    found(on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push(LIVE).push(" AND s.charger_id");
        push_is_one_of(&mut sql, chargers.iter().map(|charger| charger.to_string()));
        sql.push(" ORDER BY s.id").push(lock);
        sql.build_query_as::<Row>().fetch_all(conn).await?
    }))
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident => $condition:literal;)*) => {$(
        $(#[$doc])*
        pub async fn $name(db: &mut Db, wanted: &[String]) -> Result<Vec<Found>> {
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            let lock = db.for_update();
            let rows = on!(db, conn => {
                let mut sql = QueryBuilder::new(SELECT);
                sql.push($condition);
                push_is_one_of(&mut sql, wanted.iter().cloned());
                sql.push(" ORDER BY s.id").push(lock);
                sql.build_query_as::<Row>().fetch_all(conn).await?
            });
            found(rows)
        }
    )*};
}

/// A session with the key of the start that made it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Counts its changes.
    pub version: i64,
    /// What makes a repeated start the same start.
    pub start_key: Option<String>,
    /// The station's id of its transaction, where a later charge has that by now.
    pub told_as: Option<String>,
    /// The session.
    pub session: Session,
}

lists! {
    /// Sessions of these transactions, of any charger and in any status, locked until the transaction ends.
    by_transactions => "s.transaction_ref";
    /// Sessions that these starts made, of any charger, locked until the transaction ends.
    by_start_keys => "s.start_key";
    /// Sessions that were given up, or finished by their customer, before they began and that these tags belong to, locked
    /// until the transaction ends.
    never_begun_by_tags => "s.status IN ('failed', 'finished') AND s.transaction_ref IS NULL AND s.customer_id IS NOT NULL AND s.id_tag";
    /// The last sessions at the connectors of these chargers, where they were settled without the charger's word of the end,
    /// locked until the transaction ends.
    never_ended => "s.status = 'finished' AND s.ended_at IS NULL AND s.transaction_ref IS NOT NULL AND NOT EXISTS \
        (SELECT 1 FROM sessions n WHERE n.charger_id = s.charger_id AND n.connector = s.connector \
        AND n.seq > s.seq AND n.transaction_ref IS NOT NULL) AND s.charger_id";
}

/// What two times of one moment may differ by.
const CLOCK_MS: i64 = 5 * 60_000;
/// Most charges of one id that are looked at.
const MOST_TOLD_AS: i64 = 20;

/// The charges of this charger that were under way at a moment, as far as is known, and whose transaction's id a later one has
/// by now; locked until the transaction ends.
pub async fn told_as(db: &mut Db, charger: ChargerId, id: &str, at: Timestamp) -> Result<Vec<Found>> {
    let lock = db.for_update();
    found(on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push("s.told_ref = ").push_bind(id).push(" AND s.charger_id = ").push_bind(charger.to_string());
        sql.push(" AND (s.started_at IS NULL OR s.started_at <= ").push_bind(at.plus_millis(CLOCK_MS).0);
        sql.push(") AND (s.ended_at IS NULL OR s.ended_at >= ").push_bind(at.plus_millis(-CLOCK_MS).0);
        sql.push(") ORDER BY COALESCE(s.started_at, s.ended_at, 0) DESC LIMIT ").push_bind(MOST_TOLD_AS).push(lock);
        sql.build_query_as::<Row>().fetch_all(conn).await?
    }))
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) => $condition:literal $($lock:ident)?;)*) => {$(
        $(#[$doc])*
        pub async fn $name(db: &mut Db, $($arg: $type),*) -> Result<Option<Session>> {
            let lock = [$(db.$lock(),)? ""][0];
            let row = on!(db, conn => {
                let mut sql = QueryBuilder::new(SELECT);
                sql.push(concat!($condition, " ORDER BY CASE WHEN s.status IN ('requested', 'active') THEN 0 ELSE 1 END, s.seq DESC, s.id DESC LIMIT 1"));
                sql.push(lock);
                sql.build_query_as::<Row>()$(.bind($arg.to_string()))*.fetch_optional(conn).await?
            });
            row.map(Session::try_from).transpose()
        }
    )*};
}

lookups! {
    /// One session, locked until the transaction ends.
    by_id(session: SessionId) => "s.id = $1" for_update;
    /// The session that ends, or ended, in this purchase.
    of_purchase(purchase: PurchaseId) => "s.purchase_id = $1";
    /// The session that the customer has under way.
    live_of_customer(customer: CustomerId) => "s.customer_id = $1 AND s.status IN ('requested', 'active') AND NOT s.refused";
    /// The customer's session at a device that is or was a charge: the one under way, else the newest, by the order in which
    /// they were made. A start that was refused and took nothing was none.
    newest_of(customer: CustomerId, device: DeviceId) => "s.customer_id = $1 AND s.device_id = $2 AND s.status <> 'failed' \
        AND NOT (s.refused AND s.status = 'finished' AND NOT EXISTS (SELECT 1 FROM purchases p WHERE p.session_id = s.id))";
}

/// Whether a tag belongs to a charge that is under way at this charger.
pub async fn is_live_tag(db: &mut Db, charger: ChargerId, id_tag: &str) -> Result<bool> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT id FROM sessions WHERE charger_id = $1 AND status IN ('requested', 'active') AND customer_id IS NOT NULL \
             AND id_tag = $2 LIMIT 1",
        )
        .bind(charger.to_string())
        .bind(id_tag)
        .fetch_optional(conn)
        .await?
    });
    Ok(row.is_some())
}

/// Which of these tags have begun a charge at this charger that somebody pays for.
pub async fn tags_seen(db: &mut Db, charger: ChargerId, tags: &[String]) -> Result<Vec<String>> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String,)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT DISTINCT id_tag FROM sessions WHERE customer_id IS NOT NULL AND charger_id = ");
        sql.push_bind(charger.to_string()).push(" AND id_tag");
        push_is_one_of(&mut sql, tags.iter().cloned());
        sql.build_query_as().fetch_all(conn).await?
    });
    Ok(rows.into_iter().map(|(tag,)| tag).collect())
}

/// Where a session stands, without locking it.
pub async fn peek_status(db: &mut Db, session: SessionId) -> Result<Option<Status>> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as("SELECT status FROM sessions WHERE id = $1").bind(session.to_string()).fetch_optional(conn).await?
    });
    Ok(row.and_then(|(word,)| Status::parse(&word)))
}

/// Saves sessions whole.
pub async fn save(db: &mut Db, changed: &[&Session], now: Timestamp) -> Result<()> {
    save_names(db, changed).await?;
    save_record(db, changed, now).await?;
    let figures: Vec<_> = changed.iter().map(|session| (*session, None)).collect();
    save_figures(db, &figures, now).await
}

/// Saves what a session is found by, many in one statement. These three are apart because SQLite writes anew every index on
/// a column that an UPDATE names, changed or not.
pub async fn save_names(db: &mut Db, changed: &[&Session]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "UPDATE sessions SET version = version + 1, device_id = v.column2, customer_id = v.column3, id_tag = v.column4, \
             transaction_ref = v.column5 FROM (",
        );
        push_rows(&mut sql, changed, |row, s| {
            row.bind(s.id.to_string())
                .bind(s.device.map(|id| id.to_string()))
                .bind(s.customer.map(|id| id.to_string()))
                .bind(&s.id_tag)
                .bind(&s.transaction);
        });
        sql.push(") AS v WHERE sessions.id = v.column1");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Saves where sessions stand, many in one statement.
pub async fn save_record(db: &mut Db, changed: &[&Session], now: Timestamp) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "UPDATE sessions SET version = version + 1, connector = v.column2, status = v.column3, \
             fail_reason = CASE WHEN v.column3 = 'failed' THEN v.column4 ELSE NULL END, stop_reason = v.column4, \
             review = v.column5, started_at = v.column6, ended_at = v.column7, refused = v.column9, lost_at = v.column10, \
             settled_at = CASE WHEN v.column3 = 'finished' THEN COALESCE(settled_at, v.column8) ELSE settled_at END FROM (",
        );
        push_rows(&mut sql, changed, |row, s| {
            row.bind(s.id.to_string())
                .bind(i32::try_from(s.connector).unwrap_or_default())
                .bind(s.status.as_str())
                .bind(&s.stop_reason)
                .bind(&s.review)
                .bind(s.started_at.map(|at| at.0))
                .bind(s.ended_at.map(|at| at.0))
                .bind(now.0)
                .bind(s.refused)
                .bind(s.lost_at.map(|at| at.0));
        });
        sql.push(") AS v WHERE sessions.id = v.column1");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Saves the running figures, many sessions in one statement. They change with every sample, and no index is on them. Beside
/// a session stands the version that it must still have, where it was not loaded and locked in this transaction.
///
/// # Errors
/// [`StoreError::conflict`] where one has another version: nothing of this transaction may be kept.
pub async fn save_figures(db: &mut Db, changed: &[(&Session, Option<i64>)], now: Timestamp) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let saved = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "UPDATE sessions SET version = version + 1, baseline_wh = v.column2, register_wh = v.column3, register_at = v.column4, \
             last_at = v.column5, last_kind = v.column6, waiting_ms = v.column7, quiet_ms = v.column8, \
             charging_state = v.column9, power_w = v.column10, soc = v.column11, doubts = v.column12, \
             heard_at = v.column13, band_figures = v.column14, seq_nos = v.column15, level_at = v.column16, step_ms = v.column17, \
             meter_rest = v.column18, unmetered_wh = v.column19 FROM (",
        );
        push_rows(&mut sql, changed, |row, (s, version)| {
            let m = &s.meter;
            row.bind(s.id.to_string())
                .bind(m.baseline.map(|wh| wh.0))
                .bind(m.register.map(|wh| wh.0))
                .bind(m.register_at.0)
                .bind(m.last_at.0)
                .bind(i16::try_from(m.last_kind).unwrap_or_default())
                .bind(m.waiting_ms)
                .bind(m.quiet_ms)
                .bind(m.state as i16)
                .bind(m.power_w)
                .bind(m.soc)
                .bind(s.doubts().to_text())
                .bind(now.0)
                .bind(tariffs::figures_text(m, &s.tariff))
                .bind(Some(s.seq_nos.to_string()).filter(|text| !text.is_empty()))
                .bind(m.level_at.0)
                .bind(m.step_ms)
                .bind(m.rest_text())
                .bind(m.without_register().0)
                .bind(*version);
        });
        sql.push(") AS v WHERE sessions.id = v.column1 AND sessions.version = COALESCE(v.column20, sessions.version)");
        sql.build().execute(conn).await?.rows_affected()
    });
    if saved == changed.len() as u64 { Ok(()) } else { Err(StoreError::conflict()) }
}

/// Which of these customers have a session under way, and since when it was asked for or began.
pub async fn customers_with_live(db: &mut Db, customers: &[CustomerId]) -> Result<Vec<(CustomerId, Timestamp)>> {
    if customers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, i64)> = on!(db, conn => {
        let mut sql =
            QueryBuilder::new("SELECT customer_id, COALESCE(started_at, requested_at) FROM sessions s WHERE ");
        sql.push(LIVE).push(" AND NOT s.refused AND s.customer_id");
        push_is_one_of(&mut sql, customers.iter().map(|customer| customer.to_string()));
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.iter().map(|(text, since)| Ok((id(text)?, Timestamp(*since)))).collect()
}

/// Takes the review `why` from charges that were told of while their customers had others, where none of those ran at the same
/// time after all. They are sought among those of the customers that were made with these sessions, whose ends are known now, or
/// after them.
pub async fn clear_beside(db: &mut Db, ended: &[&Session], why: &'static str) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE sessions SET version = version + 1, review = NULL FROM (");
        push_rows(&mut sql, ended, |row, s| {
            row.bind(s.customer.map(|id| id.to_string())).bind(s.id.to_string());
        });
        sql.push(") AS v WHERE sessions.customer_id = v.column1 AND sessions.id >= v.column2 AND sessions.review = ");
        sql.push_bind(why);
        sql.push(
            " AND sessions.refused AND sessions.started_at IS NOT NULL AND sessions.ended_at IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM sessions o WHERE o.customer_id = sessions.customer_id AND o.id <> sessions.id \
             AND o.started_at < sessions.ended_at AND (o.ended_at > sessions.started_at \
             OR (o.ended_at IS NULL AND o.status IN ('active', 'finished'))))",
        );
        sql.build().execute(conn).await?;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn every_change_of_a_session_counts_its_version_up() {
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for (_, rest) in text
                    .match_indices(concat!("\"UPDATE ", "sessions SET "))
                    .map(|(at, found)| text.split_at(at + found.len()))
                {
                    assert!(rest.starts_with("version = version + 1"), "{}: {rest:.60}", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > 5, "{found}");
    }
}
