//! Accepts sockets, with a long queue for the return of all chargers at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Node, connection, handshake};

/// How long open sockets may take to close at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// Accepts until `shutdown`, then waits for the sockets to close.
pub(crate) async fn run(listener: TcpListener, node: Arc<Node>, shutdown: CancellationToken) {
    let sockets = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = evm_ports::accept(&listener, &node.door.strangers) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some(place) = handshake::enter(peer.ip(), &node) else { continue };
        let (node, shutdown) = (node.clone(), shutdown.clone());
        sockets.spawn(async move { connection::run(stream, peer.ip(), place, &node, &shutdown).await });
    }
    sockets.close();
    if tokio::time::timeout(CLOSING, sockets.wait()).await.is_err() {
        tracing::warn!(open = sockets.len(), "sockets still open at the end");
    }
}
