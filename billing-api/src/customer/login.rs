//! What a login answers: who the customer is, where they charge, how they hear events.

use evm_domain::CustomerId;
use evm_store::{Db, customers, devices, sessions};
use serde::Serialize;

use crate::App;
use crate::http::problem::{Answer, Code};
use crate::http::units::{Location, Mnt};
use crate::secrets::events_password;

/// A login.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Login {
    /// To be sent as `Authorization: Bearer {token}`.
    token: String,
    profile: Profile,
    /// There while the customer charges.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    device: Option<ChargingDevice>,
    nats: Nats,
}

/// The customer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Profile {
    name: String,
    email: String,
    /// International form.
    #[schema(example = "+97686661488")]
    phone: String,
    balance: Mnt,
}

/// Where the customer charges, with the prices of that charge.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChargingDevice {
    #[serde(rename = "_id")]
    id: String,
    device_number: String,
    location: Location,
    /// MNT a minute of waiting.
    waiting_price: Mnt,
    /// MNT a kWh.
    price: Mnt,
}

/// How to hear events: subscribe to `{topic}.>`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Nats {
    /// Where to connect, `nats://…`, several with commas between.
    #[schema(example = "nats://127.0.0.1:4222")]
    servers: String,
    /// The root of the customer's subjects.
    #[schema(example = "ev.5f0c7d9a1b2c3d4e5f60718293a4b5c6")]
    topic: String,
    user: String,
    pass: String,
}

/// Describes a login. `None` where the customer is gone.
pub(crate) async fn describe(app: &App, db: &mut Db, customer: CustomerId, login: &str, token: &str) -> Answer<Login> {
    let found = customers::by_id(db, customer).await?.ok_or(Code::Unauthorized)?;
    let session = sessions::live_of_customer(db, customer).await?;
    let device = match session.as_ref().and_then(|session| session.device) {
        Some(device) => devices::by_id(db, device, true).await?,
        None => None,
    };
    let device = device.zip(session).map(|(device, session)| {
        let (price, waiting_price) = session.tariff.prices_at(evm_store::now());
        ChargingDevice {
            id: device.id.to_string(),
            device_number: device.device_number,
            location: Location { longitude: device.longitude, latitude: device.latitude },
            waiting_price: Mnt(waiting_price),
            price: Mnt(price),
        }
    });
    Ok(Login {
        token: token.to_owned(),
        profile: Profile { name: found.name, email: found.email, phone: found.phone, balance: Mnt(found.balance) },
        device,
        nats: Nats {
            servers: app.config.nats_servers.clone(),
            topic: found.topic,
            user: login.to_owned(),
            pass: events_password(&app.config.server_secret, token),
        },
    })
}
