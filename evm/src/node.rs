//! One running process: the parts it serves, wired, and their common end.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use evm_bus::{Authenticator, Bus, hub};
use evm_store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend;
use crate::checks;
use crate::data::{self, Listening, Lock};
use crate::descriptors::{Descriptors, Sockets};
use crate::settings::{Settings, SmsDriver};

/// How long the parts may take to end.
const ENDING: Duration = Duration::from_secs(8);
/// Of all phones, one address may hold this part: many share one behind a carrier's gateway.
const PHONES_OF_ONE: usize = 10;

/// What a process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Everything.
    All,
    /// The central system.
    Csms,
    /// The billing API.
    BillingApi,
}

/// A part's end: its name, and why.
type End = (&'static str, anyhow::Result<()>);

/// The running parts.
pub(crate) struct Node {
    /// Where they listen.
    pub(crate) listening: Listening,
    /// The operator's bearer token; `true` where it was made just now. Without a billing API none.
    pub(crate) admin_token: Option<(String, bool)>,
    /// What its parts talk over.
    pub(crate) bus: Bus,
    parts: JoinSet<End>,
    shutdown: CancellationToken,
    store: Store,
    folder: PathBuf,
    _lock: Option<Lock>,
}

/// Starts the parts and serves until `stop`.
///
/// # Errors
/// Where something is missing at the start, or a part fails.
pub(crate) async fn serve(settings: &Settings, parts: Parts, stop: &CancellationToken) -> anyhow::Result<()> {
    let node = tokio::select! {
        node = Node::start(settings, parts) => node?,
        () = stop.cancelled() => return Ok(()),
    };
    if let Some((token, true)) = &node.admin_token {
        let text = "Operator token, made now and shown this once (EVM_ADMIN_TOKEN sets another):";
        let _ = writeln!(std::io::stdout(), "{text}\n  {token}");
    }
    node.until(stop).await
}

impl Node {
    /// Opens the store and the bus, binds the ports, starts the parts and writes `listening.json`.
    ///
    /// # Errors
    /// Where something is missing.
    pub(crate) async fn start(settings: &Settings, parts: Parts) -> anyhow::Result<Self> {
        checks::refuse(settings, parts)?;
        warn_of(settings, parts);
        let sockets = sockets(settings);
        data::make_folder(&settings.data_dir)?;
        let (store, lock) = backend::store(settings).await?;
        backend::check_clock(&store, settings).await?;
        if lock.is_some() {
            // Nobody else can have the file: what a killed process held is held no more.
            store.take_over().await?;
        }
        let clock = store.clone().watch_clock();
        store.mend_times().await;
        let bus = backend::bus(settings).await?;
        let mut node = Self {
            listening: Listening::default(),
            admin_token: None,
            bus: bus.clone(),
            parts: JoinSet::new(),
            shutdown: CancellationToken::new(),
            store,
            folder: settings.data_dir.clone(),
            _lock: lock,
        };
        let server_secret = backend::server_secret(&node.store).await?;
        if parts != Parts::Csms {
            node.start_billing_api(settings, &bus, server_secret, sockets).await?;
        }
        if parts != Parts::BillingApi {
            node.start_csms(settings, bus, server_secret, sockets)?;
        }
        let shutdown = node.shutdown.clone();
        node.parts.spawn(async move {
            shutdown.run_until_cancelled(clock).await;
            ("clock's watch", Ok(()))
        });
        node.listening.write(&node.folder)?;
        node.tell();
        Ok(node)
    }

    /// The REST API, and what lets phones hear their events: the built-in port or the NATS server's questions.
    async fn start_billing_api(
        &mut self,
        settings: &Settings,
        bus: &Bus,
        key: [u8; 32],
        sockets: Sockets,
    ) -> anyhow::Result<()> {
        let authenticator = billing_api::authenticator(self.store.clone(), key);
        match bus {
            Bus::Local(_) => self.start_hub(settings, bus.clone(), authenticator, sockets).await?,
            Bus::Nats(_) => self.start_callout(settings, bus, authenticator).await?,
        }
        let (listener, http) = listen(settings.http_addr, "EVM_HTTP_ADDR").await?;
        let token = backend::secret::<24>(&self.store, "admin_token", settings.admin_token.as_ref()).await?;
        let hub = || self.listening.nats_hub.map(|hub| format!("nats://{hub}"));
        let mut config = billing_api::Config::new(key, token.0.clone());
        config.otp_dev_code.clone_from(&settings.otp_dev_code);
        config.phone_countries.clone_from(&settings.phone_countries.0);
        crate::gateways::configure(settings, &mut config)?;
        config.trusted_proxies = settings.trusted_proxies.clone().unwrap_or_default();
        config.rate_per_address = settings.rate_per_address;
        config.rate_per_customer = settings.rate_per_customer;
        config.max_connections = usize::try_from(sockets.http)?;
        config.public_url = settings.public_url.clone().unwrap_or_else(|| format!("http://{http}"));
        config.nats_servers = settings.nats_public_url.clone().or_else(hub).unwrap_or_default();
        config.vat_bp = settings.vat_rate.0;
        config.credit = settings.credit();
        config.start_again = Duration::from_secs(settings.start_again_s.into());
        self.listening.http = Some(http);
        self.admin_token = Some(token);
        let (store, bus, shutdown) = (self.store.clone(), bus.clone(), self.shutdown.clone());
        self.parts.spawn(async move {
            let ended = Box::pin(billing_api::run(listener, store, bus, config, shutdown)).await;
            ("billing API", ended.map_err(Into::into))
        });
        Ok(())
    }

    fn start_csms(&mut self, settings: &Settings, bus: Bus, key: [u8; 32], sockets: Sockets) -> anyhow::Result<()> {
        let address = settings.ocpp_addr;
        let bound = csms::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.with_context(|| cannot_listen(address, "EVM_OCPP_ADDR"))?;
        self.listening.ocpp = Some(address);
        let config = csms::Config {
            stop_at_balance: settings.stop_at_balance,
            max_connections: usize::try_from(sockets.chargers)?,
            max_strangers: usize::try_from(sockets.strangers)?,
            trusted_proxies: settings.trusted_proxies.clone().unwrap_or_default(),
            ping_every: Duration::from_secs(settings.ping_every_s.max(1).into()),
            frame_bytes_a_day: u64::from(settings.messages_mb_per_day) * 1024 * 1024,
            credit: settings.credit(),
            lost_limit: Duration::from_secs(settings.lost_charge_s.into()),
            store_patience: Duration::from_secs(settings.store_patience_s.min(300).into()),
            ..csms::Config::new(key)
        };
        let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
        self.parts.spawn(async move {
            let ended = Box::pin(csms::run(listener, store, bus, config, shutdown)).await;
            ("central system", ended.map_err(Into::into))
        });
        Ok(())
    }

    async fn start_hub(
        &mut self,
        settings: &Settings,
        bus: Bus,
        who: Authenticator,
        sockets: Sockets,
    ) -> anyhow::Result<()> {
        let (listener, address) = listen(settings.nats_hub_addr, "EVM_NATS_HUB_ADDR").await?;
        self.listening.nats_hub = Some(address);
        let phones = usize::try_from(sockets.phones)?;
        let limits = hub::HubLimits {
            connections: phones,
            connections_per_address: (phones / PHONES_OF_ONE).max(1),
            trusted_proxies: settings.trusted_proxies.clone().unwrap_or_default(),
            ..hub::HubLimits::default()
        };
        let shutdown = self.shutdown.clone();
        self.parts.spawn(async move {
            hub::run(listener, bus, who, limits, shutdown).await;
            ("built-in NATS port", Ok(()))
        });
        Ok(())
    }

    async fn start_callout(&mut self, settings: &Settings, bus: &Bus, who: Authenticator) -> anyhow::Result<()> {
        let Some(callout) = backend::callout(settings, &who).await? else {
            tracing::warn!("EVM_NATS_CALLOUT_URL is not set: customers get into NATS only if another process answers");
            return Ok(());
        };
        let (callout, shutdown) = (callout.noting(bus), self.shutdown.clone());
        self.parts.spawn(async move { ("NATS logins", callout.run(shutdown).await.map_err(Into::into)) });
        Ok(())
    }

    fn tell(&self) {
        let Listening { http, ocpp, nats_hub } = &self.listening;
        if let Some(http) = http {
            tracing::info!("REST API at http://{http}, its documents at http://{http}/docs");
        }
        if let Some(ocpp) = ocpp {
            tracing::info!("chargers connect to ws://{ocpp}/ocpp/IDENTITY");
        }
        if let Some(hub) = nats_hub {
            tracing::info!("phones hear their events at nats://{hub}");
        }
    }

    /// Serves until `stop` or until a part fails, then ends all parts.
    ///
    /// # Errors
    /// Where a part failed.
    pub(crate) async fn until(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let early = tokio::select! {
            () = stop.cancelled() => None,
            ended = self.parts.join_next() => ended,
        };
        self.shutdown.cancel();
        let mut problem = early.map(|ended| match ended {
            Ok((part, Ok(()))) => anyhow::anyhow!("the {part} ended by itself"),
            ended => failure(ended),
        });
        let rest = async {
            while let Some(ended) = self.parts.join_next().await {
                if !matches!(ended, Ok((_, Ok(())))) {
                    problem.get_or_insert(failure(ended));
                }
            }
            self.store.close().await;
        };
        let in_time = tokio::time::timeout(ENDING, rest).await;
        self.listening.remove(&self.folder);
        if let Some(problem) = problem {
            return Err(problem);
        }
        match in_time {
            Ok(()) => tracing::info!("ended"),
            // A client that does not let go; what was answered is stored.
            Err(_) => tracing::warn!("not everything ended within {} s", ENDING.as_secs()),
        }
        Ok(())
    }
}

/// Asks for file descriptors, and says how many sockets they carry.
fn sockets(settings: &Settings) -> Sockets {
    let descriptors = Descriptors::raise();
    let sockets = descriptors.sockets(settings);
    let Sockets { chargers, strangers, http, phones } = sockets;
    let Descriptors { before, now } = descriptors;
    tracing::info!(before, now, chargers, strangers, http, phones, "file descriptors, and the sockets they carry");
    sockets
}

fn failure(ended: Result<End, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((part, Err(error))) => error.context(format!("the {part} failed")),
        Ok((part, Ok(()))) => anyhow::anyhow!("the {part} ended"),
        Err(error) => anyhow::Error::new(error).context("a part broke off"),
    }
}

async fn listen(address: SocketAddr, setting: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| cannot_listen(address, setting))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn cannot_listen(address: SocketAddr, setting: &str) -> String {
    format!("cannot listen on {address} ({setting})")
}

/// What works but is most likely not meant.
fn warn_of(settings: &Settings, parts: Parts) {
    if parts == Parts::Csms {
        return;
    }
    if settings.otp_dev_code.is_some() {
        tracing::warn!(
            "EVM_OTP_DEV_CODE IS SET: whoever knows this code logs in as ANY customer and spends their money. \
             For development only"
        );
    }
    if settings.otp_dev_code.is_none() && settings.sms_driver == SmsDriver::Log {
        tracing::warn!("EVM_SMS_DRIVER is not set: no code reaches any phone, so nobody new can log in");
    }
    if settings.qpay_url.is_some() && settings.public_url.is_none() {
        tracing::warn!(
            "EVM_PUBLIC_URL is not set: QPay is told to call back at {}, which it can reach only on this machine; \
             payments are then noticed late",
            settings.http_addr
        );
    }
    for (address, setting, told) in [
        (settings.http_addr, "EVM_PUBLIC_URL", settings.public_url.is_some()),
        (settings.nats_hub_addr, "EVM_NATS_PUBLIC_URL", settings.nats_public_url.is_some()),
    ] {
        if address.ip().is_unspecified() && !told {
            tracing::warn!("{setting} is not set: others are told {address}, where they cannot reach this machine");
        }
    }
}
