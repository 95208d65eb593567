//! The socket side: a port that can be closed and opened again, and sockets that can be cut.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// In the request's extensions: cuts the socket that it came by.
#[derive(Clone)]
pub(crate) struct Socket(pub(crate) CancellationToken);

/// The port.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    open: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Port {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, open: Mutex::default() }
    }

    /// Serves on this listener, unless the port is open.
    pub(crate) fn open(&self, listener: TcpListener, app: Router) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            let closed = CancellationToken::new();
            *open = Some((closed.clone(), tokio::spawn(serve(listener, app, closed))));
        }
    }

    /// Cuts every socket and refuses new ones; returns when that is so.
    pub(crate) async fn close(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((closed, served)) = open {
            closed.cancel();
            let _ = served.await;
        }
    }
}

async fn serve(listener: TcpListener, app: Router, closed: CancellationToken) {
    let mut sockets = JoinSet::new();
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    sockets.spawn(socket(stream, app.clone()));
                }
            }
            Some(_) = sockets.join_next() => {}
        }
    }
    drop(listener);
    sockets.shutdown().await;
}

async fn socket(stream: TcpStream, app: Router) {
    let cut = CancellationToken::new();
    let app = app.layer(Extension(Socket(cut.clone())));
    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::select! {
        _ = http => {}
        () = cut.cancelled() => {}
    }
}
