//! What operators do: register chargers, command them, look into everything, take in cash.

pub(crate) mod cards;
pub(crate) mod charger;
pub(crate) mod chargers;
pub(crate) mod command;
pub(crate) mod credit;
pub(crate) mod customers;
pub(crate) mod gateway_payments;
pub(crate) mod ledger;
pub(crate) mod messages;
pub(crate) mod purchases;
pub(crate) mod reconciliation;
pub(crate) mod refund;
pub(crate) mod register;
mod register_device;
pub(crate) mod sessions;
pub(crate) mod tariff;
