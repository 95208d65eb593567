//! Tags that are asked about, and wrong ones: guesses wait, and those that are no starts are not stored one by one.

use std::time::Duration;

use evm_domain::{ChargerId, NO_AUTHORIZATION, Timestamp};
use evm_store::{Store, StoreError, cards, chargers, sessions};
use tokio::time::Instant;

use super::{Connection, End, farewell};
use crate::ocpp::{self, Outcome, TagStatus, frame};
use crate::registry::Why;

impl Connection {
    /// Answers a guess of a charger that guesses. `false`: it is to be taken as ever.
    pub(super) async fn answers_guess(
        &mut self,
        id: &str,
        action: &str,
        id_tag: &str,
        received: Timestamp,
    ) -> Result<bool, End> {
        let Some(pause) = self.node.guesses.pause(self.charger, Instant::now()) else { return Ok(false) };
        self.hold_back(pause).await?;
        match is_known(&self.node.store, self.charger, id_tag).await {
            Ok(true) => return Ok(false),
            Ok(false) => {}
            Err(_) => return Err(farewell(Why::StoreDown)),
        }
        self.count_wrong_tag().await;
        let outcome = Outcome { tag: Some(TagStatus::Invalid), ..Outcome::default() };
        let answer = ocpp::answer(self.version, action, outcome, received, self.node.config.heartbeat_s);
        self.send(frame::result(id, &answer)).await?;
        Ok(true)
    }

    /// Waits; not where a newer connection has come, for then there would be many to guess at once.
    pub(super) async fn hold_back(&self, time: Duration) -> Result<(), End> {
        if time.is_zero() { Ok(()) } else { self.unless_ended(tokio::time::sleep(time)).await }
    }

    /// Counts a wrong tag, and tells the operator where they are too many.
    pub(super) async fn count_wrong_tag(&self) {
        let Some(wrong) = self.node.guesses.wrong(self.charger, Instant::now()) else { return };
        let identity = &self.identity;
        tracing::warn!(
            identity,
            wrong,
            "card numbers are guessed at this charger; a card's first charge there is for review"
        );
        if let Err(error) = note(&self.node.store, self.charger).await {
            tracing::warn!(identity, %error, "could not note that card numbers are guessed");
        }
    }
}

async fn note(store: &Store, charger: ChargerId) -> Result<(), StoreError> {
    let mut db = store.begin().await?;
    chargers::set_guessed(&mut db, charger, evm_store::now()).await?;
    db.commit().await
}

/// Whether it is somebody's card, or the tag of a charge that is under way.
async fn is_known(store: &Store, charger: ChargerId, id_tag: &str) -> Result<bool, StoreError> {
    let mut db = store.read().await?;
    let is_card = id_tag == NO_AUTHORIZATION || !cards::of_tags(&mut db, &[id_tag.to_owned()]).await?.is_empty();
    Ok(is_card || sessions::is_live_tag(&mut db, charger, id_tag).await?)
}
