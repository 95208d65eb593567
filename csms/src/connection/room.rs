//! Room for the long messages of a node. What has come of those on their way takes room byte for byte, so that to announce
//! much and send little keeps nobody waiting; what is made of a whole one takes more, and no longer than this node works.
//! Where others wait for room, whoever sends slowest gives way.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::registry::{Held, Why};

/// A message of more bytes is a long one. What a socket may hold without asking for room.
pub(super) const LONG: u64 = 64 * 1024;
/// The unit of room.
pub(super) const KIB: u64 = 1024;
/// Bytes for which a message on its way takes room at a time.
pub(super) const STEP: u64 = 128 * KIB;
/// Bytes of a message's samples and of what is stored of it, to one byte of the message.
const TIMES: u64 = 5;
/// Where somebody has waited too long, so much of the room is made free at once: a part of this.
const FREED: usize = 4;

/// The room of one node.
pub(crate) struct Room {
    /// KiB for what has come of messages on their way.
    pub(super) coming: Arc<Semaphore>,
    all_coming: usize,
    /// KiB for what is made of messages that have come.
    handled: Arc<Semaphore>,
    all_handled: usize,
    /// How long one waits before others give way.
    pub(super) patience: Duration,
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    last: u64,
    all: HashMap<u64, Coming>,
}

/// A message on its way.
struct Coming {
    connection: Arc<Held>,
    /// KiB.
    held: usize,
    /// How long its last step took to come.
    last_step: Duration,
    /// Since when its step comes; `None`: it waits for room.
    since: Option<Instant>,
    gives_way: bool,
}

impl Coming {
    /// How slow it is: the time of a step, each doubling one more.
    fn slowness(&self, now: Instant) -> u32 {
        let step = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)).max(self.last_step);
        u128::BITS - step.as_millis().leading_zeros()
    }
}

impl Room {
    /// Half of these bytes for what is on its way, half for what is made of it.
    pub(crate) fn new(bytes: u64, patience: Duration) -> Arc<Self> {
        let half = usize::try_from(bytes / KIB / 2).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        let (coming, handled) = (Arc::new(Semaphore::new(half)), Arc::new(Semaphore::new(half)));
        Arc::new(Self { coming, all_coming: half, handled, all_handled: half, patience, messages: Mutex::default() })
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for what is made of a message of so many bytes; `None` where that needs none.
    pub(super) async fn to_handle(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes as u64 <= LONG {
            return None;
        }
        let units = usize::try_from((bytes as u64 * TIMES).div_ceil(KIB)).unwrap_or(usize::MAX).min(self.all_handled);
        self.handled.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }

    /// A long message begins to come.
    pub(super) fn enter(self: &Arc<Self>, connection: &Arc<Held>) -> Ticket {
        let mut messages = self.messages();
        messages.last += 1;
        let (id, connection) = (messages.last, connection.clone());
        let coming = Coming { connection, held: 0, last_step: Duration::ZERO, since: None, gives_way: false };
        messages.all.insert(id, coming);
        Ticket { room: self.clone(), id, permit: None, left: 0 }
    }

    /// Somebody has waited too long: the slowest give way, and of equals those of which least has come.
    pub(super) fn make_way(&self, now: Instant) {
        let mut messages = self.messages();
        let wanted = (self.all_coming / FREED).max(1);
        let mut others: Vec<_> = messages.all.values_mut().filter(|one| one.held > 0 && !one.gives_way).collect();
        others.sort_by_key(|one| (Reverse(one.slowness(now)), one.held));
        // What all the others hold is free soon: they are on their way out, or are handled.
        let mut taken: usize = others.iter().map(|one| one.held).sum();
        for one in others {
            if taken + wanted <= self.all_coming {
                break;
            }
            taken -= one.held;
            one.gives_way = true;
            one.connection.end(Why::Slow);
        }
    }
}

/// The place of one message that comes, and what it holds.
pub(super) struct Ticket {
    room: Arc<Room>,
    id: u64,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes that may come before it has to take more room.
    left: u64,
}

impl Ticket {
    /// Bytes that it has room for.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// There is room for its next step.
    pub(super) fn take(&mut self, permit: OwnedSemaphorePermit) {
        let units = permit.num_permits();
        self.left += units as u64 * KIB;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        if let Some(coming) = self.room.messages().all.get_mut(&self.id) {
            coming.held += units;
            coming.since = Some(Instant::now());
        }
    }

    /// So much of it has come.
    pub(super) fn read(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        if self.left > 0 {
            return;
        }
        if let Some(coming) = self.room.messages().all.get_mut(&self.id) {
            coming.last_step = coming.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// All of it has come: it holds room as long as it is handled, and gives way to nobody.
    pub(super) fn arrived(&self) {
        self.room.messages().all.remove(&self.id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.arrived();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio_util::sync::CancellationToken;

    struct Sender {
        connection: Arc<Held>,
        ticket: Ticket,
    }

    impl Sender {
        fn new(room: &Arc<Room>) -> Self {
            let connection = Held::new(1, &CancellationToken::new());
            let ticket = room.enter(&connection);
            Self { connection, ticket }
        }

        /// A step that comes in so much time. `false`: there is no room.
        async fn step(&mut self, room: &Room, time: Duration) -> bool {
            let Ok(permit) = room.coming.clone().try_acquire_many_owned(128) else { return false };
            self.ticket.take(permit);
            tokio::time::advance(time).await;
            self.ticket.read(STEP);
            true
        }

        fn gave_way(&self) -> bool {
            self.connection.ended.is_cancelled()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_give_way_and_of_equals_the_least() {
        // Sixteen steps.
        let room = Room::new(32 * STEP, Duration::from_secs(10));
        let mut senders: Vec<_> = (0..5).map(|_| Sender::new(&room)).collect();
        for (n, seconds, steps) in [(0, 1, 5), (1, 60, 3), (2, 60, 2), (3, 20, 5)] {
            for _ in 0..steps {
                assert!(senders[n].step(&room, Duration::from_secs(seconds)).await);
            }
        }
        // One that began well and says no more.
        assert!(senders[4].step(&room, Duration::ZERO).await);
        assert!(!senders[0].step(&room, Duration::ZERO).await, "all is taken");
        let gave_way = |senders: &[Sender]| senders.iter().map(Sender::gave_way).collect::<Vec<_>>();
        room.make_way(Instant::now());
        assert_eq!(gave_way(&senders), [false, true, true, false, false], "a quarter is four steps, and more is held");
        room.make_way(Instant::now());
        assert_eq!(gave_way(&senders), [false, true, true, false, false], "they are on their way out");
        senders.drain(1..3);
        assert_eq!(room.coming.available_permits(), 5 * 128);
        room.make_way(Instant::now());
        assert_eq!(gave_way(&senders), [false; 3], "there is room");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stalls_is_slow_and_who_waits_for_room_is_not() {
        let room = Room::new(4 * STEP, Duration::from_secs(10));
        let (mut fast, mut stalled) = (Sender::new(&room), Sender::new(&room));
        assert!(fast.step(&room, Duration::from_millis(10)).await);
        stalled.ticket.take(room.coming.clone().try_acquire_many_owned(128).unwrap());
        stalled.ticket.read(STEP - 1);
        tokio::time::advance(Duration::from_secs(10)).await;
        room.make_way(Instant::now());
        assert!(stalled.gave_way() && !fast.gave_way());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_gives_way_to_nobody_and_is_handled_in_turn() {
        let room = Room::new(2 * 1024 * KIB, Duration::from_secs(10));
        let mut all = Sender::new(&room);
        assert!(all.step(&room, Duration::from_secs(60)).await);
        all.ticket.arrived();
        let mut comes = Sender::new(&room);
        assert!(comes.step(&room, Duration::from_secs(60)).await);
        room.make_way(Instant::now());
        assert!(!all.gave_way() && !comes.gave_way(), "what is handled is free soon");
        assert!(room.to_handle(64 * 1024).await.is_none());
        let first = room.to_handle(1 << 30).await.unwrap();
        assert_eq!(first.num_permits(), 1024, "what is longer than the room takes all of it");
        let second = room.to_handle(100_000);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.unwrap().num_permits(), 489);
    }
}
