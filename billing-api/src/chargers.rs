//! Commands to chargers, wherever their sockets are.

use std::time::Duration;

use evm_bus::charger::{ChargerReply, ChargerRequest};
use evm_bus::{AskError, subject};

use crate::App;

/// Why a command has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nobody holds the charger's socket; the command was not carried out.
    Offline,
    /// The bus is out of reach; the command did not go out.
    BusDown,
    /// It may or may not have been carried out.
    NoAnswer,
}

/// How often a command that waits is looked after. One that was answered comes sooner than the look after the next.
const LOOK: Duration = Duration::from_secs(1);

/// Done once the connection that was asked has been over for a while.
async fn is_gone(app: &App, identity: &str, epoch: i64) {
    let mut gone = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if gone {
            return;
        }
        let Ok(mut db) = app.store.read().await else { continue };
        if let Ok(charger) = evm_store::chargers::by_identity(&mut db, identity).await {
            gone = charger.is_none_or(|charger| !charger.online || charger.epoch != epoch);
        }
    }
}

/// Asks the charger at its newest connection.
pub(crate) async fn ask(
    app: &App,
    identity: &str,
    epoch: i64,
    request: ChargerRequest,
) -> Result<ChargerReply, Failed> {
    let Ok(payload) = serde_json::to_vec(&request) else { return Err(Failed::Offline) };
    let subject = subject::command(identity, epoch);
    let answer = tokio::select! {
        answer = app.bus.ask(&subject, payload, app.config.command_timeout) => answer,
        // The node that held its socket died, or is cut off from the bus: nobody answers any more.
        () = is_gone(app, identity, epoch) => Err(AskError::Timeout),
    };
    match answer {
        Ok(answer) => match serde_json::from_slice(&answer) {
            Ok(ChargerReply::NoAnswer) => Err(Failed::NoAnswer),
            Ok(ChargerReply::Disconnected) => Err(Failed::Offline),
            Ok(reply) => Ok(reply),
            Err(error) => {
                tracing::error!(%error, "a charger's reply on the bus cannot be read");
                Err(Failed::NoAnswer)
            }
        },
        Err(AskError::NoResponder) => Err(Failed::Offline),
        Err(AskError::Timeout) => Err(Failed::NoAnswer),
        Err(AskError::Down(error)) => {
            tracing::warn!(error, "a command did not go out");
            Err(Failed::BusDown)
        }
    }
}
