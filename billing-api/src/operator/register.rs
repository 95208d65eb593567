use axum::Json;
use axum::extract::{Path, State};
use evm_domain::Money;
use evm_store::chargers::{self, Charger};
use evm_store::devices::{self, NewDevice};
use evm_store::{Db, Rule, StoreError, now, operator, tariffs};
use serde::{Deserialize, Deserializer, Serialize};

use super::charger::DeviceView;
use super::tariff::{BandTerms, bands, price};
use crate::App;
use crate::http::extract::{Body, short};
use crate::http::problem::{Answer, Code, Problem, refusals};
use crate::http::units::{Location, Mnt};

/// Devices of one charger.
const MOST_DEVICES: usize = 64;
/// 1.6 connectorId and 2.0.1 evse id, as far as stations go.
const MOST_CONNECTORS: u32 = 1000;
/// Seconds: a day.
const MOST_GRACE: i64 = 86_400;
/// W: beyond the largest plug there is.
const MOST_POWER: i64 = 10_000_000;

/// A charging station and its devices. What is left out of `devices` leaves the map.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegisterCharger {
    /// Basic authentication, 16 to 64 bytes. Left out: as it is. Null: none.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>, required = false, min_length = 16, max_length = 64)]
    password: Option<Option<String>>,
    /// OCPP security profile. Left out: 1 with a password, 0 without.
    #[schema(required = false, minimum = 0, maximum = 3)]
    security_profile: Option<i16>,
    /// The OCPP version to speak with a station that offers no subprotocol: `1.6` or `2.0.1`. Left out: refuse it.
    #[schema(required = false, example = "1.6")]
    without_subprotocol: Option<String>,
    /// The IANA time zone whose clock the bands go by. Left out: as it is, at first Asia/Ulaanbaatar.
    #[schema(required = false, example = "Asia/Ulaanbaatar")]
    time_zone: Option<String>,
    #[schema(max_items = 64)]
    devices: Vec<RegisterDevice>,
}

/// One place where one car can plug in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegisterDevice {
    /// The number on its plate, unique among all.
    #[schema(min_length = 1, max_length = 50, example = "UB-0001-1")]
    device_number: String,
    /// 1.6 connectorId or 2.0.1 evse id.
    #[schema(minimum = 1, maximum = 1000)]
    connector: u32,
    location: Location,
    /// MNT a kWh.
    price: Mnt,
    /// MNT a minute of waiting.
    waiting_price: Mnt,
    /// Seconds of waiting that cost nothing.
    #[serde(default)]
    #[schema(required = false, minimum = 0, maximum = 86400)]
    waiting_grace: i64,
    /// MNT a charge that took energy or waited.
    #[serde(default = "nothing")]
    #[schema(required = false)]
    start_fee: Mnt,
    /// MNT, the least that a charge which took energy costs.
    #[serde(default = "nothing")]
    #[schema(required = false)]
    minimum: Mnt,
    /// MNT, the most that a charge costs; left out: no cap.
    #[schema(required = false)]
    cap: Option<Mnt>,
    /// Parts of the station's day with prices of their own, none over another.
    #[serde(default)]
    #[schema(required = false, max_items = 4)]
    bands: Vec<BandTerms>,
    /// W. A register that rises faster is held for review.
    #[schema(required = false, minimum = 1, maximum = 10000000)]
    max_power: Option<i64>,
    #[serde(default)]
    #[schema(required = false)]
    out_of_service: bool,
}

fn nothing() -> Mnt {
    Mnt(Money::ZERO)
}

/// Tells null from absent.
fn told<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A registered charger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registered {
    identity: String,
    security_profile: i16,
    /// What the operator should know, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
    devices: Vec<DeviceView>,
}

refusals!(RegisterRefusals: InvalidRequest, DeviceNumberTaken, PasswordTaken);

/// Registers a charger or changes it, whole.
#[utoipa::path(
    put, path = "/chargers/{identity}", operation_id = "registerCharger", tag = "operator: chargers",
    params(("identity" = String, Path, description = "The OCPP identity, 1 to 48 characters.", example = "UB-0001")),
    request_body = RegisterCharger, responses((status = 200, body = Registered), RegisterRefusals)
)]
pub(crate) async fn register(
    State(app): State<App>,
    Path(identity): Path<String>,
    Body(body): Body<RegisterCharger>,
) -> Answer<Json<Registered>> {
    check_identity(&identity)?;
    let new = body
        .devices
        .iter()
        .enumerate()
        .map(|(n, device)| new_device(n, device, app.config.vat_bp))
        .collect::<Answer<Vec<_>>>()?;
    check_devices(&body.devices)?;
    if let Some(version) = &body.without_subprotocol
        && !["1.6", "2.0.1"].contains(&version.as_str())
    {
        return Err(Problem::field("withoutSubprotocol", "is 1.6 or 2.0.1"));
    }
    if body.time_zone.as_deref().is_some_and(|zone| !tariffs::is_time_zone(zone)) {
        return Err(Problem::field("timeZone", "is no IANA time zone"));
    }
    let mut db = app.store.begin().await?;
    let known = chargers::by_identity(&mut db, &identity).await?;
    let password = password_hash(&app, &mut db, &identity, &body, known.as_ref()).await?;
    let profile = profile(&body, password.is_some())?;
    let without = body.without_subprotocol.as_deref();
    let charger = chargers::upsert(&mut db, &identity, password.as_deref(), profile, without, now()).await?;
    if let Some(zone) = &body.time_zone {
        chargers::set_time_zone(&mut db, charger, zone).await?;
    }
    devices::register(&mut db, charger, &new, now()).await.map_err(|error| match error {
        StoreError::Refused(Rule::DeviceNumberUnique) => Code::DeviceNumberTaken.into(),
        other => Problem::from(other),
    })?;
    let devices = devices::of_charger(&mut db, charger).await?;
    db.commit().await?;
    let warnings = warnings(&identity, profile, password.is_some());
    let devices = devices.into_iter().map(DeviceView::from).collect();
    Ok(Json(Registered { identity, security_profile: profile, warnings, devices }))
}

fn check_identity(identity: &str) -> Answer<()> {
    let fits = (1..=48).contains(&identity.chars().count())
        && !identity.chars().any(|c| c.is_control() || c == '/' || c == ':');
    if fits { Ok(()) } else { Err(Problem::field("identity", "has 1 to 48 characters, none of them / or :")) }
}

fn check_devices(devices: &[RegisterDevice]) -> Answer<()> {
    if devices.len() > MOST_DEVICES {
        return Err(Problem::field("devices", format!("are more than {MOST_DEVICES}")));
    }
    for (n, device) in devices.iter().enumerate() {
        let before = &devices[..n];
        if before.iter().any(|other| other.connector == device.connector) {
            return Err(Problem::field(format!("devices[{n}].connector"), "is used twice"));
        }
        if before.iter().any(|other| other.device_number == device.device_number) {
            return Err(Problem::field(format!("devices[{n}].deviceNumber"), "is used twice"));
        }
    }
    Ok(())
}

fn new_device(n: usize, device: &RegisterDevice, vat_bp: i64) -> Answer<NewDevice> {
    let refuse = |name: &str, why: String| Err(Problem::field(format!("devices[{n}].{name}"), why));
    if device.device_number.trim().is_empty() {
        return refuse("deviceNumber", "is empty".into());
    }
    short(&format!("devices[{n}].deviceNumber"), &device.device_number, 50)?;
    if !(1..=MOST_CONNECTORS).contains(&device.connector) {
        return refuse("connector", format!("is not from 1 to {MOST_CONNECTORS}"));
    }
    let path = format!("devices[{n}]");
    let energy_price = price(&path, "price", device.price)?;
    let waiting_price = price(&path, "waitingPrice", device.waiting_price)?;
    let minimum = price(&path, "minimum", device.minimum)?;
    let cap = device.cap.map(|cap| price(&path, "cap", cap)).transpose()?;
    if cap.is_some_and(|cap| cap < minimum) {
        return refuse("cap", "is below the minimum".into());
    }
    if !(0..=MOST_GRACE).contains(&device.waiting_grace) {
        return refuse("waitingGrace", format!("is not from 0 to {MOST_GRACE} seconds"));
    }
    if device.max_power.is_some_and(|power| !(1..=MOST_POWER).contains(&power)) {
        return refuse("maxPower", format!("is not from 1 to {MOST_POWER} W"));
    }
    Ok(NewDevice {
        device_number: device.device_number.trim().to_owned(),
        connector: device.connector,
        longitude: device.location.longitude,
        latitude: device.location.latitude,
        price: energy_price,
        waiting_price,
        waiting_grace_s: device.waiting_grace,
        max_power_w: device.max_power,
        out_of_service: device.out_of_service,
        start_fee: price(&path, "startFee", device.start_fee)?,
        minimum,
        cap,
        vat_bp,
        bands: bands(&path, &device.bands)?,
    })
}

async fn password_hash(
    app: &App,
    db: &mut Db,
    identity: &str,
    body: &RegisterCharger,
    known: Option<&Charger>,
) -> Answer<Option<String>> {
    let password = match &body.password {
        None => return Ok(known.and_then(|charger| charger.password_hash.clone())),
        Some(None) => return Ok(None),
        Some(Some(password)) => password,
    };
    if !(16..=64).contains(&password.len()) {
        return Err(Problem::field("password", "has 16 to 64 bytes (20 at most for OCPP 1.6)"));
    }
    let hash = chargers::password_hash(&app.config.server_secret, password.as_bytes());
    if operator::password_is_taken(db, identity, &hash).await? {
        return Err(Code::PasswordTaken.into());
    }
    Ok(Some(hash))
}

fn profile(body: &RegisterCharger, has_password: bool) -> Answer<i16> {
    let profile = body.security_profile.unwrap_or(i16::from(has_password));
    match (profile, has_password) {
        (1 | 2, false) => Err(Problem::field("password", "is needed by this security profile")),
        (0, true) => Err(Problem::field("securityProfile", "0 takes no password")),
        (0..=3, _) => Ok(profile),
        _ => Err(Problem::field("securityProfile", "is from 0 to 3")),
    }
}

fn warnings(identity: &str, profile: i16, has_password: bool) -> Vec<String> {
    let warning = match profile {
        0 => "no password: anybody who knows the identity can connect as this charger",
        1 => "the password goes over the network as it is: use it inside a private network or behind TLS",
        3 if !has_password => {
            "no password: whoever gets past the proxy that checks certificates can connect as this charger"
        }
        _ => return Vec::new(),
    };
    tracing::warn!(identity, profile, warning);
    vec![warning.to_owned()]
}
