//! When a place is free, and who may begin there.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_tests::charge::{asked_for, sessions_of};
use evm_tests::charger::{Policy, at};
use evm_tests::script::Script;
use evm_tests::{Version, World, eventually, on_both_engines};
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// The one session of a charger that was refused is over, and bills nobody.
async fn refused_is_over(world: &World, identity: &str, review: &str) {
    eventually(&format!("the end of the refused start at {identity}"), async || {
        let sessions = sessions_of(&world.operator, identity).await;
        let session = sessions.iter().find(|session| session["review"] == review)?;
        assert_eq!(session["customerId"], Value::Null, "{session}");
        (session["status"] == "finished").then_some(())
    })
    .await;
}

on_both_engines! {
    async fn a_charged_car_keeps_its_place_until_it_is_unplugged(world) {
        let device = world.operator.charger("CS-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CS-1", Version::V201).await;
        let mut script = Script::load("places");
        script.play(&mut charger, "plugged in 201").await;
        world.device_is(&customer, &device, "Idle").await;
        asked_for(&mut script, &customer, &charger, &device).await;
        script.play(&mut charger, "charged 201").await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 450).await;
        // What is told again, and what comes between, changes nothing; a boot neither.
        for part in ["plugged in 201", "still there 201", "rebooted 201"] {
            script.play(&mut charger, part).await;
            world.device_is(&customer, &device, "Busy").await;
            other.start(&device).await.problem(409, "device_busy");
        }
        script.play(&mut charger, "another car 201").await;
        world.device_is(&customer, &device, "Idle").await;
        script.play(&mut charger, "another car leaves 201").await;
        script.play(&mut charger, "free 201").await;
        world.device_is(&customer, &device, "Idle").await;
        // The next one plugs in and starts.
        script.play(&mut charger, "plugged in 201").await;
        world.device_is(&customer, &device, "Idle").await;
        other.start(&device).await.ok();
        charger.remote_start().await;
        other.finish(&device).await;
    }

    async fn a_finishing_connector_is_busy_until_its_car_goes_or_another_comes(world) {
        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        for (free, wh) in [("Available", 100), ("Preparing", 150)] {
            charger.status(1, "Preparing").await;
            let transaction = evm_tests::charge::begin_16(&customer, &mut charger, &device, 1_000).await;
            charger.status(1, "Charging").await;
            charger.stop(transaction, 1_000 + wh).await;
            charger.status(1, "Finishing").await;
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, wh).await;
            customer.pay(&purchase, "EVM").await.ok();
            world.device_is(&customer, &device, "Busy").await;
            other.start(&device).await.problem(409, "device_busy");
            charger.status(1, free).await;
            world.device_is(&customer, &device, "Idle").await;
        }
    }

    async fn a_refused_start_holds_no_place(world) {
        let devices = world.operator.charger("CP-2", 2).await;
        let customer = world.rich_customer(PHONE, 50_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
        let mut charger = world.raw("CP-2", Version::V16).await;
        charger.on("RemoteStopTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        let mut script = Script::load("places");
        script.play(&mut charger, "unknown card 16").await;
        assert_eq!(script.answer("u2").clone().ok()["idTagInfo"]["status"], "Invalid");
        charger.command("RemoteStopTransaction").await;
        world.device_is(&customer, &devices[0], "Idle").await;
        charger.status(1, "Available").await;
        refused_is_over(world, "CP-2", "unknown_tag").await;
        world.device_is(&customer, &devices[0], "Idle").await;

        // A second charge of one customer, at another place.
        let transaction = evm_tests::charge::begin_16(&customer, &mut charger, &devices[0], 0).await;
        script.play(&mut charger, "second card 16").await;
        assert_eq!(script.answer("u3").clone().ok()["idTagInfo"]["status"], "ConcurrentTx");
        world.device_is(&customer, &devices[1], "Idle").await;
        charger.status(2, "Available").await;
        refused_is_over(world, "CP-2", "concurrent_tx").await;
        charger.stop(transaction, 70).await;
        let purchase = customer.finish(&devices[0]).await;
        world.billed(&purchase, 70).await;
        assert_eq!(world.operator.all("/purchases").await.len(), 1);
    }

    async fn a_charge_told_while_its_customer_has_a_later_one_elsewhere_is_the_customers(world) {
        let device = world.operator.charger("CP-7", 1).await.remove(0);
        for (version, identity) in [(Version::V16, "CP-8"), (Version::V201, "CS-8")] {
            world.operator.charger(identity, 1).await;
            let phone = if version == Version::V16 { PHONE } else { OTHER };
            let customer = world.rich_customer(phone, 50_000).await;
            world.operator.send(reqwest::Method::PUT, &format!("/customers/{phone}/cards/04AABBCC"), Some(json!({}))).await.ok();
            let mut charging = world.raw("CP-7", Version::V16).await;
            let transaction = evm_tests::charge::begin_16(&customer, &mut charging, &device, 0).await;
            let mut offline = world.raw(identity, version).await;
            for (n, ended) in [3600, 0].into_iter().enumerate() {
                let mut script = Script::load("places");
                script.set("N", n);
                script.set("ENDED", at(Duration::from_secs(ended)));
                script.play(&mut offline, if version == Version::V16 { "offline charge 16" } else { "offline charge 201" }).await;
                let energy = |purchase: &Value| evm_tests::api::wh(&purchase["energy"]) == 1000;
                eventually("its bill", async || {
                    let bills = customer.purchases().await.into_iter().filter(energy).count();
                    (bills == n + 1).then_some(())
                })
                .await;
                offline.status(1, "Available").await;
            }
            // One of them ran beside the other.
            let mut marks: Vec<Value> = sessions_of(&world.operator, identity).await.iter().map(|one| one["review"].clone()).collect();
            marks.sort_by_key(|mark| mark.is_null());
            assert_eq!(marks, [json!("concurrent_tx"), Value::Null]);
            world.device_is(&customer, &device, "Busy").await;
            charging.stop(transaction, 70).await;
            let purchase = customer.finish(&device).await;
            world.billed(&purchase, 70).await;
            charging.status(1, "Available").await;
            charging.close().await;
            world.operator.send(reqwest::Method::DELETE, &format!("/customers/{phone}/cards/04AABBCC"), None).await;
        }
    }

    async fn two_charges_of_one_card_that_are_told_from_a_queue_are_its_owners(world) {
        for (version, identity, part, phone) in [
            (Version::V16, "CP-9", "two offline charges 16", PHONE),
            (Version::V201, "CS-9", "two offline charges 201", OTHER),
        ] {
            let customer = world.rich_customer(phone, 50_000).await;
            let card = format!("/customers/{phone}/cards/04AABBCC");
            world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
            world.operator.charger(identity, 2).await;
            let mut charger = world.raw(identity, version).await;
            Script::load("places").play(&mut charger, part).await;
            eventually("both bills", async || {
                let all = customer.purchases().await;
                let mut bills: Vec<i64> = all.iter().map(|purchase| evm_tests::api::wh(&purchase["energy"])).collect();
                bills.sort_unstable();
                (bills == [500, 1000]).then_some(())
            })
            .await;
            let sessions = sessions_of(&world.operator, identity).await;
            let marks = sessions.iter().filter(|session| session["review"] == "concurrent_tx").count();
            assert_eq!(marks, 1, "{sessions:?}");
            charger.close().await;
            world.operator.send(reqwest::Method::DELETE, &card, None).await;
        }
    }

    async fn two_stations_that_empty_their_queues_side_by_side_bill_each_charge_once(world) {
        for (version, identities, phone) in
            [(Version::V16, ["CP-10", "CP-11"], PHONE), (Version::V201, ["CS-10", "CS-11"], OTHER)]
        {
            let customer = world.rich_customer(phone, 50_000).await;
            let card = format!("/customers/{phone}/cards/04AABBCC");
            world.operator.send(reqwest::Method::PUT, &card, Some(json!({}))).await.ok();
            let mut stations = Vec::new();
            for (identity, [began, ended, stop]) in identities.into_iter().zip([[7200, 5000, 2000], [3600, 1800, 1500]]) {
                world.operator.charger(identity, 1).await;
                let mut script = Script::load("places");
                script.set("BEGAN", at(Duration::from_secs(began)));
                script.set("ENDED", at(Duration::from_secs(ended)));
                script.set("STOP", stop);
                stations.push((world.raw(identity, version).await, script));
            }
            let suffix = if version == Version::V16 { "16" } else { "201" };
            // The second charge is told to its end while the first one seems to go on.
            for (n, what) in [(0, "charged"), (1, "charged"), (1, "ended"), (0, "ended")] {
                let (charger, script) = &mut stations[n];
                script.play(charger, &format!("{what} at one {suffix}")).await;
            }
            eventually("both bills", async || {
                let all = customer.purchases().await;
                let mut bills: Vec<i64> = all.iter().map(|purchase| evm_tests::api::wh(&purchase["energy"])).collect();
                bills.sort_unstable();
                (bills == [500, 1000]).then_some(())
            })
            .await;
            for identity in identities {
                let sessions = sessions_of(&world.operator, identity).await;
                assert_eq!((sessions.len(), &sessions[0]["review"]), (1, &Value::Null), "{sessions:?}");
            }
            world.operator.send(reqwest::Method::DELETE, &card, None).await;
        }
    }

    async fn a_refused_card_cuts_no_charge(world) {
        let device = world.operator.charger("CP-3", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-3", Version::V16).await;
        let mut script = Script::load("places");
        asked_for(&mut script, &customer, &charger, &device).await;
        script.play(&mut charger, "runs 16").await;
        script.play(&mut charger, "unknown card 16").await;
        assert_eq!(script.answer("u2").clone().ok()["idTagInfo"]["status"], "Invalid");
        let transaction = script.answer("r1").clone().ok()["transactionId"].as_i64().unwrap();
        charger.meter(1, transaction, 2_500).await;
        world.device_is(&customer, &device, "Busy").await;
        charger.stop(transaction, 3_000).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 2_000).await;
        charger.status(1, "Available").await;
        refused_is_over(world, "CP-3", "unknown_tag").await;
    }

    async fn a_refused_start_holds_no_place_201(world) {
        let devices = world.operator.charger("CS-2", 2).await;
        let device = devices[0].clone();
        let customer = world.rich_customer(PHONE, 50_000).await;
        let card = format!("/customers/{PHONE}/cards/04AABBCC");
        world.operator.send(reqwest::Method::PUT, &card, None).await.ok();
        let mut charger = world.raw("CS-2", Version::V201).await;
        charger.on("RequestStopTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        let mut script = Script::load("places");
        script.play(&mut charger, "unknown card 201").await;
        assert_eq!(script.answer("v2").clone().ok()["idTokenInfo"]["status"], "Invalid");
        world.device_is(&customer, &device, "Idle").await;
        // Whoever was refused takes the app.
        customer.start(&device).await.ok();
        charger.remote_start().await;
        world.device_is(&customer, &device, "Busy").await;
        customer.finish(&device).await;
        script.play(&mut charger, "free 201").await;
        refused_is_over(world, "CS-2", "unknown_tag").await;
        world.device_is(&customer, &device, "Idle").await;

        // A second charge of one customer, at another place.
        script.play(&mut charger, "plugged in 201").await;
        asked_for(&mut script, &customer, &charger, &device).await;
        script.play(&mut charger, "runs 201").await;
        script.play(&mut charger, "second card 201").await;
        assert_eq!(script.answer("v3").clone().ok()["idTokenInfo"]["status"], "ConcurrentTx");
        world.device_is(&customer, &devices[1], "Idle").await;
        script.play(&mut charger, "second place free 201").await;
        refused_is_over(world, "CS-2", "concurrent_tx").await;
        world.device_is(&customer, &devices[1], "Idle").await;
        for part in ["goes on 201", "ends 201"] {
            script.play(&mut charger, part).await;
        }
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 1_150).await;
        assert_eq!(world.operator.all("/purchases").await.len(), 1);
    }

    async fn connector_0_says_nothing_of_the_others(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V16).await;
        let mut script = Script::load("places");
        for part in ["less power 16", "station unavailable 16"] {
            script.play(&mut charger, part).await;
            world.device_is(&customer, &device, "Idle").await;
        }
        customer.start(&device).await.ok();
        charger.remote_start().await;
        customer.finish(&device).await;
        // Unless we took the station out of service.
        let change = |wanted: &str| json!({ "connectorId": 0, "type": wanted });
        world.operator.command("CP-4", "ChangeAvailability", change("Inoperative")).await.ok();
        script.play(&mut charger, "station unavailable 16").await;
        world.device_is(&customer, &device, "Repair").await;
        customer.start(&device).await.problem(409, "device_out_of_service");
        world.operator.command("CP-4", "ChangeAvailability", change("Operative")).await.ok();
        world.device_is(&customer, &device, "Idle").await;
        script.play(&mut charger, "station available 16").await;
        world.device_is(&customer, &device, "Idle").await;
    }

    async fn an_evse_of_two_connectors_is_as_the_one_in_use(world) {
        let device = world.operator.charger("CS-7", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CS-7", Version::V201).await;
        let mut script = Script::load("places");
        for part in ["plugged in 201", "another connector out 201"] {
            script.play(&mut charger, part).await;
            world.device_is(&customer, &device, "Idle").await;
        }
        asked_for(&mut script, &customer, &charger, &device).await;
        script.play(&mut charger, "charged 201").await;
        customer.finish(&device).await;
        // The charged car is still there.
        script.play(&mut charger, "another connector free 201").await;
        world.device_is(&customer, &device, "Busy").await;
        other.start(&device).await.problem(409, "device_busy");
        script.play(&mut charger, "free 201").await;
        world.device_is(&customer, &device, "Idle").await;
        // Both out: so is the place. One of them free: so is it.
        script.play(&mut charger, "inoperative 201").await;
        world.device_is(&customer, &device, "Idle").await;
        script.play(&mut charger, "another connector out 201").await;
        world.device_is(&customer, &device, "Repair").await;
        script.play(&mut charger, "another connector taken 201").await;
        world.device_is(&customer, &device, "Idle").await;
    }

    async fn evse_0_says_nothing_of_the_others(world) {
        let device = world.operator.charger("CS-6", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-6", Version::V201).await;
        let mut script = Script::load("places");
        for part in ["less power 201", "free 201", "less power 201"] {
            script.play(&mut charger, part).await;
            world.device_is(&customer, &device, "Idle").await;
        }
        customer.start(&device).await.ok();
        charger.remote_start().await;
        customer.finish(&device).await;
    }

    async fn the_newest_word_about_an_evse_counts(world) {
        let devices = world.operator.charger("CS-3", 2).await;
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CS-3", Version::V201).await;
        let mut script = Script::load("places");
        let change = json!({ "operationalStatus": "Inoperative" });
        world.operator.command("CS-3", "ChangeAvailability", change).await.ok();
        for round in 0..2 {
            script.play(&mut charger, "inoperative 201").await;
            for device in &devices {
                world.device_is(&customer, device, "Repair").await;
            }
            if round == 0 {
                script.play(&mut charger, "operative 201").await;
            } else {
                // A boot forgets what it does not repeat.
                script.play(&mut charger, "rebooted 201").await;
            }
            for device in &devices {
                world.device_is(&customer, device, "Idle").await;
            }
        }
        script.play(&mut charger, "free 201").await;
        let connectors = world.operator.get("/chargers/CS-3").await.ok()["connectors"].clone();
        assert_eq!(connectors.as_array().unwrap().len(), 1, "{connectors}");
    }
}
