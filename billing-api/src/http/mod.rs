//! What all routes share: problems, what is read from a request, numbers with units, pages, who calls.

pub(crate) mod address;
pub(crate) mod auth;
pub(crate) mod csv;
pub(crate) mod extract;
pub(crate) mod headers;
pub(crate) mod idempotency;
pub(crate) mod lock;
pub(crate) mod page;
pub(crate) mod parameters;
pub(crate) mod problem;
pub(crate) mod rates;
pub(crate) mod time;
pub(crate) mod units;
