//! Who may begin a charge: cards and their owners' credit, stations where nobody needs one, guesses, starts without a car.
#![allow(clippy::unwrap_used)]

use evm_tests::api::{decimal, wh};
use evm_tests::charge::{begin_16, session_is, sessions_of};
use evm_tests::charger::{Policy, now};
use evm_tests::script::Script;
use evm_tests::{Customer, Engine, RawCharger, Version, World, on_both_engines, on_each_engine};
use reqwest::Method;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

async fn card(world: &World, phone: &str, tag: &str, blocked: bool) {
    let path = format!("/customers/{phone}/cards/{tag}");
    world.operator.send(Method::PUT, &path, Some(json!({ "blocked": blocked }))).await.ok();
}

/// What the answer to a played frame says of its tag.
fn said(script: &Script, id: &str) -> Value {
    let answer = script.answer(id).clone().ok();
    let info = if answer["idTagInfo"].is_object() { &answer["idTagInfo"] } else { &answer["idTokenInfo"] };
    info["status"].clone()
}

/// Registers a charger with one device where everybody charges for free, or nobody.
async fn free(world: &World, identity: &str, free: bool) -> String {
    let device = json!({
        "deviceNumber": identity, "connector": 1, "location": [106.9, 47.9], "price": 1000, "waitingPrice": 50,
    });
    let body = json!({ "freeCharging": free, "devices": [device] });
    let registered = world.operator.send(Method::PUT, &format!("/chargers/{identity}"), Some(body)).await.ok();
    registered["devices"][0]["_id"].as_str().unwrap().to_owned()
}

async fn a_card_asks(script: &mut Script, charger: &mut RawCharger) -> Value {
    let (part, id) = match charger.version {
        Version::V16 => ("card asks 16", "a1"),
        Version::V201 => ("card asks 201", "b1"),
    };
    script.play(charger, part).await;
    said(script, id)
}

on_both_engines! {
    async fn nobody_charges_for_free_unless_the_operator_says_so(world) {
        let mut customer = None;
        for (version, identity, [asks, starts, ends], [asked, started], stop) in [
            (Version::V201, "CS-1", ["nobody asks 201", "nobody starts 201", "nobody ends 201"], ["n1", "n2"], "RequestStopTransaction"),
            (Version::V16, "CP-1", ["nobody asks 16", "nobody starts 16", "nobody ends 16"], ["m1", "m2"], "RemoteStopTransaction"),
        ] {
            let device = free(world, identity, false).await;
            let mut charger = world.raw(identity, version).await;
            let mut script = Script::load("who_may_charge");
            script.play(&mut charger, asks).await;
            assert_eq!(said(&script, asked), "Invalid");
            script.play(&mut charger, starts).await;
            assert_eq!(said(&script, started), "Invalid");
            charger.command(stop).await;
            script.play(&mut charger, ends).await;
            let session = session_is(&world.operator, identity, "finished").await;
            assert_eq!((&session["review"], &session["customerId"]), (&json!("unknown_tag"), &Value::Null), "{session}");

            assert_eq!(free(world, identity, true).await, device);
            assert_eq!(world.operator.get(&format!("/chargers/{identity}")).await.ok()["freeCharging"], true);
            let identity = format!("{identity}-free");
            let device = free(world, &identity, true).await;
            let mut charger = world.raw(&identity, version).await;
            let mut script = Script::load("who_may_charge");
            script.play(&mut charger, asks).await;
            assert_eq!(said(&script, asked), "Accepted");
            script.play(&mut charger, starts).await;
            assert_eq!(said(&script, started), "Accepted");
            if customer.is_none() {
                customer = Some(world.customer(PHONE).await);
            }
            world.device_is(customer.as_ref().unwrap(), &device, "Busy").await;
            script.play(&mut charger, ends).await;
            let session = session_is(&world.operator, &identity, "finished").await;
            assert_eq!((&session["review"], &session["customerId"]), (&Value::Null, &Value::Null), "{session}");
            assert_eq!(decimal(&session["energy"]), "0.64".parse().unwrap(), "{session}");
            assert!(charger.waiting().iter().all(|asked| asked.action != stop));
        }
        assert!(world.operator.all("/purchases").await.is_empty());
    }

    async fn a_token_without_a_text_is_answered_as_one(world) {
        world.operator.charger("CS-2", 1).await;
        let mut charger = world.raw("CS-2", Version::V201).await;
        let mut script = Script::load("who_may_charge");
        script.play(&mut charger, "an empty token 201").await;
        assert_eq!(said(&script, "c1"), "Invalid");
    }

    async fn a_card_needs_what_the_app_needs(world) {
        let devices = [world.operator.charger("CP-2", 1).await.remove(0), world.operator.charger("CS-3", 1).await.remove(0)];
        let customer = world.rich_customer(PHONE, 50_000).await;
        card(world, PHONE, "04AABBCC", false).await;
        let mut chargers = [world.raw("CP-2", Version::V16).await, world.raw("CS-3", Version::V201).await];
        let mut script = Script::load("who_may_charge");
        // A charge that is not paid.
        let transaction = begin_16(&customer, &mut chargers[0], &devices[0], 0).await;
        assert_eq!(a_card_asks(&mut script, &mut chargers[0]).await, "Accepted", "it may be shown to end the charge");
        chargers[0].stop(transaction, 300).await;
        let unpaid = customer.finish(&devices[0]).await;
        world.billed(&unpaid, 300).await;
        customer.start(&devices[1]).await.problem(409, "unpaid_purchase");
        for (charger, word) in chargers.iter_mut().zip(["Blocked", "NoCredit"]) {
            assert_eq!(a_card_asks(&mut script, charger).await, word);
        }
        // What was begun offline is billed all the same.
        script.play(&mut chargers[0], "card starts 16").await;
        assert_eq!(said(&script, "a2"), "Blocked");
        script.play(&mut chargers[1], "card starts 201").await;
        assert_eq!(said(&script, "b2"), "NoCredit");
        for (identity, wh) in [("CP-2", 500), ("CS-3", 700)] {
            let session = sessions_of(&world.operator, identity).await.remove(0);
            assert_eq!((&session["status"], &session["review"]), (&json!("finished"), &json!("no_credit")), "{session}");
            let purchase = session["purchaseId"].as_str().unwrap();
            world.billed(purchase, wh).await;
            customer.pay(purchase, "EVM").await.ok();
        }
        customer.pay(&unpaid, "EVM").await.ok();
        for charger in &mut chargers {
            assert_eq!(a_card_asks(&mut script, charger).await, "Accepted");
        }
    }

    async fn a_blocked_card_is_told_so(world) {
        world.operator.charger("CP-3", 1).await;
        world.operator.charger("CS-4", 1).await;
        world.customer(PHONE).await;
        card(world, PHONE, "04AABBCC", true).await;
        let mut script = Script::load("who_may_charge");
        let mut charger = world.raw("CS-4", Version::V201).await;
        assert_eq!(a_card_asks(&mut script, &mut charger).await, "Blocked");
        let mut charger = world.raw("CP-3", Version::V16).await;
        assert_eq!(a_card_asks(&mut script, &mut charger).await, "Blocked");
        script.play(&mut charger, "card starts 16").await;
        assert_eq!(said(&script, "a2"), "Blocked");
        let session = session_is(&world.operator, "CP-3", "finished").await;
        assert_eq!((&session["review"], &session["customerId"]), (&json!("blocked_tag"), &Value::Null), "{session}");
        assert!(world.operator.all("/purchases").await.is_empty());
    }
}

async fn the_least_balance_and_the_debt_hold_for_cards(engine: Engine) {
    let settings = [("EVM_START_WITH_UNPAID", "true"), ("EVM_LEAST_BALANCE", "1000"), ("EVM_MOST_DEBT", "600")];
    let mut world = World::start_on(engine, None, &settings).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.customer(PHONE).await;
    card(&world, PHONE, "04AABBCC", false).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let mut script = Script::load("who_may_charge");
    customer.start(&device).await.problem(409, "balance_too_low");
    assert_eq!(a_card_asks(&mut script, &mut charger).await, "Blocked");
    // A station that starts all the same is asked to stop, and holds nothing.
    let transaction = charger.start(1, "04AABBCC", 0).await;
    assert_eq!(charger.command("RemoteStopTransaction").await["transactionId"], transaction);
    world.device_is(&customer, &device, "Idle").await;
    charger.stop(transaction, 5).await;
    let session = session_is(&world.operator, "CP-1", "finished").await;
    world.billed(session["purchaseId"].as_str().unwrap(), 5).await;

    world.operator.credit(PHONE, 1_000).await;
    assert_eq!(a_card_asks(&mut script, &mut charger).await, "Accepted");
    script.play(&mut charger, "card starts 16").await;
    assert_eq!(said(&script, "a2"), "Accepted");
    assert_eq!(a_card_asks(&mut script, &mut charger).await, "Accepted", "505 are owed");
    let transaction = charger.start(1, "04AABBCC", 0).await;
    charger.stop(transaction, 200).await;
    assert_eq!(a_card_asks(&mut script, &mut charger).await, "Blocked", "705 are owed");
    world.finish().await;
}

async fn guessed_cards_are_slowed_down_told_of_and_for_review(engine: Engine) {
    let mut world = World::start_on(engine, None, &[]).await;
    let device = world.operator.charger("CP-1", 1).await.remove(0);
    let customer = world.rich_customer(PHONE, 50_000).await;
    card(&world, PHONE, "04AABBCC", false).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    for n in 0..60 {
        let answer = charger.call("Authorize", json!({ "idTag": format!("04{n:06X}") })).await.ok();
        assert_eq!(answer["idTagInfo"]["status"], "Invalid");
    }
    let kept = world.operator.get("/chargers/CP-1/messages?limit=200").await.ok();
    let asked = kept.as_array().unwrap().iter().filter(|message| message["action"] == "Authorize").count();
    assert!((20..=25).contains(&asked), "{asked} guesses are kept one by one");
    assert!(world.program.log().contains("card numbers are guessed at this charger"));
    for review in [json!("guessed_card"), Value::Null] {
        let answer = charger.call("Authorize", json!({ "idTag": "04AABBCC" })).await.ok();
        assert_eq!(answer["idTagInfo"]["status"], "Accepted");
        let transaction = charger.start(1, "04AABBCC", 0).await;
        charger.stop(transaction, 40).await;
        let session = session_is(&world.operator, "CP-1", "finished").await;
        assert_eq!(session["review"], review, "{session}");
        let purchase = session["purchaseId"].as_str().unwrap().to_owned();
        world.billed(&purchase, 40).await;
        customer.pay(&purchase, "EVM").await.ok();
        charger.status(1, "Available").await;
    }
    // The app's tags are as good as ever.
    let transaction = begin_16(&customer, &mut charger, &device, 0).await;
    charger.stop(transaction, 10).await;
    let purchase = customer.finish(&device).await;
    world.billed(&purchase, 10).await;
    world.finish().await;
}

/// What flows there is the other's, who charges on.
async fn a_start_without_credit_beside_a_charge_bills_nobody(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_LEAST_BALANCE", "1000")]).await;
    world.operator.charger("CP-1", 1).await;
    let customer = world.rich_customer(PHONE, 50_000).await;
    let poor = world.customer(OTHER).await;
    card(&world, PHONE, "04AABBCC", false).await;
    card(&world, OTHER, "04DDEEFF", false).await;
    let mut charger = world.raw("CP-1", Version::V16).await;
    let runs = charger.start(1, "04AABBCC", 1_000).await;
    charger.meter(1, runs, 2_000).await;
    let start = json!({ "connectorId": 1, "idTag": "04DDEEFF", "meterStart": 2_000, "timestamp": now() });
    let answer = charger.call("StartTransaction", start).await.ok();
    assert_eq!(answer["idTagInfo"]["status"], "Blocked", "{answer}");
    let refused = answer["transactionId"].as_i64().unwrap();
    charger.meter(1, runs, 2_500).await;
    charger.stop(runs, 3_000).await;
    charger.stop(refused, 3_000).await;
    let purchases = evm_tests::eventually("the purchase", async || {
        let all = customer.purchases().await;
        all.first().is_some_and(|one| wh(&one["energy"]) >= 2_000).then_some(all)
    })
    .await;
    assert_eq!(wh(&purchases[0]["energy"]), 2_000, "{purchases:?}");
    assert!(poor.purchases().await.is_empty());
    world.finish().await;
}

/// A start that is refused and takes nothing is no purchase of 0; what the station tells of it later is billed all the same.
async fn a_refused_start_that_takes_nothing_is_no_purchase(engine: Engine) {
    let mut world = World::start_on(engine, None, &[("EVM_LEAST_BALANCE", "1000")]).await;
    let poor = world.customer(PHONE).await;
    card(&world, PHONE, "04AABBCC", false).await;
    let mut billed = Vec::new();
    for (identity, version, word, name) in
        [("CP-6", Version::V16, "Blocked", "16"), ("CS-6", Version::V201, "NoCredit", "201")]
    {
        let device = world.operator.charger_priced(identity, 1, 1000, 50).await.remove(0);
        let mut charger = world.raw(identity, version).await;
        let mut script = Script::load("who_may_charge");
        script.play(&mut charger, &format!("refused, takes nothing {name}")).await;
        assert_eq!(said(&script, if name == "16" { "r1" } else { "s1" }), word);
        let session = session_is(&world.operator, identity, "finished").await;
        assert_eq!(session["review"], "no_credit", "{session}");
        let never = session["purchaseId"].as_str().unwrap();
        poor.pay(never, "EVM").await.problem(409, "already_paid");
        poor.post(&format!("/devices/{device}/finish"), None).await.problem(404, "not_charging");
        nothing_more_is_listed(&world, &poor, &billed).await;

        script.play(&mut charger, &format!("refused, no end told {name}")).await;
        let sessions = || async { sessions_of(&world.operator, identity).await };
        let session = evm_tests::eventually("the end of the refused start", async || {
            let newest = sessions().await.remove(0);
            (newest["purchaseId"] != never && newest["status"] == "finished").then_some(newest)
        })
        .await;
        nothing_more_is_listed(&world, &poor, &billed).await;
        for _ in 0..2 {
            script.play(&mut charger, &format!("refused, end told late {name}")).await;
        }
        let purchase = session["purchaseId"].as_str().unwrap().to_owned();
        world.billed(&purchase, 300).await;
        world.device_is(&poor, &device, "Idle").await;
        // Refused once more, the charge of before is what was finished last.
        script.play(&mut charger, &format!("refused, takes nothing again {name}")).await;
        assert_eq!(poor.finish(&device).await, purchase);
        billed.push(purchase);
        nothing_more_is_listed(&world, &poor, &billed).await;
    }
    world.finish().await;
}

/// In no list there is more than these purchases, of 300 MNT each and one entry each.
async fn nothing_more_is_listed(world: &World, customer: &Customer, purchases: &[String]) {
    let count = purchases.len();
    for listed in [customer.purchases().await, world.operator.all("/purchases").await] {
        assert_eq!(listed.len(), count, "{listed:?}");
        assert!(listed.iter().all(|one| decimal(&one["amount"]) == 300.into()), "{listed:?}");
    }
    let statement = customer.get("/customer/statement").await.ok();
    let items = statement["items"].as_array().unwrap();
    assert!(items.len() == count && items.iter().all(|item| decimal(&item["amount"]) == 300.into()), "{statement}");
    assert_eq!(world.operator.all("/ledger").await.len(), count);
}

/// Starts and gives up at once; gives the id that the finish answered.
async fn start_and_finish(customer: &Customer, charger: &RawCharger, device: &str) -> String {
    customer.start(device).await.ok();
    charger.remote_start().await;
    customer.finish(device).await
}

on_both_engines! {
    async fn a_start_without_a_car_is_no_purchase_and_waits_the_second_time(world) {
        let device = world.operator.charger("CP-4", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CP-4", Version::V16).await;
        let never = start_and_finish(&customer, &charger, &device).await;
        assert_eq!(customer.finish(&device).await, never, "finish is idempotent");
        assert!(customer.purchases().await.is_empty());
        customer.pay(&never, "EVM").await.problem(409, "already_paid");
        let status = customer.post(&format!("/purchases/{never}/status"), Some(json!({ "invoiceId": never }))).await.ok();
        assert_eq!((&status["status"], decimal(&status["amount"])), (&json!("success"), 0.into()));
        other.post(&format!("/purchases/{never}/status"), Some(json!({ "invoiceId": never }))).await.problem(404, "not_found");

        customer.start(&device).await.problem(429, "plug_in_first");
        // Everybody else gets the device meanwhile, and who has plugged in.
        start_and_finish(&other, &charger, &device).await;
        customer.start(&device).await.problem(429, "plug_in_first");
        charger.status(1, "Preparing").await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        charger.stop(transaction, 60).await;
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 60).await;
        customer.pay(&purchase, "EVM").await.ok();
        charger.status(1, "Available").await;
        start_and_finish(&customer, &charger, &device).await;
        assert_eq!(customer.purchases().await.len(), 1);
    }

    async fn a_start_that_the_charger_refused_waits_for_nothing(world) {
        let device = world.operator.charger("CP-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let charger = world.raw("CP-5", Version::V16).await;
        charger.on("RemoteStartTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        for _ in 0..3 {
            customer.start(&device).await.problem(409, "start_refused");
        }
    }

    async fn a_finish_before_the_unplugging_has_its_purchase(world) {
        let device = world.operator.charger("CS-5", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CS-5", Version::V201).await;
        let mut script = Script::load("who_may_charge");
        customer.start(&device).await.ok();
        let (tag, remote) = charger.remote_start().await;
        script.set("TAG", tag);
        script.set("REMOTE", remote);
        script.play(&mut charger, "stays plugged in 201").await;
        assert!(customer.purchases().await.is_empty());
        let purchase = customer.finish(&device).await;
        // It has stopped, and says no to another stop.
        charger.on("RequestStopTransaction", Policy::Answer(json!({ "status": "Rejected" })));
        assert_eq!(customer.finish(&device).await, purchase);
        let listed = customer.purchase(&purchase).await;
        assert_eq!((&listed["status"], decimal(&listed["amount"])), (&json!("pending"), 400.into()), "{listed}");
        let page = customer.get("/purchases?page=2&page-size=1").await.ok();
        assert_eq!((&page["total"], page["items"].as_array().unwrap().len()), (&json!(1), 0), "{page}");
        for option in ["EVM", "QPAY"] {
            let code = if option == "EVM" { (409, "charge_running") } else { (422, "payment_option_disabled") };
            customer.pay(&purchase, option).await.problem(code.0, code.1);
        }
        let asked = json!({ "invoiceId": purchase });
        let path = format!("/purchases/{purchase}/status");
        let status = customer.post(&path, Some(asked.clone())).await.ok();
        assert_eq!(status["status"], "pending", "{status}");
        other.post(&path, Some(asked)).await.problem(404, "not_found");
        world.device_is(&customer, &device, "Busy").await;
        script.play(&mut charger, "unplugs 201").await;
        session_is(&world.operator, "CS-5", "finished").await;
        world.billed(&purchase, 450).await;
        customer.pay(&purchase, "EVM").await.ok();
        assert_eq!(customer.purchases().await.len(), 1);
        assert_eq!(sessions_of(&world.operator, "CS-5").await.len(), 1);
    }
}

/// Where everybody charges for free, a transaction that was given up meanwhile is no case for review either.
async fn what_nobody_began_is_free_however_late_it_is_told(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_LOST_CHARGE_S", "1")]).await;
    for (identity, is_free, review) in [("CS-6", true, Value::Null), ("CS-7", false, json!("unknown_tag"))] {
        free(&world, identity, is_free).await;
        let mut charger = world.raw(identity, Version::V201).await;
        let mut script = Script::load("who_may_charge");
        script.play(&mut charger, "plugged in 201").await;
        session_is(&world.operator, identity, "finished").await;
        script.play(&mut charger, "charged for nobody after all 201").await;
        let sessions = sessions_of(&world.operator, identity).await;
        assert_eq!((sessions.len(), &sessions[0]["review"]), (1, &review), "{sessions:?}");
    }
    world.finish().await;
}

on_each_engine!(
    the_least_balance_and_the_debt_hold_for_cards,
    guessed_cards_are_slowed_down_told_of_and_for_review,
    a_start_without_credit_beside_a_charge_bills_nobody,
    a_refused_start_that_takes_nothing_is_no_purchase,
    what_nobody_began_is_free_however_late_it_is_told,
);
