//! `Idempotency-Key`: the same request, sent again, gets the same answer and does nothing twice. It stands around the calls
//! that move money or start something; the others take no notice of it, so that no secret of a login is ever kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use evm_store::idempotency::{self, Known};
use evm_store::{Db, now};

use super::auth::Caller;
use super::lock::Lock;
use super::problem::{Answer, Code, Problem};
use crate::App;
use crate::secrets::hash;

const HEADER: &str = "idempotency-key";
/// Most bytes of a request or an answer that is remembered.
const MOST: usize = 256 * 1024;

/// New keys of a customer in a day. They are kept for 7 days.
const MOST_A_DAY: i64 = 300;

/// The key that this request holds. A route whose money moves in one transaction keeps its answer in that same
/// transaction, so that a crash after it changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    owner: String,
    key: String,
    /// Seals answers that may hold secrets of chargers.
    lock: Option<Lock>,
    /// The answer was written with what it tells of.
    sealed: Arc<AtomicBool>,
}

impl Held {
    /// Keeps the answer with what it tells of.
    pub(crate) async fn seal(held: Option<&Held>, db: &mut Db, answer: &impl serde::Serialize) -> Answer<()> {
        let Some(held) = held else { return Ok(()) };
        let text = serde_json::to_string(answer).map_err(|_| Problem::from(Code::Internal))?;
        held.finish(db, StatusCode::OK, text).await?;
        held.sealed.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(&self, db: &mut Db, status: StatusCode, text: String) -> Answer<()> {
        let text = match &self.lock {
            Some(lock) => lock.seal(&self.key, &text).ok_or(Code::Internal)?,
            None => text,
        };
        Ok(idempotency::finish(db, &self.owner, &self.key, status.as_u16(), &text).await?)
    }

    /// A stored answer as it was given.
    fn open(&self, stored: String) -> Answer<String> {
        match &self.lock {
            Some(lock) => lock.open(&self.key, stored).ok_or_else(|| {
                Code::IdempotencyKeyReused.because("the request with this key was answered under another token")
            }),
            None => Ok(stored),
        }
    }
}

/// Whose keys an operator's are: no customer has this id.
const OPERATOR: &str = "operator";

/// Stands around the POSTs of a customer that take a key.
pub(crate) async fn customer(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    let caller = request.extensions().get::<Caller>().ok_or(Code::Unauthorized)?;
    let owner = caller.customer.to_string();
    around(app, owner, None, request, next).await
}

/// Stands around the POSTs of the operator that take a key.
pub(crate) async fn operator(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    let lock = Lock::of_operator(&app.config.server_secret, &app.config.admin_token);
    around(app, OPERATOR.to_owned(), Some(lock), request, next).await
}

async fn around(app: App, owner: String, lock: Option<Lock>, request: Request, next: Next) -> Answer<Response> {
    let (Some(key), &Method::POST) = (request.headers().get(HEADER), request.method()) else {
        return Ok(next.run(request).await);
    };
    let key = key.to_str().unwrap_or_default().to_owned();
    if !(1..=255).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::field("Idempotency-Key", "has 1 to 255 visible ASCII characters"));
    }
    let held = Held { owner, key, lock, sealed: Arc::default() };
    // On a task of its own: a phone that hangs up must not leave the key without its answer.
    tokio::spawn(async move { once(&app, held, request, next).await }).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request with a key broke");
        Err(Code::Internal.into())
    })
}

async fn once(app: &App, held: Held, request: Request, next: Next) -> Answer<Response> {
    let (mut parts, body) = request.into_parts();
    let bytes = to_bytes(body, MOST).await.map_err(|_| Code::BodyTooLarge)?;
    let mut asked = format!("{} {}\n", parts.method, parts.uri.path()).into_bytes();
    asked.extend_from_slice(&bytes);
    let asked = hash(&app.config.server_secret, "request", &String::from_utf8_lossy(&asked));
    let mut db = app.store.begin().await?;
    let most = (held.owner != OPERATOR).then_some(MOST_A_DAY);
    let known = idempotency::begin(&mut db, &held.owner, &held.key, &asked, most, now()).await?;
    db.commit().await?;
    match known {
        Known::New => {}
        Known::InFlight => return Err(Problem::from(Code::IdempotencyInFlight).retry_after(1)),
        Known::Other => return Err(Code::IdempotencyKeyReused.into()),
        Known::Answer(status, text) => return Ok(respond(status, held.open(text)?)),
        Known::TooMany(until) => {
            let problem = Code::TooManyRequests.because(format!("more than {MOST_A_DAY} new keys in a day"));
            return Err(problem.retry_after_ms(until.since(now())));
        }
    }
    parts.extensions.insert(held.clone());
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    // Sealed and yet no success: the transaction with the seal in it did not come about.
    if held.sealed.load(Ordering::Relaxed) && response.status() == StatusCode::OK {
        return Ok(response);
    }
    keep(app, &held, response).await
}

/// Keeps the answer, unless another try may get a better one.
async fn keep(app: &App, held: &Held, response: Response) -> Answer<Response> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, MOST).await.map_err(|_| Code::Internal)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut db = app.store.begin().await?;
    if parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS {
        idempotency::give_up(&mut db, &held.owner, &held.key).await?;
    } else {
        held.finish(&mut db, parts.status, text).await?;
    }
    db.commit().await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn respond(status: u16, text: String) -> Response {
    let kind = match (status, text.is_empty()) {
        (_, true) => None,
        (..400, _) => Some("application/json"),
        _ => Some("application/problem+json"),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}
