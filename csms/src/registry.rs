//! The sockets that this node holds: who to close when a newer one comes, and when each was last heard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use evm_domain::{ChargerId, Timestamp};
use tokio_util::sync::CancellationToken;

/// Why the central system ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A newer connection has taken its place.
    Replaced,
    /// What the station says cannot be stored now.
    StoreDown,
    /// No command reaches this node.
    Severed,
    /// Its long message comes more slowly than others, which wait for room.
    Slow,
    /// The program ends.
    Shutdown,
}

/// One connection, as others on this node see it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) epoch: i64,
    /// Cancelled when the connection is to end.
    pub(crate) ended: CancellationToken,
    why: OnceLock<Why>,
    began: Instant,
    /// Milliseconds since it began: the machine's clock may be moved meanwhile.
    last_seen: AtomicU64,
}

impl Held {
    /// A connection that also ends with the program.
    pub(crate) fn new(epoch: i64, shutdown: &CancellationToken) -> Arc<Self> {
        let (ended, why) = (shutdown.child_token(), OnceLock::new());
        Arc::new(Self { epoch, ended, why, began: Instant::now(), last_seen: AtomicU64::new(0) })
    }

    pub(crate) fn heard(&self) {
        self.last_seen.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago anything was heard.
    fn quiet_ms(&self) -> u64 {
        self.age_ms().saturating_sub(self.last_seen.load(Ordering::Relaxed))
    }

    /// Ends it; the first reason counts.
    pub(crate) fn end(&self, why: Why) {
        let _ = self.why.set(why);
        self.ended.cancel();
    }

    /// Why it ends.
    pub(crate) fn why(&self) -> Why {
        self.why.get().copied().unwrap_or(Why::Shutdown)
    }
}

/// The sockets of this node.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<ChargerId, Arc<Held>>>);

impl Registry {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<ChargerId, Arc<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the charger's place; the newest epoch wins, whichever comes first.
    pub(crate) fn hold(&self, charger: ChargerId, held: &Arc<Held>) {
        let mut map = self.map();
        match map.get(&charger) {
            Some(other) if other.epoch > held.epoch => held.end(Why::Replaced),
            other => {
                if let Some(other) = other {
                    other.end(Why::Replaced);
                }
                map.insert(charger, held.clone());
            }
        }
    }

    /// Gives the place up, unless somebody newer has it.
    pub(crate) fn release(&self, charger: ChargerId, epoch: i64) {
        let mut map = self.map();
        if map.get(&charger).is_some_and(|held| held.epoch == epoch) {
            map.remove(&charger);
        }
    }

    /// Another node holds the charger with this epoch now.
    pub(crate) fn replaced_elsewhere(&self, charger: ChargerId, epoch: i64) {
        if let Some(held) = self.map().get(&charger).filter(|held| held.epoch < epoch) {
            held.end(Why::Replaced);
        }
    }

    /// Ends all connections.
    pub(crate) fn end_all(&self, why: Why) {
        self.map().values().for_each(|held| held.end(why));
    }

    /// Who was heard not longer ago than this, and when.
    pub(crate) fn heard_within(&self, past: Duration, now: Timestamp) -> Vec<(ChargerId, Timestamp)> {
        let all = self.map();
        let quiet = all.iter().map(|(charger, held)| (*charger, held.quiet_ms()));
        let heard = quiet.filter(|(_, quiet)| u128::from(*quiet) <= past.as_millis());
        heard.map(|(charger, quiet)| (charger, now.plus_millis(-i64::try_from(quiet).unwrap_or(i64::MAX)))).collect()
    }

    /// The sockets and their epochs.
    pub(crate) fn connections(&self) -> Vec<(ChargerId, i64)> {
        self.map().iter().map(|(charger, held)| (*charger, held.epoch)).collect()
    }

    /// Whether a socket of this charger is held.
    pub(crate) fn holds(&self, charger: ChargerId) -> bool {
        self.map().contains_key(&charger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evm_domain::Id;

    #[test]
    fn the_newest_epoch_wins_in_either_order() {
        let charger = ChargerId(Id::from_parts(1, [1; 8]));
        let (registry, shutdown) = (Registry::default(), CancellationToken::new());
        let (old, new) = (Held::new(1, &shutdown), Held::new(2, &shutdown));
        registry.hold(charger, &old);
        registry.hold(charger, &new);
        assert!(old.ended.is_cancelled() && !new.ended.is_cancelled());
        let late = Held::new(1, &shutdown);
        registry.hold(charger, &late);
        assert!(late.ended.is_cancelled() && !new.ended.is_cancelled());
        registry.release(charger, 1);
        assert!(registry.holds(charger), "the close of an old connection changes nothing");
        let heard = registry.heard_within(Duration::from_secs(60), Timestamp(100_000));
        assert!(matches!(heard[..], [(one, Timestamp(40_000..=100_000))] if one == charger), "{heard:?}");
        registry.replaced_elsewhere(charger, 3);
        assert!(new.ended.is_cancelled());
        registry.end_all(Why::StoreDown);
        assert_eq!(new.why(), Why::Replaced, "the first reason counts");
    }

    #[test]
    fn all_connections_end_with_the_program() {
        let shutdown = CancellationToken::new();
        let held = Held::new(1, &shutdown);
        shutdown.cancel();
        assert!(held.ended.is_cancelled());
        assert_eq!(held.why(), Why::Shutdown);
    }
}
