//! The HTTP port: connections bounded in number, in the time they may take for a request's head, and at their end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::http::address::{self, Networks};

/// How long a request's head may take, and how long a connection may wait for its next request.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a request's head, and of what waits to be written.
const MOST_BUFFER: usize = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Of all connections, one address may hold this part. Proxies may hold all.
const PART_OF_ONE: usize = 4;

/// How many connections each address holds.
type Held = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Serves until `shutdown`, then lets the requests under way end.
///
/// # Errors
/// Where the port fails for good.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    most: usize,
    proxies: &Networks,
    shutdown: &CancellationToken,
) -> std::io::Result<()> {
    let (places, held, open) = (Arc::new(Semaphore::new(most)), Held::default(), TaskTracker::new());
    while !shutdown.is_cancelled() {
        // With all places taken, new connections wait in the system's own queue.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.map_err(std::io::Error::other)?,
            () = shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, or a peer that went away: other connections end, so this passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let address = address::network(peer.ip());
        let share = if proxies.contain(peer.ip().to_canonical()) { most } else { (most / PART_OF_ONE).max(1) };
        let Some(mine) = Mine::take(&held, address, share) else {
            tracing::debug!("an address holds too many connections");
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        open.spawn(async move {
            connection(stream, peer, router, &shutdown).await;
            drop((place, mine));
        });
    }
    drop(listener);
    open.close();
    open.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, shutdown: &CancellationToken) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(GONE_AFTER));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request.map(Body::new))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MOST_BUFFER);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// One connection of an address, counted while it is open.
struct Mine {
    held: Held,
    address: IpAddr,
}

impl Mine {
    fn take(held: &Held, address: IpAddr, share: usize) -> Option<Self> {
        let mut all = held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= share {
            return None;
        }
        *count += 1;
        Some(Self { held: held.clone(), address })
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Server {
        address: SocketAddr,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<std::io::Result<()>>,
    }

    async fn server(most: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route(
            "/",
            axum::routing::get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.port().to_string() }),
        );
        let token = shutdown.clone();
        let task = tokio::spawn(async move { serve(listener, router, most, &Networks::default(), &token).await });
        Server { address, shutdown, task }
    }

    /// What the server says until it closes the connection.
    async fn all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn requests_know_their_peer_and_one_address_cannot_take_all_places() {
        let server = server(8).await;
        let (mut one, two) =
            (TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap());
        one.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = one.read(&mut buffer).await.unwrap();
        let port = one.local_addr().unwrap().port().to_string();
        assert!(String::from_utf8_lossy(&buffer[..read]).ends_with(&port));
        // Two of eight are this address's part: a third connection is closed at once, until one of them ends.
        let mut third = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(all(&mut third).await, "");
        drop(two);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut next = TcpStream::connect(server.address).await.unwrap();
            let _ = next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            if all(&mut next).await.starts_with("HTTP/1.1 200") {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the place was not given back");
        }
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
        assert_eq!(all(&mut one).await, "", "an idle connection ends with the server");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let server = server(8).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
        let began = tokio::time::Instant::now();
        let said = all(&mut slow).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(began.elapsed() >= HEAD_TIME && began.elapsed() < HEAD_TIME * 2, "{:?}", began.elapsed());
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
    }
}
