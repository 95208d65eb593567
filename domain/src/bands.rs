//! Time-of-day bands: parts of the local day with prices of their own.

use crate::units::{Money, Timestamp};
use crate::wall_clock::WallClock;

/// Most bands of one tariff.
pub const MOST_BANDS: usize = 4;
/// Figures kept apart by price: the first is outside all bands, the others in the bands, in their order.
pub const SLOTS: usize = MOST_BANDS + 1;

const DAY_MIN: u16 = 24 * 60;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = DAY_MIN as i64 * MINUTE_MS;

/// A part of the local day with prices of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// First minute of the day in it, 0 to 1439.
    pub from_min: u16,
    /// First minute after it, 0 to 1440; before `from_min` where the band goes on past midnight.
    pub to_min: u16,
    /// Price of one kWh.
    pub energy_price: Money,
    /// Price of one minute of waiting; `None`: as outside the bands.
    pub waiting_price: Option<Money>,
}

impl Band {
    fn holds(&self, minute: u16) -> bool {
        if self.from_min < self.to_min {
            (self.from_min..self.to_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.to_min
        }
    }
}

/// The bands of a tariff: at most [`MOST_BANDS`], none over another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bands(Vec<Band>);

/// Bands that cannot be priced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBands {
    /// More than [`MOST_BANDS`].
    #[error("at most {MOST_BANDS} bands")]
    TooMany,
    /// The band of this index has a minute beyond the day, or begins where it ends.
    #[error("band {0} begins where it ends, or is beyond the day")]
    NoTime(usize),
    /// The band of this index lies over an earlier one.
    #[error("band {0} lies over an earlier one")]
    Overlap(usize),
}

impl Bands {
    /// Checks bands.
    ///
    /// # Errors
    /// [`BadBands`].
    pub fn new(mut bands: Vec<Band>) -> Result<Self, BadBands> {
        if bands.len() > MOST_BANDS {
            return Err(BadBands::TooMany);
        }
        for n in 0..bands.len() {
            let band = &mut bands[n];
            if band.from_min >= DAY_MIN || band.to_min > DAY_MIN {
                return Err(BadBands::NoTime(n));
            }
            band.to_min %= DAY_MIN;
            if band.from_min == band.to_min {
                return Err(BadBands::NoTime(n));
            }
            let (earlier, band) = (&bands[..n], bands[n]);
            if (0..DAY_MIN).any(|minute| band.holds(minute) && earlier.iter().any(|other| other.holds(minute))) {
                return Err(BadBands::Overlap(n));
            }
        }
        Ok(Self(bands))
    }

    /// The bands in their order.
    pub fn as_slice(&self) -> &[Band] {
        &self.0
    }

    /// Whether one price holds all day.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which figures a moment belongs to, by this clock.
    pub(crate) fn slot_at(&self, at: Timestamp, clock: &WallClock) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let minute = u16::try_from(local_ms(at, clock) / MINUTE_MS).unwrap_or_default();
        self.0.iter().position(|band| band.holds(minute)).map_or(0, |n| n + 1)
    }

    /// Cuts a stretch of time where a band begins or ends, and where the clock changes: the figures that each piece belongs
    /// to, and its end.
    pub(crate) fn pieces<'a>(&'a self, from: Timestamp, to: Timestamp, clock: &'a WallClock) -> Pieces<'a> {
        Pieces { bands: self, at: from, to, clock }
    }
}

fn local_ms(at: Timestamp, clock: &WallClock) -> i64 {
    at.0.saturating_add(i64::from(clock.offset_min_at(at)) * MINUTE_MS).rem_euclid(DAY_MS)
}

/// The pieces of a stretch of time, in their order.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    bands: &'a Bands,
    at: Timestamp,
    to: Timestamp,
    clock: &'a WallClock,
}

impl Iterator for Pieces<'_> {
    type Item = (usize, Timestamp);

    fn next(&mut self) -> Option<(usize, Timestamp)> {
        if self.at >= self.to {
            return None;
        }
        if self.bands.is_empty() {
            self.at = self.to;
            return Some((0, self.to));
        }
        let slot = self.bands.slot_at(self.at, self.clock);
        let now = local_ms(self.at, self.clock);
        let borders = self.bands.0.iter().flat_map(|band| [band.from_min, band.to_min]);
        // A border that is now lies behind: the next time is tomorrow.
        let to_border = borders.map(|minute| (i64::from(minute) * MINUTE_MS - now - 1).rem_euclid(DAY_MS) + 1).min();
        let border = to_border.map_or(self.to, |ms| self.at.plus_millis(ms).min(self.to));
        self.at = self.clock.next_change(self.at).map_or(border, |change| change.min(border));
        Some((slot, self.at))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn band(from_min: u16, to_min: u16, price: i64) -> Band {
        Band { from_min, to_min, energy_price: Money(price), waiting_price: None }
    }

    #[test]
    fn bands_that_cannot_be_priced_by_are_refused() {
        assert_eq!(Bands::new(vec![band(0, 60, 1); 5]), Err(BadBands::TooMany));
        for (from, to) in [(1440, 60), (0, 1441), (60, 60), (0, 1440)] {
            assert_eq!(Bands::new(vec![band(from, to, 1)]), Err(BadBands::NoTime(0)), "{from} {to}");
        }
        assert_eq!(Bands::new(vec![band(1320, 360, 1), band(300, 600, 2)]), Err(BadBands::Overlap(1)));
        assert!(Bands::new(vec![band(1320, 360, 1), band(360, 600, 2), band(1200, 1320, 3)]).is_ok());
    }

    #[test]
    fn a_band_past_midnight_is_cut_at_its_local_ends() {
        // 22:00 to 06:00 at UTC+8 is 14:00 to 22:00 UTC.
        let bands = Bands::new(vec![band(1320, 360, 1)]).unwrap();
        let hour = |h: i64| Timestamp(h * 3_600_000);
        let pieces: Vec<_> = bands.pieces(hour(12), hour(39), &WallClock::fixed(480)).collect();
        assert_eq!(pieces, [(0, hour(14)), (1, hour(22)), (0, hour(38)), (1, hour(39))]);
        assert_eq!(bands.pieces(hour(3), hour(3), &WallClock::fixed(480)).count(), 0);
        let day = Bands::new(vec![band(1320, 1440, 1)]).unwrap();
        assert_eq!(
            day.pieces(hour(21), hour(25), &WallClock::default()).collect::<Vec<_>>(),
            [(0, hour(22)), (1, hour(24)), (0, hour(25))]
        );
    }

    #[test]
    fn a_band_follows_the_wall_clock_where_it_changes() {
        // 02:00 to 06:00; at 03:00 the clock goes back to 02:00, or, in spring, at 02:00 on to 03:00.
        let bands = Bands::new(vec![band(120, 360, 1)]).unwrap();
        let hour = |h: i64| Timestamp(h * 3_600_000);
        let clock = |before, after| WallClock::of_zone("A/B", before, vec![(hour(1), after)]);
        let autumn = clock(120, 60);
        let pieces: Vec<_> = bands.pieces(hour(-1), hour(6), &autumn).collect();
        assert_eq!(pieces, [(0, hour(0)), (1, hour(1)), (1, hour(5)), (0, hour(6))], "five hours of four by the clock");
        let spring = clock(60, 120);
        let pieces: Vec<_> = bands.pieces(hour(-1), hour(6), &spring).collect();
        assert_eq!(pieces, [(0, hour(1)), (1, hour(4)), (0, hour(6))], "three hours");
    }

    proptest! {
        #[test]
        fn pieces_cover_the_whole_stretch_and_nothing_else(
            from in 0i64..4_000_000_000, length in 1i64..400_000_000, offset in -720i16..=840,
            a in 0u16..700, b in 700u16..1440, change in 0i64..400_000_000, then in -720i16..=840,
        ) {
            let clock = WallClock::of_zone("A/B", offset, vec![(Timestamp(from + change), then)]);
            let bands = Bands::new(vec![band(a, b, 1)]).unwrap();
            let (from, to) = (Timestamp(from), Timestamp(from + length));
            let mut at = from;
            for (slot, end) in bands.pieces(from, to, &clock) {
                prop_assert!(end > at && end <= to);
                prop_assert_eq!(slot, bands.slot_at(at, &clock));
                prop_assert_eq!(slot, bands.slot_at(Timestamp(end.0 - 1), &clock));
                at = end;
            }
            prop_assert_eq!(at, to);
        }
    }
}
