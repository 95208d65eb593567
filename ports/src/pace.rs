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

/// What was taken at a pace.
#[derive(Debug, Clone, Copy)]
pub struct Paced {
    /// When the whole burst is there again.
    whole_at: Instant,
}

impl Paced {
    /// Nothing so far.
    pub fn nothing(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Takes one.
    ///
    /// # Errors
    /// None is there: how long until one is.
    pub fn take(&mut self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let mut after = *self;
        match after.owe(pace, now) {
            Duration::ZERO => *self = after,
            wait => return Err(wait),
        }
        Ok(())
    }

    /// Takes one, whether it is there or not; gives how long until it is.
    pub fn owe(&mut self, pace: Pace, now: Instant) -> Duration {
        self.whole_at = self.whole_at.max(now) + pace.every;
        self.whole_at.saturating_duration_since(now + pace.every * pace.burst)
    }
}

/// A pace for each key. Memory is bounded: beyond the most keys all begin anew.
#[derive(Debug)]
pub struct Paces<K> {
    pace: Pace,
    most: usize,
    taken: HashMap<K, Paced>,
}

impl<K: Hash + Eq + Clone> Paces<K> {
    /// This pace for each of at most so many keys.
    pub fn new(pace: Pace, most: usize) -> Self {
        Self { pace, most, taken: HashMap::new() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// None is there: how long until one is.
    pub fn take(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let mut taken = self.taken.get(key).copied().unwrap_or(Paced::nothing(now));
        taken.take(self.pace, now)?;
        self.taken.insert(key.clone(), taken);
        if self.taken.len() > self.most {
            self.taken.retain(|_, taken| taken.whole_at > now);
            if self.taken.len() > self.most / 2 {
                self.taken.clear();
            }
        }
        Ok(())
    }

    /// Gives back one that was taken and not used.
    pub fn give_back(&mut self, key: &K) {
        if let Some(taken) = self.taken.get_mut(key) {
            taken.whole_at = taken.whole_at.checked_sub(self.pace.every).unwrap_or(taken.whole_at);
        }
    }

    /// Gives a key its whole burst again.
    pub fn forget(&mut self, key: &K) {
        self.taken.remove(key);
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
            assert!(paces.taken.len() <= 100);
        }
    }
}
