//! Push messages to phones, from the outbox: after the money has moved and never inside its transaction, by one node at
//! a time. A crash between Firebase's answer and the mark sends a message again; it replaces the first on the phone.

mod account;
mod fcm;
mod message;

use std::pin::pin;
use std::time::Duration;

use evm_bus::subject;
use evm_store::pushes::{self, Due};
use evm_store::{Store, StoreError, leases, now};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{App, outgoing, relay};
pub use account::ServiceAccount;
pub use fcm::Fcm;
use fcm::{Client, Outcome};

/// Messages read at a time, and sent side by side.
const BATCH: i64 = 32;
const SIDE_BY_SIDE: usize = 16;
/// How long one message may take, with a new sign-in where that is needed.
const ONE: Duration = Duration::from_secs(25);
const LEASE: &str = "push";
/// How long a node that died keeps others from taking over, and how often it is renewed.
const LEASE_MS: i64 = 10_000;
const RENEW: Duration = Duration::from_secs(3);
/// How often it looks without a hint.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A message that has not gone out by then is worth nothing any more.
const MOST_AGE_MS: i64 = 24 * 3_600_000;
/// Tries for one message.
const MOST_TRIES: i32 = 20;
/// Between tries where Firebase names no time: doubled each time, from this on and up to that.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Pushes until `shutdown`. Without Firebase in the settings there is nothing to do: the relay marks what it publishes.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let Some(fcm) = &app.config.fcm else { return };
    let client = match Client::new(fcm) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no push messages go out"),
    };
    let node = evm_store::new_id().to_string();
    // A message under way is sent again by the next node: better than to wait for a slow Firebase at the end.
    let _ = shutdown.run_until_cancelled(push(&app, &client, &node)).await;
    if let Ok(mut db) = app.store.begin().await
        && leases::give_back(&mut db, LEASE, &node).await.is_ok()
    {
        let _ = db.commit().await;
    }
}

async fn push(app: &App, client: &Client, node: &str) {
    let (mut hints, mut failed_sign_ins) = (None, 0);
    loop {
        if hints.is_none() {
            hints = app.bus.subscribe(subject::OUTBOX_HINT).await.ok();
        }
        let wait = match batch(&app.store, client, node).await {
            Ok(Next::More) => continue,
            Ok(Next::Idle) => {
                failed_sign_ins = 0;
                None
            }
            Ok(Next::Pause(wait)) => Some(wait.min(LONGEST_WAIT)),
            Ok(Next::NotSignedIn(why)) => {
                let wait = backoff(failed_sign_ins);
                failed_sign_ins += 1;
                tracing::warn!(why, ?wait, "push messages wait: no sign-in at Firebase");
                Some(wait)
            }
            Err(error) => {
                tracing::warn!(%error, "push messages wait for the store");
                Some(LOOK_EVERY)
            }
        };
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            hint = relay::next_hint(&mut hints) => if !hint { hints = None },
        }
    }
}

/// What to do after a batch.
enum Next {
    /// There may be more.
    More,
    Idle,
    /// Firebase wants to be left alone.
    Pause(Duration),
    NotSignedIn(String),
}

/// Sends what is due.
async fn batch(store: &Store, client: &Client, node: &str) -> Result<Next, StoreError> {
    if pushes::due(&mut store.read().await?, now(), 1).await?.is_empty() {
        return Ok(Next::Idle);
    }
    if let Err(why) = client.sign_in(now().0).await {
        return Ok(Next::NotSignedIn(why));
    }
    let mut db = store.begin().await?;
    let mine = leases::take(&mut db, LEASE, node, LEASE_MS).await?;
    let due = if mine { pushes::due(&mut db, now(), BATCH).await? } else { Vec::new() };
    db.commit().await?;
    let full = i64::try_from(due.len()).is_ok_and(|len| len == BATCH);
    let sent = stream::iter(due).map(|due| async {
        let late = || Some(Outcome::Later("no answer in time".into(), None));
        let outcome = tokio::time::timeout(ONE, send(client, &due)).await.unwrap_or_else(|_| late());
        (due, outcome)
    });
    let mut sending = pin!(sent.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>());
    let sent = loop {
        tokio::select! {
            sent = &mut sending => break sent,
            () = tokio::time::sleep(RENEW) => renew(store, node).await,
        }
    };
    let pause = mark(store, sent).await?;
    Ok(match pause {
        Some(wait) => Next::Pause(wait),
        None if full => Next::More,
        None => Next::Idle,
    })
}

/// Where this fails, another node may send some of it too.
async fn renew(store: &Store, node: &str) {
    let take = async {
        let mut db = store.begin().await?;
        leases::take(&mut db, LEASE, node, LEASE_MS).await?;
        db.commit().await
    };
    if let Err(error) = take.await {
        tracing::debug!(%error, "the lease is not renewed");
    }
}

/// Writes down what became of each; gives how long Firebase wants to be left alone.
async fn mark(store: &Store, sent: Vec<(Due, Option<Outcome>)>) -> Result<Option<Duration>, StoreError> {
    if sent.is_empty() {
        return Ok(None);
    }
    let mut db = store.begin().await?;
    let (mut done, mut pause) = (Vec::new(), None);
    for (due, outcome) in sent {
        let event = &due.event_id;
        match outcome {
            Some(Outcome::Later(why, named)) if !worn_out(&due) => {
                let wait = named.unwrap_or_else(|| backoff(due.tries));
                tracing::warn!(event, why, ?wait, "a push message did not go out yet");
                let wait = i64::try_from(wait.as_millis()).unwrap_or(MOST_AGE_MS);
                pushes::failed(&mut db, due.id, now().plus_millis(wait)).await?;
                pause = pause.max(named);
                continue;
            }
            Some(Outcome::Later(why, _)) => tracing::error!(event, why, "a push message is given up"),
            Some(Outcome::Refused(why)) => tracing::error!(event, why, "Firebase refuses a push message"),
            Some(Outcome::DeadToken) => {
                tracing::info!(customer = %due.customer, "a push token leads nowhere any more");
                pushes::drop_token(&mut db, due.customer, due.token.as_deref().unwrap_or_default()).await?;
            }
            Some(Outcome::Sent) | None => {}
        }
        done.push(due.id);
    }
    pushes::done(&mut db, &done, now()).await?;
    db.commit().await?;
    Ok(pause)
}

/// `None`: there is nothing to send, or nobody to send it to.
async fn send(client: &Client, due: &Due) -> Option<Outcome> {
    let now = now();
    let token = due.token.as_deref()?;
    let left_ms = MOST_AGE_MS - now.since(due.created_at);
    if left_ms < 1000 {
        return None;
    }
    let body = message::body(due, token, left_ms / 1000, now.0 / 1000)?;
    Some(client.send(body, now.0).await)
}

fn worn_out(due: &Due) -> bool {
    due.tries + 1 >= MOST_TRIES || now().since(due.created_at) > MOST_AGE_MS
}

fn backoff(tries: i32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << tries.clamp(0, 16));
    outgoing::jitter(doubled.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        assert!(backoff(0) < Duration::from_secs(13) && backoff(0) > Duration::from_secs(7));
        assert!(backoff(4) > Duration::from_secs(110));
        assert!(backoff(30) <= LONGEST_WAIT * 5 / 4);
    }
}
