//! Accepts sockets, with bounds on how many and a long queue for the return of all chargers at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Node, connection};

/// How long open sockets may take to close at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// Accepts until `shutdown`, then waits for the sockets to close.
pub(crate) async fn run(listener: TcpListener, node: Arc<Node>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(node.config.max_connections));
    let sockets = TaskTracker::new();
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = shutdown.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (node, shutdown) = (node.clone(), shutdown.clone());
                sockets.spawn(async move {
                    connection::run(stream, &node, &shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: let some close before the next try.
                tracing::warn!(%error, "cannot accept a socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    sockets.close();
    if tokio::time::timeout(CLOSING, sockets.wait()).await.is_err() {
        tracing::warn!(open = sockets.len(), "sockets still open at the end");
    }
}
