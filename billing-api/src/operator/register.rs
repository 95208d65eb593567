use axum::Json;
use axum::extract::{Path, State};
use evm_store::chargers::{self, Charger};
use evm_store::{Db, Rule, StoreError, devices, now, tariffs};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::charger::DeviceView;
use super::register_device::{self, RegisterDevice};
use crate::App;
use crate::http::extract::{Body, told};
use crate::http::problem::{Answer, Code, Problem, refusals};

/// A charging station and its devices. What is left out stays as it is; of a list of devices, one that is left out leaves
/// the map. All that `GET` tells may be sent back: what is only told changes nothing.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)] // What is only told is known, and not looked at.
pub(crate) struct RegisterCharger {
    /// Basic authentication, 16 to 64 bytes; hexadecimal digits of 16 to 20 bytes stand for these. No two chargers may
    /// have the same. The one before lets the charger in until the new one was used. Left out: as it is. Null: none.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>, required = false, min_length = 16, max_length = 64)]
    password: Option<Option<String>>,
    /// OCPP security profile. Left out: as it is; a password that is given makes 1 of 0, one that is taken away 0 of 1.
    #[schema(required = false, minimum = 0, maximum = 3)]
    security_profile: Option<i16>,
    /// The OCPP version to speak with a station that offers no subprotocol: `1.6` or `2.0.1`. Left out: as it is. Null, and
    /// at first: refuse it.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>, required = false, example = "1.6")]
    without_subprotocol: Option<Option<String>>,
    /// The IANA time zone whose clock the bands go by. Left out: as it is, at first Asia/Ulaanbaatar.
    #[schema(required = false, example = "Asia/Ulaanbaatar")]
    time_zone: Option<String>,
    /// Whether whoever comes may charge without a card, for free: a start that names nobody is then accepted and recorded, and
    /// billed to nobody. Left out: as it is, at first false.
    #[schema(required = false)]
    free_charging: Option<bool>,
    /// All of them. Left out: as they are.
    #[schema(required = false, max_items = 64)]
    devices: Option<Vec<RegisterDevice>>,
    /// As in the path.
    #[schema(required = false, read_only)]
    identity: Option<String>,
    /// As it is.
    #[schema(required = false, read_only)]
    password_set: Option<bool>,
    #[schema(required = false, read_only, value_type = Value)]
    online: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    version: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    vendor: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    model: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    serial: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    firmware: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    connected_at: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    booted_at: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    last_seen_at: Option<IgnoredAny>,
    #[schema(required = false, read_only, value_type = Value)]
    connectors: Option<IgnoredAny>,
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

/// Registers a charger or changes it: what is left out stays as it is.
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
    check(&identity, &body)?;
    let mut db = app.store.begin().await?;
    let known = chargers::lock(&mut db, &identity).await?;
    let password = password_hash(&app, &mut db, &identity, &body, known.as_ref()).await?;
    let has = |hash: Option<&String>| hash.is_some();
    let had = has(known.as_ref().and_then(|charger| charger.password_hash.as_ref()));
    if body.password_set.is_some_and(|set| set != had && set != password.is_some()) {
        return Err(Problem::field("passwordSet", "is told only: `password` sets it, null takes it away"));
    }
    let profile = profile(&body, known.as_ref(), password.is_some())?;
    let before = known.as_ref().and_then(|charger| charger.without_subprotocol.as_ref());
    let without = body.without_subprotocol.as_ref().map_or(before, Option::as_ref).map(String::as_str);
    let charger = chargers::upsert(&mut db, &identity, password.as_deref(), profile, without, now()).await?;
    if let Some(zone) = &body.time_zone {
        chargers::set_time_zone(&mut db, charger, zone).await?;
    }
    if let Some(free) = body.free_charging {
        chargers::set_free_charging(&mut db, charger, free).await?;
    }
    let mut devices = devices::of_charger(&mut db, charger).await?;
    if let Some(wished) = &body.devices {
        let new = register_device::merge(wished, &devices, app.config.vat_bp)?;
        devices::register(&mut db, charger, &new, now()).await.map_err(|error| match error {
            StoreError::Refused(Rule::DeviceNumberUnique) => Code::DeviceNumberTaken.into(),
            other => Problem::from(other),
        })?;
        devices = devices::of_charger(&mut db, charger).await?;
        register_device::check_ids(wished, &devices)?;
    }
    db.commit().await?;
    let warnings = warnings(&identity, profile, password.is_some());
    let devices = devices.into_iter().map(DeviceView::from).collect();
    Ok(Json(Registered { identity, security_profile: profile, warnings, devices }))
}

/// What needs no look at the store.
fn check(identity: &str, body: &RegisterCharger) -> Answer<()> {
    if body.identity.as_deref().is_some_and(|told| told != identity) {
        return Err(Problem::field("identity", "is another one than in the path"));
    }
    if let Some(Some(version)) = &body.without_subprotocol
        && !["1.6", "2.0.1"].contains(&version.as_str())
    {
        return Err(Problem::field("withoutSubprotocol", "is 1.6 or 2.0.1"));
    }
    if body.time_zone.as_deref().is_some_and(|zone| !tariffs::is_time_zone(zone)) {
        return Err(Problem::field("timeZone", "is no IANA time zone"));
    }
    register_device::check(body.devices.as_deref().unwrap_or_default())
}

fn check_identity(identity: &str) -> Answer<()> {
    let fits = (1..=48).contains(&identity.chars().count())
        && !identity.chars().any(|c| c.is_control() || c == '/' || c == ':');
    if fits { Ok(()) } else { Err(Problem::field("identity", "has 1 to 48 characters, none of them / or :")) }
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
    let forms = chargers::password_hashes(&app.config.server_secret, password.as_bytes());
    if chargers::password_is_taken(db, identity, &forms).await? {
        return Err(Code::PasswordTaken.into());
    }
    Ok(Some(hash))
}

fn profile(body: &RegisterCharger, known: Option<&Charger>, has_password: bool) -> Answer<i16> {
    let follows = i16::from(has_password);
    let stays = match known.map(|charger| charger.security_profile) {
        // These two follow the password.
        None | Some(0 | 1) => follows,
        Some(profile) => profile,
    };
    let profile = body.security_profile.unwrap_or(stays);
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
