//! A TCP connection's way that can fall silent: nothing is carried, and nobody is told.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The listening side; it ends with this value.
pub struct Wire {
    /// Where to connect to.
    pub addr: SocketAddr,
    carries: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// Listens on a free port and carries every connection to `upstream`.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (carries, watched) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&upstream).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                ways.spawn(carry(near_in, far_out, watched.clone()));
                ways.spawn(carry(far_in, near_out, watched.clone()));
            }
        });
        Self { addr, carries, _tasks: tasks }
    }

    /// Carries nothing from now on.
    pub fn fall_silent(&self) {
        self.carries.send_replace(false);
    }

    /// Carries again, first what was held back.
    pub fn carry_on(&self) {
        self.carries.send_replace(true);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut carries: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if carries.wait_for(|carries| *carries).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
