//! Long messages that never come to their end keep nobody's waiting.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use evm_tests::charge::{begin_16, session_is};
use evm_tests::charger::at;
use evm_tests::{Version, on_both_engines};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PHONE: &str = "+97686661488";
const CARD: &str = "04AABBCC";

/// A header with an empty mask, of a text or of its first frame.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first, 0x80 | 127];
    header.extend(length.to_be_bytes());
    header.extend([0; 4]);
    header
}

/// A charger that announces a message of 16 MiB, in one frame or in several, and sends little of it. It goes on as long as it
/// is held.
async fn announce(ocpp: SocketAddr, identity: &str, version: Version, in_frames: bool) -> tokio::task::AbortHandle {
    let mut request = format!("ws://{ocpp}/ocpp/{identity}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", version.protocol().parse().unwrap());
    let stream = TcpStream::connect(ocpp).await.unwrap();
    let mut stream = tokio_tungstenite::client_async(request, stream).await.unwrap().0.into_inner();
    let begin = if in_frames { header(0x01, 100_000) } else { header(0x81, 16 << 20) };
    stream.write_all(&begin).await.unwrap();
    stream.write_all(&vec![b' '; 100_000]).await.unwrap();
    let goes_on = async move {
        let part = if in_frames { [header(0x00, 64), vec![b' '; 64]].concat() } else { vec![b' '; 64] };
        while stream.write_all(&part).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::spawn(goes_on).abort_handle()
}

/// One sample each 5 s.
fn samples(count: u64, sample: impl Fn(u64) -> Value) -> Vec<Value> {
    (1..=count)
        .map(|n| {
            json!({ "timestamp": at(Duration::from_secs((count - n) * 5)), "sampledValue": [sample(n * 1_500 / count)] })
        })
        .collect()
}

on_both_engines! {
    async fn long_messages_that_come_slowly_keep_no_other_waiting(world) {
        let ocpp = world.program.ocpp.unwrap();
        let mut slow = Vec::new();
        for n in 0..12 {
            let identity = format!("SLOW-{n}");
            world.operator.charger(&identity, 1).await;
            let version = if n % 2 == 0 { Version::V16 } else { Version::V201 };
            slow.push(announce(ocpp, &identity, version, n % 3 == 0).await);
        }

        let device = world.operator.charger("CP-1", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;
        let transaction = begin_16(&customer, &mut charger, &device, 0).await;
        let sample = |wh: u64| json!({
            "value": wh.to_string(), "context": "Sample.Periodic", "format": "Raw", "unit": "Wh",
            "measurand": "Energy.Active.Import.Register", "location": "Outlet",
        });
        let stop = json!({
            "transactionId": transaction, "meterStop": 1_500, "timestamp": at(Duration::ZERO),
            "transactionData": samples(30_000, sample),
        });
        assert!(stop.to_string().len() > 5_600_000);
        charger.call("StopTransaction", stop).await.ok();
        let purchase = customer.finish(&device).await;
        world.billed(&purchase, 1_500).await;
        customer.pay(&purchase, "EVM").await.ok();

        world.operator.charger("CS-1", 1).await;
        world.operator.send(Method::PUT, &format!("/customers/{PHONE}/cards/{CARD}"), Some(json!({}))).await.ok();
        let mut charger = world.raw("CS-1", Version::V201).await;
        let event = |kind: &str, seq_no: u32, ago: u64, samples: Vec<Value>| json!({
            "eventType": kind, "timestamp": at(Duration::from_secs(ago)), "seqNo": seq_no, "triggerReason": "MeterValuePeriodic",
            "transactionInfo": { "transactionId": "T1" }, "evse": { "id": 1, "connectorId": 1 },
            "idToken": { "idToken": CARD, "type": "ISO14443" }, "meterValue": samples,
        });
        let sample = |wh: u64| json!({
            "value": wh, "context": "Sample.Periodic", "measurand": "Energy.Active.Import.Register", "location": "Outlet",
            "unitOfMeasure": { "unit": "Wh", "multiplier": 0 },
        });
        charger.call("TransactionEvent", event("Started", 0, 160_000, Vec::new())).await.ok();
        let ended = event("Ended", 1, 0, samples(8_000, sample));
        assert!(ended.to_string().len() > 1_500_000);
        charger.call("TransactionEvent", ended).await.ok();
        let session = session_is(&world.operator, "CS-1", "finished").await;
        world.billed(session["purchaseId"].as_str().unwrap(), 1_500).await;

        assert!(slow.iter().all(|one| !one.is_finished()), "nobody had to make room");
        slow.iter().for_each(tokio::task::AbortHandle::abort);
    }
}
