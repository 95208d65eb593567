use axum::Json;
use axum::extract::State;
use evm_store::devices::{self, Area, Device, DeviceState};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::http::auth::Caller;
use crate::http::extract::Query;
use crate::http::problem::{Answer, Problem, refusals};
use crate::http::units::{Degrees, Location, Mnt};

/// Most devices of one answer; a map with more has to zoom in.
const MOST: i64 = 1000;

/// Two corners of a box, degrees. A box across the 180th meridian is asked for in two halves.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Corners {
    #[param(value_type = f64, required = true, minimum = -180, maximum = 180, example = 69.9)]
    bottom_left_longitude: Option<String>,
    #[param(value_type = f64, required = true, minimum = -90, maximum = 90, example = 39.9)]
    bottom_left_latitude: Option<String>,
    #[param(value_type = f64, required = true, minimum = -180, maximum = 180, example = 127)]
    upper_right_longitude: Option<String>,
    #[param(value_type = f64, required = true, minimum = -90, maximum = 90, example = 80)]
    upper_right_latitude: Option<String>,
}

/// One place where one car can plug in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceOnMap {
    #[serde(rename = "_id")]
    #[schema(example = "12d76c8bfca2a22c07a6fca1")]
    id: String,
    /// The number on its plate.
    device_number: String,
    /// MNT a kWh.
    price: Mnt,
    /// MNT a minute of waiting.
    waiting_price: Mnt,
    location: Location,
    state: MapState,
}

/// Idle: a car can start now. Busy: in use or reserved. Repair: out of service. Error: faulted or out of touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = DeviceState)]
pub(crate) enum MapState {
    Idle,
    Busy,
    Repair,
    Error,
}

impl From<Device> for DeviceOnMap {
    fn from(device: Device) -> Self {
        Self {
            id: device.id.to_string(),
            device_number: device.device_number,
            price: Mnt(device.price),
            waiting_price: Mnt(device.waiting_price),
            location: Location { longitude: device.longitude, latitude: device.latitude },
            state: match device.state {
                DeviceState::Idle => MapState::Idle,
                DeviceState::Busy => MapState::Busy,
                DeviceState::Repair => MapState::Repair,
                DeviceState::Faulted | DeviceState::Offline => MapState::Error,
            },
        }
    }
}

fn corner(name: &str, value: Option<&str>, most: i64) -> Result<i64, Problem> {
    let value = value.ok_or_else(|| Problem::field(name, "is missing"))?;
    let degrees = Degrees::parse(value).ok_or_else(|| Problem::field(name, "is no number"))?;
    degrees.within(most).ok_or_else(|| Problem::field(name, format!("is not between -{most} and {most} degrees")))
}

refusals!(ByLocationRefusals: InvalidRequest);

/// The devices in a box on the map, 1 000 at most.
#[utoipa::path(
    get, path = "/devices/by-location", operation_id = "devicesByLocation", tag = "devices", params(Corners),
    responses((status = 200, body = Vec<DeviceOnMap>), ByLocationRefusals)
)]
pub(crate) async fn by_location(
    State(app): State<App>,
    _: Caller,
    Query(corners): Query<Corners>,
) -> Answer<Json<Vec<DeviceOnMap>>> {
    let west = corner("bottom-left-longitude", corners.bottom_left_longitude.as_deref(), 180)?;
    let south = corner("bottom-left-latitude", corners.bottom_left_latitude.as_deref(), 90)?;
    let east = corner("upper-right-longitude", corners.upper_right_longitude.as_deref(), 180)?;
    let north = corner("upper-right-latitude", corners.upper_right_latitude.as_deref(), 90)?;
    if west > east {
        return Err(Problem::field("upper-right-longitude", "is west of bottom-left-longitude"));
    }
    if south > north {
        return Err(Problem::field("upper-right-latitude", "is south of bottom-left-latitude"));
    }
    let area = Area { longitudes: (west, east), latitudes: (south, north) };
    let found = devices::in_box(&mut app.store.read().await?, area, MOST).await?;
    Ok(Json(found.into_iter().map(DeviceOnMap::from).collect()))
}
