//! Card numbers that are guessed: wrong tags are counted by charger, and who tells many of them waits for the answers.
//!
//! Above the limit a tag that is asked about is looked up first, and what is wrong is answered without being stored; a wrong
//! start is stored as ever, and the next tag waits. What is right is answered as ever: whoever stands there with a good card is
//! no guesser.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evm_domain::ChargerId;
use tokio::time::Instant;

/// Wrong tags that are nothing unusual.
const USUAL: u32 = 20;
/// One of them is forgotten after so long.
const FORGETS: Duration = Duration::from_secs(10);
/// Far above the limit a wrong tag costs so many times the pause.
const LONGER: u32 = 50;
/// Where far above it begins, and what more is not counted.
const MANY: u32 = 1_000;
const MOST: u32 = 4_000;
/// The alert is repeated as long as it goes on.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Wrong tags by charger.
#[derive(Debug)]
pub(crate) struct Guesses {
    all: Mutex<HashMap<ChargerId, Level>>,
    /// What a wrong tag costs above the limit.
    pause: Duration,
}

#[derive(Debug)]
struct Level {
    wrong: u32,
    since: Instant,
    told_at: Option<Instant>,
    untold: u64,
    /// Until when the tag of the next start waits.
    waits_until: Instant,
}

impl Level {
    fn forget(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs() / FORGETS.as_secs();
        if passed > 0 {
            self.wrong = self.wrong.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.since = now;
        }
    }

    fn pause(&self, pause: Duration) -> Option<Duration> {
        let pause = if self.wrong < MANY { pause } else { pause * LONGER };
        (self.wrong > USUAL).then_some(pause)
    }
}

impl Guesses {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { all: Mutex::default(), pause }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ChargerId, Level>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next answer about a tag waits. `None`: nothing is unusual here.
    pub(crate) fn pause(&self, charger: ChargerId, now: Instant) -> Option<Duration> {
        let mut all = self.all();
        let level = all.get_mut(&charger)?;
        level.forget(now);
        if level.wrong == 0 {
            all.remove(&charger);
            return None;
        }
        level.pause(self.pause)
    }

    /// How long the tag of a start waits for the wrong ones before it, on whatever connection they came.
    pub(crate) fn wait(&self, charger: ChargerId, now: Instant) -> Duration {
        self.all().get(&charger).map_or(Duration::ZERO, |level| level.waits_until.saturating_duration_since(now))
    }

    /// Counts a wrong tag. `Some`: it is time to tell of them, so many since that was done last.
    pub(crate) fn wrong(&self, charger: ChargerId, now: Instant) -> Option<u64> {
        let mut all = self.all();
        let nothing = Level { wrong: 0, since: now, told_at: None, untold: 0, waits_until: now };
        let level = all.entry(charger).or_insert(nothing);
        level.forget(now);
        level.wrong = (level.wrong + 1).min(MOST);
        if let Some(pause) = level.pause(self.pause) {
            level.waits_until = now + pause;
        }
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
        const PAUSE: Duration = Duration::from_millis(20);
        const LONG_PAUSE: Duration = Duration::from_secs(1);
        let guesses = Guesses::new(PAUSE);
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

    #[test]
    fn each_wrong_tag_of_a_charger_that_guesses_lets_the_next_start_wait() {
        let guesses = Guesses::new(Duration::from_millis(20));
        let charger = ChargerId(Id::from_parts(1, [0; 8]));
        let start = Instant::now();
        (0..USUAL).for_each(|_| assert_eq!(guesses.wrong(charger, start), None));
        assert_eq!(guesses.wait(charger, start), Duration::ZERO);
        assert_eq!(guesses.wrong(charger, start), Some(21));
        assert_eq!(guesses.wait(charger, start), Duration::from_millis(20));
        assert_eq!(guesses.wait(charger, start + Duration::from_millis(15)), Duration::from_millis(5));
        assert_eq!(guesses.wait(charger, start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(guesses.wait(ChargerId(Id::from_parts(2, [0; 8])), start), Duration::ZERO);
    }
}
