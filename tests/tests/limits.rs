//! Limits: of requests a second by this node, and of codes by all nodes together.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use evm_store::codes::{self, Requester, Standing, Tries};
use evm_store::limits::{self, Limit};
use evm_store::{Db, Store};
use evm_tests::engine::Backend;
use evm_tests::{Customer, Engine, World, eventually, on_each_engine};
use reqwest::Method;
use serde_json::json;

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";
const MINUTE: i64 = 60_000;

/// A migrated store without the program.
async fn store(engine: Engine, dir: &tempfile::TempDir) -> (Store, Backend) {
    let backend = Backend::start(engine, None).await;
    let url = match &backend.database {
        Some(database) => database.url.clone(),
        None => format!("sqlite://{}", dir.path().join("evm.db").display()),
    };
    let store = Store::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    (store, backend)
}

/// Counts one at this time (milliseconds) where it is allowed; else gives how long to wait.
async fn take(store: &Store, limits: &[Limit<'_>], at: i64) -> Option<i64> {
    let mut db = store.begin().await.unwrap();
    let wait = limits::take(&mut db, limits, evm_domain::Timestamp(at)).await.unwrap();
    if wait.is_none() {
        db.commit().await.unwrap();
    }
    wait
}

async fn windows_move_along_and_waits_are_exact(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _backend) = store(engine, &dir).await;
    let limit = |most, window_ms| Limit { key: "phone", most, window_ms };
    let phone = [limit(1, MINUTE), limit(3, 15 * MINUTE), limit(8, 24 * 60 * MINUTE)];
    let start = 1_700_000_000_000;
    assert_eq!(take(&store, &phone, start).await, None);
    assert_eq!(take(&store, &phone, start + 1).await, Some(MINUTE - 1));
    assert_eq!(take(&store, &phone, start + MINUTE - 1).await, Some(1));
    assert_eq!(take(&store, &phone, start + MINUTE).await, None, "what was refused is not counted");
    assert_eq!(take(&store, &phone, start + 2 * MINUTE).await, None);
    assert_eq!(take(&store, &phone, start + 3 * MINUTE).await, Some(12 * MINUTE), "three in a quarter of an hour");
    assert_eq!(take(&store, &phone, start + 15 * MINUTE).await, None, "the first has left");
    assert_eq!(take(&store, &phone, start + 15 * MINUTE + 59_000).await, Some(1_000));
    assert_eq!(take(&store, &phone, start + 16 * MINUTE).await, None, "and the second, not all at once");
    for number in 0..3 {
        assert_eq!(take(&store, &phone, start + (60 + 20 * number) * MINUTE).await, None);
    }
    assert_eq!(take(&store, &phone, start + 5 * 60 * MINUTE).await, Some(19 * 60 * MINUTE), "eight a day");
    let day = start + 24 * 60 * MINUTE;
    assert_eq!(take(&store, &phone, day).await, None);

    // Where one of several keys is full, none is counted.
    let two = [Limit { key: "address", most: 2, window_ms: MINUTE }, phone[0]];
    assert_eq!(take(&store, &two, day + 1).await, Some(MINUTE - 1));
    let address = [Limit { key: "address", most: 1, window_ms: MINUTE }];
    assert_eq!(take(&store, &address, day + 1).await, None);
    assert_eq!(take(&store, &[Limit { key: "closed", most: 0, window_ms: 7 }], day).await, Some(7));

    // What is forgotten is what no limit looks at.
    let mut db = store.begin().await.unwrap();
    limits::forget(&mut db, evm_domain::Timestamp(day + 16 * MINUTE)).await.unwrap();
    db.commit().await.unwrap();
    for minutes in [16, 32, 48, 58] {
        assert_eq!(take(&store, &phone, day + minutes * MINUTE).await, None);
    }
    assert_eq!(take(&store, &phone, day + 59 * MINUTE).await, Some(MINUTE), "eight a day still");
    store.close().await;
}

async fn many_at_once_get_no_more_than_one_after_the_other(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _backend) = store(engine, &dir).await;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let all = Limit { key: "all", most: 7, window_ms: MINUTE };
                let own = format!("address-{}", number % 3);
                let own = Limit { key: &own, most: 3, window_ms: MINUTE };
                take(&store, &[own, all], 1_700_000_000_000 + number).await.is_none()
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += usize::from(task.await.unwrap());
    }
    assert_eq!(taken, 7);
    store.close().await;
}

const TRIES: Tries = Tries { own: 5, others: 3 };

fn who(name: &str, known: bool) -> Requester {
    Requester { who: name.into(), known }
}

async fn codes_are_the_newest_short_lived_and_used_up(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _backend) = store(engine, &dir).await;
    let at = |ms| evm_domain::Timestamp(1_700_000_000_000 + ms);
    let phone = who("phone", false);
    let mut db = store.begin().await.unwrap();
    let put = async |db: &mut Db, code: &str, ms| {
        codes::put(db, PHONE, &phone, code, at(ms), 5 * MINUTE).await.unwrap();
    };
    let used =
        async |db: &mut Db, of: &str, code: &str, ms| codes::use_up(db, of, code, &phone, TRIES, at(ms)).await.unwrap();
    put(&mut db, "old", 0).await;
    put(&mut db, "new", MINUTE).await;
    assert!(!used(&mut db, PHONE, "old", MINUTE).await, "only the newest");
    assert!(!used(&mut db, PHONE, "new", 6 * MINUTE).await, "5 minutes");
    assert!(!used(&mut db, OTHER, "new", MINUTE).await, "another phone");
    assert!(used(&mut db, PHONE, "new", 6 * MINUTE - 1).await);
    assert!(!used(&mut db, PHONE, "new", MINUTE).await, "once");
    put(&mut db, "right", 0).await;
    for _ in 0..5 {
        assert!(!used(&mut db, PHONE, "wrong", 1).await);
    }
    assert!(!used(&mut db, PHONE, "right", 1).await, "dead for who guessed");
    db.commit().await.unwrap();
    store.close().await;
}

async fn a_code_is_dead_for_who_guessed_and_for_nobody_else(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _backend) = store(engine, &dir).await;
    let at = evm_domain::Timestamp(1_700_000_000_000);
    let (asker, home, stranger, another) =
        (who("asker", false), who("home", true), who("stranger", false), who("another", false));
    let mut db = store.begin().await.unwrap();
    codes::put(&mut db, PHONE, &asker, "right", at, 5 * MINUTE).await.unwrap();
    let tries =
        async |db: &mut Db, requester: &Requester| codes::standing(db, PHONE, requester, TRIES, at).await.unwrap();
    let guess = async |db: &mut Db, code: &str, requester: &Requester| {
        codes::use_up(db, PHONE, code, requester, TRIES, at).await.unwrap()
    };
    // Strangers have three tries together, wherever they come from.
    for requester in [&stranger, &another, &stranger] {
        assert!(!guess(&mut db, "wrong", requester).await);
    }
    for requester in [&stranger, &another, &who("a third", false)] {
        assert!(!guess(&mut db, "right", requester).await, "used up by strangers");
        assert_eq!(tries(&mut db, requester).await, Standing { guessable: false, own: false });
    }
    // A code that a stranger asks for lies beside the other.
    codes::put(&mut db, PHONE, &stranger, "theirs", at, 5 * MINUTE).await.unwrap();
    for requester in [&asker, &home] {
        assert_eq!(tries(&mut db, requester).await, Standing { guessable: true, own: true });
        for _ in 0..3 {
            assert!(!guess(&mut db, "wrong", requester).await);
        }
    }
    assert!(guess(&mut db, "right", &asker).await);
    assert!(!guess(&mut db, "right", &home).await, "once");
    // Who asks from one place and shows it from another is no worse than a stranger.
    assert!(guess(&mut db, "theirs", &home).await, "any code of the phone is good where it is known");
    db.commit().await.unwrap();

    // The newest networks are known.
    let mut db = store.begin().await.unwrap();
    for number in 0..17 {
        codes::remember(&mut db, PHONE, &format!("n{number}"), at.plus_millis(number)).await.unwrap();
    }
    for (network, known) in [("n0", false), ("n1", true), ("n16", true), ("n17", false)] {
        assert_eq!(codes::is_known(&mut db, PHONE, network).await.unwrap(), known, "{network}");
        assert!(!codes::is_known(&mut db, OTHER, network).await.unwrap());
    }
    codes::forget(&mut db, at, at.plus_millis(16)).await.unwrap();
    assert!(!codes::is_known(&mut db, PHONE, "n15").await.unwrap());
    assert!(codes::is_known(&mut db, PHONE, "n16").await.unwrap());
    db.commit().await.unwrap();
    store.close().await;
}

/// What was counted before a clock was set back holds nobody up longer than the limit itself.
async fn a_clock_that_was_set_back_makes_nobody_wait_an_hour(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _backend) = store(engine, &dir).await;
    let once = [Limit { key: "phone", most: 1, window_ms: MINUTE }];
    let start = 1_700_000_000_000;
    assert_eq!(take(&store, &once, start + 60 * MINUTE).await, None);
    assert_eq!(take(&store, &once, start).await, None);
    assert_eq!(take(&store, &once, start + 1).await, Some(MINUTE - 1));
    // The clocks of two nodes may differ a little.
    assert_eq!(take(&store, &once, start - 1_000).await, Some(MINUTE));
    store.close().await;
}

async fn status_and_wait(customer: &Customer, path: &str) -> (u16, Option<u64>) {
    let url = format!("{}{path}", customer.base);
    let response = customer.http.get(&url).bearer_auth(&customer.token).send().await.unwrap();
    let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), wait)
}

/// Calls until it is refused; gives how many calls were not, and how long to wait.
async fn until_refused(customer: &Customer, path: &str) -> (u32, u64) {
    for number in 0..1_000 {
        if let (429, wait) = status_and_wait(customer, path).await {
            return (number, wait.unwrap());
        }
    }
    panic!("never refused");
}

async fn an_address_has_a_rate(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_RATE_PER_ADDRESS", "5")]).await;
    // Two calls of a login cost 20 together, which is the whole burst.
    let customer = world.customer(PHONE).await;
    let began = Instant::now();
    let (calls, wait) = until_refused(&customer, "/api/v1/payment-options").await;
    let most = 1 + 5 * (began.elapsed().as_secs() + 3);
    assert!(u64::from(calls) <= most && wait == 1, "{calls} {wait}");
    let url = format!("{}/api/v1/user/otp-check", customer.base);
    let body = Some(json!({ "phone": PHONE, "code": "0000" }));
    eventually("a login to be refused", async || {
        let answer = evm_tests::api::request(&world.http, Method::POST, &url, None, body.clone()).await?;
        (answer.status == 429).then(|| answer.problem(429, "too_many_requests"))
    })
    .await;
    // Every route is counted, whether it exists or not, but those of load balancers.
    until_refused(&customer, "/nowhere").await;
    until_refused(&customer, "/admin/v1/chargers").await;
    for _ in 0..30 {
        assert_eq!(status_and_wait(&customer, "/livez").await.0, 200);
    }
    // Whoever waits as told is let in.
    let (_, wait) = until_refused(&customer, "/api/v1/payment-options").await;
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(status_and_wait(&customer, "/api/v1/payment-options").await.0, 200);
    // The audit makes more calls than that.
    let World { mut program, .. } = world;
    program.stop().await;
}

async fn a_customer_has_a_rate_and_another_one_their_own(engine: Engine) {
    let world = World::start_on(engine, None, &[("EVM_RATE_PER_CUSTOMER", "2")]).await;
    let (customer, tablet) = (world.customer(PHONE).await, world.customer(PHONE).await);
    let other = world.customer(OTHER).await;
    let (calls, wait) = until_refused(&customer, "/api/v1/payment-options").await;
    assert!((8..100).contains(&calls) && wait == 1, "{calls} {wait}");
    // A login of its own would have a burst of eight.
    let (calls, _) = until_refused(&tablet, "/api/v1/purchases").await;
    assert!(calls < 8, "the customer, not the login: {calls}");
    assert_eq!(status_and_wait(&other, "/api/v1/payment-options").await.0, 200);
    world.finish().await;
}

on_each_engine! {
    windows_move_along_and_waits_are_exact,
    many_at_once_get_no_more_than_one_after_the_other,
    codes_are_the_newest_short_lived_and_used_up,
    a_code_is_dead_for_who_guessed_and_for_nobody_else,
    a_clock_that_was_set_back_makes_nobody_wait_an_hour,
    an_address_has_a_rate,
    a_customer_has_a_rate_and_another_one_their_own,
}
