//! What stations measure, and by which clock: the right bill, and a review wherever figures contradict each other.
#![allow(clippy::unwrap_used)]

use evm_tests::api::decimal;
use evm_tests::charge::{session_is, sessions_of};
use evm_tests::charger::Policy;
use evm_tests::{Customer, RawCharger, Script, Version, World, eventually, on_both_engines};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const CARD: &str = "04AABBCC";

/// A device of these terms, 1 MNT a Wh and 50 MNT a minute of waiting where they say nothing, and a customer's card.
async fn place(world: &World, identity: &str, version: Version, terms: Value) -> (Customer, RawCharger) {
    let customer = world.rich_customer(PHONE, 100_000).await;
    world.operator.send(Method::PUT, &format!("/customers/{PHONE}/cards/{CARD}"), Some(json!({}))).await.ok();
    let mut device = json!({
        "deviceNumber": identity, "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 50,
    });
    let mut body = json!({ "timeZone": terms["timeZone"].as_str().unwrap_or("Asia/Ulaanbaatar") });
    if let Some(device_terms) = terms["device"].as_object() {
        device.as_object_mut().unwrap().extend(device_terms.clone());
    }
    body["devices"] = json!([device]);
    world.operator.send(Method::PUT, &format!("/chargers/{identity}"), Some(body)).await.ok();
    (customer, world.raw(identity, version).await)
}

/// Plays a whole charge; gives its session and its purchase.
async fn played(world: &mut World, part: &str, version: Version, terms: Value) -> (Value, Value) {
    let (customer, mut charger) = place(world, "CP-1", version, terms).await;
    Script::load("figures").play(&mut charger, part).await;
    let session = session_is(&world.operator, "CP-1", "finished").await;
    let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
    (session, purchase)
}

fn amount(purchase: &Value) -> Decimal {
    decimal(&purchase["amount"])
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
        let (session, purchase) = played(world, "two days offline", Version::V16, json!({})).await;
        assert_eq!(amount(&purchase), Decimal::from(1000 + 120 * 50), "{purchase}");
        assert_eq!(session["review"], Value::Null, "{session}");
    }

    async fn bands_follow_the_wall_clock_in_autumn(world) {
        let night = json!([{ "from": "02:00", "to": "06:00", "price": 420 }]);
        let terms = json!({ "timeZone": "Europe/Berlin", "device": { "price": 650, "bands": night } });
        let (_, purchase) = played(world, "autumn", Version::V16, terms).await;
        assert_eq!(amount(&purchase), Decimal::from(8860), "{purchase}");
    }

    async fn bands_follow_the_wall_clock_in_spring(world) {
        let night = json!([{ "from": "02:00", "to": "06:00", "price": 420 }]);
        let terms = json!({ "timeZone": "Europe/Berlin", "device": { "price": 650, "bands": night } });
        let (_, purchase) = played(world, "spring", Version::V16, terms).await;
        // Of five hours three are between 02:00, which the clock passes over, and 06:00.
        assert_eq!(amount(&purchase), Decimal::from(2 * 650 + 3 * 420), "{purchase}");
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
        let (customer, mut charger) = place(world, "CP-1", Version::V16, json!({})).await;
        let mut script = Script::load("figures");
        script.play(&mut charger, "lifetime begins").await;
        let running = sessions_of(&world.operator, "CP-1").await.remove(0);
        assert_eq!((decimal(&running["energy"]), &running["review"]), (decimal(&json!(0.249)), &Value::Null), "{running}");
        script.play(&mut charger, "lifetime ends").await;
        let session = session_is(&world.operator, "CP-1", "finished").await;
        assert_eq!(session["review"], Value::Null, "{session}");
        let purchase = customer.purchase(session["purchaseId"].as_str().unwrap()).await;
        assert_eq!(amount(&purchase), Decimal::from(353), "{purchase}");
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
        let (session, purchase) = played(world, "one Wh while full", Version::V16, json!({})).await;
        assert_eq!((&purchase["waitingTime"], &session["review"]), (&json!(597), &Value::Null), "{purchase}");
    }
}
