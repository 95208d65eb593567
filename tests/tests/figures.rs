//! What stations measure, and by which clock: the right bill, and a review wherever figures contradict each other.
#![allow(clippy::unwrap_used)]

use evm_tests::api::{decimal, wh};
use evm_tests::charge::{begin_16, session_is, sessions_of, stop_of};
use evm_tests::charger::Policy;
use evm_tests::clock::Clock;
use evm_tests::sse::EventStream;
use evm_tests::{Customer, Engine, RawCharger, Script, Version, World, eventually, on_both_engines, on_each_engine};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const CARD: &str = "04AABBCC";

/// A device of these terms, 1 MNT a Wh and 50 MNT a minute of waiting where they say nothing, and a customer's card.
async fn place(world: &World, identity: &str, version: Version, terms: Value) -> (Customer, RawCharger) {
    let customer = card_owner(world, 100_000).await;
    (customer, station(world, identity, version, terms).await)
}

async fn card_owner(world: &World, balance: u32) -> Customer {
    let customer = world.rich_customer(PHONE, balance).await;
    world.operator.send(Method::PUT, &format!("/customers/{PHONE}/cards/{CARD}"), Some(json!({}))).await.ok();
    customer
}

async fn station(world: &World, identity: &str, version: Version, terms: Value) -> RawCharger {
    let mut device = json!({
        "deviceNumber": identity, "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 50,
    });
    let mut body = json!({ "timeZone": terms["timeZone"].as_str().unwrap_or("Asia/Ulaanbaatar") });
    if let Some(device_terms) = terms["device"].as_object() {
        device.as_object_mut().unwrap().extend(device_terms.clone());
    }
    body["devices"] = json!([device]);
    world.operator.send(Method::PUT, &format!("/chargers/{identity}"), Some(body)).await.ok();
    world.raw(identity, version).await
}

/// Plays a whole charge; gives its session and its purchase.
async fn played(world: &mut World, part: &str, version: Version, terms: Value) -> (Value, Value) {
    let (customer, mut charger) = place(world, "CP-1", version, terms).await;
    Script::load("figures").play(&mut charger, part).await;
    let session = session_is(&world.operator, "CP-1", "finished").await;
    let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
    (session, purchase)
}

/// Plays one of several charges, each at a charger of its own, and pays it.
async fn played_by(world: &World, customer: &Customer, part: &str, version: Version) -> (Value, Value) {
    played_at(world, customer, part, version, json!({})).await
}

async fn played_at(world: &World, customer: &Customer, part: &str, version: Version, terms: Value) -> (Value, Value) {
    let identity = part.replace(' ', "-");
    let mut charger = station(world, &identity, version, terms).await;
    Script::load("figures").play(&mut charger, part).await;
    let session = session_is(&world.operator, &identity, "finished").await;
    let id = session["purchaseId"].as_str().unwrap();
    let purchase = customer.purchase(id).await;
    if amount(&purchase) > Decimal::ZERO {
        customer.pay(id, "EVM").await.ok();
    }
    (session, purchase)
}

fn amount(purchase: &Value) -> Decimal {
    decimal(&purchase["amount"])
}

/// 650 MNT a kWh, 420 by night: a charge in each version, over a night in which Berlin's clock changes.
async fn by_night(world: &mut World, parts: [&str; 2], mnt: i64) {
    let night = json!([{ "from": "02:00", "to": "06:00", "price": 420 }]);
    let terms = json!({ "timeZone": "Europe/Berlin", "device": { "price": 650, "bands": night } });
    let customer = card_owner(world, 100_000).await;
    for (part, version) in parts.into_iter().zip([Version::V16, Version::V201]) {
        let (_, purchase) = played_at(world, &customer, part, version, terms.clone()).await;
        assert_eq!(amount(&purchase), Decimal::from(mnt), "{part} {purchase}");
    }
}

/// The register of a life at the start and the stop, a count of the charge between: billed is what that says.
async fn a_lifetime(world: &mut World, version: Version, [begins, ends]: [&str; 2]) {
    let (customer, mut charger) = place(world, "CP-1", version, json!({})).await;
    let mut script = Script::load("figures");
    script.play(&mut charger, begins).await;
    let running = sessions_of(&world.operator, "CP-1").await.remove(0);
    assert_eq!((decimal(&running["energy"]), &running["review"]), (decimal(&json!(0.249)), &Value::Null), "{running}");
    script.play(&mut charger, ends).await;
    let session = session_is(&world.operator, "CP-1", "finished").await;
    assert_eq!(session["review"], Value::Null, "{session}");
    let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
    assert_eq!(amount(&purchase), Decimal::from(353), "{purchase}");
}

on_both_engines! {
    async fn a_clock_that_nobody_has_set_bills_no_years(world) {
        let (session, purchase) = played(world, "clock of 2023", Version::V16, json!({})).await;
        assert_eq!(decimal(&purchase["energy"]), Decimal::ONE, "{purchase}");
        // A second or two of waiting may have passed between the receipts.
        assert!(amount(&purchase) < Decimal::from(1010), "{purchase} {session}");
    }

    async fn a_clock_two_hours_behind_bills_no_hours(world) {
        let (session, purchase) = played(world, "clock two hours behind", Version::V16, json!({})).await;
        assert_eq!(amount(&purchase), Decimal::from(1000), "{purchase}");
        assert_eq!(session["review"], "clock_wrong", "{session}");
        let detail = session["reviewDetail"].as_str().unwrap();
        assert!(detail.contains("6900 s passed") && detail.contains("0 s"), "{detail}");
    }

    async fn a_charge_told_after_days_keeps_its_times(world) {
        let customer = card_owner(world, 100_000).await;
        for (part, version) in [("two days offline", Version::V16), ("two days offline 201", Version::V201)] {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!(amount(&purchase), Decimal::from(1000 + 120 * 50), "{part} {purchase}");
            assert_eq!(session["review"], Value::Null, "{part} {session}");
        }
    }

    async fn bands_follow_the_wall_clock_in_autumn(world) {
        by_night(world, ["autumn", "autumn 201"], 8860).await;
    }

    async fn bands_follow_the_wall_clock_in_spring(world) {
        // Of five hours three are between 02:00, which the clock passes over, and 06:00.
        by_night(world, ["spring", "spring 201"], 2 * 650 + 3 * 420).await;
    }

    async fn energy_told_in_intervals_is_billed_once_and_for_review(world) {
        let (session, purchase) = played(world, "intervals", Version::V16, json!({})).await;
        assert_eq!(amount(&purchase), Decimal::from(1500), "{purchase}");
        assert_eq!(session["review"], "no_register", "{session}");
        assert_eq!(decimal(&session["energy"]), decimal(&json!(1.5)), "{session}");
    }

    async fn energy_told_in_intervals_is_billed_in_201_too(world) {
        let (session, purchase) = played(world, "intervals 201", Version::V201, json!({})).await;
        assert_eq!(amount(&purchase), Decimal::from(1500), "{purchase}");
        assert_eq!(session["review"], "no_register", "{session}");
    }

    async fn nothing_is_free_because_nothing_was_measured(world) {
        let (session, purchase) = played(world, "nothing measured 201", Version::V201, json!({})).await;
        assert_eq!((amount(&purchase), &session["review"]), (Decimal::ZERO, &json!("not_measured")), "{session}");
    }

    async fn a_register_of_a_life_and_a_count_of_the_charge_are_told_apart(world) {
        a_lifetime(world, Version::V16, ["lifetime begins", "lifetime ends"]).await;
    }

    async fn a_register_that_power_contradicts_is_billed_as_told_and_for_review(world) {
        let (session, purchase) = played(world, "wrong unit", Version::V16, json!({})).await;
        assert_eq!(amount(&purchase), Decimal::ONE, "{purchase}");
        assert_eq!(session["review"], "power_contradicts", "{session}");
        let detail = session["reviewDetail"].as_str().unwrap();
        assert!(detail.contains("1 Wh by the register") && detail.contains("1023 Wh by power"), "{detail}");
    }

    async fn a_station_is_told_what_to_measure(world) {
        for (identity, version, lists) in [
            ("CP-16", Version::V16, &["MeterValuesSampledData", "StopTxnSampledData"][..]),
            ("CP-201", Version::V201, &["TxStartedMeasurands", "TxUpdatedMeasurands", "TxEndedMeasurands"][..]),
        ] {
            world.operator.charger(identity, 1).await;
            let charger = world.raw(identity, version).await;
            let told = eventually("all lists", async || {
                let told = charger.settings();
                (told.len() == lists.len()).then_some(told)
            });
            for (asked, list) in told.await.iter().zip(lists) {
                let text = asked.payload.to_string();
                assert!(text.contains(list) && text.contains("Energy.Active.Import.Register"), "{text}");
            }
        }
    }

    async fn a_list_that_a_station_refuses_is_told_one_by_one(world) {
        world.operator.charger("CP-1", 1).await;
        let charger = world.raw("CP-1", Version::V16).await;
        charger.on("ChangeConfiguration", Policy::Answer(json!({ "status": "Rejected" })));
        let told = eventually("all tries", async || {
            let told = charger.settings();
            (told.len() == 5).then_some(told)
        });
        let values: Vec<_> = told.await.iter().map(|asked| asked.payload["value"].clone()).collect();
        let register = "Energy.Active.Import.Register";
        let all = format!("{register},Power.Active.Import,SoC");
        assert_eq!(values, [&all, register, "Power.Active.Import", "SoC", register]);
    }

    async fn one_wh_while_the_car_is_full_does_not_void_its_waiting(world) {
        let customer = card_owner(world, 100_000).await;
        for (part, version) in [("one Wh while full", Version::V16), ("one Wh while full 201", Version::V201)] {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!((&purchase["waitingTime"], &session["review"]), (&json!(597), &Value::Null), "{part} {purchase}");
        }
    }

    async fn clocks_behind_bill_no_years_and_no_hours_in_201_and_where_a_sample_shows_it(world) {
        let customer = card_owner(world, 100_000).await;
        let parts = [
            ("clock of 2023 201", Version::V201), ("clock two hours behind 201", Version::V201),
            ("clock learnt at a sample", Version::V16),
        ];
        for (part, version) in parts {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!(decimal(&purchase["energy"]), Decimal::ONE, "{part} {purchase}");
            assert!(amount(&purchase) < Decimal::from(1010), "{part} {purchase}");
            if part != "clock of 2023 201" {
                assert_eq!(session["review"], "clock_wrong", "{part} {session}");
                assert!(session["reviewDetail"].as_str().unwrap().contains("6900 s passed"), "{session}");
            }
        }
    }

    async fn a_clock_forty_minutes_behind_is_for_review(world) {
        let (session, purchase) = played(world, "clock forty minutes behind", Version::V16, json!({})).await;
        assert_eq!(session["review"], "clock_wrong", "{session} {purchase}");
        let detail = session["reviewDetail"].as_str().unwrap();
        assert!(detail.contains("2100 s passed") && detail.contains("0 s"), "{detail}");
    }

    /// A queue or a clock: nobody knows of a station that was never heard before, so that it is not billed but looked at.
    async fn what_a_station_never_heard_tells_of_days_ago_is_for_review(world) {
        let (session, purchase) = played(world, "first contact after two days", Version::V16, json!({})).await;
        assert_eq!(decimal(&purchase["energy"]), Decimal::ONE, "{purchase}");
        assert_eq!(session["review"], "clock_wrong", "{session}");
        assert!(session["reviewDetail"].as_str().unwrap().contains("165540 s passed"), "{session}");
    }

    async fn a_live_figure_goes_by_our_clock(world) {
        let (customer, mut charger) = place(world, "CP-1", Version::V16, json!({})).await;
        let phone = EventStream::open(&customer, None).await;
        let mut script = Script::load("figures");
        script.play(&mut charger, "clock behind, running").await;
        let told = phone.hears("of the charge", |event| wh(&event.data["energy"]) == 1000).await.data;
        assert!(decimal(&told["amount"]) < Decimal::from(1050), "{told}");
        script.play(&mut charger, "clock behind, over").await;
        let session = session_is(&world.operator, "CP-1", "finished").await;
        let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
        assert!(amount(&purchase) < Decimal::from(1050), "{purchase}");
    }

    async fn a_register_that_was_read_once_is_for_review(world) {
        let customer = card_owner(world, 100_000).await;
        let parts = [
            ("read once", Version::V16), ("read at the start only", Version::V16), ("read at the stop only", Version::V16),
            ("never read", Version::V16), ("read at the end only 201", Version::V201),
        ];
        for (part, version) in parts {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!((amount(&purchase), &session["review"]), (Decimal::ZERO, &json!("not_measured")), "{part} {session}");
        }
    }

    async fn a_register_that_other_figures_contradict_is_for_review(world) {
        let customer = card_owner(world, 100_000).await;
        for (part, version, mnt, review, detail) in [
            ("register stands", Version::V16, 0, "not_measured", "nothing was measured in 3540 s"),
            ("battery fills", Version::V16, 1, "soc_contradicts", "1 Wh by the register, while the car's battery rose by 60"),
            ("intervals beside a register", Version::V16, 1, "intervals_contradict", "1 Wh by the register, 1500 Wh by intervals"),
            ("wrong unit 201", Version::V201, 1, "power_contradicts", "1023 Wh by power"),
        ] {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!((amount(&purchase), &session["review"]), (Decimal::from(mnt), &json!(review)), "{part} {session}");
            assert!(session["reviewDetail"].as_str().unwrap().contains(detail), "{part} {session}");
        }
    }

    async fn net_energy_that_falls_a_little_is_billed_as_a_register(world) {
        let customer = card_owner(world, 100_000).await;
        for (part, version) in [("net", Version::V16), ("net 201", Version::V201)] {
            let (session, purchase) = played_by(world, &customer, part, version).await;
            assert_eq!((amount(&purchase), &session["review"]), (Decimal::from(500), &json!("no_register")), "{part} {session}");
        }
    }

    async fn a_register_of_a_life_is_told_apart_in_201_too(world) {
        a_lifetime(world, Version::V201, ["lifetime begins 201", "lifetime ends 201"]).await;
    }

    async fn a_count_of_the_charge_is_billed_where_its_end_is_never_told(world) {
        let customer = card_owner(world, 100_000).await;
        for (part, version) in [("lifetime begins", Version::V16), ("lifetime begins 201", Version::V201)] {
            let identity = format!("CP-{}", version.protocol());
            let mut charger = station(world, &identity, version, json!({})).await;
            Script::load("figures").play(&mut charger, part).await;
            charger.close().await;
            let known = world.operator.get(&format!("/chargers/{identity}")).await.ok();
            let purchase = customer.finish(known["devices"][0]["_id"].as_str().unwrap()).await;
            let session = session_is(&world.operator, &identity, "finished").await;
            assert_eq!((amount(&customer.purchase(&purchase).await), &session["review"]), (Decimal::from(249), &json!("two_registers")), "{session}");
            customer.pay(&purchase, "EVM").await.ok();
        }
    }
}

/// Away for three hours without a battery: its clock goes on where it stood, until it learns the time.
async fn a_clock_that_stood_still_bills_no_hours(engine: Engine) {
    let clock = Clock::new();
    let (name, path) = clock.setting();
    let world = World::start_on(engine, None, &[(name.as_str(), path.as_str())]).await;
    let (customer, charger) = place(&world, "CP-1", Version::V16, json!({})).await;
    charger.close().await;
    let online = async || world.operator.get("/chargers/CP-1").await.ok()["online"] == true;
    eventually("the charger to be away", async || (!online().await).then_some(())).await;
    clock.ahead(3 * 3600);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let mut script = Script::load("figures");
    for (part, ahead) in [("1", 60), ("2", 240), ("3", 300), ("4", 360)] {
        clock.ahead(3 * 3600 + ahead);
        script.play(&mut charger, &format!("stood still {part}")).await;
    }
    let session = session_is(&world.operator, "CP-1", "finished").await;
    let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
    assert_eq!((decimal(&purchase["energy"]), &session["review"]), (Decimal::ONE, &json!("clock_wrong")), "{session}");
    let waited = purchase["waitingTime"].as_i64().unwrap();
    assert!((55..=90).contains(&waited), "{purchase}");
    world.finish().await;
}

/// Samples two minutes apart: 600 of 1 000 are spent at one, and 22 kW spend the rest before the next.
async fn a_charge_that_is_sampled_seldom_stops_before_the_balance_ends(engine: Engine) {
    let clock = Clock::new();
    let (name, path) = clock.setting();
    let settings = [(name.as_str(), path.as_str()), ("EVM_STOP_AT_BALANCE", "true")];
    let mut world = World::start_on(engine, None, &settings).await;
    let customer = world.rich_customer(PHONE, 1_000).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    let transaction = begin_16(&customer, &mut charger, &device, 0).await;
    let sampled = json!([{ "value": "600" }, { "value": "22000", "measurand": "Power.Active.Import" }]);
    clock.ahead(120);
    let at_our_clock = (chrono::Utc::now() + chrono::TimeDelta::seconds(120)).to_rfc3339();
    let sampled = json!({ "connectorId": 1, "transactionId": transaction, "meterValue": [{ "timestamp": at_our_clock, "sampledValue": sampled }] });
    charger.call("MeterValues", sampled).await.ok();
    clock.ahead(120 + 63);
    charger.command("RemoteStopTransaction").await;
    charger.call("StopTransaction", stop_of(transaction, 990, "Remote")).await.ok();
    let session = session_is(&world.operator, "CP-1", "finished").await;
    assert_eq!(session["stopReason"], "balance_reached", "{session}");
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 990).await;
    customer.pay(&purchase, "EVM").await.ok();
    world.finish().await;
}

/// A clock two hours behind makes no charge as dear as the balance.
async fn a_wrong_clock_stops_no_charge(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_STOP_AT_BALANCE", "true")]).await;
    let customer = card_owner(&world, 5_000).await;
    let mut charger = station(&world, "CP-1", Version::V16, json!({})).await;
    let phone = EventStream::open(&customer, None).await;
    let mut script = Script::load("figures");
    script.play(&mut charger, "clock behind, running").await;
    let live = async || {
        let figures =
            phone.events().into_iter().filter(|event| event.name == "CHARGING" && wh(&event.data["energy"]) == 1000);
        let amounts: Vec<_> = figures.map(|event| decimal(&event.data["amount"])).collect();
        (amounts.len() >= 2).then_some(amounts)
    };
    let amounts = eventually("two looks", live).await;
    assert!(amounts.iter().all(|amount| *amount < Decimal::from(1050)), "{amounts:?}");
    assert!(charger.waiting().iter().all(|asked| asked.action != "RemoteStopTransaction"));
    script.play(&mut charger, "clock behind, over").await;
    let session = session_is(&world.operator, "CP-1", "finished").await;
    assert_eq!(session["stopReason"], "Local", "{session}");
    world.finish().await;
}

on_each_engine!(
    a_clock_that_stood_still_bills_no_hours,
    a_charge_that_is_sampled_seldom_stops_before_the_balance_ends,
    a_wrong_clock_stops_no_charge,
);
