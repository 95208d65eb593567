//! Which transaction and which place a session has, where that shows later.

use evm_domain::{Session, SessionId, Timestamp, Wh};

use crate::engine::{Db, on};
use crate::{Result, readings};

/// Joins what was told of a transaction before its customer was known into the session that asked for it: of two sessions
/// one is left.
pub async fn merge(db: &mut Db, from: SessionId, into: SessionId) -> Result<()> {
    readings::unpack(db, from).await?;
    on!(db, conn => {
        sqlx::query("DELETE FROM sessions WHERE id = $1").bind(from.to_string()).execute(&mut *conn).await?;
        sqlx::query("UPDATE readings SET session_id = $2 WHERE session_id = $1")
            .bind(from.to_string())
            .bind(into.to_string())
            .execute(&mut *conn)
            .await?;
        sqlx::query("UPDATE reading_bases SET session_id = $2 WHERE session_id = $1")
            .bind(from.to_string())
            .bind(into.to_string())
            .execute(&mut *conn)
            .await?;
    });
    Ok(())
}

/// Gives a session the device and the prices of a connector that it did not name at first, and the clock of its zone. One that
/// was refused does not hold the device.
pub async fn attach(db: &mut Db, session: &Session, tariff_id: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE sessions SET version = version + 1, device_id = $2, tariff_id = $3, time_zone = $4, refused = $5 WHERE id = $1 AND tariff_id IS NULL")
            .bind(session.id.to_string())
            .bind(session.device.map(|device| device.to_string()))
            .bind(tariff_id)
            .bind(session.tariff.clock.zone().map(str::to_owned))
            .bind(session.refused)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Takes the ids of their transactions from sessions: the charger has begun other transactions under them. What is told late
/// of each still finds it.
pub async fn forget_names(db: &mut Db, over: &[SessionId]) -> Result<()> {
    for session in over {
        on!(&mut *db, conn => {
            sqlx::query("UPDATE sessions SET version = version + 1, told_ref = transaction_ref, transaction_ref = transaction_ref || '/' || id WHERE id = $1")
                .bind(session.to_string())
                .execute(conn)
                .await?;
        });
    }
    Ok(())
}

/// Takes the keys of their starts from sessions that are over: they came again, as other charges.
pub async fn forget_starts(db: &mut Db, over: &[SessionId]) -> Result<()> {
    for session in over {
        on!(&mut *db, conn => {
            sqlx::query("UPDATE sessions SET version = version + 1, start_key = NULL WHERE id = $1")
                .bind(session.to_string())
                .execute(conn)
                .await?;
        });
    }
    Ok(())
}

/// When the next charge began at the place of this one, and by which register, as far as is known. One that was over by a
/// register up to which this one begins was before it, whatever the clock says; and where registers begin anew with each charge
/// (`told_late`: this one is told with an old date), so may any have been.
pub async fn next_begun(db: &mut Db, session: &Session, told_late: bool) -> Result<Option<(Timestamp, Option<Wh>)>> {
    let Some(began) = session.started_at else { return Ok(None) };
    let begins_at = session.meter.baseline.map_or(-1, |Wh(register)| register);
    let row: Option<(i64, Option<i64>)> = on!(db, conn => {
        sqlx::query_as(
            "SELECT started_at, baseline_wh FROM sessions WHERE charger_id = $1 AND connector = $2 AND id <> $3 \
             AND started_at > $4 AND transaction_ref IS NOT NULL AND NOT refused AND (status = 'active' \
             OR NOT ((COALESCE(register_wh <= $5, FALSE) AND (ended_at IS NOT NULL OR COALESCE(register_wh > baseline_wh, FALSE))) \
             OR ($6 AND ended_at IS NOT NULL AND COALESCE(baseline_wh = 0 AND register_wh > 0, FALSE)))) \
             ORDER BY started_at LIMIT 1",
        )
        .bind(session.charger.to_string())
        .bind(i32::try_from(session.connector).unwrap_or_default())
        .bind(session.id.to_string())
        .bind(began.0)
        .bind(begins_at)
        .bind(told_late && begins_at == 0)
        .fetch_optional(conn)
        .await?
    });
    Ok(row.map(|(at, register)| (Timestamp(at), register.map(Wh))))
}
