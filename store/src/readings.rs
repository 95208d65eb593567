//! The evidence of every bill: a session's points.

use std::collections::BTreeMap;

use evm_domain::{Point, PointKind, SessionId, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_rows;
use crate::{Result, StoreError};

/// Rows a statement; five binds each stay far below both engines' limits.
const CHUNK: usize = 1000;

/// Keeps points. One that is there already stays; where two tell different values, the larger stays. States are numbered
/// for that, see [`evm_domain::ChargingState`].
pub async fn insert(db: &mut Db, points: &[(SessionId, Point)]) -> Result<()> {
    // PostgreSQL refuses to touch a row twice in one statement.
    let mut unique = BTreeMap::new();
    for (session, point) in points {
        let value = unique.entry((*session, point.at, point.kind)).or_insert(point.value);
        *value = point.value.max(*value);
    }
    let rows: Vec<_> = unique.into_iter().collect();
    for rows in rows.chunks(CHUNK) {
        on!(db, conn => {
            let mut sql = QueryBuilder::new("INSERT INTO readings (session_id, at, kind, value) ");
            push_rows(&mut sql, rows, |row, ((session, at, kind), value)| {
                row.bind(session.to_string()).bind(at.0).bind(*kind as i16).bind(*value);
            });
            sql.push(
                " ON CONFLICT (session_id, at, kind) DO UPDATE SET value = excluded.value WHERE excluded.value > readings.value",
            );
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}

/// All points of a session, in order.
pub async fn of(db: &mut Db, session: SessionId) -> Result<Vec<Point>> {
    let rows: Vec<(i64, i16, i64)> = on!(db, conn => {
        sqlx::query_as("SELECT at, kind, value FROM readings WHERE session_id = $1 ORDER BY at, kind")
            .bind(session.to_string())
            .fetch_all(conn)
            .await?
    });
    rows.into_iter()
        .map(|(at, kind, value)| {
            let kind =
                PointKind::from_code(kind.into()).ok_or_else(|| StoreError::Broken(format!("reading kind {kind}")))?;
            Ok(Point { at: Timestamp(at), kind, value })
        })
        .collect()
}
