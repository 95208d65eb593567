//! Types of settings that read themselves from text.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use evm_domain::Money;
use rust_decimal::Decimal;

/// A password, key or URL with a password in it: never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whole numbers with commas between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers(pub(crate) Vec<u16>);

impl FromStr for Numbers {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|number| number.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// An amount in MNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mnt(pub(crate) Money);

impl FromStr for Mnt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let amount = text.parse::<Decimal>().ok().and_then(|mnt| Money::from_mnt(mnt).ok());
        amount.filter(|amount| *amount >= Money::ZERO).map(Self).ok_or("an amount in MNT, at most 2 decimals")
    }
}

/// A percentage, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) i64);

impl FromStr for Percent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Mnt(hundredths) = text.parse().map_err(|_| "a percentage, at most 2 decimals")?;
        if hundredths.0 > 10_000 { Err("at most 100 percent") } else { Ok(Self(hundredths.0)) }
    }
}

/// What sends codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SmsDriver {
    /// Nothing; a log line says that there was one.
    Log,
    /// CallPro.
    CallPro,
    /// A gateway described by templates.
    Http,
}

impl FromStr for SmsDriver {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "log" => Ok(Self::Log),
            "callpro" => Ok(Self::CallPro),
            "http" => Ok(Self::Http),
            _ => Err("use log, callpro or http"),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("use text or json"),
        }
    }
}
