//! How sessions come to be: asked for by a customer, or begun at the charger.

use evm_domain::{ChargerId, CustomerId, DeviceId, PurchaseId, Session, SessionId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_rows;
use crate::{Result, StoreError, id, new_id, random};

/// A customer's wish to charge.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Where.
    pub device: DeviceId,
    /// Who.
    pub customer: CustomerId,
    /// The device's charger.
    pub charger: ChargerId,
    /// The device's connector.
    pub connector: u32,
    /// The device's tariff version.
    pub tariff_id: String,
    /// When.
    pub now: Timestamp,
}

/// A session that waits for its charger.
#[derive(Debug, Clone)]
pub struct Requested {
    /// Its id.
    pub id: SessionId,
    /// The purchase it will end in.
    pub purchase: PurchaseId,
    /// The tag to send: 16 upper-case hexadecimal digits, fit for the 20 characters of OCPP 1.6.
    pub id_tag: String,
    /// The 2.0.1 remoteStartId to send.
    pub remote_start_id: i64,
}

/// Holds a device for a customer, at the prices and by the station's clock of this moment.
///
/// # Errors
/// [`StoreError::Refused`] where the device or the customer has a live session.
pub async fn request(db: &mut Db, new: &NewRequest) -> Result<Requested> {
    let made = Requested {
        id: SessionId(new_id()),
        purchase: PurchaseId(new_id()),
        id_tag: format!("{:016X}", u64::from_be_bytes(random())),
        // The schema's integer is 32 bits in many stations; the unique index meets the rare twin.
        remote_start_id: i64::from(u32::from_be_bytes(random()) >> 1),
    };
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO sessions (id, purchase_id, charger_id, connector, device_id, customer_id, tariff_id, status, \
             id_tag, remote_start_id, requested_at, heard_at, time_zone, seq) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'requested', $8, $9, $10, $10, (SELECT time_zone FROM chargers WHERE id = $3), \
             (SELECT COALESCE(MAX(seq), 0) + 1 FROM sessions))",
        )
        .bind(made.id.to_string())
        .bind(made.purchase.to_string())
        .bind(new.charger.to_string())
        .bind(i32::try_from(new.connector).unwrap_or_default())
        .bind(new.device.to_string())
        .bind(new.customer.to_string())
        .bind(&new.tariff_id)
        .bind(&made.id_tag)
        .bind(made.remote_start_id)
        .bind(new.now.0)
        .execute(conn)
        .await?;
    });
    Ok(made)
}

/// Releases a device whose charge never began. `false`: it has begun meanwhile, or was released before.
pub async fn fail(db: &mut Db, session: SessionId, reason: &str, now: Timestamp) -> Result<bool> {
    let changed = on!(db, conn => {
        sqlx::query("UPDATE sessions SET version = version + 1, status = 'failed', fail_reason = $2, settled_at = $3 WHERE id = $1 AND status = 'requested'")
            .bind(session.to_string())
            .bind(reason)
            .bind(now.0)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(changed > 0)
}

/// Numbers for OCPP 1.6 transactions, one for each session, in their order.
///
/// # Errors
/// [`StoreError`]; after 2³¹ − 1 transactions the sequence is at its end.
pub async fn take_numbers(db: &mut Db, sessions: &[SessionId]) -> Result<Vec<i32>> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(i32, String)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("INSERT INTO transaction_numbers (session_id) ");
        push_rows(&mut sql, sessions, |row, session| {
            row.bind(session.to_string());
        });
        sql.push(" RETURNING id, session_id");
        sql.build_query_as().fetch_all(conn).await?
    });
    let numbers: std::collections::HashMap<String, i32> = rows.into_iter().map(|(n, session)| (session, n)).collect();
    let missing = || StoreError::Broken("a transaction number is missing".into());
    sessions.iter().map(|session| numbers.get(&session.to_string()).copied().ok_or_else(missing)).collect()
}

/// A session that begins at the charger.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The session as it stands after its first update.
    pub session: Session,
    /// The version of the device's prices; `None` where no device is registered.
    pub tariff_id: Option<String>,
    /// What makes a repeated start the same start.
    pub start_key: Option<String>,
    /// The station's id of its transaction, where a later charge has that by now.
    pub told_as: Option<String>,
}

/// Inserts sessions that begin at their chargers. What is there already (the same start, the same transaction,
/// a second live session of a device or customer) is left out; the ids of the others come back.
pub async fn insert(db: &mut Db, new: &[NewSession], now: Timestamp) -> Result<Vec<SessionId>> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<(String,)> = on!(db, conn => {
        let mut sql = QueryBuilder::new(
            "INSERT INTO sessions (id, purchase_id, charger_id, connector, device_id, customer_id, tariff_id, status, id_tag, \
             transaction_ref, start_key, review, requested_at, started_at, heard_at, time_zone, refused, told_ref, seq) \
             SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, v.column10, \
             v.column11, v.column12, v.column13, v.column14, v.column15, v.column16, v.column17, v.column18, \
             v.column19 + (SELECT COALESCE(MAX(seq), 0) FROM sessions) FROM (",
        );
        push_rows(&mut sql, new.iter().zip(1_i64..), |row, (new, seq)| {
            let s = &new.session;
            row.bind(s.id.to_string())
                .bind(s.purchase.to_string())
                .bind(s.charger.to_string())
                .bind(i32::try_from(s.connector).unwrap_or_default())
                .bind(s.device.map(|id| id.to_string()))
                .bind(s.customer.map(|id| id.to_string()))
                .bind(&new.tariff_id)
                .bind(s.status.as_str())
                .bind(&s.id_tag)
                .bind(&s.transaction)
                .bind(&new.start_key)
                .bind(&s.review)
                .bind(now.0)
                .bind(s.started_at.map(|at| at.0))
                .bind(now.0)
                .bind(s.tariff.clock.zone().map(str::to_owned))
                .bind(s.refused)
                .bind(&new.told_as)
                .bind(seq);
        });
        sql.push(") AS v WHERE TRUE ON CONFLICT DO NOTHING RETURNING id");
        sql.build_query_as().fetch_all(conn).await?
    });
    ids.iter().map(|(text,)| id(text)).collect()
}

/// What a start told of a requested session's transaction is set apart: it may be told again, never changed.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The session.
    pub session: SessionId,
    /// What makes a repeated start the same start.
    pub start_key: Option<String>,
}

/// Notes which start began which session.
pub async fn mark_begun(db: &mut Db, begun: &[Begun]) -> Result<()> {
    if begun.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE sessions SET version = version + 1, start_key = v.column2 FROM (");
        push_rows(&mut sql, begun, |row, begun| {
            row.bind(begun.session.to_string()).bind(&begun.start_key);
        });
        sql.push(") AS v WHERE sessions.id = v.column1");
        sql.build().execute(conn).await?;
    });
    Ok(())
}
