//! Codes by SMS, through the gateway of the settings.

mod callpro;
mod http;
mod log;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outgoing::{self, BadSetting};
pub use callpro::CallPro;
pub use http::{Http, HttpTemplate};

/// Most characters of one SMS in Latin letters.
const MOST_TEXT: usize = 160;
/// Digits of a code.
const CODE_DIGITS: usize = 6;
/// Tries for one SMS; the same code may then come twice.
const TRIES: usize = 3;
/// Messages under way at a time.
const MOST_UNDER_WAY: usize = 256;
/// How long a message under way is waited for at the end of the program.
const GRACE: Duration = Duration::from_secs(3);

/// The gateway that takes messages.
#[derive(Debug, Clone)]
pub enum Sms {
    /// No gateway: a line in the log says that a code was made, and for whom about. The code itself is nowhere.
    Log,
    /// CallPro (Mongolia).
    CallPro(CallPro),
    /// Any gateway that takes an HTTP request.
    Http(Http),
}

/// One message.
#[derive(Clone)]
pub(crate) struct Message {
    /// The phone, E.164.
    to: String,
    /// Latin letters, 160 at most.
    text: String,
    /// The same for every try.
    id: String,
}

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmsError {
    /// Another try may help.
    #[error("{0}")]
    Passing(String),
    /// The gateway will not take it.
    #[error("{0}")]
    Refused(String),
}

impl Message {
    fn national(&self) -> String {
        let number = phonenumber::parse(None, &self.to);
        number.map_or_else(|_| self.to.clone(), |number| number.national().to_string())
    }
}

/// The text of a message.
#[derive(Debug, Clone)]
pub struct Text(String);

/// What is said where the settings say nothing else.
const DEFAULT_TEXT: &str = "Your EVM code is {code}. It is good for 5 minutes. Tell it to nobody.";

impl Default for Text {
    fn default() -> Self {
        Self(DEFAULT_TEXT.to_owned())
    }
}

impl Text {
    /// A text with `{code}` in it.
    ///
    /// # Errors
    /// Where the code is missing, or the text is not Latin or longer than one SMS.
    pub fn new(text: &str) -> Result<Self, BadSetting> {
        let bad = |why: &str| Err(BadSetting(format!("EVM_SMS_TEXT {why}")));
        if !text.contains("{code}") {
            return bad("has no {code} in it");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return bad("may have Latin letters, digits and signs only");
        }
        let text = Self(text.to_owned());
        if text.with(&"0".repeat(CODE_DIGITS)).len() > MOST_TEXT {
            return bad("is longer than one SMS of 160 characters");
        }
        Ok(text)
    }

    /// Whether there is a link in it.
    #[must_use]
    pub fn has_link(&self) -> bool {
        let text = self.0.to_ascii_lowercase();
        text.contains("://") || text.contains("www.")
    }

    fn with(&self, code: &str) -> String {
        self.0.replace("{code}", code)
    }
}

/// Sends codes beside the requests that ask for them.
#[derive(Clone)]
pub(crate) struct Sender {
    gateway: Arc<Sms>,
    text: Arc<Text>,
    places: Arc<Semaphore>,
    work: TaskTracker,
    shutdown: CancellationToken,
}

impl Sender {
    pub(crate) fn new(gateway: Sms, text: Text, work: TaskTracker, shutdown: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        Self { gateway: Arc::new(gateway), text: Arc::new(text), places, work, shutdown }
    }

    /// Sends a code in the background. The code is stored by now; whoever gets none asks for another.
    pub(crate) fn send(&self, phone: &str, code: &str) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::error!(phone = masked(phone), "too many SMS wait for the gateway: this code does not go out");
            return;
        };
        let message = Message { to: phone.to_owned(), text: self.text.with(code), id: evm_store::new_id().to_string() };
        let (gateway, shutdown) = (self.gateway.clone(), self.shutdown.clone());
        self.work.spawn(async move {
            let _place = place;
            let over = async {
                shutdown.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                () = deliver(&gateway, &message) => {}
                () = over => tracing::warn!(phone = masked(&message.to), "the program ends before an SMS went out"),
            }
        });
    }
}

async fn deliver(gateway: &Sms, message: &Message) {
    let delays = ExponentialBuilder::default().with_min_delay(Duration::from_secs(1)).with_jitter();
    let mut delays = delays.with_max_times(TRIES - 1).build();
    loop {
        let outcome = match gateway {
            Sms::Log => {
                log::write(message);
                return;
            }
            Sms::CallPro(callpro) => callpro.send(message).await,
            Sms::Http(http) => http.send(message).await,
        };
        let phone = masked(&message.to);
        match outcome {
            Ok(()) => return tracing::info!(phone, id = message.id, "a code went out by SMS"),
            Err(SmsError::Passing(why)) => {
                tracing::warn!(phone, id = message.id, why, "the SMS gateway did not take a message");
                match delays.next() {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return tracing::error!(phone, id = message.id, "a code did not go out by SMS"),
                }
            }
            Err(SmsError::Refused(why)) => {
                return tracing::error!(phone, id = message.id, why, "the SMS gateway refuses a message");
            }
        }
    }
}

/// Sends a request; what the gateway says beyond its status is not logged, for it may repeat the text.
async fn exchange(request: reqwest::RequestBuilder) -> Result<(), SmsError> {
    let mut response = request.send().await.map_err(|error| SmsError::Passing(outgoing::cause(error)))?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    let read = outgoing::body(&mut response).await;
    match status.as_u16() {
        200..=299 => read.map(drop).or_else(|why| {
            tracing::debug!(why, "the SMS gateway took a message, but its answer cannot be read");
            Ok(())
        }),
        408 | 429 | 500..=599 => Err(SmsError::Passing(format!("HTTP {}", status.as_u16()))),
        _ => Err(SmsError::Refused(format!("HTTP {}", status.as_u16()))),
    }
}

/// A phone as it may stand in a log: the country about, and the last two digits.
pub(crate) fn masked(phone: &str) -> String {
    let last = phone.len().saturating_sub(2).max(4);
    format!("{}…{}", phone.get(..4).unwrap_or_default(), phone.get(last..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_hold_the_code_and_fit_one_sms() {
        assert_eq!(Text::new("Code: {code}").unwrap().with("012345"), "Code: 012345");
        assert!(Text::new(DEFAULT_TEXT).is_ok());
        assert!(Text::new(&format!("{}{{code}}", "x".repeat(154))).is_ok());
        for bad in ["no code", "Код {code}", "{code}\n", &format!("{}{{code}}", "x".repeat(155))] {
            assert!(Text::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_masked_phone_is_nobodys() {
        assert_eq!(masked("+97686661488"), "+976…88");
        for short in ["", "+9", "+97686"] {
            assert!(masked(short).len() <= short.len() + "…".len());
        }
    }

    #[test]
    fn national_numbers_have_no_country() {
        let message = |to: &str| Message { to: to.into(), text: String::new(), id: String::new() };
        assert_eq!(message("+97686661488").national(), "86661488");
        assert_eq!(message("+4915112345678").national(), "15112345678");
    }
}
