//! Which connections at a NATS server a login has, so that they end with it. Each node knows those that it was asked about.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::callout::LOGIN_LIFETIME;

/// Beyond this many logins those whose connections have run out are forgotten.
const MANY: usize = 10_000;

/// The connections of logins.
#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<String, Vec<Connection>>>);

struct Connection {
    place: Place,
    until: Instant,
}

/// A connection: the server's id, and the number that it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: String,
    pub(crate) client: u64,
}

impl Logins {
    /// Notes a connection, before its login is looked up: a logout in between finds it.
    pub(crate) fn note(&self, login: &str, place: Place) {
        let now = Instant::now();
        let mut all = self.lock();
        if all.len() >= MANY {
            all.retain(|_, connections| {
                connections.retain(|connection| connection.until > now);
                !connections.is_empty()
            });
        }
        let own = all.entry(login.to_owned()).or_default();
        own.retain(|connection| connection.until > now);
        own.push(Connection { place, until: now + LOGIN_LIFETIME });
    }

    /// Forgets a connection that was not let in.
    pub(crate) fn refused(&self, login: &str, place: &Place) {
        let mut all = self.lock();
        if let Some(own) = all.get_mut(login) {
            own.retain(|connection| connection.place != *place);
            if own.is_empty() {
                all.remove(login);
            }
        }
    }

    /// The connections of a login that is over.
    pub(crate) fn ended(&self, login: &str) -> Vec<Place> {
        self.lock().remove(login).unwrap_or_default().into_iter().map(|connection| connection.place).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_told_once_and_bounded() {
        let logins = Logins::default();
        let place = |client| Place { server: "S".to_owned(), client };
        logins.note("a", place(1));
        logins.note("a", place(2));
        logins.note("b", place(3));
        logins.refused("b", &place(3));
        logins.refused("a", &place(2));
        assert_eq!((logins.ended("a"), logins.ended("a"), logins.ended("b")), (vec![place(1)], vec![], vec![]));
        for client in 0..10_000 {
            logins.note(&client.to_string(), place(client));
        }
        tokio::time::advance(LOGIN_LIFETIME).await;
        logins.note("new", place(1));
        assert_eq!(logins.lock().len(), 1);
    }
}
