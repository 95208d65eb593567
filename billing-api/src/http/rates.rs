//! How many requests a second an address and a customer may make. Each node counts for itself.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use evm_domain::CustomerId;
use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::address;
use super::problem::{Answer, Code, Problem};
use crate::App;

/// Requests that may come at once, in seconds of the rate.
const BURST_S: u32 = 4;
/// What one call of a login costs, in other calls.
const LOGIN_COSTS: u32 = 10;
/// Most addresses, and most customers, that are remembered.
const MOST_KEYS: usize = 100_000;

/// The limits of this node.
pub(crate) struct Rates {
    addresses: Option<Limiter<IpAddr>>,
    customers: Option<Limiter<CustomerId>>,
}

impl Rates {
    /// Requests a second; 0: as many as come.
    pub(crate) fn new(per_address: u32, per_customer: u32) -> Self {
        Self {
            addresses: Limiter::new(per_address, MonotonicClock),
            customers: Limiter::new(per_customer, MonotonicClock),
        }
    }

    /// Counts one request of a customer.
    pub(crate) fn customer(&self, customer: CustomerId) -> Answer<()> {
        self.customers.as_ref().map_or(Ok(()), |limiter| limiter.check(customer, 1))
    }

    /// Forgets who has been quiet.
    pub(crate) fn forget_quiet(&self) {
        self.addresses.as_ref().map(Limiter::forget_quiet);
        self.customers.as_ref().map(Limiter::forget_quiet);
    }
}

/// Stands around all routes: says where a request comes from, and counts it.
pub(crate) async fn layer(State(app): State<App>, mut request: Request, next: Next) -> Answer<Response> {
    let client = address::client(&request, &app.config.trusted_proxies);
    request.extensions_mut().insert(client);
    let path = request.uri().path();
    if let Some(addresses) = &app.rates.addresses
        && !matches!(path, "/livez" | "/readyz")
    {
        let login = path.ends_with("/user/otp-request") || path.ends_with("/user/otp-check");
        addresses.check(address::network(client.0), if login { LOGIN_COSTS } else { 1 })?;
    }
    Ok(next.run(request).await)
}

type Buckets<K, C> =
    RateLimiter<K, HashMapStateStore<K>, C, governor::middleware::NoOpMiddleware<<C as Clock>::Instant>>;

struct Limiter<K: Hash + Eq + Clone, C: Clock + Clone = MonotonicClock> {
    buckets: RwLock<Buckets<K, C>>,
    quota: Quota,
    clock: C,
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Limiter<K, C> {
    fn new(per_second: u32, clock: C) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        // A login must fit, whatever the rate.
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_S)?).max(NonZeroU32::new(LOGIN_COSTS)?);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let buckets = RwLock::new(RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()));
        Some(Self { buckets, quota, clock })
    }

    fn check(&self, key: K, costs: u32) -> Answer<()> {
        let costs = NonZeroU32::new(costs).unwrap_or(NonZeroU32::MIN);
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let outcome = buckets.check_key_n(&key, costs);
        let full = buckets.len() > MOST_KEYS;
        drop(buckets);
        if full {
            self.make_room();
        }
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(refusal(until.wait_time_from(self.clock.now()))),
            // Never allowed; the burst is at least the dearest call.
            Err(_) => Err(refusal(Duration::from_secs(1))),
        }
    }

    fn forget_quiet(&self) {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.retain_recent();
        buckets.shrink_to_fit();
    }

    /// Memory is bounded, so whoever commands more addresses than that is not held by this limit: all begin anew.
    fn make_room(&self) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() <= MOST_KEYS {
            return;
        }
        buckets.retain_recent();
        if buckets.len() > MOST_KEYS / 2 {
            tracing::warn!(keys = buckets.len(), "too many addresses or customers to count the requests of each");
            *buckets = RateLimiter::new(self.quota, HashMapStateStore::default(), self.clock.clone());
        }
    }
}

fn refusal(wait: Duration) -> Problem {
    // A part of a millisecond counts as one.
    let wait_ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    Problem::from(Code::TooManyRequests).retry_after_ms(wait_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse;
    use governor::clock::FakeRelativeClock;

    fn limiter(per_second: u32) -> (Limiter<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(per_second, clock.clone()).unwrap(), clock)
    }

    fn waits(answer: Answer<()>) -> Option<u64> {
        let response = answer.err()?.into_response();
        response.headers()[RETRY_AFTER].to_str().unwrap().parse().ok()
    }

    #[test]
    fn a_burst_then_the_rate_and_nobody_else_is_held_up() {
        let (limiter, clock) = limiter(5);
        for _ in 0..20 {
            assert!(limiter.check(1, 1).is_ok());
        }
        assert_eq!(waits(limiter.check(1, 1)), Some(1));
        assert_eq!(waits(limiter.check(1, LOGIN_COSTS)), Some(2));
        assert!(limiter.check(2, 1).is_ok());
        clock.advance(Duration::from_secs(2));
        assert!(limiter.check(1, LOGIN_COSTS).is_ok());
        assert_eq!(waits(limiter.check(1, 1)), Some(1));
    }

    #[test]
    fn a_login_fits_whatever_the_rate() {
        let (limiter, _) = limiter(1);
        assert!(limiter.check(1, LOGIN_COSTS).is_ok());
        assert!(Limiter::<u32, _>::new(0, FakeRelativeClock::default()).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, clock) = limiter(1);
        let len = || limiter.buckets.read().unwrap().len();
        for key in 0..1000 {
            assert!(limiter.check(key, 1).is_ok());
        }
        assert_eq!(len(), 1000);
        clock.advance(Duration::from_secs(60));
        limiter.forget_quiet();
        assert_eq!(len(), 0);
        for key in 0..=u32::try_from(MOST_KEYS).unwrap() {
            assert!(limiter.check(key, 1).is_ok());
        }
        assert!(len() <= MOST_KEYS);
    }
}
