//! The devices of a registration: what is left out of one stays as it is.

use evm_domain::{Bands, Money};
use evm_store::devices::{Device, NewDevice};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::tariff::{BandTerms, bands, price};
use crate::http::extract::{short, told};
use crate::http::problem::{Answer, Problem};
use crate::http::units::{Location, Mnt};

/// Devices of one charger.
const MOST_DEVICES: usize = 64;
/// 1.6 connectorId and 2.0.1 evse id, as far as stations go.
const MOST_CONNECTORS: u32 = 1000;
/// Seconds: a day.
const MOST_GRACE: i64 = 86_400;
/// W: beyond the largest plug there is.
const MOST_POWER: i64 = 10_000_000;

/// One place where one car can plug in. A new one needs a location and its two prices; one that has its number or its
/// connector from before keeps what is left out.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RegisterDevice {
    /// The number on its plate, unique among all.
    #[schema(min_length = 1, max_length = 50, example = "UB-0001-1")]
    device_number: String,
    /// 1.6 connectorId or 2.0.1 evse id.
    #[schema(minimum = 1, maximum = 1000)]
    connector: u32,
    #[schema(required = false)]
    location: Option<Location>,
    /// MNT a kWh.
    #[schema(required = false)]
    price: Option<Mnt>,
    /// MNT a minute of waiting.
    #[schema(required = false)]
    waiting_price: Option<Mnt>,
    /// Seconds of waiting that cost nothing; at first 0.
    #[schema(required = false, minimum = 0, maximum = 86400)]
    waiting_grace: Option<i64>,
    /// MNT a charge that took energy or waited; at first 0.
    #[schema(required = false)]
    start_fee: Option<Mnt>,
    /// MNT, the least that a charge which took energy costs; at first 0.
    #[schema(required = false)]
    minimum: Option<Mnt>,
    /// MNT, the most that a charge costs. Null, and at first: no cap.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<Mnt>, required = false)]
    cap: Option<Option<Mnt>>,
    /// Parts of the station's day with prices of their own, none over another. Left out with a `price`: none, so that it
    /// holds all day; left out without one: as they are.
    #[schema(required = false, max_items = 4)]
    bands: Option<Vec<BandTerms>>,
    /// W. A register that rises faster is held for review. Null, and at first: not known.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<i64>, required = false, minimum = 1, maximum = 10000000)]
    max_power: Option<Option<i64>>,
    /// At first false.
    #[schema(required = false)]
    out_of_service: Option<bool>,
    /// As `GET` tells it.
    #[serde(rename = "_id")]
    #[schema(required = false, read_only)]
    id: Option<String>,
    /// As `GET` tells it: the operator's for all devices (`EVM_VAT_RATE`), taken at each registration.
    #[serde(default, with = "rust_decimal::serde::arbitrary_precision_option")]
    #[schema(required = false, read_only, value_type = Option<f64>)]
    vat_rate: Option<Decimal>,
}

/// What can be said of them without a look at the store.
pub(super) fn check(devices: &[RegisterDevice]) -> Answer<()> {
    if devices.len() > MOST_DEVICES {
        return Err(Problem::field("devices", format!("are more than {MOST_DEVICES}")));
    }
    for (n, device) in devices.iter().enumerate() {
        let refuse = |name: &str, why: String| Err(Problem::field(format!("devices[{n}].{name}"), why));
        if device.device_number.trim().is_empty() {
            return refuse("deviceNumber", "is empty".into());
        }
        short(&format!("devices[{n}].deviceNumber"), &device.device_number, 50)?;
        if !(1..=MOST_CONNECTORS).contains(&device.connector) {
            return refuse("connector", format!("is not from 1 to {MOST_CONNECTORS}"));
        }
        let before = &devices[..n];
        if before.iter().any(|other| other.connector == device.connector) {
            return refuse("connector", "is used twice".into());
        }
        if before.iter().any(|other| other.number() == device.number()) {
            return refuse("deviceNumber", "is used twice".into());
        }
    }
    Ok(())
}

/// The devices as they are to be: as wished, and where nothing is told as they are.
pub(super) fn merge(wished: &[RegisterDevice], present: &[Device], vat_bp: i64) -> Answer<Vec<NewDevice>> {
    let of = |wish: &RegisterDevice| {
        let moved = |device: &Device| wished.iter().any(|other| other.number() == device.device_number);
        let same_number = present.iter().find(|device| device.device_number == wish.number());
        same_number.or_else(|| present.iter().find(|device| device.connector == wish.connector && !moved(device)))
    };
    wished.iter().enumerate().map(|(n, wish)| wish.over(&format!("devices[{n}]"), of(wish), vat_bp)).collect()
}

/// Refuses a `_id` that is not the device's: it would have been taken for another one.
pub(super) fn check_ids(wished: &[RegisterDevice], registered: &[Device]) -> Answer<()> {
    for (n, wish) in wished.iter().enumerate() {
        let is = registered.iter().find(|device| device.device_number == wish.number());
        if wish.id.is_some() && wish.id != is.map(|device| device.id.to_string()) {
            return Err(Problem::field(format!("devices[{n}]._id"), "is not the id of the device with this number"));
        }
    }
    Ok(())
}

impl RegisterDevice {
    fn number(&self) -> &str {
        self.device_number.trim()
    }

    /// With what it leaves out taken from the device that is there.
    fn over(&self, path: &str, present: Option<&Device>, vat_bp: i64) -> Answer<NewDevice> {
        let tariff = present.map(|device| &device.tariff);
        let refuse = |name: &str, why: String| Err(Problem::field(format!("{path}.{name}"), why));
        let missing = |name: &str| Problem::field(format!("{path}.{name}"), "is missing");
        let told = |name: &str, told: Option<Mnt>, is: Option<Money>| match told {
            Some(told) => price(path, name, told).map(Some),
            None => Ok(is),
        };
        let is = present.map(|device| Location { longitude: device.longitude, latitude: device.latitude });
        let location = self.location.or(is).ok_or_else(|| missing("location"))?;
        let energy_price = told("price", self.price, tariff.map(|tariff| tariff.energy_price))?;
        let waiting_price = told("waitingPrice", self.waiting_price, tariff.map(|tariff| tariff.waiting_price))?;
        let minimum = told("minimum", self.minimum, tariff.map(|tariff| tariff.minimum))?.unwrap_or(Money::ZERO);
        let cap = match self.cap {
            Some(cap) => cap.map(|cap| price(path, "cap", cap)).transpose()?,
            None => tariff.and_then(|tariff| tariff.cap),
        };
        if cap.is_some_and(|cap| cap < minimum) {
            return refuse("cap", "is below the minimum".into());
        }
        let grace = self.waiting_grace.or(tariff.map(|tariff| tariff.waiting_grace_s)).unwrap_or_default();
        if !(0..=MOST_GRACE).contains(&grace) {
            return refuse("waitingGrace", format!("is not from 0 to {MOST_GRACE} seconds"));
        }
        let power = self.max_power.unwrap_or(present.and_then(|device| device.max_power_w));
        if power.is_some_and(|power| !(1..=MOST_POWER).contains(&power)) {
            return refuse("maxPower", format!("is not from 1 to {MOST_POWER} W"));
        }
        let rate = |bp| Decimal::new(bp, 2);
        if self.vat_rate.is_some_and(|told| told != rate(vat_bp) && tariff.is_none_or(|is| told != rate(is.vat_bp))) {
            return refuse("vatRate", "is told only: EVM_VAT_RATE sets it for all devices".into());
        }
        Ok(NewDevice {
            device_number: self.number().to_owned(),
            connector: self.connector,
            longitude: location.longitude,
            latitude: location.latitude,
            price: energy_price.ok_or_else(|| missing("price"))?,
            waiting_price: waiting_price.ok_or_else(|| missing("waitingPrice"))?,
            waiting_grace_s: grace,
            max_power_w: power,
            out_of_service: self.out_of_service.or(present.map(|device| device.out_of_service)).unwrap_or_default(),
            start_fee: told("startFee", self.start_fee, tariff.map(|tariff| tariff.start_fee))?.unwrap_or(Money::ZERO),
            minimum,
            cap,
            vat_bp,
            bands: match (&self.bands, self.price) {
                (Some(terms), _) => bands(path, terms)?,
                // A price that comes alone holds all day.
                (None, Some(_)) => Bands::default(),
                (None, None) => tariff.map(|tariff| tariff.bands.clone()).unwrap_or_default(),
            },
        })
    }
}
