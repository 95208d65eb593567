//! What a simulated charger is and how it behaves.

use std::{fmt, str::FromStr, time::Duration};

/// The OCPP version a charger speaks; it decides the WebSocket subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// OCPP 1.6J, subprotocol `ocpp1.6`.
    V16,
    /// OCPP 2.0.1, subprotocol `ocpp2.0.1`.
    V201,
}

impl Version {
    /// The WebSocket subprotocol offered in the handshake.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Version::V16 => "ocpp1.6",
            Version::V201 => "ocpp2.0.1",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V16 => "1.6",
            Version::V201 => "2.0.1",
        })
    }
}

/// The text is neither `1.6` nor `2.0.1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown OCPP version {0:?}: use 1.6 or 2.0.1")]
pub struct UnknownVersion(String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1.6" | "1.6J" | "ocpp1.6" => Ok(Version::V16),
            "2.0.1" | "ocpp2.0.1" => Ok(Version::V201),
            other => Err(UnknownVersion(other.to_owned())),
        }
    }
}

/// Everything that makes one charger. Start from [`ChargerConfig::new`] and change fields.
#[derive(Debug, Clone)]
pub struct ChargerConfig {
    /// Where to connect, e.g. `ws://127.0.0.1:9000/ocpp`; the identity is appended, percent-encoded.
    pub url: String,
    /// The charger's identity.
    pub identity: String,
    /// Password of HTTP Basic authentication; `None` sends no `Authorization` header.
    pub password: Option<String>,
    /// OCPP version.
    pub version: Version,
    /// Number of connectors (1.6), or of EVSEs with one connector each (2.0.1); 1 to 64.
    pub connectors: u32,
    /// Seeds the jitter of the curve, the back-off and the transaction ids.
    pub seed: u64,
    /// Register of each connector's meter at the start, Wh.
    pub start_meter_wh: i64,
    /// Most power a connector gives, W.
    pub power_w: i64,
    /// Energy that a newly plugged-in car takes until it is full, Wh.
    pub battery_wh: i64,
    /// Seconds' worth of energy delivered in each real second. Timestamps and all other times stay real.
    pub speed: u32,
    /// Time between two meter samples of a running transaction. Zero sends none. The central system may change it.
    pub sample_interval: Duration,
    /// Heartbeat interval where the central system tells none (or 0).
    pub heartbeat_interval: Duration,
    /// How long a CALL of ours waits for its answer.
    pub call_timeout: Duration,
    /// How long an authorised charger waits for the cable (`ConnectionTimeOut`, `EVConnectionTimeOut`).
    pub connection_timeout: Duration,
    /// Attempts for a transaction message that is answered with an error or not at all.
    pub message_attempts: u32,
    /// Wait before such a message is sent again; multiplied by the attempts made so far.
    pub message_retry_interval: Duration,
    /// First wait before a reconnect; doubled each time, with jitter.
    pub reconnect_min: Duration,
    /// Longest wait before a reconnect.
    pub reconnect_max: Duration,
    /// Wait before BootNotification is sent again when it failed, or when the interval told was 0.
    pub boot_retry: Duration,
    /// Send BootNotification on every reconnect, as some firmwares do. The specification asks for it only after a boot.
    pub boot_on_reconnect: bool,
    /// How long a reset takes: time between the closed socket and the new connection.
    pub reset_time: Duration,
    /// Start transactions for unknown cards while offline.
    pub offline_unknown_id: bool,
    /// Most transaction messages kept while offline; beyond it the oldest samples are thrown away.
    pub queue_limit: usize,
    /// Events that a slow subscriber may lag behind before it loses some.
    pub event_capacity: usize,
    /// Vendor in BootNotification (cut at 20 characters).
    pub vendor: String,
    /// Model in BootNotification (cut at 20 characters).
    pub model: String,
    /// Firmware version in BootNotification (cut at 50 characters).
    pub firmware: String,
}

impl ChargerConfig {
    /// A single-connector 7 kW charger without a password.
    pub fn new(url: impl Into<String>, identity: impl Into<String>, version: Version) -> Self {
        ChargerConfig {
            url: url.into(),
            identity: identity.into(),
            password: None,
            version,
            connectors: 1,
            seed: 1,
            start_meter_wh: 0,
            power_w: 7_000,
            battery_wh: 20_000,
            speed: 1,
            sample_interval: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(300),
            call_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(60),
            message_attempts: 3,
            message_retry_interval: Duration::from_secs(60),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(30),
            boot_retry: Duration::from_secs(10),
            boot_on_reconnect: false,
            reset_time: Duration::from_millis(500),
            offline_unknown_id: true,
            queue_limit: 10_000,
            event_capacity: 64,
            vendor: "ocpp-sim".to_owned(),
            model: "Simulated charger".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Brings every number into the range that the simulator can compute with.
    pub(crate) fn clamped(mut self) -> Self {
        self.connectors = self.connectors.clamp(1, 64);
        self.power_w = self.power_w.clamp(1, 1_000_000);
        self.battery_wh = self.battery_wh.clamp(1, 1_000_000);
        self.start_meter_wh = self.start_meter_wh.clamp(0, 1_000_000_000);
        self.speed = self.speed.clamp(1, 100_000);
        self.message_attempts = self.message_attempts.clamp(1, 1_000);
        self.queue_limit = self.queue_limit.max(2);
        self.event_capacity = self.event_capacity.clamp(1, 65_536);
        self.reconnect_min = self.reconnect_min.max(Duration::from_millis(1));
        self.reconnect_max = self.reconnect_max.max(self.reconnect_min);
        self.boot_retry = self.boot_retry.max(Duration::from_millis(10));
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in [Version::V16, Version::V201] {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
            assert_eq!(version.subprotocol().parse::<Version>().unwrap(), version);
        }
        assert!("2.1".parse::<Version>().is_err());
    }

    #[test]
    fn senseless_numbers_are_clamped() {
        let mut config = ChargerConfig::new("ws://h", "x", Version::V16);
        (config.connectors, config.speed, config.power_w) = (0, 0, -5);
        let config = config.clamped();
        assert_eq!((config.connectors, config.speed, config.power_w), (1, 1, 1));
    }
}
