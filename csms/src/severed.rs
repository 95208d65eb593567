//! Whether commands still reach this node over the bus. One whose packets go nowhere would hold its chargers for nothing:
//! where another node is reached, it lets them go there.
//!
//! Who is reached says so by a lease that is short and renewed at each answer, so that a bus that nobody reaches, which
//! comes back sooner if nobody runs about, is told from one that this node alone does not reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evm_store::{Result, leases};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::Node;
use crate::registry::Why;

/// How often it is tried.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Without an answer for so long a node is not reached.
const SEVERED: Duration = Duration::from_secs(3);
/// The bus may have died so long after the last answer here: what others say of before that tells nothing.
const AFTER_LAST: Duration = Duration::from_millis(1_500);
/// How long an answer counts for others.
const LEASE_MS: i64 = 2_500;
/// The leases of those who are reached; also how they are told from others.
const LEASES: &str = "reached:";

/// Whether this node lets no charger in because nobody reaches it.
#[derive(Debug, Default)]
pub(crate) struct Severed(AtomicBool);

impl Severed {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The lease of a node that is reached.
pub(crate) fn lease(node: &Node) -> String {
    format!("{LEASES}{}", node.id)
}

/// Watches until `shutdown`.
pub(crate) async fn watch(node: &Arc<Node>, shutdown: &CancellationToken) {
    if !node.bus.has_server() {
        return;
    }
    let (mut answered, mut looked) = (Instant::now(), Instant::now());
    let mut stays_told = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        let is_reached = matches!(timeout(PATIENCE, node.bus.reach()).await, Ok(Ok(())));
        // A process that slept, or that the machine gave no time, knows nothing of the bus.
        let slept = looked.elapsed() > EVERY + PATIENCE + EVERY;
        looked = Instant::now();
        if is_reached || slept {
            answered = looked;
        }
        let done = match is_reached {
            true => note_reached(node).await.map(|()| false),
            false if answered.elapsed() >= SEVERED => {
                let_go(node, answered.elapsed() - AFTER_LAST).await.map(|gone| !gone)
            }
            false => Ok(false),
        };
        let done = done.map(|stays| {
            if stays && !stays_told {
                tracing::warn!("no command reaches any node over the bus: chargers stay");
            }
            stays_told = stays;
        });
        if let Err(error) = done {
            tracing::warn!(%error, "who is reached over the bus is not known");
        }
    }
}

async fn note_reached(node: &Node) -> Result<()> {
    if node.severed.0.swap(false, Ordering::Relaxed) {
        tracing::warn!("commands reach this node again");
    }
    let mut db = node.store.begin().await?;
    leases::take(&mut db, &lease(node), &node.id, LEASE_MS).await?;
    db.commit().await
}

/// Closes all chargers' sockets where another node was reached within this time. `false`: none was.
async fn let_go(node: &Node, within: Duration) -> Result<bool> {
    let left_ms = LEASE_MS.saturating_sub(i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
    let others = leases::others(&mut node.store.read().await?, LEASES, &lease(node), left_ms.max(0)).await?;
    let was = node.severed.0.swap(others, Ordering::Relaxed);
    if others && !was {
        tracing::error!("no command reaches this node over the bus, and another is reached: its chargers are let go");
    }
    if others {
        node.registry.end_all(Why::Severed);
    }
    Ok(others)
}
