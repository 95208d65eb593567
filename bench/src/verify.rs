//! Whether the store kept what was acknowledged, and whether its books are right.

use std::collections::HashSet;

use anyhow::{bail, ensure};
use evm_store::{Store, audit, chargers, frames};

use crate::station::Station;

/// Frames a page.
const PAGE: i64 = 10_000;

/// Finds every acknowledged message that is to be kept, and audits the store. The count of frames found comes back.
pub(crate) async fn kept(store: &Store, stations: &[Station]) -> anyhow::Result<u64> {
    let mut db = store.read().await?;
    let mut found = 0;
    for station in stations.iter().filter(|station| !station.acknowledged.is_empty()) {
        let Some(charger) = chargers::by_identity(&mut db, &station.identity).await? else {
            bail!("{} is not in the store", station.identity);
        };
        let mut ids = HashSet::new();
        let mut before = None;
        loop {
            let page = frames::newest(&mut db, charger.id, before, PAGE, i32::MAX).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            if let Some(odd) = page.iter().find(|frame| frame.problem.is_some()) {
                bail!("{} was set aside: {:?}", odd.message_id, odd.problem);
            }
            ids.extend(page.into_iter().filter(|frame| frame.incoming).map(|frame| frame.message_id));
        }
        for n in &station.acknowledged {
            let id = station.message_id(*n);
            ensure!(ids.contains(&id), "{id} was acknowledged and is not in the store");
            found += 1;
        }
    }
    drop(db);
    books(store).await?;
    Ok(found)
}

/// Audits the store: among other things each ledger transaction sums to zero, and so do all of them.
pub(crate) async fn books(store: &Store) -> anyhow::Result<()> {
    let report = audit::run(&mut store.read().await?).await?;
    ensure!(report.violations.is_empty(), "the books are wrong: {:?}", report.violations);
    ensure!(report.live_sessions == 0, "{} charges did not end", report.live_sessions);
    Ok(())
}
