//! The evidence of every bill: a session's points.
//!
//! A session keeps so many of them. Where more come, the older half becomes figures, on which the newer ones are folded: a late
//! reading never costs more than the look at those that are kept.

mod packed;

use std::collections::BTreeMap;

use evm_domain::{Dated, Doubt, Heard, Meter, Point, PointKind, Session, SessionId, Timestamp, Wh};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::push_rows;
use crate::{Result, StoreError};

pub use packed::pack_old;
pub(crate) use packed::unpack;

/// Rows a statement; the binds of each stay far below both engines' limits.
const CHUNK: usize = 1000;

/// Keeps points. One that is there already stays; where two tell different values, the larger stays. States are numbered
/// for that, see [`evm_domain::ChargingState`]. How it came first, stays too.
pub async fn insert(db: &mut Db, points: &[(SessionId, Point)]) -> Result<()> {
    // PostgreSQL refuses to touch a row twice in one statement.
    let mut unique = BTreeMap::new();
    for (session, point) in points {
        let (value, _) = unique.entry((*session, point.at, point.kind)).or_insert((point.value, point.heard));
        *value = point.value.max(*value);
    }
    let rows: Vec<_> = unique.into_iter().collect();
    for rows in rows.chunks(CHUNK) {
        on!(db, conn => {
            let mut sql = QueryBuilder::new("INSERT INTO readings (session_id, at, kind, value, received_at, dated) ");
            push_rows(&mut sql, rows, |row, ((session, at, kind), (value, heard))| {
                row.bind(session.to_string())
                    .bind(at.0)
                    .bind(*kind as i16)
                    .bind(*value)
                    .bind(Some(heard.at.0).filter(|at| *at != 0))
                    .bind(Some(heard.date as i16).filter(|date| *date != 0));
            });
            sql.push(
                " ON CONFLICT (session_id, at, kind) DO UPDATE SET value = excluded.value WHERE excluded.value > readings.value",
            );
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}

/// Gives another session the points from a moment on and before another. `false`: there are none.
pub async fn hand_over(
    db: &mut Db,
    from: SessionId,
    to: SessionId,
    first: Timestamp,
    until: Timestamp,
) -> Result<bool> {
    unpack(db, from).await?;
    unpack(db, to).await?;
    on!(&mut *db, conn => {
        sqlx::query(
            "INSERT INTO readings (session_id, at, kind, value, received_at, dated) \
             SELECT $2, at, kind, value, received_at, dated FROM readings \
             WHERE session_id = $1 AND at >= $3 AND at < $4 ON CONFLICT (session_id, at, kind) DO NOTHING",
        )
        .bind(from.to_string())
        .bind(to.to_string())
        .bind(first.0)
        .bind(until.0)
        .execute(conn)
        .await?;
    });
    let moved = on!(db, conn => {
        sqlx::query("DELETE FROM readings WHERE session_id = $1 AND at >= $2 AND at < $3")
            .bind(from.to_string())
            .bind(first.0)
            .bind(until.0)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(moved > 0)
}

#[derive(sqlx::FromRow)]
struct Row {
    at: i64,
    kind: i16,
    value: i64,
    received_at: Option<i64>,
    dated: Option<i16>,
}

/// A reading, or all that are packed.
#[derive(sqlx::FromRow)]
struct Kept {
    points: Option<String>,
    #[sqlx(flatten)]
    row: Row,
}

impl TryFrom<Row> for Point {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let kind = PointKind::from_code(row.kind.into())
            .ok_or_else(|| StoreError::Broken(format!("reading kind {}", row.kind)))?;
        let date = Dated::from_code(row.dated.unwrap_or_default().into());
        let heard = Heard { at: Timestamp(row.received_at.unwrap_or_default()), date };
        Ok(Point { at: Timestamp(row.at), kind, value: row.value, heard })
    }
}

/// All points of a session that are kept, in order.
pub async fn of(db: &mut Db, session: SessionId) -> Result<Vec<Point>> {
    // In one statement, for they may be packed at this very moment.
    let rows: Vec<Kept> = on!(db, conn => {
        sqlx::query_as(
            "SELECT CAST(NULL AS TEXT) AS points, at, kind, value, received_at, dated FROM readings WHERE session_id = $1 UNION ALL \
             SELECT points, CAST(0 AS BIGINT), CAST(0 AS SMALLINT), CAST(0 AS BIGINT), CAST(NULL AS BIGINT), \
             CAST(NULL AS SMALLINT) FROM packed_readings WHERE session_id = $1",
        )
        .bind(session.to_string())
        .fetch_all(conn)
        .await?
    });
    let (mut points, mut packed) = (Vec::with_capacity(rows.len()), Vec::new());
    for kept in rows {
        match kept.points {
            Some(text) => packed = packed::from_text(&text)?,
            None => points.push(kept.row.try_into()?),
        }
    }
    if !packed.is_empty() {
        points = union(packed, points);
    }
    points.sort_unstable();
    Ok(points)
}

/// Points that were told at two times: of one moment and kind the larger value stays, and how it came first.
fn union(first: Vec<Point>, later: Vec<Point>) -> Vec<Point> {
    let mut unique: BTreeMap<(Timestamp, PointKind), Point> = BTreeMap::new();
    for point in first.into_iter().chain(later) {
        let kept = unique.entry((point.at, point.kind)).or_insert(point);
        kept.value = kept.value.max(point.value);
    }
    unique.into_values().collect()
}

/// Makes a session's figures anew from its points. What is dated before the points that are kept changes nothing; where it
/// might have, that is a doubt.
pub async fn fold(db: &mut Db, session: &mut Session) -> Result<()> {
    let points = of(db, session.id).await?;
    let Some((at, mut base)) = base_of(db, session.id).await? else {
        let kept = points.len();
        session.fold(points);
        session.meter.kept = i64::try_from(kept).unwrap_or(i64::MAX);
        return Ok(());
    };
    let (older, newer): (Vec<Point>, Vec<Point>) = points.into_iter().partition(|point| point.at <= at);
    if !older.is_empty() {
        let matter = older.iter().filter(|point| session.counts(point) && may_matter(point, &base)).count();
        base.left_out = base.left_out.saturating_add(i64::try_from(matter).unwrap_or(i64::MAX));
        if base.left_out > 0 {
            let kept = i64::try_from(newer.len()).unwrap_or(i64::MAX);
            base.told_doubts.raise(Doubt::TooManyReadings, [base.left_out, kept]);
        }
        keep_base(db, session.id, at, &base).await?;
    }
    let kept = newer.len();
    session.fold_on(base, newer);
    session.meter.kept = i64::try_from(kept).unwrap_or(i64::MAX);
    Ok(())
}

fn may_matter(point: &Point, base: &Meter) -> bool {
    match point.kind {
        PointKind::State | PointKind::Interval | PointKind::Net => true,
        PointKind::Power | PointKind::Soc => false,
        _ => {
            let value = Some(Wh(point.value));
            value > base.register || value < base.baseline
        }
    }
}

/// Makes figures of the older half of a session's points.
pub async fn thin(db: &mut Db, session: &mut Session) -> Result<()> {
    let points = of(db, session.id).await?;
    let (_, base) = base_of(db, session.id).await?.unwrap_or_default();
    let middle = points.get(points.len() / 2).map(|point| point.at).unwrap_or_default();
    let (older, newer): (Vec<Point>, Vec<Point>) = points.into_iter().partition(|point| point.at < middle);
    session.meter.kept = i64::try_from(newer.len()).unwrap_or(i64::MAX);
    let Some(at) = older.last().map(|point| point.at) else { return Ok(()) };
    let base = session.fold_older(base, older);
    keep_base(db, session.id, at, &base).await
}

/// A session's figures up to a moment; `None` where all of its points are kept.
async fn base_of(db: &mut Db, session: SessionId) -> Result<Option<(Timestamp, Meter)>> {
    let row: Option<(i64, String)> = on!(db, conn => {
        sqlx::query_as("SELECT at, figures FROM reading_bases WHERE session_id = $1")
            .bind(session.to_string())
            .fetch_optional(conn)
            .await?
    });
    let broken = |text: &str| StoreError::Broken(format!("figures {text:?}"));
    row.map(|(at, text)| Ok((Timestamp(at), Meter::from_text(&text).map_err(|_| broken(&text))?))).transpose()
}

async fn keep_base(db: &mut Db, session: SessionId, at: Timestamp, base: &Meter) -> Result<()> {
    unpack(db, session).await?;
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO reading_bases (session_id, at, figures) VALUES ($1, $2, $3) \
             ON CONFLICT (session_id) DO UPDATE SET at = excluded.at, figures = excluded.figures",
        )
        .bind(session.to_string())
        .bind(at.0)
        .bind(base.to_text())
        .execute(&mut *conn)
        .await?;
        sqlx::query("DELETE FROM readings WHERE session_id = $1 AND at <= $2")
            .bind(session.to_string())
            .bind(at.0)
            .execute(conn)
            .await?;
    });
    Ok(())
}
