//! Identifiers: 24 lower-case hexadecimal digits, four bytes of time and eight of chance.

use std::fmt;
use std::str::FromStr;

use crate::units::Timestamp;

/// An identifier of 12 bytes, written as 24 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 12]);

/// A text that is not 24 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 24 lower-case hexadecimal digits")]
pub struct BadId;

impl Id {
    /// Joins the seconds of its making and eight random bytes, so that ids sort by age.
    pub fn from_parts(unix_seconds: u32, random: [u8; 8]) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&unix_seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&random);
        Self(bytes)
    }

    /// When it was made, in whole seconds.
    pub fn made_at(self) -> Timestamp {
        let [a, b, c, d, ..] = self.0;
        Timestamp(i64::from(u32::from_be_bytes([a, b, c, d])) * 1000)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written more often than anything else; formatting byte by byte takes several times as long.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 24];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = text.as_bytes();
        if digits.len() != 24 {
            return Err(BadId);
        }
        let mut bytes = [0; 12];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn digit(c: u8) -> Result<u8, BadId> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(BadId),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Id);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A person who charges and pays.
    CustomerId,
    /// A charging station as a whole, one OCPP connection.
    ChargerId,
    /// One place where one car can plug in: a connector (OCPP 1.6) or an EVSE (2.0.1).
    DeviceId,
    /// One charge, from the request to its end.
    SessionId,
    /// What a charge costs and whether it is paid; given out with the session, so that it never changes.
    PurchaseId,
    /// What a payment gateway is asked to collect; an attempt each.
    InvoiceId,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn writes_and_reads_back() {
        let id = Id::from_parts(0x12d7_6c8b, [0xfc, 0xa2, 0xa2, 0x2c, 7, 0xa6, 0xfc, 0xa1]);
        assert_eq!(id.to_string(), "12d76c8bfca2a22c07a6fca1");
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
    }

    #[test]
    fn refuses_what_is_no_id() {
        for bad in ["", "12", "12D76C8BFCA2A22C07A6FCA1", "12d76c8bfca2a22c07a6fcag", "12d76c8bfca2a22c07a6fca12"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
