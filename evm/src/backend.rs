//! The database and the message bus, waited for at the start.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use evm_bus::callout::{Callout, CalloutOptions};
use evm_bus::{Authenticator, Bus, BusError, NatsOptions};
use evm_store::{Store, StoreError};
use tokio::time::Instant;

use crate::data::{self, Lock};
use crate::settings::{Secret, Settings};

/// How long a database or a NATS server that is not there yet is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// The migrated store, and the lock on it where it is SQLite.
///
/// # Errors
/// Where another process has the SQLite file, or the database does not come up or cannot be migrated.
pub(crate) async fn store(settings: &Settings) -> anyhow::Result<(Store, Option<Lock>)> {
    let url = data::database_url(settings)?;
    let lock = match data::sqlite_path(&url) {
        Some(path) => {
            let lock = Lock::take(path)?;
            data::close_database(path)?;
            Some(lock)
        }
        None => None,
    };
    let name = format!("the database {}", without_login(&url));
    let ready = async || {
        let store = Store::open(&url).await?;
        store.migrate().await?;
        Ok(store)
    };
    // A local file that cannot be opened will not open itself.
    let down = |error: &StoreError| lock.is_none() && error.is_down();
    let store = wait_for(&name, down, ready).await?;
    Ok((store, lock))
}

/// Holds the machine's clock against the database's.
///
/// # Errors
/// Where they differ by more than is set.
pub(crate) async fn check_clock(store: &Store, settings: &Settings) -> anyhow::Result<()> {
    let ahead_ms = store.clock_ahead_ms().await?;
    ensure!(ahead_ms.abs() <= i64::from(settings.max_clock_skew_s) * 1000, "{}", clock_is_off(ahead_ms, settings));
    Ok(())
}

/// What to say of a clock that is off.
pub(crate) fn clock_is_off(ahead_ms: i64, settings: &Settings) -> String {
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    format!(
        "this machine's clock is {} s {side} the database's. Set both right, best by NTP; EVM_MAX_CLOCK_SKEW_S={} is \
         what is let pass",
        ahead_ms.abs() / 1000,
        settings.max_clock_skew_s
    )
}

/// The message bus: through the NATS server where one is set, else inside this process.
///
/// # Errors
/// Where the server does not come up or refuses us.
pub(crate) async fn bus(settings: &Settings) -> anyhow::Result<Bus> {
    let Some(url) = &settings.nats_url else { return Ok(Bus::local()) };
    let name = format!("the NATS server {}", without_login(url.as_str()));
    wait_for(&name, bus_down, async || Bus::connect_nats(NatsOptions::new(url.as_str())).await).await
}

/// What tells the NATS server which customers to let in, where it is set.
///
/// # Errors
/// As [`bus`].
pub(crate) async fn callout(settings: &Settings, authenticator: &Authenticator) -> anyhow::Result<Option<Callout>> {
    let (Some(url), Some(issuer), Some(xkey)) =
        (&settings.nats_callout_url, &settings.nats_callout_issuer_seed, &settings.nats_callout_xkey_seed)
    else {
        return Ok(None);
    };
    let name = format!("the NATS server {} (EVM_NATS_CALLOUT_URL)", without_login(url.as_str()));
    let options = CalloutOptions::new(url.as_str(), issuer.as_str(), xkey.as_str());
    let connect = async || Callout::connect(options.clone(), authenticator.clone()).await;
    wait_for(&name, bus_down, connect).await.map(Some)
}

fn bus_down(error: &BusError) -> bool {
    matches!(error, BusError::Down(_))
}

/// Tries again while the error says that it may pass.
async fn wait_for<T, E>(
    name: &str,
    passes: impl Fn(&E) -> bool,
    mut ready: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ready().await {
            Ok(value) => return Ok(value),
            Err(error) if passes(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "{name} is not there yet; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot use {name}")),
        }
    }
}

/// The URL as it may be shown: without user and password, and without parameters, which may hold more of them.
pub(crate) fn without_login(url: &str) -> String {
    let one = |url: &str| {
        let (scheme, rest) = url.split_once("://").map_or((String::new(), url), |(s, rest)| (format!("{s}://"), rest));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}{}", rest.split('?').next().unwrap_or_default())
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// A secret of the installation: as set, or made at the first start and kept in the store; `true` where it was
/// made just now.
///
/// # Errors
/// Where the database fails.
pub(crate) async fn secret<const BYTES: usize>(
    store: &Store,
    name: &str,
    set: Option<&Secret>,
) -> anyhow::Result<(String, bool)> {
    if let Some(secret) = set {
        return Ok((secret.as_str().to_owned(), false));
    }
    let new = hex::encode(evm_store::random::<BYTES>());
    let mut db = store.begin().await?;
    let kept = evm_store::settings::get_or_create(&mut db, name, || new.clone()).await?;
    db.commit().await?;
    let made = kept == new;
    Ok((kept, made))
}

/// The key of all hashes, 32 bytes.
///
/// # Errors
/// Where the database fails or holds another thing.
pub(crate) async fn server_secret(store: &Store) -> anyhow::Result<[u8; 32]> {
    let (text, _) = secret::<32>(store, "server_secret", None).await?;
    let mut key = [0; 32];
    if hex::decode_to_slice(&text, &mut key).is_err() {
        bail!("the setting server_secret in the database is not 32 bytes in hex");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn shown_urls_have_no_login() {
        for (url, shown) in [
            ("nats://api:pass@host:4222", "nats://host:4222"),
            ("nats://api:p@ss@a:1,nats://api:p@b:2", "nats://a:1,nats://b:2"),
            ("postgres://user:pass@host/db?password=x", "postgres://host/db"),
            ("sqlite:///data/evm.db", "sqlite:///data/evm.db"),
            ("user:pass@host", "host"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_and_nothing_else() {
        let mut tries = 0;
        let third = wait_for(
            "it",
            |_: &std::fmt::Error| true,
            async || {
                tries += 1;
                if tries < 3 { Err(std::fmt::Error) } else { Ok(tries) }
            },
        );
        assert_eq!(third.await.unwrap(), 3);

        let mut tries = 0;
        let never = wait_for(
            "it",
            |_: &std::fmt::Error| false,
            async || {
                tries += 1;
                Err::<(), _>(std::fmt::Error)
            },
        );
        assert!(format!("{:#}", never.await.unwrap_err()).starts_with("cannot use it"));
        assert_eq!(tries, 1);

        let begun = Instant::now();
        wait_for("it", |_: &std::fmt::Error| true, async || Err::<(), _>(std::fmt::Error)).await.unwrap_err();
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < PATIENCE * 2);
    }
}
