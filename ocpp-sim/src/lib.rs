//! A charging-station simulator for OCPP 1.6J and 2.0.1, written from the specifications.
//!
//! [`Charger::spawn`] starts one charger as a task: it connects, boots, sends heartbeats and statuses, answers the
//! central system's commands, and charges along a believable curve when a car is plugged in and a user authorised.
//! Everything is computed in integers. Thousands fit in one process.
//!
//! ```no_run
//! # async fn example() {
//! use ocpp_sim::{Charger, ChargerConfig, Version};
//! let charger = Charger::spawn(ChargerConfig::new("ws://127.0.0.1:9000/ocpp", "CP-1", Version::V16));
//! charger.plug_in(1).await;
//! charger.present_card(1, "04A1B2C3").await;
//! # }
//! ```

mod charger;
mod config;
mod connector;
mod frame;
mod link;
mod meter;
mod queue;
pub mod scenario;
mod session;
mod settings;
mod socket;
mod state;
mod station;
#[cfg(test)]
mod station_tests;
mod v16;
mod v201;
mod v201_commands;

pub use charger::{Charger, NotInTime};
pub use config::{ChargerConfig, UnknownVersion, Version};
pub use state::{ChargerState, ConnectorState, ConnectorStatus, SimEvent};
