//! Topping up the balance.

pub(crate) mod replenish;
pub(crate) mod replenishment;
