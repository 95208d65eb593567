//! What must be loaded for a batch.

use evm_domain::{ChargerEvent, ChargerId, NO_AUTHORIZATION, Phase};

use crate::ingest::Told;

/// What a batch names.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) chargers: Vec<ChargerId>,
    pub(super) transactions: Vec<(ChargerId, String)>,
    pub(super) start_keys: Vec<String>,
    pub(super) remote_starts: Vec<(ChargerId, i64)>,
    pub(super) tags: Vec<String>,
    pub(super) start_tags: Vec<String>,
    pub(super) starters: Vec<ChargerId>,
    /// Chargers that end a transaction without saying which.
    pub(super) nameless_ends: Vec<String>,
}

impl Wanted {
    pub(super) fn of(told: &[&Told]) -> Self {
        let mut wanted = Self::default();
        for message in told {
            match &message.decoded.event {
                ChargerEvent::Transaction(update) => {
                    wanted.chargers.push(message.charger);
                    wanted.transactions.extend(update.transaction.clone().map(|id| (message.charger, id)));
                    wanted.start_keys.extend(update.start_key.clone());
                    wanted.tags.extend(update.id_tag.clone());
                    wanted.remote_starts.extend(update.remote_start_id.map(|number| (message.charger, number)));
                    if update.phase == Phase::Ended && update.transaction.is_none() {
                        wanted.nameless_ends.push(message.charger.to_string());
                    }
                    if update.phase == Phase::Started || update.own_id {
                        wanted.start_tags.extend(update.id_tag.clone());
                        if update.phase == Phase::Started
                            || update.id_tag.is_some()
                            || update.connector.is_some()
                            || update.remote_start_id.is_some()
                        {
                            wanted.starters.push(message.charger);
                        }
                    }
                }
                ChargerEvent::Status(report) if report.connector > 0 => wanted.chargers.push(message.charger),
                ChargerEvent::Booted { .. } => wanted.chargers.push(message.charger),
                ChargerEvent::Authorize { id_tag } => {
                    wanted.chargers.push(message.charger);
                    if id_tag == NO_AUTHORIZATION {
                        wanted.starters.push(message.charger);
                    }
                    wanted.tags.push(id_tag.clone());
                }
                ChargerEvent::Status(_) | ChargerEvent::Noted => {}
            }
        }
        wanted
    }
}
