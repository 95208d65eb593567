//! Answers a NATS server that asks whom to let in ("auth callout").

mod jwt;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use nkeys::{KeyPair, XKey};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::logins::{Logins, Place};
use crate::nats::{NatsOptions, connect, round_trip};
use crate::{Authenticator, Bus, BusError, CUSTOMER_ACCOUNT, subject};

/// How long a login lasts. Then the server cuts it off and the app logs in anew.
pub const LOGIN_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long an answer may take; the server itself waits 3 s.
pub(crate) const LOGIN_PATIENCE: Duration = Duration::from_secs(3);
/// Longest user and longest secret, in bytes.
const MAX_CREDENTIAL: usize = 256;
/// Logins looked up at once; more wait.
const AT_ONCE: usize = 32;
/// Logins that wait at most; the server refuses the rest after its own 3 s.
const WAITING: usize = 1024;
const SUBJECT: &str = "$SYS.REQ.USER.AUTH";
const XKEY_HEADER: &str = "Nats-Server-Xkey";

/// How to answer the server; fits what [`crate::nats_config()`] writes.
#[derive(Clone)]
pub struct CalloutOptions {
    /// URL of the server with the login of the user `auth`.
    pub url: String,
    /// Seed of the account key that signs customers' logins (`SA…`).
    pub issuer_seed: String,
    /// Seed of the key that seals logins on their way (`SX…`); without one they go unsealed.
    pub xkey_seed: Option<String>,
    /// The account that customers are let into.
    pub account: String,
}

impl CalloutOptions {
    /// Sealed logins into the account [`CUSTOMER_ACCOUNT`].
    pub fn new(url: &str, issuer_seed: &str, xkey_seed: &str) -> CalloutOptions {
        CalloutOptions {
            url: url.to_owned(),
            issuer_seed: issuer_seed.to_owned(),
            xkey_seed: Some(xkey_seed.to_owned()),
            account: CUSTOMER_ACCOUNT.to_owned(),
        }
    }
}

/// Asks the authenticator, within bounds. `Ok(None)` is nobody.
pub(crate) async fn look_up(
    authenticator: &Authenticator,
    user: &str,
    secret: &str,
) -> Result<Option<String>, BusError> {
    let sane = |text: &str| (1..=MAX_CREDENTIAL).contains(&text.len());
    if !sane(user) || !sane(secret) {
        return Ok(None);
    }
    let found = authenticator(user.to_owned(), secret.to_owned());
    let topic = tokio::time::timeout(LOGIN_PATIENCE, found)
        .await
        .map_err(|_| BusError::Down("a login took too long to look up".to_owned()))??;
    match topic {
        Some(topic) if !subject::valid_topic(&topic) => {
            tracing::error!(topic, "a customer's topic is not valid; login refused");
            Ok(None)
        }
        topic => Ok(topic),
    }
}

/// Whether these are seeds that logins can be signed and sealed with.
///
/// # Errors
/// [`BusError::Config`] where one is not.
pub fn check_seeds(issuer_seed: &str, xkey_seed: &str) -> Result<(), BusError> {
    keys(issuer_seed, Some(xkey_seed)).map(drop)
}

fn keys(issuer_seed: &str, xkey_seed: Option<&str>) -> Result<(KeyPair, Option<XKey>), BusError> {
    let wrong = |error: nkeys::error::Error| BusError::Config(error.to_string());
    let issuer = KeyPair::from_seed(issuer_seed).map_err(wrong)?;
    Ok((issuer, xkey_seed.map(XKey::from_seed).transpose().map_err(wrong)?))
}

/// Answers until `shutdown`; see [`Callout`].
///
/// # Errors
/// As [`Callout::connect`].
pub async fn run(
    options: CalloutOptions,
    authenticator: Authenticator,
    shutdown: CancellationToken,
) -> Result<(), BusError> {
    Callout::connect(options, authenticator).await?.run(shutdown).await
}

/// One of those that answer the server: every node has one, and each question goes to one of them (a queue group).
/// Reconnects by itself. While nobody answers, nobody gets in.
pub struct Callout {
    responder: Responder,
    questions: Subscriber,
}

impl Callout {
    /// Connects. The server sends its questions here once this returns.
    ///
    /// # Errors
    /// [`BusError::Config`] for wrong keys or a wrong address, [`BusError::Down`] when the server refuses or is not there.
    pub async fn connect(options: CalloutOptions, authenticator: Authenticator) -> Result<Callout, BusError> {
        let (issuer, xkey) = keys(&options.issuer_seed, options.xkey_seed.as_deref())?;
        let name = "evm auth callout".to_owned();
        let nats = NatsOptions { url: options.url, name };
        let client = connect(&nats, WAITING, Arc::new(AtomicU64::new(0))).await?;
        let questions = client
            .queue_subscribe(SUBJECT, "evm-auth".to_owned())
            .await
            .map_err(|error| BusError::Down(error.to_string()))?;
        round_trip(&client).await?;
        let account = options.account;
        let responder = Responder { issuer, xkey, account, authenticator, client, logins: Arc::default() };
        Ok(Callout { responder, questions })
    }

    /// Tells this bus of the logins that come in, so that [`Bus::disconnect_user`] finds them.
    #[must_use]
    pub fn noting(mut self, bus: &Bus) -> Callout {
        if let Bus::Nats(nats) = bus {
            self.responder.logins = nats.logins.clone();
        }
        self
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// [`BusError::Down`] when the client has ended, which it does not by itself.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), BusError> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let responder = Arc::new(self.responder);
        loop {
            let question = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                question = self.questions.next() => question,
            };
            let question = question.ok_or_else(|| BusError::Down("the client has ended".to_owned()))?;
            // The semaphore is never closed.
            let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
            let responder = responder.clone();
            tokio::spawn(async move {
                if let Err(error) = responder.answer(question).await {
                    tracing::warn!(%error, "a NATS login was not answered");
                }
                drop(permit);
            });
        }
    }
}

struct Responder {
    issuer: KeyPair,
    xkey: Option<XKey>,
    account: String,
    authenticator: Authenticator,
    client: Client,
    logins: Arc<Logins>,
}

impl Responder {
    async fn answer(&self, message: async_nats::Message) -> Result<(), BusError> {
        let reply = message.reply.clone();
        let reply = reply.ok_or_else(|| BusError::Config("no reply subject".to_owned()))?;
        let server = server_key(&message)?;
        let question = jwt::read(&self.open(&message.payload, server.as_ref())?)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if question.exp.is_some_and(|exp| exp < now) {
            return Err(BusError::Config("the question is too old; or a clock is wrong".to_owned()));
        }
        let answer = match self.noted(&question).await? {
            Some(topic) => {
                let lifetime = LOGIN_LIFETIME.as_secs();
                jwt::grant(&self.issuer, &question, &self.account, &topic, now, lifetime)?
            }
            None => jwt::refuse(&self.issuer, &question, "unknown login", now)?,
        };
        let sent = self.client.publish(reply, self.seal(answer, server.as_ref())?.into());
        sent.await.map_err(|error| BusError::Down(error.to_string()))
    }

    /// The topic of a login that is good, whose connection is known from now on.
    async fn noted(&self, question: &jwt::Question) -> Result<Option<String>, BusError> {
        let login = &question.nats.connect_opts;
        if login.user.len() > MAX_CREDENTIAL {
            return Ok(None);
        }
        let place = Place { server: question.nats.server_id.id.clone(), client: question.nats.client_info.id };
        self.logins.note(&login.user, place.clone());
        let found = look_up(&self.authenticator, &login.user, &login.pass).await;
        if !matches!(found, Ok(Some(_))) {
            self.logins.refused(&login.user, &place);
        }
        found
    }

    /// With a key of ours, only sealed questions count.
    fn open(&self, payload: &[u8], server: Option<&XKey>) -> Result<Vec<u8>, BusError> {
        match (&self.xkey, server) {
            (None, _) => Ok(payload.to_vec()),
            (Some(_), None) => Err(BusError::Config("the question is not sealed".to_owned())),
            (Some(own), Some(server)) => own
                .open(payload, server)
                .map_err(|_| BusError::Config("cannot open the question; another xkey?".to_owned())),
        }
    }

    fn seal(&self, answer: String, server: Option<&XKey>) -> Result<Vec<u8>, BusError> {
        match (&self.xkey, server) {
            (Some(own), Some(server)) => {
                own.seal(answer.as_bytes(), server).map_err(|error| BusError::Config(error.to_string()))
            }
            _ => Ok(answer.into_bytes()),
        }
    }
}

/// The key the server sealed its question with, if it did.
fn server_key(message: &async_nats::Message) -> Result<Option<XKey>, BusError> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(XKEY_HEADER));
    header
        .map(|key| XKey::from_public_key(key.as_str()))
        .transpose()
        .map_err(|error| BusError::Config(error.to_string()))
}
