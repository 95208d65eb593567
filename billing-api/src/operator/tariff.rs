//! Prices and time-of-day bands as the operator writes and reads them.

use evm_domain::{Band, Bands, Money};
use serde::{Deserialize, Serialize};

use crate::http::problem::Problem;
use crate::http::units::Mnt;

/// MNT, beyond every honest price; the tables hold it too.
pub(super) const MOST_PRICE: Money = Money(10_000_000_000);

/// A part of the day, by the station's clock.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BandTerms {
    /// `HH:MM`.
    #[schema(example = "22:00")]
    from: String,
    /// `HH:MM`, after midnight where it is before `from`.
    #[schema(example = "06:00")]
    to: String,
    /// MNT a kWh.
    price: Mnt,
    /// MNT a minute of waiting; left out: as outside the bands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    waiting_price: Option<Mnt>,
}

/// Checks the bands of the device at `path`, e.g. `devices[0]`.
pub(super) fn bands(path: &str, terms: &[BandTerms]) -> Result<Bands, Problem> {
    let bands = terms.iter().enumerate().map(|(n, band)| band.check(&format!("{path}.bands[{n}]")));
    Bands::new(bands.collect::<Result<_, _>>()?)
        .map_err(|error| Problem::field(format!("{path}.bands"), error.to_string()))
}

impl BandTerms {
    fn check(&self, path: &str) -> Result<Band, Problem> {
        let clock = |name: &str, text: &str| {
            minute(text).ok_or_else(|| Problem::field(format!("{path}.{name}"), "is no time of the day, HH:MM"))
        };
        Ok(Band {
            from_min: clock("from", &self.from)?,
            to_min: clock("to", &self.to)?,
            energy_price: price(path, "price", self.price)?,
            waiting_price: self.waiting_price.map(|waiting| price(path, "waitingPrice", waiting)).transpose()?,
        })
    }
}

impl From<&Band> for BandTerms {
    fn from(band: &Band) -> Self {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        Self {
            from: clock(band.from_min),
            to: clock(band.to_min),
            price: Mnt(band.energy_price),
            waiting_price: band.waiting_price.map(Mnt),
        }
    }
}

/// A price within bounds.
pub(super) fn price(path: &str, name: &str, price: Mnt) -> Result<Money, Problem> {
    if price.0 < Money::ZERO || price.0 > MOST_PRICE {
        return Err(Problem::field(format!("{path}.{name}"), format!("is not from 0 to {MOST_PRICE}")));
    }
    Ok(price.0)
}

/// The minute of the day that `HH:MM` tells; 24:00 is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 24 * 60).then_some(minute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_times_of_the_day() {
        assert_eq!((minute("00:00"), minute("06:30"), minute("24:00")), (Some(0), Some(390), Some(1440)));
        for bad in ["", "6:30", "06:60", "24:01", "ab:cd", "06:3", "06:30:00", "-1:00"] {
            assert_eq!(minute(bad), None, "{bad}");
        }
    }

    #[test]
    fn misfits_are_named() {
        let problem = |json: &str| {
            let terms: Vec<BandTerms> = serde_json::from_str(json).unwrap();
            format!("{:?}", bands("d", &terms).err())
        };
        assert!(problem(r#"[{"from":"25:00","to":"06:00","price":1}]"#).contains("d.bands[0].from"));
        assert!(problem(r#"[{"from":"22:00","to":"06:00","price":-1}]"#).contains("d.bands[0].price"));
        let over = r#"[{"from":"22:00","to":"06:00","price":1},{"from":"05:00","to":"07:00","price":1}]"#;
        assert!(problem(over).contains("d.bands"));
        assert_eq!(problem(r#"[{"from":"22:00","to":"06:00","price":1}]"#), "None");
    }
}
