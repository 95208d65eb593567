//! Chargers, devices, customers and cards for the load, put straight into the store.

use evm_domain::Money;
use evm_store::devices::NewDevice;
use evm_store::{Store, cards, chargers, customers, devices};

use crate::station::{PASSWORD, Station};

/// The key of the chargers' password hashes, the same for the benchmark and its servers.
pub(crate) const SECRET: [u8; 32] = [0x5b; 32];

/// Chargers a transaction.
const CHUNK: usize = 500;

/// Registers that many stations with a device, and each with a customer who has a card.
pub(crate) async fn stations(store: &Store, count: u32) -> anyhow::Result<Vec<Station>> {
    // Identities, tags and phones of their own, so that nothing of an earlier measurement is in the way.
    let id = evm_store::new_id().to_string();
    let batch = &id[16..];
    let hash = chargers::password_hash(&SECRET, PASSWORD.as_bytes());
    let numbers: Vec<u32> = (0..count).collect();
    let mut stations = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(CHUNK) {
        let mut db = store.begin().await?;
        let now = evm_store::now();
        for n in numbers {
            let identity = format!("bench-{batch}-{n:05}");
            let tag = format!("{batch}{n:05}").to_ascii_uppercase();
            let charger = chargers::upsert(&mut db, &identity, Some(&hash), 1, None, now).await?;
            let at = i64::from(*n);
            let device = device(identity.clone(), 1, 1_069_000_000 + at * 1000, 479_000_000 + at * 100);
            devices::register(&mut db, charger, &[device], now).await?;
            let customer = customers::of_phone(&mut db, &format!("+{batch}{n:05}"), now).await?;
            cards::put(&mut db, &tag, customer.id, false, now).await?;
            stations.push(Station::new(identity, tag));
        }
        db.commit().await?;
    }
    Ok(stations)
}

/// A device at a connector, at a place in 1e-7 degrees.
pub(crate) fn device(device_number: String, connector: u32, longitude: i64, latitude: i64) -> NewDevice {
    NewDevice {
        device_number,
        connector,
        longitude,
        latitude,
        price: Money(50_000),
        waiting_price: Money(10_000),
        waiting_grace_s: 300,
        ..NewDevice::default()
    }
}

/// Stations that are registered nowhere, for servers that do not ask.
pub(crate) fn nobody(count: u32) -> Vec<Station> {
    (0..count).map(|n| Station::new(format!("bench-00000000-{n:05}"), format!("00000000{n:05}"))).collect()
}
