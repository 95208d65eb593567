//! Simulated chargers around Ulaanbaatar, half of them OCPP 1.6 and half 2.0.1.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, try_join_all};
use ocpp_sim::{Charger, ChargerConfig, ChargerState, ConnectorStatus, SimEvent, Version};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::api::Api;
use super::narrator::Narrator;

/// Where chargers stand: longitude and latitude.
const PLACES: &[(&str, f64, f64)] = &[
    ("Sükhbaatar Square", 106.9177, 47.9189),
    ("State Department Store", 106.9056, 47.9171),
    ("Gandan Monastery", 106.8947, 47.9229),
    ("Railway Station", 106.8842, 47.9088),
    ("Narantuul Market", 106.9494, 47.9093),
    ("National Park", 106.9364, 47.8997),
    ("Bogd Khan Palace", 106.9069, 47.8975),
    ("Zaisan", 106.9153, 47.8841),
    ("Yarmag", 106.8239, 47.8628),
    ("Buyant-Ukhaa", 106.7664, 47.8431),
    ("Dragon Bus Station", 106.8286, 47.9092),
    ("Bayangol", 106.8691, 47.9126),
    ("Chingeltei", 106.9020, 47.9430),
    ("Bayanzürkh", 106.9730, 47.9180),
    ("Gachuurt", 107.1560, 47.9210),
];
/// The map that shows them all.
const MAP: &str = "bottom-left-longitude=106.5&bottom-left-latitude=47.6\
                   &upper-right-longitude=107.4&upper-right-latitude=48.1";
/// Places where one car can plug in, of each charger.
const CONNECTORS: u32 = 2;
/// Seconds' worth of energy in a real second.
const SPEED: u32 = 60;
/// How long all chargers may take to connect and boot.
const BOOTING: Duration = Duration::from_secs(30);
/// How long they may take to leave.
const CLOSING: Duration = Duration::from_secs(3);

/// How long a guest's car stays at most.
const GUEST: Duration = Duration::from_secs(15 * 60);

/// A kind of charger.
struct Model {
    version: Version,
    name: &'static str,
    power_w: i64,
    battery_wh: i64,
    price: u32,
    waiting_price: u32,
}

const MODELS: &[Model] = &[
    Model { version: Version::V16, name: "22 kW", power_w: 22_000, battery_wh: 30_000, price: 650, waiting_price: 50 },
    Model {
        version: Version::V201,
        name: "60 kW",
        power_w: 60_000,
        battery_wh: 60_000,
        price: 890,
        waiting_price: 150,
    },
];

struct Station {
    place: &'static str,
    model: &'static Model,
    charger: Charger,
}

/// All chargers, by device number.
pub(super) struct City {
    ocpp: SocketAddr,
    stations: OnceLock<Vec<Station>>,
    taken: Mutex<HashSet<String>>,
}

/// A device that a customer chose, kept from others until it is dropped.
pub(super) struct Spot<'a> {
    city: &'a City,
    /// As the map shows it.
    pub(super) device: Value,
    /// The charger, to plug in.
    pub(super) charger: &'a Charger,
    /// Its connector.
    pub(super) connector: u32,
    /// In words.
    pub(super) description: String,
}

impl Drop for Spot<'_> {
    fn drop(&mut self) {
        self.city.taken().remove(&text(&self.device, "deviceNumber"));
    }
}

impl City {
    pub(super) fn new(ocpp: SocketAddr) -> Self {
        Self { ocpp, stations: OnceLock::new(), taken: Mutex::default() }
    }

    /// Registers the chargers as an operator does, and connects them.
    ///
    /// # Errors
    /// Where the API refuses one, or they do not boot in time.
    pub(super) async fn open(&self, operator: &Api, narrator: &Narrator) -> anyhow::Result<()> {
        let sites = PLACES.iter().flat_map(|place| MODELS.iter().map(move |model| (place, model)));
        let stations: Vec<Station> =
            try_join_all(sites.enumerate().map(|(index, (place, model))| self.station(operator, index, place, model)))
                .await?;
        let booting = stations.iter().map(|station| station.charger.wait_until(BOOTING, |state| state.booted));
        let late = join_all(booting).await.iter().filter(|booted| booted.is_err()).count();
        let of = |version| stations.iter().filter(|station| station.model.version == version).count();
        let [old, new] = [of(Version::V16), of(Version::V201)];
        narrator.say(&format!(
            "{} chargers around Ulaanbaatar are connected: {old} speak OCPP 1.6, {new} OCPP 2.0.1.",
            stations.len() - late
        ));
        let _ = self.stations.set(stations);
        if late > 0 {
            bail!("{late} chargers did not connect");
        }
        Ok(())
    }

    async fn station(
        &self,
        operator: &Api,
        index: usize,
        (place, longitude, latitude): &'static (&'static str, f64, f64),
        model: &'static Model,
    ) -> anyhow::Result<Station> {
        let identity = format!("UB-{:02}", index + 1);
        let password = hex::encode(evm_store::random::<10>());
        let devices: Vec<Value> = (1..=CONNECTORS)
            .map(|connector| {
                json!({
                    "deviceNumber": format!("{identity}-{connector}"), "connector": connector,
                    "location": [longitude, latitude], "price": model.price, "waitingPrice": model.waiting_price,
                })
            })
            .collect();
        let body = json!({ "password": password, "devices": devices });
        operator.put(&format!("/admin/v1/chargers/{identity}"), body).await?;

        let mut config = ChargerConfig::new(format!("ws://{}/ocpp", self.ocpp), identity, model.version);
        config.password = Some(password);
        config.connectors = CONNECTORS;
        config.seed = index as u64 + 1;
        config.start_meter_wh = 1_000_000 + 12_345 * index as i64;
        config.power_w = model.power_w;
        config.battery_wh = model.battery_wh;
        config.speed = SPEED;
        config.sample_interval = Duration::from_secs(2);
        Ok(Station { place, model, charger: Charger::spawn(config) })
    }

    /// Looks at the map as a customer does and takes a free place, a random one.
    ///
    /// # Errors
    /// Where none is free.
    pub(super) async fn find(&self, customer: &Api) -> anyhow::Result<(usize, Spot<'_>)> {
        let map = customer.get(&format!("/api/v1/devices/by-location?{MAP}")).await?;
        let map = map.as_array().context("the map is no list")?;
        let idle: Vec<&Value> = map.iter().filter(|device| device["state"] == "Idle").collect();
        let first = u32::from_be_bytes(evm_store::random()) as usize;
        for offset in 0..idle.len() {
            let device = idle[(first + offset) % idle.len()];
            let number = text(device, "deviceNumber");
            let Some((station, connector)) = self.station_of(&number) else { continue };
            if station.charger.state().connector(connector).is_none_or(|plug| plug.plugged_in) {
                continue;
            }
            if self.taken().insert(number.clone()) {
                let Station { place, model, charger } = station;
                let description = format!("{number} ({place}, {}, OCPP {})", model.name, model.version);
                return Ok((idle.len(), Spot { city: self, device: device.clone(), charger, connector, description }));
            }
        }
        bail!("no place is free");
    }

    /// Brings a car to whoever starts a charge from outside the story, and takes it away when the charge is over.
    pub(super) async fn serve_guests(&self, narrator: &Narrator) {
        let stations = self.stations.get().map(Vec::as_slice).unwrap_or_default();
        join_all(stations.iter().map(|station| self.serve_guests_at(station, narrator))).await;
    }

    async fn serve_guests_at(&self, station: &Station, narrator: &Narrator) {
        let mut events = station.charger.subscribe();
        loop {
            let connector = match events.recv().await {
                Ok(SimEvent::Authorized { connector, .. }) => connector,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let device = format!("{}-{connector}", station.charger.identity());
            // A story's customer has plugged in already.
            if !self.taken().insert(device.clone()) {
                continue;
            }
            narrator.say(&format!("A guest starts a charge at {device} ({}): a car plugs in.", station.place));
            station.charger.plug_in(connector).await;
            let over = |state: &ChargerState| {
                state.connector(connector).is_some_and(|plug| plug.status == ConnectorStatus::Finishing)
            };
            let _ = station.charger.wait_until(GUEST, over).await;
            station.charger.unplug(connector).await;
            narrator.say(&format!("The guest's car leaves {device}."));
            self.taken().remove(&device);
        }
    }

    fn station_of(&self, device_number: &str) -> Option<(&Station, u32)> {
        let (identity, connector) = device_number.rsplit_once('-')?;
        let station = self.stations.get()?.iter().find(|station| station.charger.identity() == identity)?;
        Some((station, connector.parse().ok()?))
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disconnects all chargers in an orderly way.
    pub(super) async fn close(&self) {
        let stations = self.stations.get().map(Vec::as_slice).unwrap_or_default();
        let closing = join_all(stations.iter().map(|station| station.charger.clone().shutdown()));
        let _ = tokio::time::timeout(CLOSING, closing).await;
    }
}

/// A field that is a string.
pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
