//! Card numbers that are guessed: wrong tags are counted by charger, and who tells many of them waits for the answers.
//!
//! Above the limit a tag is looked up first, and what is wrong is answered without being stored. What is right is answered as
//! ever: whoever stands there with a good card is no guesser.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evm_domain::ChargerId;
use tokio::time::Instant;

/// Wrong tags that are nothing unusual.
const USUAL: u32 = 20;
/// One of them is forgotten after so long.
const FORGETS: Duration = Duration::from_secs(10);
/// What an answer waits above the limit, and far above it.
const PAUSE: Duration = Duration::from_millis(20);
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Where far above it begins, and what more is not counted.
const MANY: u32 = 1_000;
const MOST: u32 = 4_000;
/// The alert is repeated as long as it goes on.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Wrong tags by charger.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<ChargerId, Level>>);

#[derive(Debug)]
struct Level {
    wrong: u32,
    since: Instant,
    told_at: Option<Instant>,
    untold: u64,
}

impl Level {
    fn forget(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs() / FORGETS.as_secs();
        if passed > 0 {
            self.wrong = self.wrong.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.since = now;
        }
    }
}

impl Guesses {
    /// How long the next answer about a tag waits. `None`: nothing is unusual here.
    pub(crate) fn pause(&self, charger: ChargerId, now: Instant) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let level = all.get_mut(&charger)?;
        level.forget(now);
        if level.wrong == 0 {
            all.remove(&charger);
            return None;
        }
        let pause = if level.wrong < MANY { PAUSE } else { LONG_PAUSE };
        (level.wrong > USUAL).then_some(pause)
    }

    /// Counts a wrong tag. `Some`: it is time to tell of them, so many since that was done last.
    pub(crate) fn wrong(&self, charger: ChargerId, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let level = all.entry(charger).or_insert(Level { wrong: 0, since: now, told_at: None, untold: 0 });
        level.forget(now);
        level.wrong = (level.wrong + 1).min(MOST);
        level.untold += 1;
        let told_lately = level.told_at.is_some_and(|at| now.saturating_duration_since(at) < TELL_AGAIN);
        if level.wrong <= USUAL || told_lately {
            return None;
        }
        level.told_at = Some(now);
        Some(std::mem::take(&mut level.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evm_domain::Id;

    #[test]
    fn many_wrong_tags_are_told_of_once_and_slowed_down_and_forgotten() {
        let guesses = Guesses::default();
        let (charger, other) = (ChargerId(Id::from_parts(1, [0; 8])), ChargerId(Id::from_parts(2, [0; 8])));
        let start = Instant::now();
        for _ in 0..USUAL {
            assert_eq!(guesses.wrong(charger, start), None);
        }
        assert_eq!(guesses.pause(charger, start), None);
        assert_eq!(guesses.wrong(charger, start), Some(21));
        assert_eq!(guesses.wrong(charger, start), None, "told just now");
        assert_eq!(guesses.pause(charger, start), Some(PAUSE));
        for _ in 0..MANY {
            guesses.wrong(charger, start);
        }
        assert_eq!(guesses.pause(charger, start), Some(LONG_PAUSE));
        assert_eq!(guesses.pause(other, start), None);
        assert_eq!(guesses.wrong(charger, start + TELL_AGAIN), Some(1_002));
        assert_eq!(guesses.pause(charger, start + FORGETS * MANY), Some(PAUSE));
        assert_eq!(guesses.pause(charger, start + FORGETS * MOST), None);
    }
}
