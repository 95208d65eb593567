//! How many streams there are, whose, and how to end them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use evm_domain::CustomerId;
use tokio_util::sync::CancellationToken;

/// Streams of one customer at a time.
const MOST_OF_ONE: usize = 4;
/// Streams of this node at a time.
const MOST: usize = 2_000;

/// The streams of this node.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    customer: CustomerId,
    login: String,
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
    /// A place for one more stream, where there is one.
    pub(super) fn take(&self, customer: CustomerId, login: &str) -> Option<Slot> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = state.taken.values().filter(|taken| taken.customer == customer).count();
        if of_one >= MOST_OF_ONE || state.taken.len() >= MOST {
            return None;
        }
        let (number, end) = (state.next, CancellationToken::new());
        state.next += 1;
        state.taken.insert(number, Taken { customer, login: login.to_owned(), end: end.clone() });
        Some(Slot { slots: self.clone(), number, end })
    }

    /// Ends the streams of a login that is over.
    pub(crate) fn end(&self, login: &str) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for taken in state.taken.values().filter(|taken| taken.login == login) {
            taken.end.cancel();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_bounded_given_back_and_ended_by_login() {
        let slots = Slots::default();
        let customer = || CustomerId(evm_store::new_id());
        let (one, other) = (customer(), customer());
        let mut taken: Vec<_> = (0..MOST_OF_ONE).map(|i| slots.take(one, &format!("login-{i}")).unwrap()).collect();
        assert!(slots.take(one, "login-0").is_none());
        assert!(slots.take(other, "x").is_some());
        slots.end("login-1");
        let ended: Vec<_> = taken.iter().map(|slot| slot.end.is_cancelled()).collect();
        assert_eq!(ended, [false, true, false, false]);
        taken.remove(1);
        assert!(slots.take(one, "login-0").is_some());
    }
}
