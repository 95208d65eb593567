//! The places of a port. Whoever has not said yet who they are (a stranger) makes room when a place is wanted: first the
//! oldest stranger of the address that holds most of them. So those who are known stay, and one address crowds out
//! nobody but itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::address::site;

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub all: usize,
    /// For one address (see [`site`]), known and strangers together.
    pub of_one: usize,
}

/// All places of one port.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next: u64,
    addresses: HashMap<IpAddr, Address>,
    /// Addresses with strangers: how many, the oldest one's number, the address. The last makes room first.
    crowds: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

#[derive(Debug, Default)]
struct Address {
    taken: usize,
    /// By the order in which they came.
    strangers: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// Places, all of them free.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// A place for a stranger from this address. `None`: all are taken by those who are known.
    /// Of the addresses that `shared` says stand for many clients, as a proxy does, one may hold all.
    pub fn enter(&self, address: IpAddr, shared: bool) -> Option<Place> {
        let address = site(address);
        let limits = self.0.limits;
        let mut state = self.0.state();
        let here = state.addresses.get(&address).map_or(0, |here| here.taken);
        if !shared && here >= limits.of_one && !state.shed_of(address) {
            return None;
        }
        if state.taken >= limits.all && !state.shed() {
            return None;
        }
        let number = state.next;
        let shed = CancellationToken::new();
        state.next += 1;
        state.taken += 1;
        state.change(address, |here| {
            here.taken += 1;
            here.strangers.insert(number, shed.clone());
        });
        drop(state);
        Some(Place { shared: self.0.clone(), address, number, shed })
    }

    /// Ends the stranger whose turn it is, if there is any.
    pub fn shed(&self) -> bool {
        self.0.state().shed()
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.state().taken
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes what is known of an address and keeps the order of the crowds.
    fn change<T>(&mut self, address: IpAddr, change: impl FnOnce(&mut Address) -> T) -> T {
        let here = self.addresses.entry(address).or_default();
        let before = here.rank(address);
        let changed = change(here);
        let (after, empty) = (here.rank(address), here.taken == 0);
        if before != after {
            before.map(|before| self.crowds.remove(&before));
            after.map(|after| self.crowds.insert(after));
        }
        if empty {
            self.addresses.remove(&address);
        }
        changed
    }

    fn shed(&mut self) -> bool {
        let most = self.crowds.last().map(|(_, _, address)| *address);
        most.is_some_and(|address| self.shed_of(address))
    }

    fn shed_of(&mut self, address: IpAddr) -> bool {
        let oldest = self.change(address, |here| {
            let oldest = here.strangers.pop_first();
            here.taken -= usize::from(oldest.is_some());
            oldest
        });
        self.taken -= usize::from(oldest.is_some());
        oldest.is_some_and(|(_, shed)| {
            shed.cancel();
            true
        })
    }
}

impl Address {
    fn rank(&self, address: IpAddr) -> Option<(usize, Reverse<u64>, IpAddr)> {
        let (oldest, _) = self.strangers.first_key_value()?;
        Some((self.strangers.len(), Reverse(*oldest), address))
    }
}

/// One place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    number: u64,
    shed: CancellationToken,
}

impl Place {
    /// Ends when the place was given to somebody else.
    pub async fn shed(&self) {
        self.shed.cancelled().await;
    }

    /// No stranger any more: the place is kept. `false`: it was given away already.
    pub fn keep(&self) -> bool {
        let mut state = self.shared.state();
        if !self.shed.is_cancelled() {
            state.change(self.address, |here| here.strangers.remove(&self.number));
        }
        !self.shed.is_cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if !self.shed.is_cancelled() {
            state.taken -= 1;
            state.change(self.address, |here| {
                here.taken -= 1;
                here.strangers.remove(&self.number);
            });
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

    fn places(all: usize, of_one: usize) -> Places {
        Places::new(Limits { all, of_one })
    }

    fn enter(places: &Places, address: u8) -> Place {
        places.enter(ip(address), false).unwrap()
    }

    #[test]
    fn an_address_at_its_limit_loses_its_own_oldest_stranger() {
        let places = places(10, 2);
        let (first, second, other) = (enter(&places, 1), enter(&places, 1), enter(&places, 2));
        let third = enter(&places, 1);
        let shed = [&first, &second, &third, &other].map(|place| place.shed.is_cancelled());
        assert_eq!(shed, [true, false, false, false]);
        assert_eq!(places.taken(), 3);
        drop((first, second, third, other));
        assert_eq!(places.taken(), 0);
        assert!(places.0.state().addresses.is_empty() && places.0.state().crowds.is_empty());
    }

    #[test]
    fn in_a_full_port_the_largest_crowd_makes_room() {
        let places = places(4, 4);
        let crowd = [enter(&places, 1), enter(&places, 1), enter(&places, 1)];
        let quiet = enter(&places, 2);
        let newest = enter(&places, 3);
        assert_eq!(crowd.each_ref().map(|place| place.shed.is_cancelled()), [true, false, false]);
        let again = enter(&places, 3);
        assert_eq!(crowd.each_ref().map(|place| place.shed.is_cancelled()), [true, true, false]);
        assert!(!quiet.shed.is_cancelled() && !newest.shed.is_cancelled() && !again.shed.is_cancelled());
        assert_eq!(places.taken(), 4);
    }

    #[test]
    fn whoever_is_known_stays() {
        let places = places(2, 2);
        let (known, stranger) = (enter(&places, 1), enter(&places, 1));
        assert!(known.keep());
        let next = enter(&places, 1);
        assert!(!known.shed.is_cancelled() && stranger.shed.is_cancelled());
        assert!(!stranger.keep(), "too late");
        assert!(next.keep() && next.keep());
        assert!(places.enter(ip(1), false).is_none() && places.enter(ip(2), false).is_none());
        drop(known);
        assert!(places.enter(ip(2), false).is_some());
    }

    #[test]
    fn a_proxy_may_hold_all() {
        let places = places(3, 1);
        let held: Vec<_> = (0..3).map(|_| places.enter(ip(1), true).unwrap()).collect();
        assert!(held.iter().all(|place| !place.shed.is_cancelled()));
        assert!(places.shed());
        assert!(held[0].shed.is_cancelled());
    }
}
