//! What runs beside the sockets: the live event, charges that fell silent, and the node's own sign of life.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_bus::subject;
use evm_domain::{Bill, ChargerId, Money, SessionId, Timestamp};
use evm_store::leases::NODE_TTL_MS;
use evm_store::outbox::charging_payload;
use evm_store::sessions::Live;
use evm_store::{Result, chargers, credit, frames, leases, outbox, readings, remote_starts, sessions, settle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Node, severed};

const NODE_RENEWS: Duration = Duration::from_secs(5);
/// A little more than between two renewals, so that nothing heard is left out.
const HEARD: Duration = Duration::from_secs(7);
/// Work that one node does at a time passes to another after this.
const LEADER_TTL_MS: i64 = 10_000;
/// How long an end without a beginning waits for it.
const LONE_END_MS: i64 = 60_000;
/// A charger that goes on after it was asked to stop is asked again.
const ASK_AGAIN_MS: i64 = 30_000;
/// How long a charger takes to end a charge once it is asked to.
const ANSWER_MS: i64 = 2_000;
/// Sessions a page.
const PAGE: i64 = 1000;
/// Rounds of forgetting frames at a time.
const MOST_ROUNDS: u32 = 20;
/// Charges whose readings are packed in one transaction, for which chargers' messages wait.
const PACKED_AT_ONCE: usize = 10;
/// Such transactions a minute, at most.
const PACK_ROUNDS: u32 = 200;
/// Published events are forgotten after a week.
const KEEP_EVENTS_MS: i64 = 7 * 24 * 3_600_000;

/// Starts the work of this node; the future ends when all of it has.
pub(crate) fn start(node: &Arc<Node>, shutdown: &CancellationToken) -> impl Future<Output = ()> + use<> {
    let tracker = TaskTracker::new();
    let work = [Work::Renew, Work::Tick, Work::Sweep, Work::Forget];
    for kind in work {
        let (node, shutdown) = (node.clone(), shutdown.clone());
        tracker.spawn(async move { repeat(kind, &node, &shutdown).await });
    }
    let (watching, until) = (node.clone(), shutdown.clone());
    tracker.spawn(async move { severed::watch(&watching, &until).await });
    let (listening, shutdown) = (node.clone(), shutdown.clone());
    tracker.spawn(async move { close_replaced(&listening, &shutdown).await });
    tracker.close();
    async move { tracker.wait().await }
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Renew,
    Tick,
    Sweep,
    Forget,
}

async fn repeat(work: Work, node: &Node, shutdown: &CancellationToken) {
    let every = match work {
        Work::Renew => NODE_RENEWS,
        Work::Tick => node.config.live_interval,
        Work::Sweep => Duration::from_secs(1),
        Work::Forget => Duration::from_secs(60),
    };
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let done = match work {
            Work::Renew => renew_node(node).await,
            Work::Tick => tick(node).await,
            Work::Sweep => sweep(node).await,
            Work::Forget => forget(node).await,
        };
        if let Err(error) = done {
            tracing::warn!(?work, %error, "will be tried again");
        }
    }
}

/// Says that this node lives, writes down who was heard and who is held after all, and lets go of sockets whose end could not be written.
pub(crate) async fn renew_node(node: &Node) -> Result<()> {
    let now = evm_store::now();
    let mut db = node.store.begin().await?;
    leases::take(&mut db, &format!("node:{}", node.id), &node.id, NODE_TTL_MS).await?;
    let heard = node.registry.heard_within(HEARD, now);
    chargers::seen(&mut db, &heard).await?;
    let noted = chargers::held_by(&mut db, &node.id).await?;
    let known: HashSet<ChargerId> = noted.iter().map(|(charger, ..)| *charger).collect();
    let mut held = node.registry.connections();
    held.retain(|(charger, _)| !known.contains(charger));
    chargers::still_held(&mut db, &held, &node.id).await?;
    let lost: Vec<(ChargerId, i64)> = noted
        .into_iter()
        .filter(|(charger, connected_at, _)| now.since(*connected_at) > NODE_TTL_MS && !node.registry.holds(*charger))
        .map(|(charger, _, epoch)| (charger, epoch))
        .collect();
    chargers::disconnect(&mut db, &lost, now).await?;
    let gone = chargers::disconnect_dead_nodes(&mut db).await?;
    db.commit().await?;
    if gone > 0 {
        tracing::warn!(chargers = gone, "a node is gone, and with it the sockets it held");
    }
    Ok(())
}

/// The node goes: what it still holds is offline at once.
pub(crate) async fn leave(node: &Node) {
    let goodbye = async {
        let mut db = node.store.begin().await?;
        leases::give_back(&mut db, &format!("node:{}", node.id), &node.id).await?;
        leases::give_back(&mut db, &severed::lease(node), &node.id).await?;
        leases::give_back(&mut db, "live", &node.id).await?;
        leases::give_back(&mut db, "sweep", &node.id).await?;
        chargers::disconnect_dead_nodes(&mut db).await?;
        db.commit().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), goodbye).await {
        tracing::warn!(%error, "could not say goodbye; other nodes will notice");
    }
}

async fn leads(node: &Node, work: &str) -> Result<bool> {
    let mut db = node.store.begin().await?;
    let mine = leases::take(&mut db, work, &node.id, LEADER_TTL_MS).await?;
    db.commit().await?;
    Ok(mine)
}

/// Sends every running charge's figures to its customer.
async fn tick(node: &Node) -> Result<()> {
    if !leads(node, "live").await? {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let mut db = node.store.read().await?;
        let page = sessions::running(&mut db, &after, PAGE).await?;
        drop(db);
        let now = evm_store::now();
        let mut spent = Vec::new();
        for live in &page {
            let bill = live.session.bill_at(now, live.online);
            if node.config.stop_at_balance && is_spent(live, &bill, before_next_look(node, now), now) {
                spent.push(live);
            }
            let subject = subject::customer(&live.topic, "CHARGING");
            if let Err(error) = node.bus.publish(&subject, None, charging_payload(&bill).as_bytes()).await {
                tracing::debug!(%error, "a live event is lost; the next follows");
            }
        }
        stop_spent(node, &spent, now).await?;
        match page.last() {
            Some(last) if page.len() == usize::try_from(PAGE).unwrap_or_default() => {
                after = last.session.id.to_string()
            }
            _ => return Ok(()),
        }
    }
}

/// When a stop that is not asked for now would be heeded: after the next look and the station's answer.
fn before_next_look(node: &Node, now: Timestamp) -> Timestamp {
    let look_ms = i64::try_from(node.config.live_interval.as_millis()).unwrap_or(i64::MAX);
    now.plus_millis(look_ms).plus_millis(ANSWER_MS)
}

/// Whether a running charge costs as much as its customer has, or will before it can be stopped later, and its charger can be
/// asked to stop.
fn is_spent(live: &Live, bill: &Bill, soon: Timestamp, now: Timestamp) -> bool {
    let asked_lately = live.stop_asked_at.is_some_and(|at| now.since(at) < ASK_AGAIN_MS);
    let running = live.online && live.session.ended_at.is_none();
    let spent = || bill.total() >= live.balance || live.session.bill_by(soon).total() > live.balance;
    running && !asked_lately && bill.total() > Money::ZERO && spent()
}

/// Asks chargers to stop. Their answers are not waited for: the end is what they tell.
async fn stop_spent(node: &Node, spent: &[&Live], now: Timestamp) -> Result<()> {
    for live in spent {
        let session = live.session.id;
        let Some(transaction) = live.session.transaction.clone() else { continue };
        let mut db = node.store.begin().await?;
        let claimed = credit::claim_stop(&mut db, session, now.plus_millis(-ASK_AGAIN_MS), now).await?;
        db.commit().await?;
        if !claimed {
            continue;
        }
        let request = serde_json::to_vec(&ChargerRequest::Stop { transaction }).unwrap_or_default();
        let (bus, subject) = (node.bus.clone(), subject::command(&live.identity, live.epoch));
        let deadline = node.config.call_timeout + Duration::from_secs(5);
        tokio::spawn(async move {
            let answer = bus.ask(&subject, request, deadline).await.map(|reply| serde_json::from_slice(&reply).ok());
            match answer {
                Ok(Some(ChargerReply::Accepted)) => tracing::info!(%session, "stopped: the balance is reached"),
                answer => tracing::warn!(%session, ?answer, "the balance is reached, and the charger does not stop"),
            }
        });
    }
    Ok(())
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    now.plus_millis(-i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Forgets what is too old. Frames go some thousand at a time, so that nobody waits for it long.
async fn forget(node: &Node) -> Result<()> {
    let now = evm_store::now();
    // First the days to come: without them no message is taken.
    let mut db = node.store.begin().await?;
    frames::make_days(&mut db, now).await?;
    db.commit().await?;
    let mut db = node.store.begin().await?;
    remote_starts::forget(&mut db, before(now, node.config.keep_frames)).await?;
    leases::forget_old(&mut db).await?;
    outbox::forget(&mut db, now.plus_millis(-KEEP_EVENTS_MS)).await?;
    db.commit().await?;
    pack_readings(node, now).await?;
    for _ in 0..MOST_ROUNDS {
        let mut db = node.store.begin().await?;
        let gone = frames::forget(&mut db, before(now, node.config.keep_frames)).await?;
        db.commit().await?;
        if gone == 0 {
            break;
        }
    }
    Ok(())
}

/// Packs the readings of charges that are long over, some at a time.
async fn pack_readings(node: &Node, now: Timestamp) -> Result<()> {
    if !leads(node, "sweep").await? {
        return Ok(());
    }
    for _ in 0..PACK_ROUNDS {
        let mut db = node.store.begin().await?;
        let packed = readings::pack_old(&mut db, before(now, node.config.pack_readings), PACKED_AT_ONCE).await?;
        db.commit().await?;
        if packed < PACKED_AT_ONCE {
            break;
        }
    }
    Ok(())
}

/// Ends what will not end by itself.
async fn sweep(node: &Node) -> Result<()> {
    if !leads(node, "sweep").await? {
        return Ok(());
    }
    let now = evm_store::now();
    let mut db = node.store.begin().await?;
    for session in sessions::requested_before(&mut db, before(now, node.config.start_limit)).await? {
        sessions::fail(&mut db, session, "not_begun", now).await?;
    }
    let silent = before(now, node.config.silence_limit);
    let abandoned = sessions::abandoned(&mut db, silent, now.plus_millis(-LONE_END_MS)).await?;
    let lost = sessions::lost(&mut db, before(now, node.config.lost_limit)).await?;
    db.commit().await?;
    for session in abandoned {
        end(node, session, "silence", now).await?;
    }
    for session in lost {
        end(node, session, "lost_by_charger", now).await?;
    }
    Ok(())
}

async fn end(node: &Node, session: SessionId, reason: &str, now: Timestamp) -> Result<()> {
    let mut db = node.store.begin().await?;
    let settled = settle::settle_by_id(&mut db, session, reason, now).await?;
    db.commit().await?;
    if let Some(settled) = settled {
        tracing::info!(%session, reason, amount = %settled.bill.total(), "ended with the figures so far");
        let _ = node.bus.publish(subject::OUTBOX_HINT, None, b"").await;
    }
    Ok(())
}

/// Closes sockets of chargers that came back on another node.
async fn close_replaced(node: &Node, shutdown: &CancellationToken) {
    loop {
        let listen = async {
            let Ok(mut news) = node.bus.subscribe("ctl.>").await else { return };
            while let Some(message) = news.next().await {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                let Some((charger, epoch)) = text.split_once(' ') else { continue };
                if let (Ok(charger), Ok(epoch)) = (charger.parse(), epoch.parse()) {
                    node.registry.replaced_elsewhere(charger, epoch);
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
