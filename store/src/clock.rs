//! The machine's clock, what it is held against, and what a clock that was wrong for a while has left behind.
//!
//! Charges and money are dated by the machine's clock. What decides between nodes (leases) goes by the database's. A
//! time that was written while the clock was ahead is not waited for once the clock is right.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evm_domain::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Result;
use crate::engine::{Db, Store, on};
use crate::invoices::CLAIM_MS;

/// What lies further ahead than this was written by a clock that was ahead. Clocks of good nodes differ by less.
pub(crate) const AHEAD_MS: i64 = 5_000;
/// How often the clock is held against the time that has passed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And how often against the database's.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// From here on a difference of clocks is worth a word.
pub const CLOCK_OFF_MS: i64 = 2_000;
/// A push message waits an hour for its next try, at most and with some chance in it.
const LONGEST_PUSH_WAIT_MS: i64 = 3_600_000 * 5 / 4;

/// Now, by the machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).plus_millis(moved_ms())
}

/// A test moves the clock of a running program: `EVM_TEST_CLOCK` names a file with the milliseconds. Debug builds only.
#[cfg(debug_assertions)]
fn moved_ms() -> i64 {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("EVM_TEST_CLOCK").map(PathBuf::from));
    let text = FILE.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

#[cfg(not(debug_assertions))]
fn moved_ms() -> i64 {
    0
}

/// Now by PostgreSQL's clock.
const POSTGRES_CLOCK: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

impl Db {
    /// Now, by the clock that all nodes share, as a piece of a statement: the database's. SQLite has one process, whose
    /// own clock the caller binds as `bound`.
    pub(crate) fn clock_sql(&self, bound: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => bound,
            Self::Postgres(_) => POSTGRES_CLOCK,
        }
    }
}

impl Store {
    /// How many milliseconds this machine's clock is ahead of the database's, negative behind it; less what the question
    /// itself may have taken. 0 where they are one.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn clock_ahead_ms(&self) -> Result<i64> {
        let Self::Postgres(pool) = self else { return Ok(0) };
        let mut connection = pool.acquire().await?;
        let asked = Instant::now();
        let question = AssertSqlSafe(format!("SELECT {POSTGRES_CLOCK}"));
        let (theirs,): (i64,) = sqlx::query_as(question).fetch_one(&mut *connection).await?;
        let took_ms = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = (now().0 - theirs).saturating_sub(took_ms / 2);
        Ok(ahead.signum() * ahead.abs().saturating_sub(took_ms / 2).max(0))
    }

    /// Holds the clock against the time that passes, from this call on, and against the database's, says where it is off,
    /// and mends what it left behind when it goes back. Never ends.
    pub fn watch_clock(self) -> impl Future<Output = ()> + Send {
        let mut watch = Watch::new();
        async move {
            let mut compared: Option<Instant> = None;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let step = watch.step_ms();
                if step != 0 {
                    tracing::warn!(seconds = step / 1000, "the machine's clock was moved");
                    compared = None;
                }
                if step < 0 {
                    self.mend_times().await;
                }
                if compared.is_none_or(|at| at.elapsed() >= COMPARE_EVERY) {
                    compared = Some(Instant::now());
                    self.compare_clocks().await;
                }
            }
        }
    }

    async fn compare_clocks(&self) {
        match self.clock_ahead_ms().await {
            Ok(ahead) if ahead.abs() >= CLOCK_OFF_MS => {
                tracing::warn!(
                    ahead_s = ahead / 1000,
                    "the machine's clock differs from the database's: set it right, best by NTP"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the clocks are not compared"),
        }
    }

    /// Pulls back to now what waits for a time that was written while the clock was ahead. Each for itself: what cannot be
    /// mended is waited for.
    pub async fn mend_times(&self) {
        let now = now();
        for (what, longest_ms, sql) in MENDING {
            match self.mend(sql, now, longest_ms).await {
                Ok(0) => {}
                Ok(rows) => tracing::warn!(what, rows, "times of a clock that was ahead are not waited for"),
                Err(error) => tracing::warn!(what, %error, "times of a clock that was ahead may be waited for"),
            }
        }
    }

    async fn mend(&self, sql: &'static str, now: Timestamp, longest_ms: i64) -> Result<u64> {
        let mut db = self.begin().await?;
        let rows = on!(&mut db, conn => {
            sqlx::query(sql).bind(now.0).bind(now.plus_millis(longest_ms).0).execute(conn).await?.rows_affected()
        });
        db.commit().await?;
        Ok(rows)
    }
}

/// What waits for a time, how far ahead that may lie, and what brings it back: $1 is now, $2 the latest that it may be. What
/// was done (bills, bookings, readings) keeps its time, right or wrong.
const MENDING: [(&str, i64, &str); 12] = [
    ("limits", AHEAD_MS, "DELETE FROM limit_hits WHERE at > $2"),
    (
        "codes",
        AHEAD_MS,
        "UPDATE phone_codes SET expires_at = $1 + (expires_at - created_at), created_at = $1 WHERE created_at > $2",
    ),
    (
        "checks of invoices",
        AHEAD_MS,
        "UPDATE invoices SET next_check_at = $1 WHERE next_check_at > $1 AND COALESCE(checked_at, created_at) > $2",
    ),
    (
        "checks made",
        AHEAD_MS,
        "UPDATE invoices SET checked_at = NULL WHERE next_check_at IS NOT NULL AND checked_at > $2",
    ),
    (
        "claims of invoices",
        CLAIM_MS,
        "UPDATE invoices SET claimed_until = $1 WHERE next_check_at IS NOT NULL AND claimed_until > $2",
    ),
    (
        "refunds",
        AHEAD_MS,
        // As `refunds::claim` waits.
        "UPDATE gateway_payments SET refund_next_at = $1 WHERE refund = 'requested' AND refund_next_at > $2 + \
         CASE WHEN refund_tries > 7 THEN 3600000 ELSE 15000 * (1 << refund_tries) END",
    ),
    (
        "push messages",
        LONGEST_PUSH_WAIT_MS,
        "UPDATE outbox SET push_next_at = $1 WHERE pushed_at IS NULL AND push_next_at > $2",
    ),
    (
        "starts",
        AHEAD_MS,
        "UPDATE sessions SET version = version + 1, requested_at = $1 WHERE status = 'requested' AND requested_at > $2",
    ),
    (
        "charges heard",
        AHEAD_MS,
        "UPDATE sessions SET version = version + 1, heard_at = $1 WHERE status IN ('requested', 'active') AND heard_at > $2",
    ),
    (
        "stops",
        AHEAD_MS,
        "UPDATE sessions SET version = version + 1, stop_asked_at = NULL WHERE status IN ('requested', 'active') AND stop_asked_at > $2",
    ),
    (
        "chargers",
        AHEAD_MS,
        "UPDATE chargers SET last_seen_at = $1, connected_at = CASE WHEN connected_at > $1 THEN $1 ELSE connected_at END \
         WHERE last_seen_at > $2 OR connected_at > $2",
    ),
    ("connectors", AHEAD_MS, "UPDATE connectors SET at = $1 WHERE at > $2"),
];

/// Tells how far the clock was moved beside the time that passed.
struct Watch {
    began: Instant,
    wall: Timestamp,
}

impl Watch {
    fn new() -> Self {
        Self { began: Instant::now(), wall: now() }
    }

    /// Milliseconds that the clock was moved since the last look, negative for back; 0 where it only drifts.
    fn step_ms(&mut self) -> i64 {
        self.step_at(now())
    }

    fn step_at(&mut self, wall: Timestamp) -> i64 {
        let passed_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let step = wall.0 - self.wall.0 - passed_ms;
        *self = Self { began: Instant::now(), wall };
        if step.abs() >= CLOCK_OFF_MS { step } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_is_told_from_one_that_runs() {
        let mut watch = Watch { began: Instant::now(), wall: Timestamp(1_000_000) };
        assert_eq!(watch.step_at(Timestamp(1_000_100)), 0);
        let hour = watch.step_at(Timestamp(4_600_100));
        assert!((3_599_000..=3_600_000).contains(&hour), "{hour}");
        let back = watch.step_at(Timestamp(1_000_100));
        assert!((-3_601_000..=-3_600_000).contains(&back), "{back}");
        assert_eq!(watch.step_at(Timestamp(1_000_200)), 0);
    }
}
