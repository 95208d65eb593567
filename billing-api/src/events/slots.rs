//! How many streams there are, whose, and how to end them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evm_domain::CustomerId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Streams of one customer at a time.
const MOST_OF_ONE: usize = 4;
/// Streams of this node at a time.
const MOST: usize = 2_000;
/// A stream of this age gives its place to a new one of its customer: a phone that lost its line leaves dead ones behind,
/// which look alive for a while. Younger ones do not, or five clients that come back at once would end each other for ever.
pub(super) const REPLACED_AFTER: Duration = Duration::from_secs(10);
/// How long a place is waited for: the end of a connection that was closed just now is not noticed yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// The streams of this node.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In the order of their beginning.
    taken: BTreeMap<u64, Taken>,
}

struct Taken {
    customer: CustomerId,
    login: String,
    since: Instant,
    end: CancellationToken,
}

/// The place of one stream; dropped, it is free again.
pub(super) struct Slot {
    slots: Slots,
    number: u64,
    /// The stream is to end now.
    pub(super) end: CancellationToken,
}

impl Slots {
    /// A place for one more stream, where there is one or soon will be.
    pub(super) async fn take(&self, customer: CustomerId, login: &str) -> Option<Slot> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            // From here on no place that becomes free is missed.
            freed.as_mut().enable();
            if let Some(slot) = self.take_now(customer, login) {
                return Some(slot);
            }
            timeout_at(deadline, freed).await.ok()?;
        }
    }

    fn take_now(&self, customer: CustomerId, login: &str) -> Option<Slot> {
        let mut state = self.state();
        let mut own = state.taken.iter().filter(|(_, taken)| taken.customer == customer);
        let oldest = own.next().map(|(number, taken)| (*number, taken.since));
        if own.count() + 1 >= MOST_OF_ONE
            && let Some((number, since)) = oldest
        {
            if since.elapsed() < REPLACED_AFTER {
                return None;
            }
            state.taken.remove(&number).inspect(|taken| taken.end.cancel());
        }
        if state.taken.len() >= MOST {
            return None;
        }
        let (number, end) = (state.next, CancellationToken::new());
        state.next += 1;
        let taken = Taken { customer, login: login.to_owned(), since: Instant::now(), end: end.clone() };
        state.taken.insert(number, taken);
        Some(Slot { slots: self.clone(), number, end })
    }

    /// Ends the streams of a login that is over.
    pub(crate) fn end(&self, login: &str) {
        for taken in self.state().taken.values().filter(|taken| taken.login == login) {
            taken.end.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.state().taken.remove(&self.number);
        self.slots.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ended(slots: &[Slot]) -> Vec<bool> {
        slots.iter().map(|slot| slot.end.is_cancelled()).collect()
    }

    async fn four(slots: &Slots, customer: CustomerId) -> Vec<Slot> {
        let mut taken = Vec::new();
        for i in 0..MOST_OF_ONE {
            taken.push(slots.take(customer, &format!("login-{i}")).await.unwrap());
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_given_back_and_ended_by_login() {
        let slots = Slots::default();
        let customer = || CustomerId(evm_store::new_id());
        let (one, other) = (customer(), customer());
        let mut taken = four(&slots, one).await;
        assert!(slots.take(one, "login-0").await.is_none());
        assert!(slots.take(other, "x").await.is_some());
        slots.end("login-1");
        assert_eq!(ended(&taken), [false, true, false, false]);
        taken.remove(1);
        assert!(slots.take(one, "login-0").await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_takes_the_place_of_the_oldest() {
        let slots = Slots::default();
        let customer = CustomerId(evm_store::new_id());
        let mut taken = four(&slots, customer).await;
        tokio::time::advance(REPLACED_AFTER).await;
        taken.push(slots.take(customer, "new").await.unwrap());
        assert_eq!(ended(&taken), [true, false, false, false, false]);
        // What was replaced gives back no second place.
        drop(taken.remove(0));
        taken.push(slots.take(customer, "newer").await.unwrap());
        assert_eq!(ended(&taken), [true, false, false, false, false]);
        assert_eq!(slots.state().taken.len(), MOST_OF_ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_becomes_free_in_a_moment_is_waited_for() {
        let slots = Slots::default();
        let customer = CustomerId(evm_store::new_id());
        let mut taken = four(&slots, customer).await;
        let first = taken.remove(0);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        });
        assert!(slots.take(customer, "new").await.is_some());
    }
}
