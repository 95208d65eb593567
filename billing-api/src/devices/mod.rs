//! Chargers as the customer sees them: on the map, and to start and finish a charge at.

pub(crate) mod by_location;
pub(crate) mod finish;
pub(crate) mod start;
