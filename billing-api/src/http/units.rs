//! Numbers as JSON carries them: exact decimals, each with its unit.

use evm_domain::units::BadAmount;
use evm_domain::{Money, Wh};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// Money in MNT with at most 2 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mnt(pub(crate) Money);

/// Energy in kWh with at most 3 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kwh(pub(crate) Wh);

impl Serialize for Mnt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        rust_decimal::serde::arbitrary_precision::serialize(&self.0.to_mnt(), serializer)
    }
}

impl<'de> Deserialize<'de> for Mnt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A number, not its text; and never rounded, so that a third decimal is seen however far behind it stands.
        let number = serde_json::Number::deserialize(deserializer)?.to_string();
        let decimal = Decimal::from_str_exact(&number).or_else(|_| Decimal::from_scientific(&number));
        let money = decimal.map_err(|_| BadAmount).and_then(Money::from_mnt);
        money.map(Mnt).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Kwh {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        rust_decimal::serde::arbitrary_precision::serialize(&self.0.to_kwh(), serializer)
    }
}

/// A place, [longitude, latitude], WGS 84 degrees, kept in 1e-7 degrees (about a centimetre).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) longitude: i64,
    pub(crate) latitude: i64,
}

/// 1e-7 degrees a degree.
const SCALE: u32 = 7;

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let degrees = |e7| Degrees(Decimal::new(e7, SCALE).normalize());
        [degrees(self.longitude), degrees(self.latitude)].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [longitude, latitude]: [Degrees; 2] = Deserialize::deserialize(deserializer)?;
        let place = longitude.within(180).zip(latitude.within(90));
        let error = || serde::de::Error::custom("a location is [longitude, latitude] in degrees");
        let (longitude, latitude) = place.ok_or_else(error)?;
        Ok(Self { longitude, latitude })
    }
}

/// Degrees of longitude or latitude.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Degrees(#[serde(with = "rust_decimal::serde::arbitrary_precision")] Decimal);

impl Degrees {
    /// Reads degrees from a query.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.parse().or_else(|_| Decimal::from_scientific(text)).ok().map(Self)
    }

    /// In 1e-7 degrees, the rest cut off; `None` beyond ±`most`.
    pub(crate) fn within(self, most: i64) -> Option<i64> {
        if self.0.abs() > Decimal::from(most) {
            return None;
        }
        let e7 = (self.0 * Decimal::from(10_000_000)).trunc();
        i64::try_from(e7.mantissa() / 10i128.pow(e7.scale())).ok()
    }
}

macro_rules! number_schema {
    ($($name:ident $step:literal $meaning:literal $example:literal;)*) => {$(
        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let number = ObjectBuilder::new()
                    .schema_type(Type::Number)
                    .description(Some($meaning))
                    .examples([serde_json::json!($example)]);
                Schema::Object(number.build()).into()
            }
        }
        impl utoipa::ToSchema for $name {}
    )*};
}

number_schema! {
    Mnt 2 "MNT, at most 2 decimals, exact" 1048.9;
    Kwh 3 "kWh, at most 3 decimals, exact" 12.345;
}

impl utoipa::PartialSchema for Location {
    fn schema() -> RefOr<Schema> {
        let degrees = ObjectBuilder::new().schema_type(Type::Number).build();
        let pair = utoipa::openapi::ArrayBuilder::new()
            .items(degrees)
            .min_items(Some(2))
            .max_items(Some(2))
            .description(Some("[longitude, latitude], WGS 84 degrees"))
            .examples([serde_json::json!([106.9176, 47.9185])]);
        Schema::Array(pair.build()).into()
    }
}

impl utoipa::ToSchema for Location {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(serde_json::to_string(&Mnt(Money(1_006_950))).unwrap(), "10069.5");
        assert_eq!(serde_json::to_string(&Kwh(Wh(12_300))).unwrap(), "12.3");
        assert_eq!(serde_json::from_str::<Mnt>("0.1").unwrap().0, Money(10));
        assert_eq!(serde_json::from_str::<Mnt>("1e3").unwrap().0, Money(100_000));
        for bad in ["0.001", "1.0000000000000000000000000000000001", "1e-3", "1e99", "\"1\"", "true", "[1]", "null"] {
            assert!(serde_json::from_str::<Mnt>(bad).is_err(), "{bad}");
        }
        let place: Location = serde_json::from_str("[106.9176123, -47.5]").unwrap();
        assert_eq!((place.longitude, place.latitude), (1_069_176_123, -475_000_000));
        assert_eq!(serde_json::to_string(&place).unwrap(), "[106.9176123,-47.5]");
        for bad in ["[181,0]", "[0,91]", "[1]", "[1,2,3]", "[\"a\",1]", "1"] {
            assert!(serde_json::from_str::<Location>(bad).is_err(), "{bad}");
        }
    }
}
