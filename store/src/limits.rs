//! Limits that all nodes share: how often something may happen in a time that moves along.

use evm_domain::Timestamp;

use crate::Result;
use crate::engine::{Db, on};

/// Longest time a limit may look back.
const LONGEST_MS: i64 = 24 * 3_600_000;
/// By how much the clocks of two nodes may differ. What is further in the future was counted before a clock was set back.
const SKEW_MS: i64 = 60_000;

/// At most `most` times in any `window_ms`.
#[derive(Debug, Clone, Copy)]
pub struct Limit<'a> {
    /// What is counted, e.g. `code:phone:+97686661488`. Limits of one key count the same.
    pub key: &'a str,
    /// How often.
    pub most: i64,
    /// In how many milliseconds, a day at the longest.
    pub window_ms: i64,
}

/// Counts one more for each key, where all limits allow it. `Some`: they do not, before so many milliseconds have passed,
/// and the caller drops its transaction. The keys stay locked until its end; all callers name them in one order.
pub async fn take(db: &mut Db, limits: &[Limit<'_>], now: Timestamp) -> Result<Option<i64>> {
    let mut keys: Vec<&str> = limits.iter().map(|limit| limit.key).collect();
    keys.dedup();
    for key in &keys {
        on!(&mut *db, conn => {
            sqlx::query("INSERT INTO limit_keys (key, at) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET at = excluded.at")
                .bind(*key)
                .bind(now.0)
                .execute(conn)
                .await?;
        });
    }
    let wait = wait(db, limits, now).await?;
    if wait.is_some() {
        return Ok(wait);
    }
    for key in keys {
        on!(&mut *db, conn => {
            sqlx::query("INSERT INTO limit_hits (key, at) VALUES ($1, $2)").bind(key).bind(now.0).execute(conn).await?;
        });
    }
    Ok(None)
}

/// How many milliseconds must pass until all limits allow one more; `None`: none. Counts nothing and locks nothing.
pub async fn wait(db: &mut Db, limits: &[Limit<'_>], now: Timestamp) -> Result<Option<i64>> {
    let mut longest = None;
    for limit in limits {
        if limit.most < 1 {
            longest = longest.max(Some(limit.window_ms));
            continue;
        }
        // When this one leaves the window, there is room for one more.
        let oldest: Option<(i64,)> = on!(&mut *db, conn => {
            sqlx::query_as("SELECT at FROM limit_hits WHERE key = $1 AND at > $2 AND at <= $4 ORDER BY at DESC LIMIT 1 OFFSET $3")
                .bind(limit.key)
                .bind(now.plus_millis(-limit.window_ms).0)
                .bind(limit.most - 1)
                .bind(now.plus_millis(SKEW_MS).0)
                .fetch_optional(conn)
                .await?
        });
        longest = longest.max(oldest.map(|(at,)| (at + limit.window_ms - now.0).min(limit.window_ms)));
    }
    Ok(longest)
}

/// Begins to count anew for this key.
pub async fn reset(db: &mut Db, key: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM limit_hits WHERE key = $1").bind(key).execute(conn).await?;
    });
    Ok(())
}

/// Forgets what no limit looks back to any more.
pub async fn forget(db: &mut Db, now: Timestamp) -> Result<u64> {
    let before = now.plus_millis(-LONGEST_MS).0;
    Ok(on!(db, conn => {
        sqlx::query("DELETE FROM limit_keys WHERE at < $1").bind(before).execute(&mut *conn).await?;
        sqlx::query("DELETE FROM limit_hits WHERE at < $1").bind(before).execute(&mut *conn).await?.rows_affected()
    }))
}
