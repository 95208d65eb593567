//! The one access token that all calls share. The gateway forbids fetching tokens often.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::QpayConfig;
use super::error::QpayError;
use super::{http, wire};

/// How long before its end a token is renewed.
const EARLY: Duration = Duration::from_secs(60);
/// What is taken for a token's life where the gateway's word is missing, past by our clock, or beyond belief.
const SHORT_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long nothing is asked after the gateway refused our credentials.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long after a renewal that failed the next is tried, while the old token is still good.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// Most bytes of a token.
const MAX_TOKEN: usize = 16 * 1024;
/// An `expires_in` from here on is UNIX seconds, below it seconds from now.
const ABSOLUTE: u64 = 1_000_000_000;

/// One access token.
pub(super) struct Token {
    pub(super) access: String,
    refresh: Option<String>,
    renew_at: Instant,
    expires: Instant,
    refresh_expires: Instant,
    /// When it was fetched.
    pub(super) fetched: Instant,
    /// Whether it came for id and secret, not for a refresh token.
    pub(super) by_basic: bool,
}

/// How a token is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// By the refresh token where there is one and the gateway takes it, else by id and secret.
    Refresh,
    /// By id and secret.
    Basic,
}

/// The tokens' keeper.
pub(super) struct Tokens {
    http: reqwest::Client,
    config: QpayConfig,
    base: reqwest::Url,
    state: RwLock<State>,
    /// Held by the one who fetches.
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Token>>,
    /// Set while our credentials are known to be refused.
    refused_until: Option<Instant>,
    /// Set after a renewal that failed while the old token was still good.
    renew_again: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(http: reqwest::Client, config: QpayConfig, base: reqwest::Url) -> Arc<Self> {
        let (state, renewing) = Default::default();
        Arc::new(Self { http, config, base, state, renewing })
    }

    /// The token to call with; fetches one first where there is none that is good, once for all who wait.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Token>, QpayError> {
        let now = Instant::now();
        let (current, renew_again) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.current.clone(), state.renew_again)
        };
        match current {
            Some(token) if now < token.renew_at => Ok(token),
            // Still good: it is renewed behind the back of those who go on with it.
            Some(token) if now < token.expires => {
                if renew_again.is_none_or(|again| now >= again) && self.renewing.try_lock().is_ok() {
                    self.start_renewal(Some(token.clone()), Renewal::Refresh);
                }
                Ok(token)
            }
            old => self.renew(old, Renewal::Refresh).await,
        }
    }

    /// A token in place of `old`: the current one where somebody renewed it meanwhile, else a new one.
    pub(super) async fn renew(
        self: &Arc<Self>,
        old: Option<Arc<Token>>,
        how: Renewal,
    ) -> Result<Arc<Token>, QpayError> {
        let failed = |_| Err(QpayError::NotSent("the token could not be fetched".into()));
        let new = self.start_renewal(old.clone(), how).await.unwrap_or_else(failed);
        if new.as_ref().is_err_and(|error| *error == QpayError::Unauthorised) {
            // The old one is no good either, or nobody would have asked.
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.current.take_if(|current| old.is_some_and(|old| Arc::ptr_eq(&old, current)));
        }
        new
    }

    /// A task of its own: a caller that goes away does not waste the token that the others wait for.
    fn start_renewal(
        self: &Arc<Self>,
        old: Option<Arc<Token>>,
        how: Renewal,
    ) -> JoinHandle<Result<Arc<Token>, QpayError>> {
        let tokens = self.clone();
        tokio::spawn(async move {
            let _one = tokens.renewing.lock().await;
            let (current, refused_until) = {
                let state = tokens.state.read().unwrap_or_else(PoisonError::into_inner);
                (state.current.clone(), state.refused_until)
            };
            if let Some(current) = &current
                && old.is_none_or(|old| !Arc::ptr_eq(&old, current))
            {
                return Ok(current.clone());
            }
            if refused_until.is_some_and(|until| Instant::now() < until) {
                return Err(QpayError::Unauthorised);
            }
            let fetched = tokens.fetch(current.as_deref(), how).await.map(Arc::new);
            let mut state = tokens.state.write().unwrap_or_else(PoisonError::into_inner);
            match &fetched {
                Ok(token) => *state = State { current: Some(token.clone()), ..State::default() },
                Err(error) => {
                    tracing::warn!(%error, "no new token of the payment gateway");
                    state.renew_again = Some(Instant::now() + RENEW_AGAIN);
                    if *error == QpayError::Unauthorised {
                        state.refused_until = Some(Instant::now() + REFUSED_PAUSE);
                    }
                }
            }
            fetched
        })
    }

    /// The gateway refuses even a token fresh from it: it is thrown away, and nothing asked for a while.
    pub(super) fn refused(&self) {
        tracing::error!("the payment gateway does not accept the tokens it gives us");
        let refused_until = Some(Instant::now() + REFUSED_PAUSE);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State { refused_until, ..State::default() };
    }

    async fn fetch(&self, old: Option<&Token>, how: Renewal) -> Result<Token, QpayError> {
        let now = Instant::now();
        let refresh = old.filter(|old| how == Renewal::Refresh && now < old.refresh_expires);
        if let Some(refresh) = refresh.and_then(|old| old.refresh.as_deref()) {
            match self.ask("refresh", |request| request.bearer_auth(refresh)).await {
                Ok(answer) => return token(&answer, false),
                Err(error) if refuses(&error) => {}
                Err(error) => return Err(not_sent(error)),
            }
        }
        let QpayConfig { client_id, client_secret, .. } = &self.config;
        match self.ask("token", |request| request.basic_auth(client_id, Some(client_secret))).await {
            Ok(answer) => token(&answer, true),
            Err(error) if refuses(&error) => Err(QpayError::Unauthorised),
            Err(error) => Err(not_sent(error)),
        }
    }

    async fn ask(
        &self,
        what: &str,
        authorise: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Value, QpayError> {
        tracing::debug!(what, "fetching a token of the payment gateway");
        let request = self.http.post(wire::at(&self.base, &["auth", what])?);
        http::exchange(authorise(request), Instant::now() + self.config.timeout).await
    }
}

/// Whether the gateway understood and does not take what we showed.
fn refuses(error: &QpayError) -> bool {
    match error {
        QpayError::Unauthorised | QpayError::NotFound => true,
        QpayError::Refused { status, .. } => *status != 429,
        _ => false,
    }
}

/// Whatever became of the fetch, the call that needed the token was never sent.
fn not_sent(error: QpayError) -> QpayError {
    match error {
        QpayError::Unknown(cause) | QpayError::NotSent(cause) => QpayError::NotSent(format!("no token: {cause}")),
        other => other,
    }
}

fn token(answer: &Value, by_basic: bool) -> Result<Token, QpayError> {
    let fit = |name: &str| {
        let text = answer[name].as_str()?;
        (!text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
    };
    let access = fit("access_token").ok_or_else(|| QpayError::NotSent("no token in the answer".into()))?;
    let now = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let lives = life(&answer["expires_in"], unix);
    Ok(Token {
        access: access.to_owned(),
        refresh: fit("refresh_token").map(str::to_owned),
        renew_at: now + lives.saturating_sub(EARLY).max(lives / 2),
        expires: now + lives,
        refresh_expires: now + life(&answer["refresh_expires_in"], unix),
        fetched: now,
        by_basic,
    })
}

/// How long something lives by its `expires_in`, UNIX seconds or seconds from now.
fn life(expires_in: &Value, unix: u64) -> Duration {
    let seconds = wire::decimal(expires_in).and_then(|seconds| seconds.to_u64()).unwrap_or_default();
    let left = if seconds >= ABSOLUTE { seconds.saturating_sub(unix) } else { seconds };
    if left == 0 { SHORT_LIFE } else { Duration::from_secs(left).min(LONGEST_LIFE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_both_kinds_of_expiry() {
        let now = 1_769_670_125;
        let seconds = |value: Value| life(&value, now).as_secs();
        assert_eq!(seconds(json!(now + 86_400)), 86_400);
        assert_eq!(seconds(json!((now + 300).to_string())), 300);
        assert_eq!(seconds(json!(3600)), 3600);
        assert_eq!(seconds(json!("3600")), 3600);
        assert_eq!(seconds(json!(999_999_999)), 7 * 24 * 3600);
        // Our clock runs ahead, or the gateway says nothing of use.
        for odd in [json!(now - 10), json!(0), json!(-5), json!(null), json!("soon"), json!({})] {
            assert_eq!(seconds(odd), 60);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renews_a_minute_early_but_never_at_once() {
        let lives = |expires_in: u64| {
            let token = token(&json!({ "access_token": "a", "expires_in": expires_in }), true);
            token.map(|token| (token.renew_at - Instant::now()).as_secs())
        };
        assert_eq!(lives(86_400), Ok(86_340));
        assert_eq!(lives(100), Ok(50));
        assert_eq!(lives(0), Ok(30));
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        for odd in
            [json!({}), json!({ "access_token": "" }), json!({ "access_token": "a\nb" }), json!([1]), json!(null)]
        {
            assert!(token(&odd, true).is_err());
        }
    }
}
