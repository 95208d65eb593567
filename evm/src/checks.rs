//! What a start refuses about the settings: one list for `evm serve`, its parts and `evm doctor`.

use anyhow::{Context, bail, ensure};
use evm_bus::callout;

use crate::gateways;
use crate::node::Parts;
use crate::settings::Settings;

/// What cannot work as it is set: where, and why; each names its setting.
pub(crate) fn refused(settings: &Settings, parts: Parts) -> Vec<(&'static str, anyhow::Error)> {
    let mut looks = vec![("parts", large(settings, parts))];
    if parts != Parts::Csms {
        looks.extend([
            ("NATS", public_nats(settings)),
            ("NATS logins", nats_logins(settings)),
            ("SMS", gateways::sms(settings).map(drop)),
            ("SMS text", gateways::sms_text(settings).map(drop)),
            ("push", gateways::fcm(settings).map(drop)),
            ("QPay", gateways::qpay(settings).map(drop)),
        ]);
    }
    looks.into_iter().filter_map(|(what, look)| Some((what, look.err()?))).collect()
}

/// The first of them, for a start.
///
/// # Errors
/// Where there is one.
pub(crate) fn refuse(settings: &Settings, parts: Parts) -> anyhow::Result<()> {
    refused(settings, parts).into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// What one part of a large deployment cannot do without.
fn large(settings: &Settings, parts: Parts) -> anyhow::Result<()> {
    if parts == Parts::All {
        return Ok(());
    }
    let postgres = settings.database_url.as_ref().is_some_and(|url| url.as_str().starts_with("postgres"));
    let missing = match (postgres, settings.nats_url.is_some()) {
        (true, true) => return Ok(()),
        (false, true) => "EVM_DATABASE_URL=postgres://… is not set",
        (true, false) => "EVM_NATS_URL is not set",
        (false, false) => "EVM_DATABASE_URL=postgres://… and EVM_NATS_URL are not set",
    };
    bail!(
        "{missing}. This is one part of a large deployment; its parts meet in PostgreSQL and NATS. \
         On one machine `evm serve` runs everything and needs neither"
    )
}

fn public_nats(settings: &Settings) -> anyhow::Result<()> {
    ensure!(
        settings.nats_url.is_none() || settings.nats_public_url.is_some(),
        "EVM_NATS_URL is set, so EVM_NATS_PUBLIC_URL must be too: where customers hear their events"
    );
    Ok(())
}

fn nats_logins(settings: &Settings) -> anyhow::Result<()> {
    let (Some(issuer), Some(xkey)) = (&settings.nats_callout_issuer_seed, &settings.nats_callout_xkey_seed) else {
        return Ok(());
    };
    callout::check_seeds(issuer.as_str(), xkey.as_str())
        .context("EVM_NATS_CALLOUT_ISSUER_SEED or EVM_NATS_CALLOUT_XKEY_SEED; `evm nats-config` prints good ones")
}
