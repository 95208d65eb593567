//! What a stream has sent of the outbox and what it has not, although rows may come to sight out of order: on PostgreSQL a
//! row gets its id before its transaction commits, so a smaller id may be seen after a larger one.

use std::collections::{BTreeMap, VecDeque};

use evm_domain::{CustomerId, Timestamp};
use evm_store::outbox::{self, Written};
use evm_store::{Db, Result, now};

/// No transaction lives longer: what is older than this has come to sight.
const SETTLES_MS: i64 = 2 * 60_000;
/// Rows a query.
const PAGE: i64 = 200;
/// Rows that wait to be sent.
const MOST_WAITING: usize = 1000;

/// The outbox of one customer as one stream sees it.
pub(super) struct Reader {
    customer: CustomerId,
    /// Everything up to here is done with.
    floor: i64,
    /// What is done with beyond the floor, and when it was written.
    seen: BTreeMap<i64, i64>,
    waiting: VecDeque<Written>,
    stale: bool,
}

impl Reader {
    /// Begins after the event `last`, or with what happens from now on.
    pub(super) async fn start(db: &mut Db, customer: CustomerId, last: Option<i64>) -> Result<Self> {
        let settled = outbox::newest_before(db, customer, now().plus_millis(-SETTLES_MS)).await?;
        let mut floor = last.map_or(settled, |last| last.min(settled));
        // Smaller ids may have come to sight after it, however long ago.
        let row = match last {
            Some(last) => outbox::after(db, customer, last.saturating_sub(1), 1).await?.into_iter().next(),
            None => None,
        };
        if let Some(row) = row.filter(|row| Some(row.id) == last) {
            let before = Timestamp(row.created_at).plus_millis(-SETTLES_MS);
            floor = floor.min(outbox::newest_before(db, customer, before).await?);
        }
        let mut reader = Self { customer, floor, seen: BTreeMap::new(), waiting: VecDeque::new(), stale: true };
        reader.skip(db, last).await?;
        Ok(reader)
    }

    /// Marks as seen what was sent before: everything without `last`, else everything up to it but what came to sight later.
    async fn skip(&mut self, db: &mut Db, last: Option<i64>) -> Result<()> {
        let mut rows: Vec<Written> = Vec::new();
        loop {
            let page = outbox::after(db, self.customer, rows.last().map_or(self.floor, |row| row.id), PAGE).await?;
            let more = i64::try_from(page.len()).is_ok_and(|len| len == PAGE);
            rows.extend(page);
            if !more || last.is_some_and(|last| rows.last().is_some_and(|row| row.id >= last)) {
                break;
            }
        }
        // Events go out in the order in which they come to sight.
        let last_out = rows.iter().find(|row| Some(row.id) == last).and_then(|row| row.published_at);
        let later = |row: &Written| match (last_out, row.published_at) {
            (Some(last), Some(at)) => at > last,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let sent = rows.iter().filter(|row| last.is_none_or(|last| row.id == last || (row.id < last && !later(row))));
        self.seen.extend(sent.map(|row| (row.id, row.created_at)));
        Ok(())
    }

    /// The next event to send.
    pub(super) fn next(&mut self) -> Option<Written> {
        self.waiting.pop_front()
    }

    /// There may be something new.
    pub(super) fn look(&mut self) {
        self.stale = true;
    }

    pub(super) fn stale(&self) -> bool {
        self.stale
    }

    /// Reads what is new.
    pub(super) async fn read(&mut self, db: &mut Db, now: Timestamp) -> Result<()> {
        let mut after = self.floor;
        loop {
            let page = outbox::after(db, self.customer, after, PAGE).await?;
            let more = i64::try_from(page.len()).is_ok_and(|len| len == PAGE);
            after = page.last().map_or(after, |row| row.id);
            self.take(page);
            if !more {
                self.stale = false;
                break;
            }
            if self.waiting.len() >= MOST_WAITING {
                break;
            }
        }
        self.settle(now);
        Ok(())
    }

    fn take(&mut self, rows: Vec<Written>) {
        for row in rows {
            if self.seen.insert(row.id, row.created_at).is_none() {
                self.waiting.push_back(row);
            }
        }
    }

    /// Raises the floor over what no smaller id can come to sight of any more.
    fn settle(&mut self, now: Timestamp) {
        while let Some(first) = self.seen.first_entry()
            && now.0 - *first.get() > SETTLES_MS
        {
            self.floor = *first.key();
            first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use evm_store::outbox::Event;
    use evm_store::{Store, customers};

    struct Bench {
        store: Store,
        customer: CustomerId,
        path: std::path::PathBuf,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    impl Bench {
        async fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evm-reader-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let store = Store::open(&format!("sqlite://{}", path.join("evm.db").display())).await.unwrap();
            store.migrate().await.unwrap();
            let mut db = store.begin().await.unwrap();
            let customer = customers::of_phone(&mut db, "+97686661488", now()).await.unwrap().id;
            db.commit().await.unwrap();
            Self { store, customer, path }
        }

        async fn write(&self, id: &str, age_ms: i64) -> i64 {
            let event = Event { customer: self.customer, name: "PAYMENT", event_id: id.into(), payload: id.into() };
            let mut db = self.store.begin().await.unwrap();
            outbox::add(&mut db, &[event], now().plus_millis(-age_ms)).await.unwrap();
            db.commit().await.unwrap();
            let mut db = self.store.read().await.unwrap();
            outbox::after(&mut db, self.customer, 0, 1000).await.unwrap().last().unwrap().id
        }

        async fn publish(&self, id: i64, at: i64) {
            let mut db = self.store.begin().await.unwrap();
            outbox::published(&mut db, &[id], true, Timestamp(at)).await.unwrap();
            db.commit().await.unwrap();
        }

        async fn start(&self, last: Option<i64>) -> Reader {
            Reader::start(&mut self.store.read().await.unwrap(), self.customer, last).await.unwrap()
        }

        async fn sends(&self, reader: &mut Reader) -> Vec<i64> {
            reader.read(&mut self.store.read().await.unwrap(), now()).await.unwrap();
            std::iter::from_fn(|| reader.next()).map(|row| row.id).collect()
        }
    }

    #[tokio::test]
    async fn without_an_id_it_begins_now_and_with_one_after_it() {
        let bench = Bench::new("begin").await;
        let old = bench.write("a", 10 * 60_000).await;
        let new = bench.write("b", 0).await;
        let (mut fresh, mut all, mut rest) =
            (bench.start(None).await, bench.start(Some(0)).await, bench.start(Some(old)).await);
        assert_eq!(bench.sends(&mut fresh).await, [0; 0]);
        assert_eq!(bench.sends(&mut all).await, [old, new]);
        assert_eq!(bench.sends(&mut rest).await, [new]);
        assert!(!rest.stale());
        let next = bench.write("c", 0).await;
        for reader in [&mut fresh, &mut all, &mut rest] {
            reader.look();
            assert_eq!(bench.sends(reader).await, [next], "each once");
            assert_eq!(bench.sends(reader).await, [0; 0]);
        }
        let mut up_to_date = bench.start(Some(next)).await;
        assert_eq!(bench.sends(&mut up_to_date).await, [0; 0]);
        let mut of_another_life = bench.start(Some(next + 1_000_000)).await;
        assert_eq!(bench.sends(&mut of_another_life).await, [0; 0]);
        let later = bench.write("d", 0).await;
        assert_eq!(bench.sends(&mut of_another_life).await, [later]);
    }

    #[tokio::test]
    async fn an_id_that_came_to_sight_late_is_sent_after_a_break_too() {
        let bench = Bench::new("late").await;
        let (first, late, last) = (bench.write("a", 0).await, bench.write("b", 0).await, bench.write("c", 0).await);
        bench.publish(first, 1_000).await;
        bench.publish(last, 1_000).await;
        let mut reader = bench.start(Some(last)).await;
        assert_eq!(bench.sends(&mut reader).await, [late], "not out yet when the last one went");
        bench.publish(late, 1_001).await;
        let mut reader = bench.start(Some(last)).await;
        assert_eq!(bench.sends(&mut reader).await, [late], "out after the last one");
        bench.publish(late, 1_000).await;
        let mut reader = bench.start(Some(last)).await;
        assert_eq!(bench.sends(&mut reader).await, [0; 0], "out with it");
    }

    #[tokio::test]
    async fn what_came_to_sight_late_long_ago_is_sent_too() {
        let bench = Bench::new("long-ago").await;
        let age = 60 * 60_000;
        let (first, late, last) =
            (bench.write("a", age).await, bench.write("b", age).await, bench.write("c", age).await);
        bench.publish(first, 1_000).await;
        bench.publish(last, 1_000).await;
        bench.publish(late, 1_001).await;
        let mut reader = bench.start(Some(last)).await;
        assert_eq!(bench.sends(&mut reader).await, [late]);
    }

    #[tokio::test]
    async fn the_floor_follows_and_a_long_replay_comes_in_parts() {
        let bench = Bench::new("floor").await;
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.push(bench.write(&format!("e{number}"), 10 * 60_000).await);
        }
        let mut reader = bench.start(Some(0)).await;
        assert_eq!(bench.sends(&mut reader).await, ids);
        assert_eq!((reader.floor, reader.seen.len()), (ids[2], 0), "nothing old is remembered");
        let young = bench.write("y", 0).await;
        assert_eq!(bench.sends(&mut reader).await, [young]);
        assert_eq!((reader.floor, reader.seen.len()), (ids[2], 1), "a smaller id may still come");
        reader.settle(now().plus_millis(SETTLES_MS + 1));
        assert_eq!((reader.floor, reader.seen.len()), (young, 0));
    }
}
