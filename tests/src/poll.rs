//! Waiting for a condition, with a deadline, never for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long the tests wait for what should happen soon. Long, because slow machines run many tests at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks `probe` again and again until it gives a value; panics after `limit`, naming `what` did not come.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// [`until`] with the usual deadline.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    until(what, SOON, probe).await
}
