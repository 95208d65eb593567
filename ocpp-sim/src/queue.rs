//! The queue of transaction messages: kept while offline, sent in order, sent again by the rule of
//! OCPP 1.6 section 3.7.2 and 2.0.1 E13 (attempts, and interval times attempts so far).

use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// What part of a transaction a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Start,
    Update,
    End,
}

/// One message of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TxMessage {
    /// Place among all messages of the charger.
    pub(crate) order: u64,
    pub(crate) action: &'static str,
    pub(crate) payload: Value,
    /// Our own number of the transaction.
    pub(crate) session: u64,
    pub(crate) part: Part,
}

/// What follows from a failed attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum AfterFailure {
    Retry { action: &'static str, attempt: u32, wait_ms: u64 },
    GaveUp(TxMessage),
}

/// Messages in order; only the first is ever on its way.
#[derive(Debug)]
pub(crate) struct TxQueue {
    items: VecDeque<TxMessage>,
    limit: usize,
    attempts: u32,
    not_before: u64,
    /// 1.6: ids that the central system gave, by our own number.
    ids: BTreeMap<u64, i64>,
}

/// 1.6: the id of a transaction whose start could never be told.
const UNTOLD_ID: i64 = -1;

impl TxQueue {
    pub(crate) fn new(limit: usize) -> Self {
        TxQueue { items: VecDeque::new(), limit, attempts: 0, not_before: 0, ids: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// 2.0.1: whether messages of this transaction wait.
    pub(crate) fn has_transaction(&self, id: &str) -> bool {
        let of = |m: &TxMessage| m.payload["transactionInfo"]["transactionId"].as_str() == Some(id);
        self.items.iter().any(of)
    }

    /// Appends. Full: the oldest sample gives way, the first message excepted (it may be on its way);
    /// without any sample the new message is the one that is lost.
    pub(crate) fn push(&mut self, message: TxMessage) -> Option<TxMessage> {
        let mut lost = None;
        if self.items.len() >= self.limit {
            let sample = self.items.iter().skip(1).position(|m| m.part == Part::Update);
            match sample {
                Some(i) => lost = self.items.remove(i + 1),
                None => return Some(message),
            }
        }
        self.items.push_back(message);
        lost
    }

    /// The first message, if it may go out now.
    pub(crate) fn ready(&self, now: u64) -> Option<&TxMessage> {
        self.items.front().filter(|_| now >= self.not_before)
    }

    /// When the first message may go out again, if it waits.
    pub(crate) fn wakes_at(&self, now: u64) -> Option<u64> {
        self.items.front().and((now < self.not_before).then_some(self.not_before))
    }

    /// 1.6: the payload with the transaction's id in it, once that is known.
    pub(crate) fn payload_16(&self, message: &TxMessage) -> Value {
        let mut payload = message.payload.clone();
        if message.part != Part::Start {
            let id = self.ids.get(&message.session).copied().unwrap_or(UNTOLD_ID);
            // An optional id is better left out than wrong; StopTransaction cannot do without.
            if id != UNTOLD_ID || message.part == Part::End {
                payload["transactionId"] = Value::from(id);
            }
        }
        payload
    }

    pub(crate) fn know_id(&mut self, session: u64, id: i64) {
        self.ids.insert(session, id);
    }

    /// The first message was answered.
    pub(crate) fn done(&mut self) -> Option<TxMessage> {
        self.attempts = 0;
        self.not_before = 0;
        let message = self.items.pop_front();
        if let Some(m) = message.as_ref().filter(|m| m.part == Part::End) {
            self.ids.remove(&m.session);
        }
        message
    }

    /// The first message got an error or no answer. Being offline is no failure.
    pub(crate) fn failed(&mut self, now: u64, max_attempts: u32, interval_ms: u64) -> Option<AfterFailure> {
        let action = self.items.front()?.action;
        self.attempts += 1;
        if self.attempts >= max_attempts {
            return self.done().map(AfterFailure::GaveUp);
        }
        let wait_ms = interval_ms.saturating_mul(u64::from(self.attempts));
        self.not_before = now.saturating_add(wait_ms);
        Some(AfterFailure::Retry { action, attempt: self.attempts, wait_ms })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn message(order: u64, part: Part) -> TxMessage {
        TxMessage { order, action: "X", payload: json!({ "n": order }), session: 1, part }
    }

    fn queue(parts: &[Part]) -> TxQueue {
        let mut queue = TxQueue::new(4);
        for (i, part) in (0u64..).zip(parts) {
            assert_eq!(queue.push(message(i, *part)), None);
        }
        queue
    }

    #[test]
    fn waits_longer_each_time_then_gives_up() {
        let mut q = queue(&[Part::Start, Part::End]);
        assert!(q.ready(0).is_some());
        let retry = |attempt, wait_ms| Some(AfterFailure::Retry { action: "X", attempt, wait_ms });
        assert_eq!(q.failed(0, 3, 60_000), retry(1, 60_000));
        assert_eq!((q.ready(59_999), q.wakes_at(59_999)), (None, Some(60_000)));
        assert_eq!(q.failed(60_000, 3, 60_000), retry(2, 120_000));
        assert!(q.ready(179_999).is_none());
        assert!(matches!(q.failed(180_000, 3, 60_000), Some(AfterFailure::GaveUp(m)) if m.order == 0));
        assert_eq!(q.ready(180_000).unwrap().order, 1, "the next is not held up");
    }

    #[test]
    fn the_id_of_the_answer_goes_into_later_messages() {
        let mut q = queue(&[Part::Start, Part::Update, Part::End]);
        assert_eq!(q.payload_16(&message(0, Part::Start)), json!({"n": 0}));
        assert_eq!(q.payload_16(&message(1, Part::Update)), json!({"n": 1}));
        assert_eq!(q.payload_16(&message(2, Part::End)), json!({"n": 2, "transactionId": -1}));
        q.know_id(1, 42);
        assert_eq!(q.payload_16(&message(1, Part::Update))["transactionId"], json!(42));
        for _ in 0..3 {
            assert!(q.done().is_some());
        }
        assert!(q.ids.is_empty() && q.done().is_none());
    }

    #[test]
    fn a_full_queue_loses_samples_first() {
        use Part::{End, Start, Update};
        let mut q = queue(&[Update, Start, Update, Update]);
        assert_eq!(q.push(message(9, End)).unwrap().order, 2);
        assert_eq!(q.push(message(10, End)).unwrap().order, 3);
        assert_eq!(q.push(message(11, Start)).unwrap().order, 11, "nothing left to give way");
        let orders: Vec<u64> = std::iter::from_fn(|| q.done().map(|m| m.order)).collect();
        assert_eq!(orders, [0, 1, 9, 10]);
    }
}
