//! What can go wrong in the store, with constraint names turned into facts of the domain.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::error::ErrorKind;

/// A failed store call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The settings name no usable database.
    #[error("{0}")]
    Config(String),
    /// A rule of the tables refused the write.
    #[error("refused by {0:?}")]
    Refused(Rule),
    /// A stored value cannot be what it is.
    #[error("stored value is broken: {0}")]
    Broken(String),
    /// The tables could not be brought up to date.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A statement failed for its own reasons, not for the database's health.
    #[error("statement failed: {0}")]
    Statement(sqlx::Error),
    /// The database does not answer. Fail offline: chargers keep what they have to say.
    #[error("the database does not answer: {0}")]
    Down(sqlx::Error),
}

/// The rules that the tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A device serves one live session.
    OneLiveSessionPerDevice,
    /// A customer has one live session.
    OneLiveSessionPerCustomer,
    /// A balance is never negative.
    BalanceNotNegative,
    /// A thing is booked once.
    BookedOnce,
    /// No two devices have one number.
    DeviceNumberUnique,
    /// No two chargers have one identity.
    IdentityUnique,
    /// No two customers have one phone.
    PhoneUnique,
    /// A purchase is never paid beyond its amount.
    PaidWithinAmount,
    /// Any other.
    Other,
}

/// PostgreSQL's `disk_full`.
const DISK_FULL: &str = "53100";
/// SQLite's `SQLITE_FULL`.
const SQLITE_FULL: u32 = 13;
/// How long a full disk is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);
/// When this process last heard of one.
static FULL: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether a write found no room on the disk a moment ago.
pub(crate) fn was_full_lately() -> bool {
    FULL.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < REMEMBERED)
}

/// PostgreSQL names the constraint, SQLite the columns of a unique one.
const RULES: &[(&str, &str, Rule)] = &[
    ("sessions_one_live_per_device", "sessions.device_id", Rule::OneLiveSessionPerDevice),
    ("sessions_one_live_per_customer", "sessions.customer_id", Rule::OneLiveSessionPerCustomer),
    ("customers_balance_not_negative", "customers_balance_not_negative", Rule::BalanceNotNegative),
    ("ledger_key_unique", "ledger_transactions.key", Rule::BookedOnce),
    ("devices_number_unique", "devices.device_number", Rule::DeviceNumberUnique),
    ("chargers_identity_unique", "chargers.identity", Rule::IdentityUnique),
    ("customers_phone_unique", "customers.phone", Rule::PhoneUnique),
    ("purchases_paid_within_amount", "purchases_paid_within_amount", Rule::PaidWithinAmount),
];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::TypeNotFound { .. } => {
                    Self::Broken(error.to_string())
                }
                sqlx::Error::RowNotFound | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Encode(_) => {
                    Self::Statement(error)
                }
                _ => Self::Down(error),
            };
        };
        if matches!(database.kind(), ErrorKind::Other) {
            // 08 connection, 53 resources, 57 shutdown and cancellation, 40 serialization, 55 lock, 58 system;
            // SQLite: 5 busy, 6 locked, 10 I/O, 13 full, 14 cannot open.
            let code = database.code().unwrap_or_default();
            let sqlstate_down =
                code.len() == 5 && ["08", "53", "57", "40", "55", "58"].iter().any(|class| code.starts_with(class));
            let sqlite_down =
                code.parse::<u32>().is_ok_and(|code| code < 100_000 && [5, 6, 10, 13, 14].contains(&(code & 0xff)));
            let down = sqlstate_down || (code.len() < 5 && sqlite_down);
            let sqlite_full = code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == SQLITE_FULL);
            if sqlite_full || code == DISK_FULL {
                *FULL.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            return if down { Self::Down(error) } else { Self::Statement(error) };
        }
        let (name, message) = (database.constraint().unwrap_or_default(), database.message());
        let rule = RULES.iter().find(|(postgres, sqlite, _)| name == *postgres || message.ends_with(sqlite));
        Self::Refused(rule.map_or(Rule::Other, |(_, _, rule)| *rule))
    }
}

impl StoreError {
    /// The database took longer than the caller waits.
    pub fn timed_out() -> Self {
        Self::Down(sqlx::Error::PoolTimedOut)
    }

    /// Another transaction wrote what this one was about to write.
    pub fn conflict() -> Self {
        Self::Refused(Rule::Other)
    }

    /// Whether a later try of the same may succeed.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Down(_))
    }
}
