//! Charging stations, their connections and the states of their connectors.

mod connections;
mod passwords;

pub use connections::{Arrival, Connected, connect, disconnect, disconnect_dead_nodes, held_by, still_held};
pub use passwords::{earlier_passwords, password_hash, password_hashes, password_is_taken};

use evm_domain::{ChargerId, DeviceId, StatusReport, Tariff, Timestamp};
use sqlx::QueryBuilder;

use crate::engine::{Db, on};
use crate::rows::{push_is_one_of, push_rows};
use crate::tariffs::{TariffRow, tariff_columns, wall_clock};
use crate::{Result, id, new_id};

/// A registered station.
#[derive(Debug, Clone)]
pub struct Charger {
    /// Its id.
    pub id: ChargerId,
    /// Its OCPP identity, as stored.
    pub identity: String,
    /// Hash of its password; `None`: it shows none.
    pub password_hash: Option<String>,
    /// Whether an earlier password lets it in, too. Known of [`by_identity`] only.
    pub has_earlier: bool,
    /// The address that it connected from last; in version 6 its network of 64 bits.
    pub last_network: Option<String>,
    /// OCPP security profile, 0 to 3.
    pub security_profile: i16,
    /// Where it stands, a name of the IANA database.
    pub time_zone: String,
    /// Whether whoever comes may charge without a card, for free.
    pub free_charging: bool,
    /// The version to speak where the station offers no subprotocol; `None`: refuse.
    pub without_subprotocol: Option<String>,
    /// `1.6` or `2.0.1`, once it connected.
    pub version: Option<String>,
    /// Told at boot.
    pub vendor: Option<String>,
    /// Told at boot.
    pub model: Option<String>,
    /// Told at boot.
    pub serial: Option<String>,
    /// Told at boot.
    pub firmware: Option<String>,
    /// Counts its connections.
    pub epoch: i64,
    /// Whether a node holds its socket.
    pub online: bool,
    /// When it connected last.
    pub connected_at: Option<Timestamp>,
    /// When it was accepted at a boot.
    pub booted_at: Option<Timestamp>,
    /// When anything came from it, to some seconds.
    pub last_seen_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    identity: String,
    password_hash: Option<String>,
    #[sqlx(default)]
    has_earlier: bool,
    last_network: Option<String>,
    security_profile: i16,
    time_zone: String,
    free_charging: bool,
    without_subprotocol: Option<String>,
    version: Option<String>,
    vendor: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    firmware: Option<String>,
    epoch: i64,
    online: bool,
    connected_at: Option<i64>,
    booted_at: Option<i64>,
    last_seen_at: Option<i64>,
}

impl TryFrom<Row> for Charger {
    type Error = crate::StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Charger {
            id: id(&row.id)?,
            identity: row.identity,
            password_hash: row.password_hash,
            has_earlier: row.has_earlier,
            last_network: row.last_network,
            security_profile: row.security_profile,
            time_zone: row.time_zone,
            free_charging: row.free_charging,
            without_subprotocol: row.without_subprotocol,
            version: row.version,
            vendor: row.vendor,
            model: row.model,
            serial: row.serial,
            firmware: row.firmware,
            epoch: row.epoch,
            online: row.online,
            connected_at: row.connected_at.map(Timestamp),
            booted_at: row.booted_at.map(Timestamp),
            last_seen_at: row.last_seen_at.map(Timestamp),
        })
    }
}

/// A station by its identity, letter for letter.
pub async fn by_identity(db: &mut Db, identity: &str) -> Result<Option<Charger>> {
    let row: Option<Row> = on!(db, conn => {
        sqlx::query_as(
            "SELECT *, EXISTS (SELECT 1 FROM earlier_passwords e WHERE e.charger_id = chargers.id) AS has_earlier \
             FROM chargers WHERE identity = $1",
        )
        .bind(identity)
        .fetch_optional(conn)
        .await?
    });
    row.map(Charger::try_from).transpose()
}

/// A station by its identity, locked until the transaction ends: who changes a part of it changes what is there.
pub async fn lock(db: &mut Db, identity: &str) -> Result<Option<Charger>> {
    let lock = db.for_update();
    let row: Option<Row> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT s.* FROM chargers s WHERE s.identity = ");
        sql.push_bind(identity).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    row.map(Charger::try_from).transpose()
}

/// A station by its id.
pub async fn by_id(db: &mut Db, charger: ChargerId) -> Result<Option<Charger>> {
    let row: Option<Row> = on!(db, conn => {
        sqlx::query_as("SELECT * FROM chargers WHERE id = $1").bind(charger.to_string()).fetch_optional(conn).await?
    });
    row.map(Charger::try_from).transpose()
}

/// Stations in the order of their identities, after one.
pub async fn list(db: &mut Db, after: &str, limit: i64) -> Result<Vec<Charger>> {
    let rows: Vec<Row> = on!(db, conn => {
        sqlx::query_as("SELECT * FROM chargers WHERE identity > $1 ORDER BY identity LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(Charger::try_from).collect()
}

/// Registers a station or changes how it may connect. Where the password changes, the one before lets it in until a newer
/// one was used; without a password none is asked for.
pub async fn upsert(
    db: &mut Db,
    identity: &str,
    password_hash: Option<&str>,
    security_profile: i16,
    without_subprotocol: Option<&str>,
    now: Timestamp,
) -> Result<ChargerId> {
    passwords::changes(db, identity, password_hash, now).await?;
    let (charger,): (String,) = on!(db, conn => {
        sqlx::query_as(
            "INSERT INTO chargers (id, identity, password_hash, security_profile, without_subprotocol, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (identity) DO UPDATE SET password_hash = excluded.password_hash, \
             security_profile = excluded.security_profile, without_subprotocol = excluded.without_subprotocol RETURNING id",
        )
        .bind(new_id().to_string())
        .bind(identity)
        .bind(password_hash)
        .bind(security_profile)
        .bind(without_subprotocol)
        .bind(now.0)
        .fetch_one(conn)
        .await?
    });
    id(&charger)
}

/// Says in which time zone a station stands (see [`crate::tariffs::is_time_zone`]). Running charges keep the clock they
/// began by.
pub async fn set_time_zone(db: &mut Db, charger: ChargerId, time_zone: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE chargers SET time_zone = $2 WHERE id = $1")
            .bind(charger.to_string())
            .bind(time_zone)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Says whether whoever comes may charge at a station without a card, for free.
pub async fn set_free_charging(db: &mut Db, charger: ChargerId, free: bool) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE chargers SET free_charging = $2 WHERE id = $1")
            .bind(charger.to_string())
            .bind(free)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// What a station told of itself at a boot.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Which station.
    pub charger: ChargerId,
    /// Who built it.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its firmware.
    pub firmware: Option<String>,
}

/// Notes boots, the last of each station. What they told of their connectors before is forgotten until they repeat it.
pub async fn booted(db: &mut Db, boots: &[Boot], now: Timestamp) -> Result<()> {
    let last: std::collections::BTreeMap<_, _> = boots.iter().map(|boot| (boot.charger, boot)).collect();
    if last.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE chargers SET booted_at = ");
        sql.push_bind(now.0).push(", vendor = v.column2, model = v.column3, serial = v.column4, firmware = v.column5 FROM (");
        push_rows(&mut sql, &last, |row, (charger, boot)| {
            row.bind(charger.to_string())
                .bind(&boot.vendor)
                .bind(&boot.model)
                .bind(&boot.serial)
                .bind(&boot.firmware);
        });
        sql.push(") AS v WHERE chargers.id = v.column1");
        sql.build().execute(&mut *conn).await?;
        let mut sql = QueryBuilder::new("UPDATE connectors SET forgotten = TRUE WHERE charger_id");
        push_is_one_of(&mut sql, last.keys().map(|charger| charger.to_string()));
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Notes when stations were last heard.
pub async fn seen(db: &mut Db, seen: &[(ChargerId, Timestamp)]) -> Result<()> {
    for seen in seen.chunks(1000) {
        on!(&mut *db, conn => {
            let mut sql = QueryBuilder::new("UPDATE chargers SET last_seen_at = v.column2 FROM (");
            push_rows(&mut sql, seen, |row, (charger, at)| {
                row.bind(charger.to_string()).bind(at.0);
            });
            sql.push(") AS v WHERE chargers.id = v.column1");
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}

/// Connectors of a station whose states are kept beside those of its devices.
const MOST_CONNECTORS: i64 = 64;

/// Notes connector states, the last of each connector. Of connectors that were neither registered nor told before, only so
/// many are noted.
pub async fn set_states(db: &mut Db, reports: &[(ChargerId, StatusReport)]) -> Result<()> {
    let last: std::collections::BTreeMap<_, _> =
        reports.iter().map(|(charger, report)| ((*charger, report.connector), report)).collect();
    let last: Vec<_> = last.into_iter().collect();
    for last in last.chunks(1000) {
        on!(&mut *db, conn => {
            let mut sql =
                QueryBuilder::new("INSERT INTO connectors (charger_id, connector, state, error, at) SELECT v.* FROM (");
            push_rows(&mut sql, last, |row, ((charger, connector), report)| {
                row.bind(charger.to_string())
                    .bind(i32::try_from(*connector).unwrap_or_default())
                    .bind(report.state.as_str())
                    .bind(&report.error)
                    .bind(report.at.0);
            });
            sql.push(
                ") AS v WHERE EXISTS (SELECT 1 FROM connectors k WHERE k.charger_id = v.column1 AND k.connector = v.column2) \
                 OR EXISTS (SELECT 1 FROM devices d WHERE d.charger_id = v.column1 AND d.connector = v.column2) \
                 OR (SELECT COUNT(*) FROM connectors k WHERE k.charger_id = v.column1) < ",
            );
            sql.push_bind(MOST_CONNECTORS).push(
                " ON CONFLICT (charger_id, connector) DO UPDATE SET state = excluded.state, error = excluded.error, at = excluded.at, \
                  forgotten = FALSE, charged = connectors.charged AND excluded.state NOT IN ('available', 'preparing', 'reserved')",
            );
            sql.build().execute(conn).await?;
        });
    }
    Ok(())
}

/// Notes at these connectors whether the car that is plugged in has had its charge, where one may be.
pub async fn set_charged(db: &mut Db, places: &[(ChargerId, u32)], charged: bool) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    on!(db, conn => {
        let mut sql = QueryBuilder::new("UPDATE connectors SET charged = ");
        sql.push_bind(charged).push(" FROM (");
        push_rows(&mut sql, places, |row, (charger, connector)| {
            row.bind(charger.to_string()).bind(i32::try_from(*connector).unwrap_or_default());
        });
        sql.push(
            ") AS v WHERE connectors.charger_id = v.column1 AND connectors.connector = v.column2 \
             AND (connectors.state <> 'available' OR connectors.forgotten)",
        );
        sql.build().execute(conn).await?;
    });
    Ok(())
}

/// Notes that a command of ours took a station as a whole out of service, or back into it.
pub async fn set_inoperative(db: &mut Db, charger: ChargerId, inoperative: bool) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE chargers SET inoperative = $2 WHERE id = $1")
            .bind(charger.to_string())
            .bind(inoperative)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Notes that card numbers are guessed at this station.
pub async fn set_guessed(db: &mut Db, charger: ChargerId, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE chargers SET guessed_at = $2 WHERE id = $1")
            .bind(charger.to_string())
            .bind(now.0)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// A connector's newest state.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Connector {
    /// 0 is the station as a whole.
    pub connector: i32,
    /// The word of [`evm_domain::ConnectorState::as_str`].
    pub state: String,
    /// The error code beside it.
    pub error: Option<String>,
    /// When it was told, ms since 1970.
    pub at: i64,
}

/// The connectors of a station in their order.
pub async fn connectors_of(db: &mut Db, charger: ChargerId) -> Result<Vec<Connector>> {
    Ok(on!(db, conn => {
        sqlx::query_as("SELECT connector, state, error, at FROM connectors WHERE charger_id = $1 AND NOT forgotten ORDER BY connector")
            .bind(charger.to_string())
            .fetch_all(conn)
            .await?
    }))
}

/// What a start at the charger needs to know of the place.
#[derive(Debug, Clone)]
pub struct Place {
    /// The station.
    pub charger: ChargerId,
    /// The connector.
    pub connector: u32,
    /// The device there.
    pub device: DeviceId,
    /// The version of its prices.
    pub tariff_id: String,
    /// Its prices, by the station's clock.
    pub tariff: Tariff,
    /// Its maximum power, W.
    pub max_power_w: Option<i64>,
    /// Whether whoever comes may charge without a card, for free.
    pub free_charging: bool,
    /// When card numbers were last guessed here.
    pub guessed_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct PlaceRow {
    charger_id: String,
    connector: i32,
    id: String,
    tariff_id: String,
    time_zone: String,
    #[sqlx(flatten)]
    tariff: TariffRow,
    max_power_w: Option<i64>,
    free_charging: bool,
    guessed_at: Option<i64>,
}

/// The devices at these stations.
pub async fn places(db: &mut Db, chargers: &[ChargerId]) -> Result<Vec<Place>> {
    if chargers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<PlaceRow> = on!(db, conn => {
        let mut sql = QueryBuilder::new(concat!(
            "SELECT d.charger_id, d.connector, d.id, d.tariff_id, d.max_power_w, h.time_zone, h.free_charging, h.guessed_at, ",
            tariff_columns!(),
            " FROM devices d JOIN tariff_versions t ON t.id = d.tariff_id JOIN chargers h ON h.id = d.charger_id \
             WHERE NOT d.removed AND d.charger_id"
        ));
        push_is_one_of(&mut sql, chargers.iter().map(|charger| charger.to_string()));
        sql.build_query_as().fetch_all(conn).await?
    });
    rows.into_iter()
        .map(|row| {
            Ok(Place {
                charger: id(&row.charger_id)?,
                connector: u32::try_from(row.connector).unwrap_or_default(),
                device: id(&row.id)?,
                tariff_id: row.tariff_id,
                tariff: row.tariff.tariff(wall_clock(&row.time_zone))?,
                max_power_w: row.max_power_w,
                free_charging: row.free_charging,
                guessed_at: row.guessed_at.map(Timestamp),
            })
        })
        .collect()
}
