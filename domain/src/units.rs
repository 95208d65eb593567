//! Watt-hours, möngö and moments: whole numbers with a meaning.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};

use rust_decimal::Decimal;

/// Energy in whole watt-hours. The only rounding of energy is where a charger's text becomes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Wh(pub i64);

/// Money in möngö, 1/100 MNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Money(pub i64);

/// A moment in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// An amount that cannot be money: more than two decimals, or beyond what is ever charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount has at most 2 decimals and is below a hundred billion MNT")]
pub struct BadAmount;

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// A hundred billion MNT: beyond every honest amount, far inside 64 bits.
    pub const MOST: Money = Money(10_000_000_000_000);

    /// Reads an amount in MNT; refuses more than two decimals rather than rounding them.
    pub fn from_mnt(mnt: Decimal) -> Result<Self, BadAmount> {
        let mongo = mnt.checked_mul(Decimal::ONE_HUNDRED).ok_or(BadAmount)?;
        if !mongo.fract().is_zero() {
            return Err(BadAmount);
        }
        let mongo =
            i64::try_from(mongo.trunc().mantissa() / 10i128.pow(mongo.trunc().scale())).map_err(|_| BadAmount)?;
        if mongo.abs() > Self::MOST.0 { Err(BadAmount) } else { Ok(Self(mongo)) }
    }

    /// The amount in MNT, without needless zeros.
    pub fn to_mnt(self) -> Decimal {
        Decimal::new(self.0, 2).normalize()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MNT", self.to_mnt())
    }
}

impl Wh {
    /// The energy in kWh, without needless zeros.
    pub fn to_kwh(self) -> Decimal {
        Decimal::new(self.0, 3).normalize()
    }
}

impl Timestamp {
    /// Milliseconds from `earlier` to here; 0 where `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }

    /// The moment `millis` later.
    pub fn plus_millis(self, millis: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(millis))
    }
}

macro_rules! sums {
    ($($name:ident),*) => {$(
        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name { $name(self.0 + other.0) }
        }
        impl Sub for $name {
            type Output = $name;
            fn sub(self, other: $name) -> $name { $name(self.0 - other.0) }
        }
        impl Neg for $name {
            type Output = $name;
            fn neg(self) -> $name { $name(-self.0) }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) { self.0 += other.0 }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = $name>>(all: I) -> $name { all.fold($name(0), Add::add) }
        }
    )*};
}
sums!(Wh, Money);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn money_is_exact_and_bounded() {
        let mnt = |text: &str| Money::from_mnt(text.parse().unwrap());
        assert_eq!(mnt("10069"), Ok(Money(1_006_900)));
        assert_eq!(mnt("0.01"), Ok(Money(1)));
        assert_eq!(mnt("-12.50"), Ok(Money(-1250)));
        assert_eq!(mnt("1e3".replace('e', "").as_str()), Ok(Money(1300)));
        assert_eq!(mnt("0.001"), Err(BadAmount));
        assert_eq!(mnt("100000000001"), Err(BadAmount));
        assert_eq!(mnt("79228162514264337593543950335"), Err(BadAmount));
        assert_eq!(Money(1_006_950).to_mnt().to_string(), "10069.5");
        assert_eq!(Wh(12_300).to_kwh().to_string(), "12.3");
    }
}
