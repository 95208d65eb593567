use axum::Json;
use axum::extract::{Path, State};
use evm_store::chargers::{self, Charger, Connector};
use evm_store::devices::{self, Device};
use rust_decimal::Decimal;
use serde::Serialize;

use super::tariff::BandTerms;
use crate::App;
use crate::http::problem::{Answer, Code, refusals};
use crate::http::time::Iso;
use crate::http::units::{Location, Mnt};

/// A charging station.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChargerView {
    #[schema(example = "UB-0001")]
    identity: String,
    /// Whether its socket is open now.
    online: bool,
    /// OCPP version, once it connected: `1.6` or `2.0.1`.
    version: Option<String>,
    vendor: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    firmware: Option<String>,
    /// Whether it shows a password. The password itself is told by nobody.
    password_set: bool,
    /// OCPP security profile, 0 to 3.
    security_profile: i16,
    /// The OCPP version to speak where the station offers no subprotocol; null: it is refused then.
    without_subprotocol: Option<String>,
    /// The clock that tariff bands go by.
    #[schema(example = "Asia/Ulaanbaatar")]
    time_zone: String,
    /// Whether whoever comes may charge without a card, for free.
    free_charging: bool,
    connected_at: Option<Iso>,
    booted_at: Option<Iso>,
    /// To some seconds.
    last_seen_at: Option<Iso>,
    connectors: Vec<ConnectorView>,
}

/// The newest state that the station told of a connector; 0 is the station as a whole.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectorView {
    connector: i32,
    #[schema(example = "available")]
    state: String,
    error: Option<String>,
    at: Iso,
}

/// A station with its devices.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ChargerDetail {
    #[serde(flatten)]
    charger: ChargerView,
    devices: Vec<DeviceView>,
}

/// A device as the operator registered it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceView {
    #[serde(rename = "_id")]
    id: String,
    device_number: String,
    /// 1.6 connectorId or 2.0.1 evse id.
    connector: u32,
    location: Location,
    price: Mnt,
    waiting_price: Mnt,
    /// Seconds of waiting that cost nothing.
    waiting_grace: i64,
    start_fee: Mnt,
    minimum: Mnt,
    cap: Option<Mnt>,
    bands: Vec<BandTerms>,
    /// Percent of VAT in the prices.
    #[schema(value_type = f64)]
    #[serde(with = "rust_decimal::serde::arbitrary_precision")]
    vat_rate: Decimal,
    /// W.
    max_power: Option<i64>,
    out_of_service: bool,
}

impl ChargerView {
    pub(super) fn new(charger: Charger, connectors: Vec<Connector>) -> Self {
        Self {
            identity: charger.identity,
            online: charger.online,
            version: charger.version,
            vendor: charger.vendor,
            model: charger.model,
            serial: charger.serial,
            firmware: charger.firmware,
            password_set: charger.password_hash.is_some(),
            security_profile: charger.security_profile,
            without_subprotocol: charger.without_subprotocol,
            time_zone: charger.time_zone,
            free_charging: charger.free_charging,
            connected_at: charger.connected_at.map(|at| Iso(at.0)),
            booted_at: charger.booted_at.map(|at| Iso(at.0)),
            last_seen_at: charger.last_seen_at.map(|at| Iso(at.0)),
            connectors: connectors
                .into_iter()
                .map(|c| ConnectorView { connector: c.connector, state: c.state, error: c.error, at: Iso(c.at) })
                .collect(),
        }
    }
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        Self {
            id: device.id.to_string(),
            device_number: device.device_number,
            connector: device.connector,
            location: Location { longitude: device.longitude, latitude: device.latitude },
            price: Mnt(device.tariff.energy_price),
            waiting_price: Mnt(device.tariff.waiting_price),
            waiting_grace: device.tariff.waiting_grace_s,
            start_fee: Mnt(device.tariff.start_fee),
            minimum: Mnt(device.tariff.minimum),
            cap: device.tariff.cap.map(Mnt),
            bands: device.tariff.bands.as_slice().iter().map(BandTerms::from).collect(),
            vat_rate: Decimal::new(device.tariff.vat_bp, 2).normalize(),
            max_power: device.max_power_w,
            out_of_service: device.out_of_service,
        }
    }
}

refusals!(ChargerRefusals: NotFound);

/// One charger with its devices.
#[utoipa::path(
    get, path = "/chargers/{identity}", operation_id = "charger", tag = "operator: chargers",
    params(("identity" = String, Path, description = "The OCPP identity.", example = "UB-0001")),
    responses((status = 200, body = ChargerDetail), ChargerRefusals)
)]
pub(crate) async fn charger(State(app): State<App>, Path(identity): Path<String>) -> Answer<Json<ChargerDetail>> {
    let mut db = app.store.read().await?;
    let charger = chargers::by_identity(&mut db, &identity).await?.ok_or(Code::NotFound)?;
    let connectors = chargers::connectors_of(&mut db, charger.id).await?;
    let devices = devices::of_charger(&mut db, charger.id).await?;
    Ok(Json(ChargerDetail {
        charger: ChargerView::new(charger, connectors),
        devices: devices.into_iter().map(DeviceView::from).collect(),
    }))
}
