//! An EVSE of 2.0.1 may have several connectors, of which one is used at a time: what is told of each makes its state.

use std::collections::BTreeMap;

use evm_domain::{ConnectorState, StatusReport};

/// Connectors that are told apart; what is told of more is taken as it is.
const MOST: usize = 64;

/// The newest states of a station's connectors, as told on this connection, by EVSE and connector.
#[derive(Debug, Default)]
pub(super) struct Plugs(BTreeMap<(u32, u32), ConnectorState>);

impl Plugs {
    /// Makes a report of one connector that of its EVSE. Without a number it is one of the EVSE already.
    pub(super) fn fold(&mut self, report: &mut StatusReport, connector: Option<u32>) {
        let evse = report.connector;
        let Some(connector) = connector.filter(|number| *number > 0) else {
            self.0.retain(|(of, _), _| *of != evse);
            return;
        };
        if self.0.len() < MOST || self.0.contains_key(&(evse, connector)) {
            self.0.insert((evse, connector), report.state);
            let states = self.0.range((evse, 0)..=(evse, u32::MAX)).map(|(_, state)| *state);
            report.state = states.min_by_key(|state| rank(*state)).unwrap_or(report.state);
        }
    }

    /// A boot forgets what it does not repeat.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// What counts first: that a car is there, then that one can come.
fn rank(state: ConnectorState) -> u8 {
    use ConnectorState as S;
    match state {
        S::Occupied | S::PluggedIn => 0,
        S::Finishing | S::Preparing => 1,
        S::Reserved => 2,
        S::Available => 3,
        S::Faulted => 4,
        S::Unavailable => 5,
    }
}
