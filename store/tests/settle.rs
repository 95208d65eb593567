//! From the end of a charge to the book, on both engines: bands, start fee, minimum, cap and VAT.
#![allow(clippy::unwrap_used)]

mod common;

use evm_domain::bounds::points_of;
use evm_domain::credit::Rules;
use evm_domain::ledger::credit_by_operator;
use evm_domain::session::BALANCE_REACHED;
use evm_domain::{
    Band, Bands, CustomerId, Money, Phase, Point, PointKind, PurchaseId, Session, SessionId, Timestamp,
    TransactionUpdate, Wh,
};
use evm_store::devices::{self, NewDevice};
use evm_store::ledger::{self, Booking};
use evm_store::purchases::{self, FromBalance, Purchase};
use evm_store::sessions::{self, NewRequest};
use evm_store::{Db, Store, audit, chargers, credit, customers, readings, settle};

common::on_both!(
    a_charge_over_a_bands_border_is_settled_paid_and_corrected,
    minimum_and_cap_are_lines,
    a_changed_term_is_a_new_version_and_a_charge_keeps_its_own,
    standing_counts_what_is_owed,
    a_spent_charge_is_claimed_once_in_a_while,
    purchases_from_before_keep_their_figures,
);

/// 14:00 UTC, 22:00 in Ulaanbaatar.
const NIGHT: i64 = 1_795_010_400_000;

fn night_device() -> NewDevice {
    let night = Band { from_min: 1320, to_min: 360, energy_price: Money(20_000), waiting_price: Some(Money(300)) };
    NewDevice {
        device_number: "N-1".into(),
        connector: 1,
        price: Money(50_000),
        waiting_price: Money(6_000),
        waiting_grace_s: 60,
        start_fee: Money(30_000),
        vat_bp: 1000,
        bands: Bands::new(vec![night]).unwrap(),
        ..NewDevice::default()
    }
}

struct Place {
    store: Store,
    customer: CustomerId,
    request: NewRequest,
}

async fn place(store: Store, device: NewDevice) -> Place {
    store.migrate().await.unwrap();
    let now = Timestamp(NIGHT);
    let mut db = store.begin().await.unwrap();
    let charger = chargers::upsert(&mut db, "CP-1", None, 0, None, now).await.unwrap();
    chargers::set_time_zone(&mut db, charger, "Asia/Ulaanbaatar").await.unwrap();
    devices::register(&mut db, charger, &[device], now).await.unwrap();
    let device = devices::of_charger(&mut db, charger).await.unwrap().remove(0);
    let customer = customers::of_phone(&mut db, "+97686661488", now).await.unwrap().id;
    db.commit().await.unwrap();
    let request = NewRequest { device: device.id, customer, charger, connector: 1, tariff_id: device.tariff_id, now };
    Place { store, customer, request }
}

impl Place {
    async fn start(&self) -> SessionId {
        let mut db = self.store.begin().await.unwrap();
        let made = sessions::request(&mut db, &self.request).await.unwrap();
        db.commit().await.unwrap();
        made.id
    }

    /// Tells of a transaction as the central system does: points kept, session saved, settled or corrected.
    async fn tell(&self, session: SessionId, phase: Phase, at: i64, kind: PointKind, wh: i64) -> Session {
        let mut db = self.store.begin().await.unwrap();
        let mut session = sessions::by_id(&mut db, session).await.unwrap().unwrap();
        let update = update(phase, at, kind, wh);
        let points = points_of(&update);
        let was_live = session.status.is_live();
        let applied = session.apply(&update, &points);
        let told: Vec<_> = points.iter().map(|point| (session.id, *point)).collect();
        readings::insert(&mut db, &told).await.unwrap();
        if applied.fold_again {
            readings::fold(&mut db, &mut session).await.unwrap();
        }
        if applied.over && was_live {
            settle::settle(&mut db, &mut [&mut session], update.at).await.unwrap();
        } else if applied.over {
            settle::correct(&mut db, &session, update.at).await.unwrap();
        }
        sessions::save(&mut db, &[&session], update.at).await.unwrap();
        let stored = sessions::by_id(&mut db, session.id).await.unwrap().unwrap();
        assert_eq!(stored, session, "what is saved is what is loaded");
        db.commit().await.unwrap();
        session
    }

    async fn purchase(&self, id: PurchaseId) -> Purchase {
        let mut db = self.store.read().await.unwrap();
        purchases::by_id(&mut db, self.customer, id).await.unwrap().unwrap()
    }

    async fn credit(&self, amount: Money) {
        let mut db = self.store.begin().await.unwrap();
        let booking = Booking {
            key: format!("credit:{}", evm_store::new_id()),
            kind: "credit",
            customer: Some(self.customer),
            purchase: None,
            note: None,
            postings: credit_by_operator(amount),
        };
        ledger::post(&mut db, booking, Timestamp(NIGHT)).await.unwrap();
        db.commit().await.unwrap();
    }

    async fn balance(&self) -> Money {
        let mut db = self.store.read().await.unwrap();
        customers::by_id(&mut db, self.customer).await.unwrap().unwrap().balance
    }

    /// Sum of an account.
    async fn account(&self, account: &str) -> i64 {
        let sum = "SELECT CAST(SUM(amount) AS BIGINT) FROM ledger_entries WHERE account = $1";
        match &self.store {
            Store::Sqlite { read, .. } => sqlx::query_scalar(sum).bind(account).fetch_one(read).await.unwrap(),
            Store::Postgres(pool) => sqlx::query_scalar(sum).bind(account).fetch_one(pool).await.unwrap(),
        }
    }

    async fn audit(&self) {
        let mut db = self.store.read().await.unwrap();
        assert_eq!(audit::run(&mut db).await.unwrap().violations, Vec::<String>::new());
    }
}

fn update(phase: Phase, at: i64, kind: PointKind, wh: i64) -> TransactionUpdate {
    let at = Timestamp(NIGHT + at * 1000);
    TransactionUpdate {
        phase,
        transaction: Some("7".into()),
        own_id: false,
        connector: Some(1),
        id_tag: None,
        stops: false,
        remote_start_id: None,
        seq_no: None,
        at,
        start_key: None,
        timeless: false,
        points: vec![Point::new(at, kind, wh)],
        reason: None,
    }
}

async fn a_charge_over_a_bands_border_is_settled_paid_and_corrected(store: Store, _: String) {
    use PointKind::{End, MeterStart, Register};
    let place = place(store, night_device()).await;
    let id = place.start().await;
    place.tell(id, Phase::Started, -1800, MeterStart, 1000).await;
    // 2 000 Wh before 22:00, 4 000 across it, 3 000 after; told late, all over again.
    place.tell(id, Phase::Updated, 600, Register, 7000).await;
    place.tell(id, Phase::Updated, -600, Register, 3000).await;
    let session = place.tell(id, Phase::Ended, 1200, End, 10_000).await;
    assert_eq!(session.meter.energy_in[..2], [Wh(2000 + 2000), Wh(2000 + 3000)]);
    let first = place.purchase(session.purchase).await;
    assert_eq!((first.start_amount, first.energy_amount, first.waiting_amount), (30_000, 200_000 + 100_000, 0));
    assert_eq!((first.adjustment_amount, first.amount, first.vat_amount), (0, 330_000, 30_000));
    assert_eq!((place.account("vat").await, place.account("revenue_energy").await), (30_000, 300_000));
    place.audit().await;

    place.credit(Money(400_000)).await;
    let mut db = place.store.begin().await.unwrap();
    let paid =
        purchases::pay_from_evm(&mut db, place.customer, session.purchase, FromBalance::default(), Timestamp(NIGHT))
            .await
            .unwrap();
    assert_eq!(paid.map(|paid| paid.balance), Ok(Money(70_000)));
    db.commit().await.unwrap();
    place.audit().await;

    // A reading that comes after the bill: more flowed before 22:00, the total is the same, the price is not.
    place.tell(id, Phase::Ended, -1, Register, 6900).await;
    let more = place.purchase(session.purchase).await;
    assert_eq!((more.energy_wh, more.energy_amount, more.status.as_str()), (9000, 295_000 + 62_000, "unpaid"));
    assert_eq!(more.vat_amount, 35_182, "387 000 / 11, rounded");
    place.audit().await;

    // And the other way round: what is paid too much goes back to the balance.
    let mut db = place.store.begin().await.unwrap();
    let mut session = sessions::by_id(&mut db, id).await.unwrap().unwrap();
    let point = |at: i64, kind, value| Point::new(Timestamp(NIGHT + at * 1000), kind, value);
    session.fold(vec![point(-1800, MeterStart, 1000), point(-1800 + 60, End, 3000)]);
    assert!(settle::correct(&mut db, &session, Timestamp(NIGHT)).await.unwrap());
    assert!(!settle::correct(&mut db, &session, Timestamp(NIGHT)).await.unwrap(), "a repeat books nothing");
    sessions::save(&mut db, &[&session], Timestamp(NIGHT)).await.unwrap();
    db.commit().await.unwrap();
    let less = place.purchase(session.purchase).await;
    assert_eq!((less.amount, less.paid, less.status.as_str()), (130_000, 130_000, "paid"));
    assert_eq!(place.balance().await, Money(400_000 - 130_000));
    assert_eq!((place.account("vat").await, place.account("revenue_energy").await), (11_818, 118_182));
    place.audit().await;
}

async fn minimum_and_cap_are_lines(store: Store, _: String) {
    let device = NewDevice { minimum: Money(90_000), cap: Some(Money(150_000)), ..night_device() };
    let place = place(store, device).await;
    let charge = async |wh: i64| {
        let id = place.start().await;
        place.tell(id, Phase::Started, -3600, PointKind::MeterStart, 0).await;
        let ended = place.tell(id, Phase::Ended, -60, PointKind::End, wh).await;
        place.purchase(ended.purchase).await
    };
    let nothing = charge(0).await;
    assert_eq!((nothing.amount, nothing.start_amount, nothing.status.as_str()), (0, 0, "paid"));
    let little = charge(100).await;
    assert_eq!((little.start_amount, little.energy_amount, little.adjustment_amount), (30_000, 5_000, 55_000));
    assert_eq!(little.amount, 90_000);
    let much = charge(9000).await;
    assert_eq!((much.energy_amount, much.adjustment_amount, much.amount), (450_000, -330_000, 150_000));
    place.audit().await;
}

async fn a_changed_term_is_a_new_version_and_a_charge_keeps_its_own(store: Store, _: String) {
    let place = place(store, night_device()).await;
    let session = place.start().await;
    let mut db = place.store.begin().await.unwrap();
    let charger = place.request.charger;
    let register = async |db: &mut Db, device: NewDevice| {
        devices::register(db, charger, &[device], Timestamp(NIGHT)).await.unwrap();
        devices::of_charger(db, charger).await.unwrap().remove(0)
    };
    let same = register(&mut db, night_device()).await;
    assert_eq!(same.tariff_id, place.request.tariff_id);
    assert_eq!(same.tariff.clock.offset_min_at(Timestamp(NIGHT)), 480);
    let dearer = register(&mut db, NewDevice { vat_bp: 1200, ..night_device() }).await;
    assert_ne!(dearer.tariff_id, same.tariff_id);
    assert_eq!(dearer.id, same.id);
    let flat = register(&mut db, NewDevice { bands: Bands::default(), ..night_device() }).await;
    assert_eq!((flat.price, flat.waiting_price), (Money(50_000), Money(6_000)));
    chargers::set_time_zone(&mut db, charger, "Europe/Berlin").await.unwrap();
    let running = sessions::by_id(&mut db, session).await.unwrap().unwrap();
    assert_eq!(running.tariff, same.tariff, "prices and clock are those of the start");
    let place = chargers::places(&mut db, &[charger]).await.unwrap().remove(0);
    assert_eq!(place.tariff.clock.offset_min_at(Timestamp(NIGHT)), 60);
    db.commit().await.unwrap();
}

async fn standing_counts_what_is_owed(store: Store, _: String) {
    let place = place(store, night_device()).await;
    let debt = Rules { most_debt: Some(Money(0)), ..Rules::default() };
    let standing = async |rules: Rules| {
        let mut db = place.store.read().await.unwrap();
        credit::standing(&mut db, place.customer, &rules).await.unwrap().unwrap()
    };
    for rules in [debt, Rules::default()] {
        assert_eq!(standing(rules).await, evm_domain::credit::Standing::default());
    }
    place.credit(Money(500)).await;
    let id = place.start().await;
    place.tell(id, Phase::Started, -3600, PointKind::MeterStart, 0).await;
    place.tell(id, Phase::Ended, -60, PointKind::End, 1000).await;
    let lent = Rules { start_with_unpaid: true, ..Rules::default() };
    for (rules, unpaid, owed) in [(debt, 1, 80_000), (Rules::default(), 1, 0), (lent, 0, 0)] {
        let owing = standing(rules).await;
        assert_eq!((owing.balance, owing.unpaid, owing.debt), (Money(500), unpaid, Money(owed)), "{rules:?}");
    }
    let nobody = CustomerId(evm_store::new_id());
    let mut db = place.store.read().await.unwrap();
    assert_eq!(credit::standing(&mut db, nobody, &debt).await.unwrap(), None);
}

async fn a_spent_charge_is_claimed_once_in_a_while(store: Store, _: String) {
    let place = place(store, night_device()).await;
    let id = place.start().await;
    let claim = async |at: i64| {
        let mut db = place.store.begin().await.unwrap();
        let claimed = credit::claim_stop(&mut db, id, Timestamp(at - 30), Timestamp(at)).await.unwrap();
        db.commit().await.unwrap();
        claimed
    };
    assert!(!claim(100).await, "nothing runs yet");
    place.tell(id, Phase::Started, 0, PointKind::MeterStart, 0).await;
    assert!(claim(100).await);
    assert!(!claim(129).await);
    assert!(claim(130).await);
    let ended = place.tell(id, Phase::Ended, 60, PointKind::End, 1000).await;
    assert!(!claim(1000).await, "it is over");
    assert_eq!(ended.stop_reason, None, "the charger ended it for a reason of its own");

    // Nobody has stopped it but us: the reason is ours.
    let id = place.start().await;
    place.tell(id, Phase::Started, 0, PointKind::MeterStart, 0).await;
    let mut db = place.store.begin().await.unwrap();
    assert!(credit::claim_stop(&mut db, id, Timestamp(0), Timestamp(1)).await.unwrap());
    let mut session = sessions::by_id(&mut db, id).await.unwrap().unwrap();
    let end = TransactionUpdate { reason: Some("Remote".into()), ..update(Phase::Ended, 60, PointKind::End, 1000) };
    session.apply(&end, &points_of(&end));
    assert_eq!(session.stop_reason.as_deref(), Some(BALANCE_REACHED));
}

/// The tables as the first version had them, with a purchase of it.
async fn purchases_from_before_keep_their_figures(store: Store, url: String) {
    let engine = if url.starts_with("sqlite") { "sqlite" } else { "postgres" };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(engine);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root.join("0001_base.sql"), folder.path().join("0001_base.sql")).unwrap();
    let first = sqlx::migrate::Migrator::new(folder.path()).await.unwrap();
    let rows = "INSERT INTO customers (id, phone, topic, created_at) VALUES ('000000000000000000000001', '+97686661488', 'ev.a', 1);
        INSERT INTO chargers (id, identity, created_at) VALUES ('000000000000000000000002', 'CP-1', 1);
        INSERT INTO tariff_versions (id, energy_price, waiting_price, created_at) VALUES ('000000000000000000000003', 50000, 600, 1);
        INSERT INTO devices (id, charger_id, connector, device_number, longitude, latitude, tariff_id)
            VALUES ('000000000000000000000004', '000000000000000000000002', 1, 'N-1', 0, 0, '000000000000000000000003');
        INSERT INTO sessions (id, purchase_id, charger_id, connector, device_id, customer_id, tariff_id, status, requested_at, heard_at,
            settled_at, baseline_wh, register_wh, waiting_ms)
            VALUES ('000000000000000000000005', '000000000000000000000006', '000000000000000000000002', 1, '000000000000000000000004',
            '000000000000000000000001', '000000000000000000000003', 'finished', 1, 1, 1, 1000, 2000, 600000);
        INSERT INTO purchases (id, session_id, customer_id, device_id, energy_wh, waiting_s, energy_amount, waiting_amount, amount, status,
            created_at) VALUES ('000000000000000000000006', '000000000000000000000005', '000000000000000000000001',
            '000000000000000000000004', 1000, 600, 50000, 6000, 56000, 'unpaid', 1);
        INSERT INTO payments (id, purchase_id, customer_id, option, amount, status, created_at) VALUES ('000000000000000000000007',
            '000000000000000000000006', '000000000000000000000001', 'EVM', 1, 'error', 1);
        INSERT INTO ledger_transactions (id, key, kind, customer_id, created_at) VALUES ('000000000000000000000008',
            'charge:000000000000000000000005', 'charge', '000000000000000000000001', 1);
        INSERT INTO ledger_entries (transaction_id, account, customer_id, amount) VALUES
            ('000000000000000000000008', 'receivable', '000000000000000000000001', -56000),
            ('000000000000000000000008', 'revenue_energy', '', 50000), ('000000000000000000000008', 'revenue_waiting', '', 6000)";
    match &store {
        Store::Sqlite { write, .. } => {
            first.run(write).await.unwrap();
            sqlx::raw_sql(rows).execute(write).await.unwrap();
        }
        Store::Postgres(pool) => {
            first.run(pool).await.unwrap();
            sqlx::raw_sql(rows).execute(pool).await.unwrap();
        }
    }
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let (customer, purchase) =
        ("000000000000000000000001".parse().unwrap(), "000000000000000000000006".parse().unwrap());
    let before = purchases::by_id(&mut db, customer, purchase).await.unwrap().unwrap();
    assert_eq!((before.start_amount, before.energy_amount, before.waiting_amount), (0, 50_000, 6_000));
    assert_eq!((before.adjustment_amount, before.vat_amount, before.amount), (0, 0, 56_000));
    let session = "000000000000000000000005".parse().unwrap();
    let mut session = sessions::by_id(&mut db, session).await.unwrap().unwrap();
    assert_eq!(session.bill().total(), Money(56_000), "the figures of a charge from before are the same");
    assert!(!settle::correct(&mut db, &session, Timestamp(2)).await.unwrap());
    session.meter.register = Some(Wh(3000));
    session.meter = session.meter.without_bands(&session.tariff);
    assert!(settle::correct(&mut db, &session, Timestamp(2)).await.unwrap());
    sessions::save(&mut db, &[&session], Timestamp(2)).await.unwrap();
    db.commit().await.unwrap();
    let mut db = store.read().await.unwrap();
    assert_eq!(purchases::by_id(&mut db, customer, purchase).await.unwrap().unwrap().amount, 106_000);
    assert_eq!(audit::run(&mut db).await.unwrap().violations, Vec::<String>::new());
}
