//! One file per command.

pub(crate) mod billing_api;
pub(crate) mod csms;
pub(crate) mod doctor;
pub(crate) mod migrate;
pub(crate) mod nats_config;
pub(crate) mod serve;
