//! Which node holds the socket of which station.

use evm_domain::{ChargerId, Timestamp};
use sqlx::{AssertSqlSafe, QueryBuilder};

use crate::clock::AHEAD_MS;
use crate::engine::{Db, on};
use crate::leases::NODE_TTL_MS;
use crate::rows::push_rows;
use crate::{Result, id, now};

/// A new connection.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Whose.
    pub charger: ChargerId,
    /// `1.6` or `2.0.1`.
    pub version: &'static str,
    /// Where it comes from, see [`super::Charger::last_network`].
    pub network: String,
    /// Hash of the password that it showed, where it has earlier ones: those before this one are over.
    pub password_used: Option<String>,
}

/// A connection that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// Of which station.
    pub charger: ChargerId,
    /// Its epoch.
    pub epoch: i64,
    /// When the station was last heard before it; `None` where it never was.
    pub away_since: Option<Timestamp>,
}

/// So short a connection is a try to come back: what waits at the station is from before it.
const SHORT_MS: i64 = 10 * 60_000;

/// Notes new connections held by `node`.
pub async fn connect(db: &mut Db, new: &[&Arrival], node: &str, now: Timestamp) -> Result<Vec<Connected>> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, i64, Option<i64>)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE chargers SET epoch = epoch + 1, online = TRUE, node = ");
        sql.push_bind(node);
        sql.push(", away_since = CASE WHEN away_since IS NOT NULL AND last_seen_at - connected_at < ").push_bind(SHORT_MS);
        sql.push(" THEN away_since ELSE last_seen_at END, connected_at = ");
        sql.push_bind(now.0).push(", last_seen_at = ").push_bind(now.0);
        sql.push(", version = v.column2, last_network = v.column3 FROM (");
        push_rows(&mut sql, new, |row, arrival| {
            row.bind(arrival.charger.to_string()).bind(arrival.version).bind(&arrival.network);
        });
        sql.push(") AS v WHERE chargers.id = v.column1 RETURNING chargers.id, chargers.epoch, chargers.away_since");
        sql.build_query_as().fetch_all(conn).await?
    });
    for arrival in new {
        if let Some(used) = &arrival.password_used {
            super::passwords::was_used(db, arrival.charger, used).await?;
        }
    }
    rows.into_iter()
        .map(|(charger, epoch, since)| {
            Ok(Connected { charger: id(&charger)?, epoch, away_since: since.map(Timestamp) })
        })
        .collect()
}

/// Notes ended connections; one that is not the newest of its charger changes nothing.
pub async fn disconnect(db: &mut Db, gone: &[(ChargerId, i64)], now: Timestamp) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE chargers SET online = FALSE, node = NULL, last_seen_at = ");
        sql.push_bind(now.0).push(" FROM (");
        push_rows(&mut sql, gone, |row, (charger, epoch)| {
            row.bind(charger.to_string()).bind(*epoch);
        });
        sql.push(") AS v WHERE chargers.id = v.column1 AND chargers.epoch = v.column2");
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Marks as offline what a node held whose lease `node:{name}` ran out, by the clock that all nodes share.
pub async fn disconnect_dead_nodes(db: &mut Db) -> Result<u64> {
    let clock = db.clock_sql("$1");
    let sql = format!(
        "UPDATE chargers SET online = FALSE, node = NULL WHERE online AND NOT EXISTS (SELECT 1 FROM leases l \
         WHERE l.name = 'node:' || chargers.node AND l.expires_at BETWEEN {clock} AND {clock} + $2 + {AHEAD_MS})",
    );
    Ok(on!(db, conn => {
        sqlx::query(AssertSqlSafe(sql)).bind(now().0).bind(NODE_TTL_MS).execute(conn).await?.rows_affected()
    }))
}

/// The stations that a node is said to hold: when they connected, and their epochs.
pub async fn held_by(db: &mut Db, node: &str) -> Result<Vec<(ChargerId, Timestamp, i64)>> {
    let rows: Vec<(String, Option<i64>, i64)> = on!(db, conn => {
        sqlx::query_as("SELECT id, connected_at, epoch FROM chargers WHERE node = $1 AND online")
            .bind(node)
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(|(charger, at, epoch)| Ok((id(&charger)?, Timestamp(at.unwrap_or_default()), epoch))).collect()
}

/// Says that a node still holds these connections: another one took it for dead while it paused. A station that has
/// connected anew since then is left as it is.
pub async fn still_held(db: &mut Db, held: &[(ChargerId, i64)], node: &str) -> Result<()> {
    for held in held.chunks(1000) {
        on!(&mut *db, conn => {
            let mut sql = QueryBuilder::new("UPDATE chargers SET online = TRUE, node = ");
            sql.push_bind(node).push(" FROM (");
            push_rows(&mut sql, held, |row, (charger, epoch)| {
                row.bind(charger.to_string()).bind(*epoch);
            });
            sql.push(") AS v WHERE chargers.id = v.column1 AND chargers.epoch = v.column2 AND NOT chargers.online");
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}
