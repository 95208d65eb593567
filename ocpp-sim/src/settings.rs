//! The charger's configuration: keys of OCPP 1.6 (section 9), component variables of 2.0.1 (part 2, appendix 3).
//! The tables are static; a charger keeps only what was changed.

use crate::config::{ChargerConfig, Version};
use std::collections::BTreeMap;

/// Settings that change what the simulator does, by whichever name its version calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    HeartbeatInterval,
    SampleInterval,
    SampledData,
    StopData,
    ConnectionTimeout,
    MessageAttempts,
    MessageRetryInterval,
    AuthorizeRemote,
    StopOnInvalidId,
    OfflineUnknownId,
    LocalAuthorizeOffline,
    AuthCache,
    Password,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int(i64, i64),
    Bool,
    Measurands,
    /// Text of at most so many characters.
    Text(usize),
    /// 1.6: 16 to 20 bytes in hex.
    HexKey,
    /// 2.0.1: 16 to 40 characters.
    Password,
}

/// One row of a table.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) component: &'static str,
    pub(crate) name: &'static str,
    pub(crate) instance: &'static str,
    pub(crate) kind: Kind,
    pub(crate) access: Access,
    pub(crate) default: &'static str,
    key: Option<Key>,
}

const fn row(
    component: &'static str,
    name: &'static str,
    kind: Kind,
    access: Access,
    default: &'static str,
    key: Option<Key>,
) -> Spec {
    Spec { component, name, instance: "", kind, access, default, key }
}

const fn instance(instance: &'static str, spec: Spec) -> Spec {
    Spec { instance, ..spec }
}

/// What the meter can sample.
pub(crate) const MEASURANDS: [&str; 3] = ["Energy.Active.Import.Register", "Power.Active.Import", "SoC"];
const ALL_MEASURANDS: &str = "Energy.Active.Import.Register,Power.Active.Import,SoC";

use Access::{Read, ReadWrite, Write};
use Kind::{Bool, Int, Measurands, Text};

const TABLE_16: &[Spec] = &[
    row("", "AllowOfflineTxForUnknownId", Bool, ReadWrite, "true", Some(Key::OfflineUnknownId)),
    row("", "AuthorizationCacheEnabled", Bool, ReadWrite, "true", Some(Key::AuthCache)),
    row("", "AuthorizationKey", Kind::HexKey, Write, "", Some(Key::Password)),
    row("", "AuthorizeRemoteTxRequests", Bool, ReadWrite, "false", Some(Key::AuthorizeRemote)),
    row("", "ClockAlignedDataInterval", Int(0, 0), ReadWrite, "0", None),
    row("", "ConnectionTimeOut", Int(1, 86_400), ReadWrite, "60", Some(Key::ConnectionTimeout)),
    row("", "ConnectorPhaseRotation", Text(500), ReadWrite, "NotApplicable", None),
    row("", "GetConfigurationMaxKeys", Int(0, 100), Read, "100", None),
    row("", "HeartbeatInterval", Int(1, 86_400), ReadWrite, "300", Some(Key::HeartbeatInterval)),
    row("", "LocalAuthorizeOffline", Bool, ReadWrite, "true", Some(Key::LocalAuthorizeOffline)),
    row("", "LocalPreAuthorize", Bool, Read, "false", None),
    row("", "MeterValuesAlignedData", Measurands, Read, "", None),
    row("", "MeterValuesSampledData", Measurands, ReadWrite, ALL_MEASURANDS, Some(Key::SampledData)),
    row("", "MeterValueSampleInterval", Int(0, 86_400), ReadWrite, "5", Some(Key::SampleInterval)),
    row("", "NumberOfConnectors", Int(1, 64), Read, "1", None),
    row("", "ResetRetries", Int(0, 10), ReadWrite, "0", None),
    row("", "StopTransactionOnEVSideDisconnect", Bool, Read, "true", None),
    row("", "StopTransactionOnInvalidId", Bool, ReadWrite, "true", Some(Key::StopOnInvalidId)),
    row("", "StopTxnAlignedData", Measurands, Read, "", None),
    row("", "StopTxnSampledData", Measurands, ReadWrite, "", Some(Key::StopData)),
    row("", "SupportedFeatureProfiles", Text(500), Read, "Core,RemoteTrigger", None),
    row("", "TransactionMessageAttempts", Int(1, 1_000), ReadWrite, "3", Some(Key::MessageAttempts)),
    row("", "TransactionMessageRetryInterval", Int(0, 86_400), ReadWrite, "60", Some(Key::MessageRetryInterval)),
    row("", "UnlockConnectorOnEVSideDisconnect", Bool, Read, "true", None),
];

const TABLE_201: &[Spec] = &[
    row("AlignedDataCtrlr", "Interval", Int(0, 0), ReadWrite, "0", None),
    row("AuthCacheCtrlr", "Enabled", Bool, ReadWrite, "true", Some(Key::AuthCache)),
    row("AuthCtrlr", "AuthorizeRemoteStart", Bool, ReadWrite, "false", Some(Key::AuthorizeRemote)),
    row("AuthCtrlr", "LocalAuthorizeOffline", Bool, ReadWrite, "true", Some(Key::LocalAuthorizeOffline)),
    row("AuthCtrlr", "LocalPreAuthorize", Bool, Read, "false", None),
    row("AuthCtrlr", "OfflineTxForUnknownIdEnabled", Bool, ReadWrite, "true", Some(Key::OfflineUnknownId)),
    row("ChargingStation", "Model", Text(20), Read, "Simulated charger", None),
    row("ChargingStation", "VendorName", Text(50), Read, "ocpp-sim", None),
    row("ClockCtrlr", "TimeSource", Text(100), Read, "Heartbeat", None),
    instance("GetReport", row("DeviceDataCtrlr", "ItemsPerMessage", Int(1, 100), Read, "10", None)),
    instance("GetVariables", row("DeviceDataCtrlr", "ItemsPerMessage", Int(1, 100), Read, "50", None)),
    instance("SetVariables", row("DeviceDataCtrlr", "ItemsPerMessage", Int(1, 100), Read, "50", None)),
    row("OCPPCommCtrlr", "HeartbeatInterval", Int(1, 86_400), ReadWrite, "300", Some(Key::HeartbeatInterval)),
    instance(
        "TransactionEvent",
        row("OCPPCommCtrlr", "MessageAttempts", Int(1, 1_000), ReadWrite, "3", Some(Key::MessageAttempts)),
    ),
    instance(
        "TransactionEvent",
        row(
            "OCPPCommCtrlr",
            "MessageAttemptInterval",
            Int(0, 86_400),
            ReadWrite,
            "60",
            Some(Key::MessageRetryInterval),
        ),
    ),
    instance("Default", row("OCPPCommCtrlr", "MessageTimeout", Int(1, 600), Read, "30", None)),
    row("OCPPCommCtrlr", "UnlockOnEVSideDisconnect", Bool, Read, "true", None),
    row("SampledDataCtrlr", "TxEndedMeasurands", Measurands, Read, ALL_MEASURANDS, None),
    row("SampledDataCtrlr", "TxStartedMeasurands", Measurands, Read, ALL_MEASURANDS, None),
    row("SampledDataCtrlr", "TxUpdatedInterval", Int(0, 86_400), ReadWrite, "5", Some(Key::SampleInterval)),
    row("SampledDataCtrlr", "TxUpdatedMeasurands", Measurands, ReadWrite, ALL_MEASURANDS, Some(Key::SampledData)),
    row("SecurityCtrlr", "BasicAuthPassword", Kind::Password, Write, "", Some(Key::Password)),
    row("SecurityCtrlr", "Identity", Text(48), Read, "", None),
    row("SecurityCtrlr", "SecurityProfile", Int(0, 3), Read, "1", None),
    row("TxCtrlr", "EVConnectionTimeOut", Int(1, 86_400), ReadWrite, "60", Some(Key::ConnectionTimeout)),
    row("TxCtrlr", "StopTxOnEVSideDisconnect", Bool, Read, "true", None),
    row("TxCtrlr", "StopTxOnInvalidId", Bool, ReadWrite, "true", Some(Key::StopOnInvalidId)),
    row("TxCtrlr", "TxStartPoint", Text(100), Read, "PowerPathClosed", None),
    row("TxCtrlr", "TxStopPoint", Text(100), Read, "EVConnected,Authorized", None),
];

/// Why a value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetError {
    ReadOnly,
    BadValue,
}

/// The settings of one charger.
#[derive(Debug)]
pub(crate) struct Settings {
    table: &'static [Spec],
    changed: BTreeMap<usize, String>,
}

impl Settings {
    pub(crate) fn new(config: &ChargerConfig) -> Self {
        let table = match config.version {
            Version::V16 => TABLE_16,
            Version::V201 => TABLE_201,
        };
        let mut settings = Settings { table, changed: BTreeMap::new() };
        let seconds = |d: std::time::Duration| d.as_secs().to_string();
        settings.put(Key::HeartbeatInterval, seconds(config.heartbeat_interval));
        settings.put(Key::ConnectionTimeout, seconds(config.connection_timeout));
        settings.put(Key::SampleInterval, seconds(config.sample_interval));
        settings.put(Key::MessageRetryInterval, seconds(config.message_retry_interval));
        settings.put(Key::MessageAttempts, config.message_attempts.to_string());
        settings.put(Key::OfflineUnknownId, config.offline_unknown_id.to_string());
        let shown = [
            ("", "NumberOfConnectors", config.connectors.to_string()),
            ("SecurityCtrlr", "Identity", config.identity.clone()),
            ("ChargingStation", "Model", config.model.clone()),
            ("ChargingStation", "VendorName", config.vendor.clone()),
        ];
        for (component, name, value) in shown {
            if let Some(i) = settings.find(component, name, "") {
                settings.store(i, value);
            }
        }
        settings
    }

    fn store(&mut self, index: usize, value: String) {
        if self.table[index].default == value {
            self.changed.remove(&index);
        } else {
            self.changed.insert(index, value);
        }
    }

    fn index_of(&self, key: Key) -> Option<usize> {
        self.table.iter().position(|spec| spec.key == Some(key))
    }

    /// Sets by meaning, without the checks made for the central system.
    pub(crate) fn put(&mut self, key: Key, value: String) {
        if let Some(i) = self.index_of(key) {
            self.store(i, value);
        }
    }

    /// Number of the row; names are compared without case, an absent instance is the empty one.
    pub(crate) fn find(&self, component: &str, name: &str, instance: &str) -> Option<usize> {
        self.table.iter().position(|spec| {
            spec.component.eq_ignore_ascii_case(component)
                && spec.name.eq_ignore_ascii_case(name)
                && spec.instance.eq_ignore_ascii_case(instance)
        })
    }

    pub(crate) fn has_component(&self, component: &str) -> bool {
        self.table.iter().any(|spec| spec.component.eq_ignore_ascii_case(component))
    }

    /// All rows with their values.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static Spec, &str)> {
        self.table.iter().enumerate().map(|(i, spec)| (spec, self.value(i)))
    }

    pub(crate) fn spec(&self, index: usize) -> &'static Spec {
        &self.table[index]
    }

    pub(crate) fn value(&self, index: usize) -> &str {
        self.changed.get(&index).map_or(self.table[index].default, String::as_str)
    }

    /// Takes a value from the central system; answers what it means, if it means anything here.
    pub(crate) fn set(&mut self, index: usize, value: &str) -> Result<Option<Key>, SetError> {
        let spec = &self.table[index];
        if spec.access == Read {
            return Err(SetError::ReadOnly);
        }
        let value = value.trim();
        let fits = match spec.kind {
            Int(min, max) => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Bool => matches!(value, "true" | "false"),
            Measurands => value.is_empty() || value.split(',').all(|m| MEASURANDS.contains(&m.trim())),
            Text(max) => value.chars().count() <= max,
            Kind::HexKey => hex_bytes(value).is_some_and(|b| (16..=20).contains(&b.len())),
            Kind::Password => (16..=40).contains(&value.chars().count()),
        };
        if !fits {
            return Err(SetError::BadValue);
        }
        self.store(index, value.to_owned());
        Ok(spec.key)
    }

    pub(crate) fn text(&self, key: Key) -> &str {
        self.index_of(key).map_or("", |i| self.value(i))
    }

    pub(crate) fn seconds(&self, key: Key) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    pub(crate) fn is_on(&self, key: Key) -> bool {
        self.text(key) == "true"
    }

    /// Whether this measurand is in the list.
    pub(crate) fn samples(&self, key: Key, measurand: &str) -> bool {
        self.text(key).split(',').any(|m| m.trim() == measurand)
    }
}

/// Bytes of a hex text; `None` if it is none.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(version: Version) -> Settings {
        Settings::new(&ChargerConfig::new("ws://h", "CP 1", version))
    }

    #[test]
    fn both_versions_know_every_key() {
        for (version, absent) in [(Version::V16, None), (Version::V201, Some(Key::StopData))] {
            let settings = settings(version);
            for key in [
                Key::HeartbeatInterval,
                Key::SampleInterval,
                Key::SampledData,
                Key::StopData,
                Key::ConnectionTimeout,
                Key::MessageAttempts,
                Key::MessageRetryInterval,
                Key::AuthorizeRemote,
                Key::StopOnInvalidId,
                Key::OfflineUnknownId,
                Key::LocalAuthorizeOffline,
                Key::AuthCache,
                Key::Password,
            ] {
                assert_eq!(settings.index_of(key).is_none(), absent == Some(key), "{key:?}");
            }
        }
    }

    #[test]
    fn values_are_checked() {
        let mut s = settings(Version::V16);
        let mut set = |name: &str, value: &str| {
            let i = s.find("", name, "").unwrap();
            s.set(i, value)
        };
        assert_eq!(set("metervaluesampleinterval", "3"), Ok(Some(Key::SampleInterval)));
        assert_eq!(set("MeterValueSampleInterval", "x"), Err(SetError::BadValue));
        assert_eq!(set("HeartbeatInterval", "0"), Err(SetError::BadValue));
        assert_eq!(set("NumberOfConnectors", "3"), Err(SetError::ReadOnly));
        assert_eq!(set("MeterValuesSampledData", "SoC,Voltage"), Err(SetError::BadValue));
        assert_eq!(set("AuthorizationKey", "00"), Err(SetError::BadValue));
        assert_eq!(set("AuthorizationKey", &"ab".repeat(16)), Ok(Some(Key::Password)));
        assert_eq!(set("AuthorizationKey", &"é".repeat(16)), Err(SetError::BadValue));
        assert_eq!(s.seconds(Key::SampleInterval), 3);
    }

    #[test]
    fn instances_tell_variables_apart() {
        let s = settings(Version::V201);
        assert!(s.find("OCPPCommCtrlr", "MessageAttempts", "").is_none());
        assert!(s.find("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent").is_some());
        let i = s.find("SecurityCtrlr", "Identity", "").unwrap();
        assert_eq!(s.value(i), "CP 1");
    }
}
