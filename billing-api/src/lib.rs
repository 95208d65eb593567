//! The only HTTP API: the phone app's calls below `/api/v1`, the operator's below `/admin/v1`, their documents, and
//! the relay that carries events from the outbox to the bus.
//!
//! A file an action. `http` holds what all of them share, `openapi` the routes and their document.

mod balance;
mod chargers;
mod customer;
mod devices;
mod document;
mod events;
mod health;
mod http;
mod openapi;
mod operator;
mod outgoing;
pub mod payments;
mod purchases;
pub mod push;
mod relay;
mod secrets;
mod server;
pub mod sms;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use evm_bus::{Authenticator, Bus, BusError, subject};
use evm_ports::Networks;
use evm_store::{Store, logins, now};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use http::rates::Rates;

pub use document::document;
pub use outgoing::BadSetting;

/// The settings of the billing API.
#[derive(Debug, Clone)]
pub struct Config {
    /// Key of the hashes of codes, tokens and chargers' passwords.
    pub server_secret: [u8; 32],
    /// The bearer token of the operator API.
    pub admin_token: String,
    /// A code that is right for every phone; no SMS goes out while it is set.
    pub otp_dev_code: Option<String>,
    /// Country calling codes of the phones that may log in.
    pub phone_countries: Vec<u16>,
    /// What sends codes.
    pub sms: sms::Sms,
    /// What a message with a code says.
    pub sms_text: sms::Text,
    /// Most codes that are sent in an hour, to everybody together.
    pub codes_per_hour: u32,
    /// Where push messages go; `None`: there are none.
    pub fcm: Option<push::Fcm>,
    /// Proxies whose headers say where a request comes from.
    pub trusted_proxies: Networks,
    /// Requests a second of one address, and in bursts four times as many; 0: no limit.
    pub rate_per_address: u32,
    /// Requests a second of one customer, and in bursts four times as many; 0: no limit.
    pub rate_per_customer: u32,
    /// Most open connections.
    pub max_connections: usize,
    /// VAT in the prices of devices that are registered from now on, hundredths of a percent.
    pub vat_bp: i64,
    /// Who may begin a charge.
    pub credit: evm_domain::credit::Rules,
    /// How long a customer waits at a device after a start there that never became a charge; twice as long each time.
    pub start_again: Duration,
    /// The payment gateway; `None`: `QPAY` is disabled.
    pub qpay: Option<payments::qpay::QpayClient>,
    /// How long an invoice can be paid.
    pub qpay_expiry: Duration,
    /// Where the gateway and the browser reach this API, without a slash at the end.
    pub public_url: String,
    /// What customers are told to connect to for events, `nats://…`.
    pub nats_servers: String,
    /// How long a charger may take to accept a start or a stop. Longer than the central system itself waits for it.
    pub command_timeout: Duration,
}

impl Config {
    /// The defaults, with these secrets.
    pub fn new(server_secret: [u8; 32], admin_token: String) -> Self {
        Self {
            server_secret,
            admin_token,
            otp_dev_code: None,
            phone_countries: vec![976],
            sms: sms::Sms::Log,
            sms_text: sms::Text::default(),
            codes_per_hour: 500,
            fcm: None,
            vat_bp: 0,
            credit: evm_domain::credit::Rules::default(),
            start_again: Duration::from_secs(60),
            qpay: None,
            qpay_expiry: Duration::from_secs(3600),
            trusted_proxies: Networks::default(),
            rate_per_address: 50,
            rate_per_customer: 20,
            max_connections: 4000,
            public_url: "http://127.0.0.1:8080".into(),
            nats_servers: "nats://127.0.0.1:4222".into(),
            command_timeout: Duration::from_secs(35),
        }
    }
}

/// What every route shares.
#[derive(Clone)]
struct App {
    store: Store,
    bus: Bus,
    config: Arc<Config>,
    sms: sms::Sender,
    streams: events::Slots,
    rates: Arc<Rates>,
    writable: Arc<health::Writable>,
    /// Payments under way; they go on when the request that began them is gone.
    work: TaskTracker,
    /// An invoice is to be looked after.
    nudge: Arc<Notify>,
    shutdown: CancellationToken,
}

impl App {
    /// Tells the relays that the outbox has something new. They look by themselves every second.
    async fn hint_outbox(&self) {
        if let Err(error) = self.bus.publish(subject::OUTBOX_HINT, None, b"").await {
            tracing::debug!(%error, "no hint to the relay");
        }
    }
}

/// Serves the API until `shutdown`, then lets the requests under way end.
///
/// # Errors
/// Where the socket fails.
pub async fn run(
    listener: TcpListener,
    store: Store,
    bus: Bus,
    config: Config,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let work = TaskTracker::new();
    let app = App {
        store,
        bus,
        sms: sms::Sender::new(config.sms.clone(), config.sms_text.clone(), work.clone(), shutdown.clone()),
        streams: events::Slots::default(),
        rates: Arc::new(Rates::new(config.rate_per_address, config.rate_per_customer)),
        writable: Arc::default(),
        config: Arc::new(config),
        work: work.clone(),
        nudge: Arc::default(),
        shutdown: shutdown.clone(),
    };
    work.spawn_blocking(customer::phone::warm_up);
    work.spawn(relay::run(app.clone(), shutdown.clone()));
    work.spawn(events::endings::run(app.clone(), shutdown.clone()));
    work.spawn(push::run(app.clone(), shutdown.clone()));
    work.spawn(payments::watch::run(app.clone(), shutdown.clone()));
    work.spawn(sweep::run(app.clone(), shutdown.clone()));
    let config = app.config.clone();
    let router = openapi::router(app);
    server::serve(listener, router, config.max_connections, &config.trusted_proxies, &shutdown).await?;
    work.close();
    shutdown.cancel();
    work.wait().await;
    Ok(())
}

/// Says who may log in to the events: the user is a login's id, the password its event secret.
pub fn authenticator(store: Store, server_secret: [u8; 32]) -> Authenticator {
    Arc::new(move |user, password| {
        let store = store.clone();
        Box::pin(async move {
            let down = |error: evm_store::StoreError| BusError::Down(error.to_string());
            let mut db = store.read().await.map_err(down)?;
            let Some((stored, topic)) = logins::events_of(&mut db, &user, now()).await.map_err(down)? else {
                return Ok(None);
            };
            let shown = secrets::hash(&server_secret, "events", &password);
            Ok(bool::from(shown.as_bytes().ct_eq(stored.as_bytes())).then_some(topic))
        })
    })
}
