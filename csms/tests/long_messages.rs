//! Long messages that share the room of a node, over real sockets: the slow ones give way.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_bus::Bus;
use evm_store::{Store, chargers};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

/// How a message begins that will not be told to its end.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// Half of it comes, and no more.
    Stalls,
    /// The same in several frames.
    InFrames,
    /// Half of it comes, and then a byte now and then.
    Trickles,
}

async fn connect(address: std::net::SocketAddr, identity: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}/ocpp/{identity}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "ocpp1.6".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

/// A header with an empty mask.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first, 0x80 | 127];
    header.extend(length.to_be_bytes());
    header.extend([0; 4]);
    header
}

/// Sends the begin of a message of 16 MiB until the central system closes; gives what that says.
async fn send_slowly(mut socket: WebSocketStream<TcpStream>, how: Slow) -> Vec<u8> {
    let (mut read, mut write) = socket.get_mut().split();
    let bytes = vec![b' '; 250_000];
    let sends = async {
        if let Slow::InFrames = how {
            for n in 0..5 {
                write.write_all(&header(if n == 0 { 0x01 } else { 0 }, 50_000)).await?;
                write.write_all(&bytes[..50_000]).await?;
            }
        } else {
            write.write_all(&header(0x81, 16 << 20)).await?;
            write.write_all(&bytes).await?;
        }
        if let Slow::Trickles = how {
            loop {
                write.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        std::future::pending::<std::io::Result<()>>().await
    };
    let mut farewell = Vec::new();
    tokio::select! {
        _ = sends => {}
        _ = read.read_to_end(&mut farewell) => {}
    }
    farewell
}

/// All of the room is taken by messages that do not go on, in three ways; an honest one comes through at its own pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_crowd_gives_way_to_an_honest_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}", folder.path().join("evm.db").display())).await.unwrap();
    store.migrate().await.unwrap();
    let mut db = store.begin().await.unwrap();
    let slow: Vec<_> = (0..30).map(|n| format!("SLOW-{n}")).collect();
    for identity in slow.iter().map(String::as_str).chain(["HONEST"]) {
        chargers::upsert(&mut db, identity, None, 0, None, evm_store::now()).await.unwrap();
    }
    db.commit().await.unwrap();
    let listener = csms::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    // Half of it for what is on its way: sixteen of the slow ones.
    let (max_room, room_patience) = (8 << 20, Duration::from_millis(200));
    let config = csms::Config { max_room, room_patience, ..csms::Config::new([7; 32]) };
    let run = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
    let system = tokio::spawn(async move { run.await.unwrap() });
    let mut crowd = tokio::task::JoinSet::new();
    for (identity, how) in slow.iter().zip([Slow::Stalls, Slow::InFrames, Slow::Trickles].into_iter().cycle()) {
        crowd.spawn(send_slowly(connect(address, identity).await, how));
    }
    // One of them had to go: so the room was full.
    let farewell = tokio::time::timeout(SOON, crowd.join_next()).await.unwrap().unwrap().unwrap();
    assert!(farewell.windows(2).any(|code| code == 1013u16.to_be_bytes()), "try again: {farewell:?}");
    let mut honest = connect(address, "HONEST").await;
    let text = format!(r#"[2,"h","DataTransfer",{{"vendorId":"v","data":"{}"}}]"#, "x".repeat(1_500_000));
    for _ in 0..2 {
        honest.send(Message::text(&text)).await.unwrap();
        let answer = tokio::time::timeout(SOON, honest.next()).await.unwrap().unwrap().unwrap();
        assert!(answer.to_text().unwrap().starts_with(r#"[3,"h","#), "{answer}");
    }
    // As long as nobody waits, those that are left stay.
    assert!(!crowd.is_empty());
    shutdown.cancel();
    system.await.unwrap();
    store.close().await;
}
