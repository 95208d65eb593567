//! Where one car can plug in, as the customer sees it on the map.

use evm_domain::{Bands, ChargerId, DeviceId, Money, Tariff, Timestamp, WallClock};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::tariffs::{self, TariffRow, tariff_columns};
use crate::{Result, Rule, StoreError, id, new_id, now};

/// A device with what its state follows from.
#[derive(Debug, Clone)]
pub struct Device {
    /// The id.
    pub id: DeviceId,
    /// The number on its plate.
    pub device_number: String,
    /// Its station.
    pub charger: ChargerId,
    /// The station's identity.
    pub identity: String,
    /// The station's newest connection.
    pub epoch: i64,
    /// 1.6 connectorId or 2.0.1 evse id.
    pub connector: u32,
    /// 1e-7 degrees.
    pub longitude: i64,
    /// 1e-7 degrees.
    pub latitude: i64,
    /// The version of its prices.
    pub tariff_id: String,
    /// Its prices and terms, by the station's clock now.
    pub tariff: Tariff,
    /// Price of one kWh now; at other times of the day the tariff's bands may say another.
    pub price: Money,
    /// Price of one minute of waiting now.
    pub waiting_price: Money,
    /// Seconds of waiting that cost nothing.
    pub waiting_grace_s: i64,
    /// Maximum power, W.
    pub max_power_w: Option<i64>,
    /// Taken out of service by the operator.
    pub out_of_service: bool,
    /// What it can do for a customer now.
    pub state: DeviceState,
    /// Whether the charger says that a car is plugged in.
    pub plugged_in: bool,
}

/// What a device can do for a customer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// A car can start.
    Idle,
    /// In use or reserved.
    Busy,
    /// Out of service, by the operator or the charger.
    Repair,
    /// Faulted.
    Faulted,
    /// Out of touch.
    Offline,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    device_number: String,
    charger_id: String,
    identity: String,
    epoch: i64,
    online: bool,
    connector: i32,
    longitude: i64,
    latitude: i64,
    tariff_id: String,
    time_zone: String,
    #[sqlx(flatten)]
    tariff: TariffRow,
    max_power_w: Option<i64>,
    out_of_service: bool,
    removed: bool,
    state: Option<String>,
    charged: bool,
    station_is_out: bool,
    live: Option<String>,
}

const SELECT: &str = concat!(
    "SELECT d.id, d.device_number, d.charger_id, h.identity, h.epoch, h.online, h.time_zone, d.connector, d.longitude, \
    d.latitude, d.tariff_id, d.max_power_w, d.out_of_service, d.removed, CASE WHEN k.forgotten THEN NULL ELSE k.state END AS state, \
    COALESCE(k.charged, FALSE) AS charged, COALESCE(h.inoperative AND k0.state = 'unavailable' AND NOT k0.forgotten \
    AND (k.at IS NULL OR k.forgotten OR k.at < k0.at), FALSE) AS station_is_out, s.id AS live, ",
    tariff_columns!(),
    " FROM devices d JOIN chargers h ON h.id = d.charger_id JOIN tariff_versions t ON t.id = d.tariff_id \
    LEFT JOIN connectors k ON k.charger_id = d.charger_id AND k.connector = d.connector \
    LEFT JOIN connectors k0 ON k0.charger_id = d.charger_id AND k0.connector = 0 \
    LEFT JOIN sessions s ON s.device_id = d.id AND s.status IN ('requested', 'active') \
    AND NOT s.refused WHERE "
);

impl Row {
    fn state(&self) -> DeviceState {
        // Connector 0 is the station's controller: its fault, or less power, says nothing of this place (1.6 section 4.9).
        let own = self.state.as_deref();
        let has_charged = self.charged && own == Some("plugged_in");
        if self.removed || self.out_of_service {
            DeviceState::Repair
        } else if !self.online {
            DeviceState::Offline
        } else if own == Some("faulted") {
            DeviceState::Faulted
        } else if own == Some("unavailable") || self.station_is_out {
            DeviceState::Repair
        } else if self.live.is_some() || has_charged || matches!(own, Some("occupied" | "reserved" | "finishing")) {
            DeviceState::Busy
        } else {
            DeviceState::Idle
        }
    }
}

impl TryFrom<Row> for Device {
    type Error = crate::StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let at = now();
        let tariff = row.tariff.tariff(tariffs::wall_clock(&row.time_zone))?;
        let (price, waiting_price) = tariff.prices_at(at);
        Ok(Device {
            state: row.state(),
            plugged_in: matches!(row.state.as_deref(), Some("preparing" | "plugged_in" | "occupied" | "finishing")),
            id: id(&row.id)?,
            device_number: row.device_number,
            charger: id(&row.charger_id)?,
            identity: row.identity,
            epoch: row.epoch,
            connector: u32::try_from(row.connector).unwrap_or_default(),
            longitude: row.longitude,
            latitude: row.latitude,
            tariff_id: row.tariff_id,
            price,
            waiting_price,
            waiting_grace_s: tariff.waiting_grace_s,
            tariff,
            max_power_w: row.max_power_w,
            out_of_service: row.out_of_service,
        })
    }
}

/// A box on the map, in 1e-7 degrees.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// West and east.
    pub longitudes: (i64, i64),
    /// South and north.
    pub latitudes: (i64, i64),
}

/// The devices in a box.
pub async fn in_box(db: &mut Db, area: Area, limit: i64) -> Result<Vec<Device>> {
    let rows: Vec<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push("d.latitude BETWEEN ").push_bind(area.latitudes.0).push(" AND ").push_bind(area.latitudes.1);
        sql.push(" AND d.longitude BETWEEN ").push_bind(area.longitudes.0).push(" AND ").push_bind(area.longitudes.1);
        sql.push(" AND NOT d.removed LIMIT ").push_bind(limit);
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter().map(Device::try_from).collect()
}

/// One device; a removed one only where `removed` says so.
pub async fn by_id(db: &mut Db, device: DeviceId, removed: bool) -> Result<Option<Device>> {
    let row: Option<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push("d.id = ").push_bind(device.to_string());
        sql.build_query_as().fetch_optional(conn).await?
    });
    row.filter(|row| removed || !row.removed).map(Device::try_from).transpose()
}

/// The devices of a station, in the order of their connectors.
pub async fn of_charger(db: &mut Db, charger: ChargerId) -> Result<Vec<Device>> {
    let rows: Vec<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new(SELECT);
        sql.push("d.charger_id = ").push_bind(charger.to_string()).push(" AND NOT d.removed ORDER BY d.connector");
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter().map(Device::try_from).collect()
}

/// A device as the operator registers it. Prices include VAT.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// The number on its plate.
    pub device_number: String,
    /// 1.6 connectorId or 2.0.1 evse id.
    pub connector: u32,
    /// 1e-7 degrees.
    pub longitude: i64,
    /// 1e-7 degrees.
    pub latitude: i64,
    /// Price of one kWh outside the bands.
    pub price: Money,
    /// Price of one minute of waiting outside the bands.
    pub waiting_price: Money,
    /// The first seconds of waiting, which cost nothing.
    pub waiting_grace_s: i64,
    /// Price of the charge itself.
    pub start_fee: Money,
    /// Least total of a charge that took energy.
    pub minimum: Money,
    /// Most total; not below the minimum.
    pub cap: Option<Money>,
    /// The operator's VAT, hundredths of a percent.
    pub vat_bp: i64,
    /// Parts of the station's day with prices of their own.
    pub bands: Bands,
    /// Maximum power, W.
    pub max_power_w: Option<i64>,
    /// Taken out of service by the operator.
    pub out_of_service: bool,
}

impl NewDevice {
    fn tariff(&self) -> Tariff {
        Tariff {
            energy_price: self.price,
            waiting_price: self.waiting_price,
            waiting_grace_s: self.waiting_grace_s,
            start_fee: self.start_fee,
            minimum: self.minimum,
            cap: self.cap,
            vat_bp: self.vat_bp,
            bands: self.bands.clone(),
            clock: WallClock::default(),
        }
    }
}

/// From here on, connectors of devices that were removed: they hold no place, and their row stays for the purchases.
const PARKED: i32 = 1_000_000;

#[derive(sqlx::FromRow)]
struct Known {
    id: String,
    charger_id: String,
    connector: i32,
    device_number: String,
    removed: bool,
    tariff_id: String,
    #[sqlx(flatten)]
    tariff: TariffRow,
}

/// Makes these the devices of a station. One keeps its id as long as it keeps its number, or else its connector; those
/// missing from the list leave the map. A changed price or term is a new version; running charges keep theirs.
///
/// # Errors
/// [`StoreError::Refused`] with `DeviceNumberUnique` where another station has a device of that number.
pub async fn register(db: &mut Db, charger: ChargerId, new: &[NewDevice], now: Timestamp) -> Result<()> {
    let known = known(db, charger, new).await?;
    let here = charger.to_string();
    let mut matched: Vec<Option<&Known>> = Vec::with_capacity(new.len());
    for device in new {
        let same_number = known.iter().find(|k| k.device_number == device.device_number);
        if same_number.is_some_and(|k| k.charger_id != here && !k.removed) {
            return Err(StoreError::Refused(Rule::DeviceNumberUnique));
        }
        let same_place = || {
            known.iter().find(|k| {
                k.charger_id == here
                    && !k.removed
                    && connector(device) == k.connector
                    && new.iter().all(|other| other.device_number != k.device_number)
            })
        };
        matched.push(same_number.or_else(same_place));
    }
    let parked = known.iter().filter(|k| k.charger_id == here).map(|k| k.connector).fold(PARKED, i32::max);
    let stays = |k: &Known| {
        let by = matched.iter().position(|m| m.is_some_and(|m| m.id == k.id));
        by.and_then(|index| new.get(index)).is_some_and(|device| connector(device) == k.connector)
    };
    let leaving = known.iter().filter(|k| k.charger_id == here && !k.removed && !stays(k));
    for (place, device) in (parked.saturating_add(1)..).zip(leaving) {
        park(db, &device.id, place).await?;
    }
    for (device, known) in new.iter().zip(matched) {
        let tariff = device.tariff();
        let tariff_id = match known {
            Some(known) if known.tariff.tariff(WallClock::default())? == tariff => known.tariff_id.clone(),
            _ => tariffs::insert(db, &tariff, now).await?,
        };
        put(db, known.map(|k| k.id.clone()), charger, device, &tariff_id).await?;
    }
    Ok(())
}

fn connector(device: &NewDevice) -> i32 {
    i32::try_from(device.connector).unwrap_or_default()
}

async fn known(db: &mut Db, charger: ChargerId, new: &[NewDevice]) -> Result<Vec<Known>> {
    let lock = db.for_update();
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new(concat!(
            "SELECT s.id, s.charger_id, s.connector, s.device_number, s.removed, s.tariff_id, ",
            tariff_columns!(),
            " FROM devices s JOIN tariff_versions t ON t.id = s.tariff_id WHERE s.charger_id = "
        ));
        sql.push_bind(charger.to_string());
        for device in new {
            sql.push(" OR s.device_number = ").push_bind(&device.device_number);
        }
        sql.push(" ORDER BY s.id").push(lock);
        sql.build_query_as().fetch_all(conn).await?
    }))
}

async fn park(db: &mut Db, device: &str, place: i32) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE devices SET connector = $2, removed = TRUE WHERE id = $1")
            .bind(device)
            .bind(place)
            .execute(conn)
            .await?;
    });
    Ok(())
}

async fn put(db: &mut Db, id: Option<String>, charger: ChargerId, device: &NewDevice, tariff_id: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO devices (id, charger_id, connector, device_number, longitude, latitude, tariff_id, max_power_w, \
             out_of_service, removed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, FALSE) \
             ON CONFLICT (id) DO UPDATE SET charger_id = excluded.charger_id, connector = excluded.connector, \
             device_number = excluded.device_number, longitude = excluded.longitude, latitude = excluded.latitude, \
             tariff_id = excluded.tariff_id, max_power_w = excluded.max_power_w, \
             out_of_service = excluded.out_of_service, removed = FALSE",
        )
        .bind(id.unwrap_or_else(|| new_id().to_string()))
        .bind(charger.to_string())
        .bind(connector(device))
        .bind(&device.device_number)
        .bind(device.longitude)
        .bind(device.latitude)
        .bind(tariff_id)
        .bind(device.max_power_w)
        .bind(device.out_of_service)
        .execute(conn)
        .await?;
    });
    Ok(())
}
