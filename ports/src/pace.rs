//! How often something may be done: so many at once, then one at a time. The clock is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A burst, and how long until each of it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At once.
    pub burst: u32,
    /// One more after this.
    pub every: Duration,
}

/// A pace for each key. Memory is bounded: beyond the most keys all begin anew.
#[derive(Debug)]
pub struct Paces<K> {
    pace: Pace,
    most: usize,
    /// When the whole burst is there again.
    whole_at: HashMap<K, Instant>,
}

impl<K: Hash + Eq + Clone> Paces<K> {
    /// This pace for each of at most so many keys.
    pub fn new(pace: Pace, most: usize) -> Self {
        Self { pace, most, whole_at: HashMap::new() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// None is there: how long until one is.
    pub fn take(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let whole_at = self.whole_at.get(key).copied().unwrap_or(now).max(now);
        let taken = whole_at + self.pace.every;
        let most = now + self.pace.every * self.pace.burst;
        if taken > most {
            return Err(taken - most);
        }
        self.whole_at.insert(key.clone(), taken);
        if self.whole_at.len() > self.most {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            if self.whole_at.len() > self.most / 2 {
                self.whole_at.clear();
            }
        }
        Ok(())
    }

    /// Gives back one that was taken and not used.
    pub fn give_back(&mut self, key: &K) {
        if let Some(whole_at) = self.whole_at.get_mut(key) {
            *whole_at = whole_at.checked_sub(self.pace.every).unwrap_or(*whole_at);
        }
    }

    /// Gives a key its whole burst again.
    pub fn forget(&mut self, key: &K) {
        self.whole_at.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_one_at_a_time_and_nobody_else_waits() {
        let mut paces = Paces::new(Pace { burst: 3, every: SECOND }, 10);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(paces.take(&1, now), Ok(()));
        }
        assert_eq!(paces.take(&1, now), Err(SECOND));
        assert_eq!(paces.take(&2, now), Ok(()));
        assert_eq!(paces.take(&1, now + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(paces.take(&1, now + SECOND), Ok(()));
        assert_eq!(paces.take(&1, now + SECOND), Err(SECOND));
        paces.give_back(&1);
        assert_eq!(paces.take(&1, now + SECOND), Ok(()));
        paces.forget(&1);
        assert_eq!(paces.take(&1, now + SECOND), Ok(()));
        assert_eq!(paces.take(&2, now + SECOND * 100), Ok(()), "more than the burst never gathers");
    }

    #[test]
    fn memory_is_bounded() {
        let mut paces = Paces::new(Pace { burst: 2, every: SECOND }, 100);
        let now = Instant::now();
        for key in 0..1000 {
            assert_eq!(paces.take(&key, now), Ok(()));
            assert!(paces.whole_at.len() <= 100);
        }
    }
}
