//! How often codes are sent and tried.

use std::net::IpAddr;

use evm_store::limits::Limit;

use crate::http::address;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The names under which a phone, an address and everybody together are counted.
pub(super) struct Keys {
    phone: String,
    address: String,
}

/// For requests of codes.
pub(super) fn requests(phone: &str, from: IpAddr) -> Keys {
    Keys { phone: format!("code:phone:{phone}"), address: format!("code:address:{}", address::network(from)) }
}

/// For wrong codes.
pub(super) fn tries(phone: &str, from: IpAddr) -> Keys {
    Keys { phone: format!("try:phone:{phone}"), address: format!("try:address:{}", address::network(from)) }
}

impl Keys {
    /// A phone gets another code after a minute, 3 in 15 minutes and 8 a day; an address asks for 10 an hour, and all of
    /// them for `per_hour`.
    pub(super) fn of_requests(&self, per_hour: u32) -> [Limit<'_>; 5] {
        let limit = |key, most, window_ms| Limit { key, most, window_ms };
        [
            limit(&self.address, 10, HOUR_MS),
            limit(&self.phone, 1, MINUTE_MS),
            limit(&self.phone, 3, 15 * MINUTE_MS),
            limit(&self.phone, 8, DAY_MS),
            limit("code:all", per_hour.into(), HOUR_MS),
        ]
    }

    /// Beside the few tries that each code survives: wrong codes from an address, and for a phone, whatever its codes.
    pub(super) fn of_tries(&self) -> [Limit<'_>; 2] {
        let limit = |key, most, window_ms| Limit { key, most, window_ms };
        [limit(&self.address, 60, HOUR_MS), limit(&self.phone, 15, 15 * MINUTE_MS)]
    }
}
