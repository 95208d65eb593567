//! From a TCP connection to a known charger: the HTTP upgrade, read with bounds, and refused before the 101.
//!
//! OCPP-J 1.6 section 3, 2.0.1 part 4 section 3: identity in the path, Basic credentials, subprotocol.

mod head;
mod refusal;
mod tries;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evm_domain::ChargerId;
use evm_ports::{Limits, Place, Places, prefix};
use evm_store::chargers::{self, Charger};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::head::Head;
use self::refusal::Log;
use self::tries::Tries;
use crate::ocpp::Version;
use crate::{Config, Node};

pub(crate) use self::head::Asked;
pub(crate) use self::refusal::Refusal;

const HEAD_LIMIT: usize = 8 * 1024;
/// How long the store may take to say who a charger is.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);
/// How often it is asked again where it does not say, about.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a refused peer may take to read why.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// Most bytes of it that are taken meanwhile.
const FAREWELL_LIMIT: usize = 64 * 1024;

/// Who may come through the port for chargers, and how many.
pub(crate) struct Door {
    /// Of those who have not said yet what they want.
    pub(crate) strangers: Places,
    /// Of all others.
    seats: Arc<Semaphore>,
    tries: Tries,
    log: Log,
}

impl Door {
    pub(crate) fn new(config: &Config) -> Self {
        // One address may hold all, for many chargers may stand behind one; it is the first to make room.
        let all = config.max_strangers.max(1);
        Self {
            strangers: Places::new(Limits { all, of_one: all }),
            seats: Arc::new(Semaphore::new(config.max_connections)),
            tries: Tries::default(),
            log: Log::default(),
        }
    }
}

/// A charger that may speak.
pub(crate) struct Checked {
    pub(crate) charger: ChargerId,
    /// Its identity, and what else it asked for.
    pub(crate) asked: Asked,
    /// `None`: nothing in common; the handshake is finished and then closed.
    pub(crate) version: Option<Version>,
    /// Hash of the password that it showed, where an earlier one would have done, too.
    pub(crate) password_used: Option<String>,
    /// The 101 to send.
    pub(crate) welcome: String,
    /// Whether a boot of it was accepted before.
    pub(crate) booted: bool,
    /// What came behind the head already.
    pub(crate) rest: Vec<u8>,
    /// Held while it is connected.
    pub(crate) seat: OwnedSemaphorePermit,
}

/// Reads the upgrade and checks it. `None`: refused, or gone.
pub(crate) async fn check(stream: &mut TcpStream, peer: IpAddr, place: Place, node: &Node) -> Option<Checked> {
    let deadline = Instant::now() + node.config.handshake_time;
    let mut asked = Asked::nothing(peer);
    let read = tokio::select! {
        biased;
        () = place.shed() => Err(Refusal::Crowded),
        read = timeout_at(deadline, read_head(stream, &mut asked, node)) => match read {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(read))) => Ok(read),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Refusal::TimedOut),
        },
    };
    // Whoever has sent a head is looked after at once and needs no place among those who wait.
    let (head, rest) = match read {
        Ok(read) => read,
        Err(refusal) => {
            node.door.tell(&asked, refusal);
            say(stream, refusal, &place).await;
            return None;
        }
    };
    drop(place);
    let Ok(seat) = node.door.seats.clone().try_acquire_owned() else {
        refuse(stream, peer, &asked, Refusal::TooMany, node).await;
        return None;
    };
    let found = tokio::select! {
        found = look_up(&head, &asked, node, deadline) => found,
        () = hangs_up(stream) => return None,
    };
    match found {
        Ok(found) => {
            let Found { charger, version, password_used } = found;
            let protocol = version
                .filter(|version| asked.protocols.iter().any(|offer| offer == version.subprotocol()))
                .map(|version| format!("Sec-WebSocket-Protocol: {}\r\n", version.subprotocol()))
                .unwrap_or_default();
            let accept = derive_accept_key(head.key.as_bytes());
            let welcome = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
            );
            let (charger, booted) = (charger.id, charger.booted_at.is_some());
            Some(Checked { charger, asked, version, password_used, welcome, booted, rest, seat })
        }
        Err(refusal) => {
            drop(seat);
            refuse(stream, peer, &asked, refusal, node).await;
            None
        }
    }
}

/// Tells the log and the peer of a refusal.
pub(crate) async fn refuse(stream: &mut TcpStream, peer: IpAddr, asked: &Asked, refusal: Refusal, node: &Node) {
    node.door.tell(asked, refusal);
    // From now on it is a stranger like any other.
    if let Some(place) = enter(peer, node) {
        say(stream, refusal, &place).await;
    }
}

/// A place for somebody who has not said yet what they want. As strangers make room for strangers, there always is one.
pub(crate) fn enter(peer: IpAddr, node: &Node) -> Option<Place> {
    node.door.strangers.enter(peer, node.config.trusted_proxies.contain(peer))
}

/// Says why, and takes what the peer still sends, or its system would throw the answer away unread.
async fn say(stream: &mut TcpStream, refusal: Refusal, place: &Place) {
    let answer = refusal.response();
    if answer.is_empty() {
        return;
    }
    let farewell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut bytes, mut taken) = ([0; 1024], 0);
        while taken < FAREWELL_LIMIT {
            match stream.read(&mut bytes).await? {
                0 => break,
                count => taken += count,
            }
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        () = place.shed() => {}
        _ = timeout(FAREWELL_TIME, farewell) => {}
    }
}

/// The head, and what came behind it. `None`: the peer went away.
async fn read_head(stream: &mut TcpStream, asked: &mut Asked, node: &Node) -> Result<Option<(Head, Vec<u8>)>, Refusal> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return Ok(None);
        }
        match head::read(&bytes, asked, &node.config.trusted_proxies)? {
            Some((head, length)) if length <= HEAD_LIMIT => return Ok(Some((head, bytes.split_off(length)))),
            None if bytes.len() <= HEAD_LIMIT => {}
            _ => return Err(Refusal::TooLarge),
        }
    }
}

/// A charger that may connect.
struct Found {
    charger: Charger,
    version: Option<Version>,
    password_used: Option<String>,
}

/// Done when the peer does not wait any longer. One that has sent more already is taken to wait.
async fn hangs_up(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}

/// What the store knows of a charger. Where the store does not answer, the station waits here for it: refused, many wait
/// longer each time before they come again.
async fn known(identity: &str, node: &Node) -> Result<Option<(Charger, Vec<String>)>, Refusal> {
    let until = Instant::now() + node.config.store_patience;
    loop {
        let lookup = async {
            let mut db = node.store.read().await?;
            let Some(charger) = chargers::by_identity(&mut db, identity).await? else { return Ok(None) };
            let earlier = match charger.has_earlier {
                true => chargers::earlier_passwords(&mut db, charger.id).await?,
                false => Vec::new(),
            };
            Ok::<_, evm_store::StoreError>(Some((charger, earlier)))
        };
        match timeout(LOOK_UP_TIME, lookup).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => tracing::debug!(%error, "the store does not answer"),
            Err(_) => {}
        }
        // Not all of them at once.
        let [chance] = evm_store::random();
        let again = Instant::now() + LOOK_AGAIN / 2 + LOOK_AGAIN * u32::from(chance) / 256;
        if again >= until {
            return Err(Refusal::StoreDown);
        }
        tokio::time::sleep_until(again).await;
    }
}

async fn look_up(head: &Head, asked: &Asked, node: &Node, deadline: Instant) -> Result<Found, Refusal> {
    let (charger, earlier) = known(&asked.identity, node).await?.ok_or(Refusal::NotFound)?;
    let mut password_used = None;
    if let Some(stored) = &charger.password_hash {
        let stored = std::iter::once(stored).chain(&earlier);
        let used = prove(head, asked, &charger, stored, node, deadline).await?;
        password_used = Some(used).filter(|_| charger.has_earlier);
    }
    let version = if asked.protocols.is_empty() {
        Version::ALL.into_iter().find(|v| charger.without_subprotocol.as_deref() == Some(v.as_str()))
    } else {
        Version::ALL.into_iter().find(|v| asked.protocols.iter().any(|offer| offer == v.subprotocol()))
    };
    Ok(Found { charger, version, password_used })
}

/// Which of the stored passwords the peer shows.
async fn prove(
    head: &Head,
    asked: &Asked,
    charger: &Charger,
    mut stored: impl Iterator<Item = &String>,
    node: &Node,
    deadline: Instant,
) -> Result<String, Refusal> {
    let (user, password) = head.credentials.as_ref().ok_or(Refusal::Unauthorized("no password"))?;
    let (tries, address) = (&node.door.tries, asked.address);
    let at_home = charger.last_network.as_deref() == Some(prefix(address).to_string().as_str());
    let attempt = if at_home {
        tries.take(address, &asked.identity)
    } else {
        Ok(tries.wait(address, &asked.identity, deadline).await.map_err(Refusal::TooOften)?)
    };
    let hashes = chargers::password_hashes(&node.config.server_secret, password);
    let right = |stored: &&String| hashes.iter().any(|hash| bool::from(hash.as_bytes().ct_eq(stored.as_bytes())));
    let is_it = user == asked.identity.as_bytes();
    match (stored.find(right).filter(|_| is_it), attempt) {
        (Some(used), attempt) => {
            if let Ok(attempt) = attempt {
                attempt.was_right();
            }
            Ok(used.clone())
        }
        (None, Ok(_)) if !is_it => Err(Refusal::Unauthorized("the user is not the identity")),
        (None, Ok(_)) => Err(Refusal::Unauthorized("the password is wrong")),
        (None, Err(wait)) => Err(Refusal::TooOften(wait)),
    }
}
