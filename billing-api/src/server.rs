//! The HTTP port: connections bounded in number, in the time they may take for a request's head, and at their end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Extensions, Request};
use evm_ports::{Limits, Networks, Place, Places};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// How long a request's head may take, and how long a connection may wait for its next request.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a request's head, and of what waits to be written.
const MOST_BUFFER: usize = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Of all connections, one address may hold this part. Proxies may hold all.
const PART_OF_ONE: usize = 4;

/// The place of the connection that a request came by.
#[derive(Clone)]
struct Held(Arc<Place>);

/// Says that the request with these extensions is somebody's: its connection makes no room for others any more.
pub(crate) fn known(extensions: &Extensions) {
    extensions.get::<Held>().map(|held| held.0.keep());
}

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
    let places = Places::new(Limits { all: most, of_one: (most / PART_OF_ONE).max(1) });
    let open = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = evm_ports::accept(&listener, &places) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some(place) = places.enter(peer.ip(), proxies.contain(peer.ip())) else {
            tracing::debug!("too many connections of those who are known");
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        open.spawn(async move {
            let place = Arc::new(place);
            tokio::select! {
                () = connection(stream, peer, router, Held(place.clone()), &shutdown) => {}
                () = place.shed() => tracing::debug!("a connection of nobody known made room"),
            }
        });
    }
    drop(listener);
    open.close();
    open.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, held: Held, shutdown: &CancellationToken) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(GONE_AFTER));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(held.clone());
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
        let port = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.port().to_string() };
        let greet = |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: axum::extract::Request| async move {
            known(request.extensions());
            peer.port().to_string()
        };
        let router = Router::new().route("/", axum::routing::get(port)).route("/known", axum::routing::get(greet));
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

    /// Asks by a new connection; what the server says.
    async fn asks(stream: &mut TcpStream, path: &str) -> String {
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.unwrap_or_default();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test]
    async fn requests_know_their_peer_and_an_address_at_its_part_loses_its_oldest_stranger() {
        let server = server(8).await;
        let connect = async || TcpStream::connect(server.address).await.unwrap();
        let (mut known, mut stranger) = (connect().await, connect().await);
        let port = known.local_addr().unwrap().port().to_string();
        assert!(asks(&mut known, "/known").await.ends_with(&port));
        assert!(asks(&mut stranger, "/").await.starts_with("HTTP/1.1 200"));
        // Two of eight are this address's part: a third connection takes the stranger's place.
        let mut third = connect().await;
        assert!(asks(&mut third, "/known").await.starts_with("HTTP/1.1 200"));
        assert_eq!(all(&mut stranger).await, "");
        // Both are known now: a fourth is closed at once, until one of them ends.
        assert_eq!(all(&mut connect().await).await, "");
        assert!(asks(&mut known, "/").await.starts_with("HTTP/1.1 200"));
        drop(third);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !asks(&mut connect().await, "/").await.starts_with("HTTP/1.1 200") {
            assert!(tokio::time::Instant::now() < deadline, "the place was not given back");
        }
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
        assert_eq!(all(&mut known).await, "", "an idle connection ends with the server");
    }

    #[tokio::test]
    async fn half_open_connections_of_many_addresses_keep_nobody_out() {
        let server = server(40).await;
        let mut crowd = Vec::new();
        for _ in 0..60 {
            for address in 2..8 {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::from(([127, 0, 0, address], 0))).unwrap();
                let mut stream = socket.connect(server.address).await.unwrap();
                let _ = stream.write_all(b"GET / HT").await;
                crowd.push(stream);
            }
        }
        for _ in 0..20 {
            let mut honest = TcpStream::connect(server.address).await.unwrap();
            assert!(asks(&mut honest, "/").await.starts_with("HTTP/1.1 200"));
        }
        server.shutdown.cancel();
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
