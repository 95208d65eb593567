//! The phones of the customers, and the SMS gateway between them and the server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::line::field;

/// How long an SMS may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Beginnings of Mongolian mobile numbers; six digits follow.
const PREFIXES: [&str; 8] = ["80", "81", "85", "86", "88", "89", "90", "91"];
const NUMBERS: u32 = 8_000_000;

/// Phones that wait for a code, by their national number.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<String>>>>;

/// All phones there are.
pub(crate) struct Phones {
    /// Where the SMS gateway listens.
    pub(crate) gateway: SocketAddr,
    next: AtomicU32,
    waiting: Waiting,
}

/// One phone.
pub(crate) struct Phone {
    national: String,
    /// International form.
    pub(crate) number: String,
    /// The address that its proxy tells. Each has its own: an address gets only a few codes an hour.
    pub(crate) address: String,
    code: oneshot::Receiver<String>,
}

impl Phones {
    /// Starts the gateway; it ends with the program.
    pub(crate) async fn start() -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (gateway, waiting) = (listener.local_addr()?, Waiting::default());
        tokio::spawn(serve(listener, waiting.clone()));
        // Numbers that an earlier measurement on the same database most likely did not use.
        let first = u32::from_be_bytes(evm_store::random()) % NUMBERS;
        Ok(Arc::new(Self { gateway, next: AtomicU32::new(first), waiting }))
    }

    /// A phone that nobody had, ready for its code.
    pub(crate) fn take(&self) -> Phone {
        let n = self.next.fetch_add(1, Ordering::Relaxed) % NUMBERS;
        let prefix = PREFIXES.iter().cycle().nth((n / 1_000_000) as usize).unwrap_or(&PREFIXES[0]);
        let national = format!("{prefix}{:06}", n % 1_000_000);
        let (code_to, code) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(national.clone(), code_to);
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + n).to_string();
        Phone { number: format!("+976{national}"), national, address, code }
    }
}

impl Phone {
    /// The code that comes.
    pub(crate) async fn code(self) -> anyhow::Result<String> {
        let came = tokio::time::timeout(PATIENCE, self.code).await;
        Ok(came.with_context(|| format!("no SMS came to {}", self.national))??)
    }
}

async fn serve(listener: TcpListener, waiting: Waiting) {
    while let Ok((stream, _)) = listener.accept().await {
        let waiting = waiting.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let take = service_fn(|request| deliver(request, &waiting));
            // A message that is lost is missed by its phone.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), take).await;
        });
    }
}

/// Hands a message's code to its phone.
async fn deliver(request: Request<Incoming>, waiting: &Waiting) -> Result<Response<String>, Infallible> {
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let to = field(&text, "to").unwrap_or_default();
    let code: String = field(&text, "text").unwrap_or_default().chars().filter(char::is_ascii_digit).take(6).collect();
    if let Some(phone) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(to) {
        let _ = phone.send(code);
    }
    Ok(Response::new(String::new()))
}
