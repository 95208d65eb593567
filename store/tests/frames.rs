//! The messages that are kept: found by charger, page by page, and forgotten when they are old; on both engines.
#![allow(clippy::unwrap_used)]

mod common;

use evm_domain::{ChargerId, Id, Timestamp};
use evm_store::frames::{self, Frame, NewFrame};
use evm_store::{Db, Store, now};

common::on_both!(
    a_chargers_frames_are_found_page_by_page,
    old_frames_go,
    a_clock_that_jumps_leaves_no_day_out,
    a_day_is_made_once
);

const DAY_MS: i64 = 24 * 3_600_000;

fn charger(n: u32) -> ChargerId {
    ChargerId(Id::from_parts(n, [0; 8]))
}

fn frame(charger: ChargerId, n: usize, at: Timestamp) -> NewFrame {
    NewFrame {
        action: "MeterValues".into(),
        payload: format!("payload {n}"),
        answer: Some("{}".into()),
        problem: None,
        ..NewFrame::remark(charger, 1, String::new(), at)
    }
}

/// All of a charger's frames, oldest first, in pages of so many.
async fn all_of(db: &mut Db, charger: ChargerId, page: i64) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    loop {
        let before = all.last().map(|frame| frame.id);
        let part = frames::newest(db, charger, before, page, 7).await.unwrap();
        let is_last = part.len() < usize::try_from(page).unwrap();
        all.extend(part);
        if is_last {
            all.reverse();
            return all;
        }
    }
}

async fn a_chargers_frames_are_found_page_by_page(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    assert!(all_of(&mut db, charger(1), 10).await.is_empty());
    // One tells something now and then, one only at the beginning, one all the time.
    let whose = |n: usize| {
        charger(if n < 3 {
            2
        } else if n.is_multiple_of(1_000) {
            1
        } else {
            3
        })
    };
    let new: Vec<NewFrame> = (0..20_000).map(|n| frame(whose(n), n, now())).collect();
    frames::insert(&mut db, &new).await.unwrap();
    for (seldom, wanted) in
        [(charger(1), (3..20_000).filter(|n| n % 1_000 == 0).collect()), (charger(2), vec![0, 1, 2])]
    {
        for page in [1, 2, 7, 100] {
            let found = all_of(&mut db, seldom, page).await;
            let ids: Vec<i64> = found.iter().map(|frame| frame.id - found[0].id).collect();
            let expected: Vec<i64> = wanted.iter().map(|n: &usize| i64::try_from(n - wanted[0]).unwrap()).collect();
            assert_eq!(ids, expected, "pages of {page}");
        }
    }
    let newest = frames::newest(&mut db, charger(3), None, 2, 7).await.unwrap();
    assert_eq!((newest[0].payload.as_str(), newest[0].payload_length), ("payload", 13));
    let whole = frames::by_id(&mut db, charger(3), newest[0].id).await.unwrap().unwrap();
    assert_eq!(whole.payload, "payload 19999");
    assert!(frames::by_id(&mut db, charger(1), newest[0].id).await.unwrap().is_none(), "another charger's");
    assert!(frames::newest(&mut db, charger(4), None, 5, 7).await.unwrap().is_empty());
    db.commit().await.unwrap();
}

async fn old_frames_go(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let at = |day: i64| now().plus_millis(day * DAY_MS);
    let keep = async |today: i64, days: &[i64]| {
        let mut db = store.begin().await.unwrap();
        frames::make_days(&mut db, at(today)).await.unwrap();
        let new: Vec<NewFrame> = days.iter().map(|day| frame(charger(1), 0, at(*day))).collect();
        frames::insert(&mut db, &new).await.unwrap();
        db.commit().await.unwrap();
    };
    let forget = async |day: i64| {
        let mut db = store.begin().await.unwrap();
        frames::forget(&mut db, at(day)).await.unwrap();
        db.commit().await.unwrap();
    };
    let kept = async || {
        let mut db = store.read().await.unwrap();
        all_of(&mut db, charger(1), 100)
            .await
            .iter()
            .map(|frame| (frame.at - now().0 + DAY_MS / 2).div_euclid(DAY_MS))
            .collect::<Vec<_>>()
    };
    keep(0, &[-400, 0, 1, 5]).await;
    keep(20, &[20, 34]).await;
    keep(20, &[21]).await;
    assert_eq!(kept().await, [-400, 0, 1, 5, 20, 34, 21]);
    forget(-300).await;
    let today = [0, 1, 5, 20, 34, 21];
    assert!(kept().await.ends_with(&today));
    // A day is over before it goes.
    forget(6).await;
    forget(7).await;
    assert!(!kept().await.contains(&1) && kept().await.ends_with(&[20, 34, 21]), "{:?}", kept().await);
    forget(7).await;
    keep(21, &[22]).await;
    assert_eq!(kept().await, [20, 34, 21, 22]);
}

/// Of a clock that goes ahead and back, and back beyond all days that are kept.
async fn a_clock_that_jumps_leaves_no_day_out(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let at = |day: i64| now().plus_millis(day * DAY_MS);
    for today in [0, 40, 3, 20, 25, 41, 60, 15] {
        let mut db = store.begin().await.unwrap();
        frames::make_days(&mut db, at(today)).await.unwrap();
        let new: Vec<NewFrame> = [0, 1, 14].iter().map(|day| frame(charger(1), 0, at(today + day))).collect();
        frames::insert(&mut db, &new).await.unwrap();
        if today == 60 {
            frames::forget(&mut db, at(60)).await.unwrap();
        }
        db.commit().await.unwrap();
    }
}

/// By nodes that look at the same time, and while somebody reads all of it.
async fn a_day_is_made_once(store: Store, _url: String) {
    store.migrate().await.unwrap();
    let mut makers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        makers.spawn(async move {
            let mut db = store.begin().await?;
            frames::make_days(&mut db, now().plus_millis(n / 10 * DAY_MS)).await?;
            db.commit().await
        });
    }
    while let Some(done) = makers.join_next().await {
        done.unwrap().unwrap();
    }
    if let Store::Postgres(_) = store {
        let mut reads = store.begin().await.unwrap();
        frames::newest(&mut reads, charger(1), None, 1, 1).await.unwrap();
        let mut db = store.begin().await.unwrap();
        frames::make_days(&mut db, now().plus_millis(5 * DAY_MS)).await.unwrap();
        db.commit().await.unwrap();
    }
}
