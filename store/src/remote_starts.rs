//! What operators' commands asked stations to begin, and with which tag: some tell only the number back (2.0.1).

use evm_domain::{ChargerId, SessionId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_rows;
use crate::{Result, id};

/// A tag that a station was asked to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The station.
    pub charger: ChargerId,
    /// The number that it tells back.
    pub remote_start_id: i64,
    /// The tag, in upper case.
    pub id_tag: String,
    /// What it began, once that was told: a number is good for one transaction.
    pub session: Option<SessionId>,
}

/// Notes what a station is about to be asked. The newest of a number counts.
pub async fn keep(db: &mut Db, asked: &Asked, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO remote_starts (charger_id, remote_start_id, id_tag, asked_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (charger_id, remote_start_id) DO UPDATE SET id_tag = excluded.id_tag, \
             asked_at = excluded.asked_at, session_id = NULL",
        )
        .bind(asked.charger.to_string())
        .bind(asked.remote_start_id)
        .bind(&asked.id_tag)
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Those of these numbers that their stations were asked with.
pub async fn find(db: &mut Db, wanted: &[(ChargerId, i64)]) -> Result<Vec<Asked>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, i64, String, Option<String>)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT r.charger_id, r.remote_start_id, r.id_tag, r.session_id FROM (");
        push_rows(&mut sql, wanted, |row, (charger, number)| {
            row.bind(charger.to_string()).bind(*number);
        });
        sql.push(") AS v JOIN remote_starts r ON r.charger_id = v.column1 AND r.remote_start_id = v.column2");
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter()
        .map(|(charger, remote_start_id, id_tag, session)| {
            let session = session.map(|session| id(&session)).transpose()?;
            Ok(Asked { charger: id(&charger)?, remote_start_id, id_tag, session })
        })
        .collect()
}

/// Notes what these numbers began.
pub async fn use_up(db: &mut Db, begun: &[Asked]) -> Result<()> {
    for asked in begun {
        on!(db, conn => {
            sqlx::query(
                "UPDATE remote_starts SET session_id = $3 \
                 WHERE charger_id = $1 AND remote_start_id = $2 AND session_id IS NULL",
            )
            .bind(asked.charger.to_string())
            .bind(asked.remote_start_id)
            .bind(asked.session.map(|session| session.to_string()))
            .execute(conn)
            .await?;
        });
    }
    Ok(())
}

/// Forgets what was asked before a moment.
pub async fn forget(db: &mut Db, before: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM remote_starts WHERE asked_at < $1").bind(before.0).execute(conn).await?;
    });
    Ok(())
}
