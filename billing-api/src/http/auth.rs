//! Who calls: a customer by the token of a login, or the operator by the one token there is.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use evm_domain::CustomerId;
use evm_store::logins::Login;
use evm_store::{Db, codes, customers, logins, now};
use subtle::ConstantTimeEq;

use super::address::Client;
use super::problem::{Answer, Code, Problem};
use crate::App;
use crate::secrets::{hash, known_network};
use crate::server;

/// Longest token that is looked at.
const LONGEST: usize = 512;
/// How often a login's last use is written down.
const SEEN_EVERY_MS: i64 = 3_600_000;

/// The customer who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) customer: CustomerId,
    /// The login's id, and the user name for events.
    pub(crate) login: String,
    /// As shown.
    pub(crate) token: String,
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let sane = (1..=LONGEST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && sane).then_some(token)
}

/// The good login whose token the headers show, if they do.
pub(crate) async fn login_of(app: &App, db: &mut Db, headers: &HeaderMap) -> Answer<Option<Login>> {
    let Some(token) = bearer(headers) else { return Ok(None) };
    Ok(logins::by_token(db, &hash(&app.config.server_secret, "token", token), now()).await?)
}

/// Lets customers through.
pub(crate) async fn customer(State(app): State<App>, mut request: Request, next: Next) -> Answer<Response> {
    let token = bearer(request.headers()).ok_or(Code::Unauthorized)?.to_owned();
    let hashed = hash(&app.config.server_secret, "token", &token);
    let login = logins::by_token(&mut app.store.read().await?, &hashed, now()).await?;
    let login = login.ok_or(Code::Unauthorized)?;
    server::known(request.extensions());
    app.rates.customer(login.customer)?;
    if now().since(login.seen_at) > SEEN_EVERY_MS {
        seen(&app, &login, request.extensions().get::<Client>().copied()).await;
    }
    request.extensions_mut().insert(Caller { customer: login.customer, login: login.id, token });
    Ok(next.run(request).await)
}

/// Writes down that a login is used, and where. What cannot be written now is written another time.
async fn seen(app: &App, login: &Login, from: Option<Client>) {
    let write = async {
        let mut db = app.store.begin().await?;
        logins::seen(&mut db, &login.id, now()).await?;
        if let (Some(Client(from)), Some(customer)) = (from, customers::by_id(&mut db, login.customer).await?) {
            let network = known_network(&app.config.server_secret, &customer.phone, from);
            codes::remember(&mut db, &customer.phone, &network, now()).await?;
        }
        db.commit().await
    };
    if let Err(error) = write.await {
        tracing::debug!(%error, "a login's last use is not written down");
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Code::Unauthorized.into())
    }
}

/// Lets the operator through.
pub(crate) async fn operator(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    // Hashed first, so that neither length nor letters show in the time it takes.
    let hashed = |token: &str| hash(&app.config.server_secret, "operator", token);
    let shown = hashed(bearer(request.headers()).ok_or(Code::Unauthorized)?);
    let right = shown.as_bytes().ct_eq(hashed(&app.config.admin_token).as_bytes());
    if !bool::from(right) {
        return Err(Code::Unauthorized.into());
    }
    server::known(request.extensions());
    Ok(next.run(request).await)
}
