//! Versions of prices as they are stored, and the clocks that their bands go by.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use evm_domain::{Band, Bands, Meter, Money, Tariff, Timestamp, WallClock, Wh};

use crate::engine::{Db, on};
use crate::{Result, StoreError, new_id};

/// The columns of [`TariffRow`], of `tariff_versions t`.
macro_rules! tariff_columns {
    () => {
        "t.energy_price, t.waiting_price, t.waiting_grace_s, t.start_fee, t.minimum, t.cap, t.vat_bp, t.bands"
    };
}
pub(crate) use tariff_columns;

/// The terms of a version; all empty behind a LEFT JOIN that found none.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct TariffRow {
    energy_price: Option<i64>,
    waiting_price: Option<i64>,
    waiting_grace_s: Option<i64>,
    start_fee: Option<i64>,
    minimum: Option<i64>,
    cap: Option<i64>,
    vat_bp: Option<i64>,
    bands: Option<String>,
}

impl TariffRow {
    /// The tariff by a clock.
    pub(crate) fn tariff(&self, clock: WallClock) -> Result<Tariff> {
        Ok(Tariff {
            // No device, no price: such a session is kept for review and never billed.
            energy_price: Money(self.energy_price.unwrap_or_default()),
            waiting_price: Money(self.waiting_price.unwrap_or_default()),
            waiting_grace_s: self.waiting_grace_s.unwrap_or_default(),
            start_fee: Money(self.start_fee.unwrap_or_default()),
            minimum: Money(self.minimum.unwrap_or_default()),
            cap: self.cap.map(Money),
            vat_bp: self.vat_bp.unwrap_or_default(),
            bands: self.bands.as_deref().map_or(Ok(Bands::default()), read_bands)?,
            clock,
        })
    }

    /// Whether the clock matters.
    pub(crate) fn has_bands(&self) -> bool {
        self.bands.is_some()
    }
}

/// Stores a new version of prices; its id comes back.
///
/// # Errors
/// [`StoreError::Refused`] where a price is negative or absurd, or the cap is below the minimum.
pub(crate) async fn insert(db: &mut Db, new: &Tariff, now: Timestamp) -> Result<String> {
    let tariff_id = new_id().to_string();
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO tariff_versions (id, energy_price, waiting_price, waiting_grace_s, start_fee, minimum, cap, vat_bp, bands, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&tariff_id)
        .bind(new.energy_price.0)
        .bind(new.waiting_price.0)
        .bind(new.waiting_grace_s)
        .bind(new.start_fee.0)
        .bind(new.minimum.0)
        .bind(new.cap.map(|cap| cap.0))
        .bind(new.vat_bp)
        .bind(bands_text(&new.bands))
        .bind(now.0)
        .execute(conn)
        .await?;
    });
    Ok(tariff_id)
}

/// Whether the IANA database has a time zone of this name.
pub fn is_time_zone(name: &str) -> bool {
    name.parse::<Tz>().is_ok()
}

/// 2019-01-01T00:00:00Z, before the first moment that a charger is believed, and how many days after it are looked at.
const CHANGES_FROM_MS: i64 = 1_546_300_800_000;
const CHANGES_DAYS: i64 = 40 * 365;
const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// The wall clock of a time zone; an unknown zone is UTC.
pub fn wall_clock(time_zone: &str) -> WallClock {
    // Finding the changes takes a millisecond, and each charge asks.
    static KNOWN: OnceLock<Mutex<HashMap<Tz, WallClock>>> = OnceLock::new();
    let Ok(zone) = time_zone.parse::<Tz>() else {
        tracing::error!(time_zone, "the time zone is not known to this program; it reads as UTC");
        return WallClock::fixed(0);
    };
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(zone).or_insert_with(|| find_changes(zone)).clone()
}

fn find_changes(zone: Tz) -> WallClock {
    let offset = |ms: i64| utc_offset_min(zone, Timestamp(ms));
    let first = offset(CHANGES_FROM_MS);
    let (mut changes, mut now) = (Vec::new(), first);
    for day in 1..=CHANGES_DAYS {
        let (mut before, mut after) = (CHANGES_FROM_MS + (day - 1) * DAY_MS, CHANGES_FROM_MS + day * DAY_MS);
        let then = offset(after);
        if then == now {
            continue;
        }
        while after - before > MINUTE_MS {
            let middle = before + (after - before) / 2 / MINUTE_MS * MINUTE_MS;
            if offset(middle) == now { before = middle } else { after = middle }
        }
        changes.push((Timestamp(after), then));
        now = then;
    }
    WallClock::of_zone(zone.name(), first, changes)
}

fn utc_offset_min(zone: Tz, at: Timestamp) -> i16 {
    let at = DateTime::<Utc>::from_timestamp_millis(at.0).unwrap_or_default().naive_utc();
    i16::try_from(zone.offset_from_utc_datetime(&at).fix().local_minus_utc() / 60).unwrap_or_default()
}

fn bands_text(bands: &Bands) -> Option<String> {
    let line = |band: &Band| {
        let waiting = band.waiting_price.map(|price| format!("/{}", price.0)).unwrap_or_default();
        format!("{}-{}={}{waiting}", band.from_min, band.to_min, band.energy_price.0)
    };
    (!bands.is_empty()).then(|| bands.as_slice().iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn read_bands(text: &str) -> Result<Bands> {
    let broken = || StoreError::Broken(format!("bands {text:?}"));
    let band = |line: &str| {
        let (minutes, prices) = line.split_once('=')?;
        let (from, to) = minutes.split_once('-')?;
        let (energy, waiting) =
            prices.split_once('/').map_or((prices, None), |(energy, waiting)| (energy, Some(waiting)));
        Some(Band {
            from_min: from.parse().ok()?,
            to_min: to.parse().ok()?,
            energy_price: Money(energy.parse().ok()?),
            waiting_price: waiting.map(str::parse).transpose().ok()?.map(Money),
        })
    };
    let bands = text.lines().map(band).collect::<Option<Vec<_>>>().ok_or_else(broken)?;
    Bands::new(bands).map_err(|_| broken())
}

/// A session's figures apart by band, Wh and paid seconds, the first outside the bands. `None` where there are no bands: then
/// all is in the sums.
pub(crate) fn figures_text(meter: &Meter, tariff: &Tariff) -> Option<String> {
    if tariff.bands.is_empty() {
        return None;
    }
    let list = |numbers: &mut dyn Iterator<Item = i64>| numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let slots = tariff.bands.as_slice().len() + 1;
    let energy = list(&mut meter.energy_in.iter().take(slots).map(|wh| wh.0));
    let waiting = list(&mut meter.paid_waiting_s.iter().take(slots).copied());
    Some(format!("{energy} {waiting}"))
}

/// Completes a meter whose sums are read by what is stored apart by band.
pub(crate) fn read_figures(meter: Meter, text: Option<&str>, tariff: &Tariff) -> Result<Meter> {
    let Some(text) = text.filter(|_| !tariff.bands.is_empty()) else { return Ok(meter.without_bands(tariff)) };
    let mut meter = meter;
    let mut read = || {
        let (energy, waiting) = text.split_once(' ')?;
        for (slot, wh) in meter.energy_in.iter_mut().zip(energy.split(',')) {
            *slot = Wh(wh.parse().ok()?);
        }
        for (slot, seconds) in meter.paid_waiting_s.iter_mut().zip(waiting.split(',')) {
            *slot = seconds.parse().ok()?;
        }
        Some(())
    };
    read().ok_or_else(|| StoreError::Broken(format!("figures by band {text:?}")))?;
    Ok(meter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bands_and_figures_read_back() {
        let band =
            |from_min, to_min, waiting| Band { from_min, to_min, energy_price: Money(20_000), waiting_price: waiting };
        let bands = Bands::new(vec![band(1320, 360, None), band(660, 780, Some(Money(0)))]).unwrap();
        assert_eq!(bands_text(&bands).unwrap(), "1320-360=20000\n660-780=20000/0");
        assert_eq!(read_bands(&bands_text(&bands).unwrap()).unwrap(), bands);
        assert_eq!(bands_text(&Bands::default()), None);
        for broken in ["1320=5", "1320-360=", "0-1=x", "0-1=5/", "1-1=5"] {
            assert!(read_bands(broken).is_err(), "{broken:?}");
        }
        let tariff = Tariff { bands, ..Tariff::default() };
        let mut meter = Meter::default();
        (meter.energy_in[1], meter.paid_waiting_s[2]) = (Wh(12), 5);
        let text = figures_text(&meter, &tariff).unwrap();
        assert_eq!(text, "0,12,0 0,0,5");
        assert_eq!(read_figures(Meter::default(), Some(&text), &tariff).unwrap(), meter);
        assert!(read_figures(Meter::default(), Some("x 0"), &tariff).is_err());
    }

    #[test]
    fn clocks_follow_their_zones() {
        let summer = Timestamp(1_783_000_000_000);
        let winter = Timestamp(1_795_000_000_000);
        let offset = |zone, at| wall_clock(zone).offset_min_at(at);
        assert_eq!(offset("Asia/Ulaanbaatar", winter), 480);
        assert_eq!((offset("Europe/Berlin", summer), offset("Europe/Berlin", winter)), (120, 60));
        assert_eq!((offset("Asia/Kathmandu", summer), offset("Mars/Olympus", summer)), (345, 0));
        assert_eq!(wall_clock("Europe/Berlin").zone(), Some("Europe/Berlin"));
        // 2026-10-25T01:00:00Z and 2027-03-28T01:00:00Z, to the minute.
        for (change, before, after) in [(1_792_890_000_000, 120, 60), (1_806_195_600_000, 60, 120)] {
            let around = [Timestamp(change - 1), Timestamp(change)].map(|at| offset("Europe/Berlin", at));
            assert_eq!(around, [before, after]);
        }
        assert!(is_time_zone("Asia/Hovd") && !is_time_zone("Mars/Olympus"));
    }
}
