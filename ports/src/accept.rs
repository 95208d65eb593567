//! The next socket of a port, whatever `accept` fails with meanwhile.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use crate::Places;

/// How long until the next try.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a failure is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// The next socket. Out of file descriptors, most likely, a stranger makes room for the next try. Safe to be dropped.
pub async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The peer thought better of it.
            Err(error) if [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&error.kind()) => {}
            Err(error) => {
                let made_room = places.shed();
                if is_due(Instant::now()) {
                    tracing::warn!(%error, made_room, "cannot accept a socket");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_due(now: Instant) -> bool {
    let Ok(mut told) = TOLD.lock() else { return true };
    let due = told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
    if due {
        *told = Some(now);
    }
    due
}
