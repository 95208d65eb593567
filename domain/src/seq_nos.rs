//! Which messages of a transaction have come: OCPP 2.0.1 numbers them (`seqNo` of TransactionEventRequest).

use std::fmt;
use std::str::FromStr;

/// Ranges kept. What would make one more is left out, so that the transaction goes on counting as one with gaps.
const MOST_RANGES: usize = 32;

/// The numbers seen, as ranges without overlap in rising order. Written `0-4,6`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeqNos(Vec<(i64, i64)>);

/// The text is no list of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no list of ranges of numbers")]
pub struct BadSeqNos;

impl SeqNos {
    /// Adds a number; one that is there already changes nothing.
    pub fn insert(&mut self, number: i64) {
        self.insert_range(number, number);
    }

    /// Adds all numbers of another list.
    pub fn join(&mut self, other: &SeqNos) {
        for &(first, last) in &other.0 {
            self.insert_range(first, last);
        }
    }

    /// Forgets all that are higher.
    pub fn forget_above(&mut self, number: i64) {
        self.0.retain(|range| range.0 <= number);
        if let Some(range) = self.0.last_mut() {
            range.1 = range.1.min(number);
        }
    }

    fn insert_range(&mut self, first: i64, last: i64) {
        // All that it overlaps or touches becomes one range with it.
        let touches = |range: &(i64, i64)| range.1 >= first.saturating_sub(1) && range.0 <= last.saturating_add(1);
        let apart = self.0.iter().filter(|range| !touches(range)).count();
        if apart == MOST_RANGES {
            return;
        }
        let joined = self.0.iter().filter(|range| touches(range));
        let joined = joined.fold((first, last), |all, range| (all.0.min(range.0), all.1.max(range.1)));
        self.0.retain(|range| !touches(range));
        self.0.insert(self.0.partition_point(|range| range.0 < joined.0), joined);
    }

    /// Whether a number between the first and the last is missing.
    pub fn has_gap(&self) -> bool {
        self.0.len() > 1
    }

    /// Whether a number was seen.
    pub fn contains(&self, number: i64) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&number))
    }

    /// The highest number seen.
    pub fn last(&self) -> Option<i64> {
        self.0.last().map(|range| range.1)
    }

    /// Whether no number was seen; OCPP 1.6 has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SeqNos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl FromStr for SeqNos {
    type Err = BadSeqNos;

    fn from_str(text: &str) -> Result<Self, BadSeqNos> {
        let mut all = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse().map_err(|_| BadSeqNos)?, last.parse().map_err(|_| BadSeqNos)?);
            if first > last {
                return Err(BadSeqNos);
            }
            all.insert_range(first, last);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(numbers: &[i64]) -> SeqNos {
        let mut all = SeqNos::default();
        numbers.iter().for_each(|number| all.insert(*number));
        all
    }

    #[test]
    fn numbers_in_order_are_one_range() {
        assert_eq!(of(&[0, 1, 2, 2, 3]).to_string(), "0-3");
        assert!(!of(&[5]).has_gap() && SeqNos::default().is_empty());
    }

    #[test]
    fn a_gap_is_closed_by_what_was_missing() {
        let mut all = of(&[0, 1, 4, 3]);
        assert_eq!(all.to_string(), "0-1,3-4");
        assert!(all.has_gap());
        all.insert(2);
        assert_eq!(all.to_string(), "0-4");
    }

    #[test]
    fn ever_more_gaps_stay_bounded_and_are_never_closed_by_chance() {
        let even: Vec<i64> = (0..1000).map(|n| n * 2).collect();
        let mut all = of(&even);
        assert!(all.to_string().len() < 200);
        (0..100).for_each(|number| all.insert(number));
        assert!(!all.has_gap(), "all that is remembered is there");
        assert!(of(&even).has_gap());
    }

    #[test]
    fn what_is_above_is_forgotten() {
        for (above, left) in [(9, "0-1,3-4,6"), (5, "0-1,3-4"), (3, "0-1,3"), (2, "0-1"), (-1, "")] {
            let mut all = of(&[0, 1, 3, 4, 6]);
            all.forget_above(above);
            assert_eq!(all.to_string(), left, "{above}");
        }
    }

    #[test]
    fn nonsense_is_no_list() {
        for text in ["x", "1-", "3-1", "1-2-3"] {
            assert_eq!(text.parse::<SeqNos>(), Err(BadSeqNos), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_and_survives_being_written(
            mut numbers in prop::collection::vec(0i64..60, 0..60), other in prop::collection::vec(0i64..60, 0..60),
        ) {
            let all = of(&numbers);
            prop_assert_eq!(all.to_string().parse::<SeqNos>().unwrap(), all.clone());
            let mut joined = all.clone();
            joined.join(&of(&other));
            numbers.extend(other);
            prop_assert_eq!(&joined, &of(&numbers));
            numbers.reverse();
            prop_assert_eq!(joined, of(&numbers));
        }
    }
}
