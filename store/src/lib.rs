//! The only SQL. One module an aggregate, free functions that take a [`Db`]; no trait, no ORM.
//!
//! Every write asks: what if the process dies here, what if this comes twice, what if two do it at once. The
//! answers are unique keys, CHECKs and conditional UPDATEs, not isolation levels.

pub mod audit;
pub mod cards;
pub mod chargers;
pub mod checks;
mod clock;
pub mod codes;
pub mod credit;
pub mod customers;
pub mod devices;
pub mod engine;
mod error;
mod failpoint;
pub mod frames;
pub mod gateway;
pub mod idempotency;
pub mod invoices;
pub mod leases;
pub mod ledger;
pub mod limits;
pub mod logins;
pub mod operator;
pub mod outbox;
mod position;
pub mod purchases;
pub mod pushes;
pub mod readings;
pub mod refunds;
pub mod remote_starts;
mod rows;
pub mod sessions;
pub mod settings;
pub mod settle;
pub mod statement;
pub mod tariffs;

pub use clock::{CLOCK_OFF_MS, now};
pub use engine::{Db, Store};
pub use error::{Rule, StoreError};
pub use failpoint::failpoint;

use evm_domain::{Id, Timestamp};

/// What store calls return.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A new id from the clock and the system's random generator. The first two of its eight bytes of chance are the part of
/// the second instead: what was made first is older also within a second, and lists and "the newest of" go by the id.
pub fn new_id() -> Id {
    let Timestamp(now) = now();
    let mut rest: [u8; 8] = random();
    let part = u16::try_from(now.rem_euclid(1000) * 65).unwrap_or(u16::MAX);
    rest[..2].copy_from_slice(&part.to_be_bytes());
    Id::from_parts(u32::try_from(now / 1000).unwrap_or(u32::MAX), rest)
}

/// Bytes from the system's random generator. A machine without one must not hand out ids or secrets.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the system's random generator failed");
        std::process::abort();
    }
    bytes
}

fn id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| StoreError::Broken(format!("id {text:?}")))
}

fn optional_id<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>> {
    text.map(id).transpose()
}
