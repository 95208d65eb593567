//! The only HTTP API: the phone app's calls below `/api/v1`, the operator's below `/admin/v1`, their documents, and
//! the relay that carries events from the outbox to the bus.
//!
//! A file an action. `http` holds what all of them share, `openapi` the routes and their document.

mod balance;
mod chargers;
mod customer;
mod devices;
mod health;
mod http;
mod openapi;
mod operator;
pub mod payments;
mod purchases;
mod relay;
mod secrets;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use evm_bus::{Authenticator, Bus, BusError, subject};
use evm_store::{Store, logins, now};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use openapi::document;

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
    let app = App { store, bus, config: Arc::new(config) };
    let work = TaskTracker::new();
    work.spawn(relay::run(app.clone(), shutdown.clone()));
    work.spawn(sweep::run(app.clone(), shutdown.clone()));
    work.close();
    let router = openapi::router(app);
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned()).await?;
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
