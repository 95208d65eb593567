//! Whoever computed from an older version of a session finds out, and writes nothing; on both engines.
#![allow(clippy::unwrap_used)]

mod common;

use evm_domain::{Money, Point, PointKind, Timestamp, Wh};
use evm_store::devices::{self, NewDevice};
use evm_store::sessions::{self, NewRequest};
use evm_store::{Rule, Store, StoreError, chargers, customers, now};

common::on_both!(figures_of_an_older_version_are_refused);

async fn figures_of_an_older_version_are_refused(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let charger = chargers::upsert(&mut db, "CP-1", None, 0, None, now()).await.unwrap();
    let device = NewDevice { device_number: "N-1".into(), connector: 1, price: Money(1), ..NewDevice::default() };
    devices::register(&mut db, charger, &[device], now()).await.unwrap();
    let device = devices::of_charger(&mut db, charger).await.unwrap().remove(0);
    let customer = customers::of_phone(&mut db, "+97686661488", now()).await.unwrap().id;
    let request =
        NewRequest { device: device.id, customer, charger, connector: 1, tariff_id: device.tariff_id, now: now() };
    sessions::request(&mut db, &request).await.unwrap();
    let found = sessions::load_live(&mut db, &[charger]).await.unwrap().remove(0);
    db.commit().await.unwrap();

    let mut session = found.session.clone();
    for (at, value) in [(1000, 10), (2000, 30)] {
        assert!(session.append(Point::new(Timestamp(at), PointKind::Register, value)));
        let mut db = store.begin().await.unwrap();
        let version = found.version + i64::from(at == 2000);
        sessions::save_figures(&mut db, &[(&session, Some(version))], now()).await.unwrap();
        db.commit().await.unwrap();
    }
    let saved = session.clone();
    assert!(session.append(Point::new(Timestamp(3000), PointKind::Register, 99)));
    let mut db = store.begin().await.unwrap();
    let refused = sessions::save_figures(&mut db, &[(&session, Some(found.version + 1))], now()).await;
    assert!(matches!(refused, Err(StoreError::Refused(Rule::Other))), "{refused:?}");
    drop(db);
    let mut db = store.begin().await.unwrap();
    let kept = sessions::load_live(&mut db, &[charger]).await.unwrap().remove(0);
    assert_eq!((kept.version, kept.session.meter.register), (found.version + 2, Some(Wh(30))));
    assert_eq!(kept.session, saved);
}
