//! Leaves a gateway alone that fails again and again, so that customers are told at once instead of after a timeout.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::QpayError;

/// Opens after so many failures in a row; after a pause lets one call through to see.
pub(super) struct Breaker {
    limit: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failed: u32,
    open_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    pub(super) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit: limit.max(1), pause, state: Mutex::default() }
    }

    /// Lets a call through, or says that the gateway is left alone.
    pub(super) fn enter(&self) -> Result<Entered<'_>, QpayError> {
        let mut state = self.state();
        let probe = match state.open_until {
            None => false,
            Some(until) if Instant::now() < until || state.probing => return Err(QpayError::BreakerOpen),
            Some(_) => true,
        };
        state.probing |= probe;
        Ok(Entered { breaker: self, probe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way. Dropped without an end (the caller went away) it says nothing about the gateway.
pub(super) struct Entered<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Entered<'_> {
    /// The gateway did its part, be it to refuse.
    pub(super) fn succeeded(self) {
        let mut state = self.breaker.state();
        if state.open_until.take().is_some() {
            tracing::info!("the payment gateway answers again");
        }
        state.failed = 0;
    }

    /// The gateway was not reached or did not do its part.
    pub(super) fn failed(self) {
        let mut state = self.breaker.state();
        state.failed = state.failed.saturating_add(1);
        // Calls that began before it opened and fail late do not keep it open longer.
        if self.probe || (state.failed >= self.breaker.limit && state.open_until.is_none()) {
            tracing::warn!(failed = state.failed, pause = ?self.breaker.pause, "the payment gateway is left alone");
            state.open_until = Some(Instant::now() + self.breaker.pause);
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_closes_after_one_good_probe() {
        let breaker = Breaker::new(2, PAUSE);
        breaker.enter().unwrap().failed();
        breaker.enter().unwrap().succeeded();
        breaker.enter().unwrap().failed();
        let late = breaker.enter().unwrap();
        breaker.enter().unwrap().failed();
        assert_eq!(breaker.enter().err(), Some(QpayError::BreakerOpen));
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        late.failed();
        assert!(breaker.enter().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        let probe = breaker.enter().unwrap();
        assert!(breaker.enter().is_err(), "one probe at a time");
        probe.failed();
        assert!(breaker.enter().is_err(), "a failed probe opens it again");
        tokio::time::advance(PAUSE).await;
        drop(breaker.enter().unwrap());
        breaker.enter().expect("a probe that was given up leaves its place").succeeded();
        let (one, two) = (breaker.enter(), breaker.enter());
        assert!(one.is_ok() && two.is_ok());
    }
}
