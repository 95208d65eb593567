//! The answer once given to a request that may come twice.

use evm_domain::Timestamp;

use crate::Result;
use crate::engine::{Db, on};

/// How long an unfinished request holds its key: past this its process is gone. So it is where the request lies as far
/// ahead, which a clock that was wrong has written.
const IN_FLIGHT_MS: i64 = 120_000;
const DAY_MS: i64 = 86_400_000;

/// What is known of a request's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// New, and held for the caller now.
    New,
    /// The same request is under way.
    InFlight,
    /// The key came with another request.
    Other,
    /// The answer once given: HTTP status and body.
    Answer(u16, String),
    /// New, and one more than its owner may have in a day; the next may come then. Those that are known are still answered.
    TooMany(Timestamp),
}

/// Looks a key up and holds it for the caller where it is new. An owner has at most `most_a_day` new ones in a day.
pub async fn begin(
    db: &mut Db,
    owner: &str,
    key: &str,
    request_hash: &str,
    most_a_day: Option<i64>,
    now: Timestamp,
) -> Result<Known> {
    let a_day_ago = now.plus_millis(-DAY_MS);
    let held = on!(&mut *db, conn => {
        sqlx::query(
            "INSERT INTO idempotency_keys (customer_id, key, request_hash, created_at) SELECT $1, $2, $3, $4 \
             WHERE $7 < 0 OR EXISTS (SELECT 1 FROM idempotency_keys WHERE customer_id = $1 AND key = $2) \
             OR (SELECT COUNT(*) FROM idempotency_keys WHERE customer_id = $1 AND created_at > $8) < $7 \
             ON CONFLICT (customer_id, key) DO UPDATE SET created_at = excluded.created_at \
             WHERE idempotency_keys.status IS NULL AND idempotency_keys.request_hash = excluded.request_hash \
             AND (idempotency_keys.created_at < $5 OR idempotency_keys.created_at > $6)",
        )
        .bind(owner)
        .bind(key)
        .bind(request_hash)
        .bind(now.0)
        .bind(now.plus_millis(-IN_FLIGHT_MS).0)
        .bind(now.plus_millis(IN_FLIGHT_MS).0)
        .bind(most_a_day.unwrap_or(-1))
        .bind(a_day_ago.0)
        .execute(conn)
        .await?
        .rows_affected()
    });
    if held > 0 {
        return Ok(Known::New);
    }
    let known: Option<(String, Option<i32>, Option<String>)> = on!(&mut *db, conn => {
        sqlx::query_as("SELECT request_hash, status, response FROM idempotency_keys WHERE customer_id = $1 AND key = $2")
            .bind(owner)
            .bind(key)
            .fetch_optional(conn)
            .await?
    });
    let Some((hash, status, response)) = known else {
        let (oldest,): (Option<i64>,) = on!(db, conn => {
            sqlx::query_as("SELECT MIN(created_at) FROM idempotency_keys WHERE customer_id = $1 AND created_at > $2")
                .bind(owner)
                .bind(a_day_ago.0)
                .fetch_one(conn)
                .await?
        });
        return Ok(Known::TooMany(oldest.map_or(now, |oldest| Timestamp(oldest).plus_millis(DAY_MS))));
    };
    Ok(match status {
        _ if hash != request_hash => Known::Other,
        None => Known::InFlight,
        Some(status) => Known::Answer(u16::try_from(status).unwrap_or(500), response.unwrap_or_default()),
    })
}

/// Keeps the answer.
pub async fn finish(db: &mut Db, owner: &str, key: &str, status: u16, response: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE idempotency_keys SET status = $3, response = $4 WHERE customer_id = $1 AND key = $2")
            .bind(owner)
            .bind(key)
            .bind(i32::from(status))
            .bind(response)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Lets a key go: the request failed in a way that another try may mend.
pub async fn give_up(db: &mut Db, owner: &str, key: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM idempotency_keys WHERE customer_id = $1 AND key = $2 AND status IS NULL")
            .bind(owner)
            .bind(key)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Forgets keys from before a moment. The count of those forgotten comes back.
pub async fn forget(db: &mut Db, before: Timestamp) -> Result<u64> {
    Ok(on!(db, conn => {
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1")
            .bind(before.0)
            .execute(conn)
            .await?
            .rows_affected()
    }))
}
