//! The readings of charges that are long over, one text a session instead of a row each. What comes later still is a row beside
//! it, and counts as ever.

use std::collections::BTreeMap;

use evm_domain::{Dated, Heard, Point, PointKind, SessionId, Status, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Row, insert, union};
use crate::engine::{Db, on};
use crate::{Result, StoreError, id};

/// Readings of one kind. Of moments and values stands the first, and then the difference to the one before.
#[derive(Debug, Serialize, Deserialize)]
struct Kind {
    kind: i64,
    at: Vec<i64>,
    value: Vec<i64>,
    /// How much later than its moment each was received; left out where none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    received: Vec<Option<i64>>,
    /// How each was dated; left out where all were by the station.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dated: Vec<i64>,
}

/// Writes points as text.
fn to_text(points: &[Point]) -> Result<String> {
    let mut kinds: BTreeMap<i64, Vec<&Point>> = BTreeMap::new();
    for point in points {
        kinds.entry(point.kind as i64).or_default().push(point);
    }
    let kind = |(kind, points): (i64, Vec<&Point>)| {
        let differences = |of: &dyn Fn(&Point) -> i64| {
            let mut before = 0;
            let difference = |point: &&Point| of(point).wrapping_sub(std::mem::replace(&mut before, of(point)));
            points.iter().map(difference).collect()
        };
        let received =
            |point: &&Point| Some(point.heard.at.0).filter(|at| *at != 0).map(|at| at.wrapping_sub(point.at.0));
        let mut received: Vec<Option<i64>> = points.iter().map(received).collect();
        if received.iter().all(Option::is_none) {
            received.clear();
        }
        let mut dated: Vec<i64> = points.iter().map(|point| point.heard.date as i64).collect();
        if dated.iter().all(|date| *date == 0) {
            dated.clear();
        }
        Kind { kind, at: differences(&|point| point.at.0), value: differences(&|point| point.value), received, dated }
    };
    let kinds: Vec<Kind> = kinds.into_iter().map(kind).collect();
    serde_json::to_string(&kinds).map_err(|error| StoreError::Broken(format!("readings to be packed: {error}")))
}

/// Reads what [`to_text`] wrote, in order.
pub(super) fn from_text(text: &str) -> Result<Vec<Point>> {
    let broken = || StoreError::Broken(format!("packed readings {text:.80}"));
    let kinds: Vec<Kind> = serde_json::from_str(text).map_err(|_| broken())?;
    let mut points = Vec::new();
    for Kind { kind, at, value, received, dated } in kinds {
        let kind = PointKind::from_code(kind).ok_or_else(broken)?;
        let (mut last_at, mut last_value) = (0_i64, 0_i64);
        for (n, (at, value)) in at.iter().zip(&value).enumerate() {
            (last_at, last_value) = (last_at.wrapping_add(*at), last_value.wrapping_add(*value));
            let later = received.get(n).copied().flatten();
            let heard = Heard {
                at: Timestamp(later.map_or(0, |later| last_at.wrapping_add(later))),
                date: Dated::from_code(dated.get(n).copied().unwrap_or_default()),
            };
            points.push(Point { at: Timestamp(last_at), kind, value: last_value, heard });
        }
    }
    points.sort_unstable();
    Ok(points)
}

/// Packs the readings of charges that were made before a moment and are over, the oldest first, of so many at most. The count
/// of those that were packed comes back.
pub async fn pack_old(db: &mut Db, before: Timestamp, most: usize) -> Result<usize> {
    let (mut after, mut packed) = (String::new(), 0);
    while packed < most {
        let row: Option<(String, Option<String>)> = on!(&mut *db, conn => {
            // Ids sort by age, and each look is one step in the index.
            sqlx::query_as(
                "SELECT r.session_id, s.status FROM (SELECT session_id FROM readings WHERE session_id > $1 \
                 ORDER BY session_id LIMIT 1) AS r LEFT JOIN sessions s ON s.id = r.session_id",
            )
            .bind(&after)
            .fetch_optional(conn)
            .await?
        });
        let Some((text, status)) = row else { break };
        let session: SessionId = id(&text)?;
        if session.0.made_at() > before {
            break;
        }
        let over = |word: &str| Status::parse(word).is_some_and(|status| !status.is_live());
        if status.is_some_and(|word| over(&word)) {
            pack(db, session).await?;
            packed += 1;
        }
        after = text;
    }
    Ok(packed)
}

/// Makes one text of a session's readings.
async fn pack(db: &mut Db, session: SessionId) -> Result<()> {
    let lock = db.for_update();
    let before: Option<(String,)> = on!(&mut *db, conn => {
        let mut sql = sqlx::QueryBuilder::new("SELECT s.points FROM packed_readings s WHERE s.session_id = ");
        sql.push_bind(session.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    // Just those that go are packed: another one may come at this very moment.
    let rows: Vec<Row> = on!(&mut *db, conn => {
        sqlx::query_as("DELETE FROM readings WHERE session_id = $1 RETURNING at, kind, value, received_at, dated")
            .bind(session.to_string())
            .fetch_all(conn)
            .await?
    });
    let mut points = rows.into_iter().map(Point::try_from).collect::<Result<Vec<_>>>()?;
    if points.is_empty() {
        return Ok(());
    }
    if let Some((text,)) = before {
        points = union(from_text(&text)?, points);
    }
    points.sort_unstable();
    let text = to_text(&points)?;
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO packed_readings (session_id, points) VALUES ($1, $2) \
             ON CONFLICT (session_id) DO UPDATE SET points = excluded.points",
        )
        .bind(session.to_string())
        .bind(&text)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Makes rows of a session's readings again, where they are packed: some of them are to go elsewhere.
pub(crate) async fn unpack(db: &mut Db, session: SessionId) -> Result<()> {
    let row: Option<(String,)> = on!(&mut *db, conn => {
        sqlx::query_as("DELETE FROM packed_readings WHERE session_id = $1 RETURNING points")
            .bind(session.to_string())
            .fetch_optional(conn)
            .await?
    });
    let Some((text,)) = row else { return Ok(()) };
    let points: Vec<_> = from_text(&text)?.into_iter().map(|point| (session, point)).collect();
    insert(db, &points).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_read_back() {
        let heard = |at, date| Heard { at: Timestamp(at), date };
        let point = |at, kind, value, heard| Point { at: Timestamp(at), kind, value, heard };
        let mut points = vec![
            point(1_790_000_000_000, PointKind::MeterStart, 0, Heard::default()),
            point(1_790_000_005_000, PointKind::Register, 10, heard(1_790_000_005_035, Dated::ByStation)),
            point(1_790_000_010_000, PointKind::Register, 25, heard(1_790_000_010_000, Dated::AtReceipt)),
            point(1_790_000_010_000, PointKind::Power, -7, heard(1_790_000_000_000, Dated::WhileAway)),
            point(i64::MIN, PointKind::Net, i64::MAX, heard(i64::MAX, Dated::ByStation)),
            point(i64::MAX, PointKind::Net, i64::MIN, Heard::default()),
            point(0, PointKind::End, 1, heard(1, Dated::ByStation)),
        ];
        points.sort_unstable();
        assert_eq!(from_text(&to_text(&points).unwrap()).unwrap(), points);
        assert_eq!(from_text(&to_text(&[]).unwrap()).unwrap(), []);
        assert!(from_text("[{}]").is_err() && from_text(r#"[{"kind":99,"at":[1],"value":[1]}]"#).is_err());
    }

    #[test]
    fn an_hour_of_samples_takes_a_few_bytes_each() {
        let sample = |n: i64| {
            let at = Timestamp(1_790_000_000_000 + n * 5_000);
            let heard = Heard { at: at.plus_millis(30 + n % 50), date: Dated::ByStation };
            [(PointKind::Register, 1000 + 10 * n), (PointKind::Power, 7200 + n % 30)].map(|(kind, value)| Point {
                at,
                kind,
                value,
                heard,
            })
        };
        let points: Vec<Point> = (0..720).flat_map(sample).collect();
        let text = to_text(&points).unwrap();
        assert!(text.len() < points.len() * 12, "{} bytes of {}", text.len(), points.len());
    }
}
