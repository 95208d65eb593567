//! How often a password may be wrong, for an address and for an identity. Beyond it a try waits its turn, and when too
//! many wait it is not looked at. Whoever comes from where the charger came from last is looked at always, so that nobody
//! can lock a charger out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evm_ports::{Pace, Paces, site};
use tokio::time::Instant;

/// Wrong passwords of one address.
const OF_ADDRESS: Pace = Pace { burst: 20, every: Duration::from_secs(1) };
/// Wrong passwords for one charger, from wherever.
const FOR_IDENTITY: Pace = Pace { burst: 60, every: Duration::from_millis(200) };
/// Most addresses, and most identities, that are counted.
const MOST_KEYS: usize = 100_000;
/// Tries of one address that may wait.
const MOST_WAITING_OF_ONE: usize = 4;
/// Tries that may wait in all.
const MOST_WAITING: usize = 1000;
/// How long a try may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The wrong passwords of late.
pub(super) struct Tries(Mutex<State>);

struct State {
    addresses: Paces<IpAddr>,
    identities: Paces<String>,
    waiting: HashMap<IpAddr, usize>,
    waiting_in_all: usize,
}

impl Default for Tries {
    fn default() -> Self {
        Self(Mutex::new(State {
            addresses: Paces::new(OF_ADDRESS, MOST_KEYS),
            identities: Paces::new(FOR_IDENTITY, MOST_KEYS),
            waiting: HashMap::new(),
            waiting_in_all: 0,
        }))
    }
}

/// One try, counted as wrong until it was right.
pub(super) struct Try<'a> {
    tries: &'a Tries,
    address: IpAddr,
    identity: &'a str,
}

impl Try<'_> {
    pub(super) fn was_right(self) {
        let mut state = self.tries.state();
        state.addresses.give_back(&self.address);
        state.identities.forget(&self.identity.to_owned());
    }
}

impl Tries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A try now, or how long until there is one.
    pub(super) fn take<'a>(&'a self, address: IpAddr, identity: &'a str) -> Result<Try<'a>, Duration> {
        let (address, now) = (site(address), Instant::now().into_std());
        let mut state = self.state();
        state.addresses.take(&address, now)?;
        if let Err(wait) = state.identities.take(&identity.to_owned(), now) {
            state.addresses.give_back(&address);
            return Err(wait);
        }
        Ok(Try { tries: self, address, identity })
    }

    /// A try, waited for until `deadline`; or how long it would take.
    pub(super) async fn wait<'a>(
        &'a self,
        address: IpAddr,
        identity: &'a str,
        deadline: Instant,
    ) -> Result<Try<'a>, Duration> {
        let mut wait = match self.take(address, identity) {
            Ok(found) => return Ok(found),
            Err(wait) => wait,
        };
        let _waiting = Waiting::begin(self, site(address)).ok_or(wait)?;
        let deadline = deadline.min(Instant::now() + LONGEST_WAIT);
        while Instant::now() + wait <= deadline {
            tokio::time::sleep(wait).await;
            match self.take(address, identity) {
                Ok(found) => return Ok(found),
                Err(longer) => wait = longer,
            }
        }
        Err(wait)
    }
}

/// One that waits.
struct Waiting<'a>(&'a Tries, IpAddr);

impl<'a> Waiting<'a> {
    fn begin(tries: &'a Tries, address: IpAddr) -> Option<Self> {
        let mut state = tries.state();
        let here = state.waiting.get(&address).copied().unwrap_or_default();
        if here >= MOST_WAITING_OF_ONE || state.waiting_in_all >= MOST_WAITING {
            return None;
        }
        state.waiting.insert(address, here + 1);
        state.waiting_in_all += 1;
        Some(Self(tries, address))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting_in_all -= 1;
        match state.waiting.get_mut(&self.1) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(state.waiting.remove(&self.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_are_counted_for_an_address_and_for_an_identity() {
        let tries = Tries::default();
        let wrong = |address: u8, identity| tries.take(ip(address), identity).map(drop);
        assert_eq!((0..500).filter(|n| wrong(1, if n % 2 == 0 { "A" } else { "B" }).is_ok()).count(), 20);
        assert!(wrong(2, "A").is_ok(), "another address goes on");
        for _ in 0..100 {
            tries.take(ip(3), "A").unwrap().was_right();
        }
        assert_eq!((0..500).filter(|n| wrong(u8::try_from(10 + n % 100).unwrap(), "C").is_ok()).count(), 60);
        assert!(wrong(200, "D").is_ok(), "another identity goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_that_a_few_wait_their_turn_and_no_more() {
        let tries = Tries::default();
        while tries.take(ip(1), "A").is_ok() {}
        let far = Instant::now() + Duration::from_secs(60);
        let began = Instant::now();
        let waits = (0..10).map(|_| async { tries.wait(ip(1), "A", far).await.map(drop) });
        let outcomes = futures_util::future::join_all(waits).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), MOST_WAITING_OF_ONE);
        assert!(began.elapsed() <= LONGEST_WAIT);
        let soon = Instant::now() + Duration::from_millis(10);
        assert!(tries.wait(ip(1), "A", soon).await.is_err());
        assert!(tries.state().waiting.is_empty() && tries.state().waiting_in_all == 0);
    }
}
