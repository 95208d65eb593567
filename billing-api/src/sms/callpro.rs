//! CallPro's text API: `POST /v1/sms/send` with `x-api-key`.

use std::fmt;

use serde_json::json;

use super::{Message, SmsError, exchange};
use crate::outgoing::{self, BadSetting};

/// CallPro's gateway. It takes Mongolian numbers only.
#[derive(Clone)]
pub struct CallPro {
    url: String,
    key: String,
    from: String,
    http: reqwest::Client,
}

impl CallPro {
    /// Where CallPro listens.
    pub const URL: &'static str = "https://api-text.callpro.mn/v1/sms/send";

    /// The gateway, with the key and the sender's number that CallPro gave.
    ///
    /// # Errors
    /// Where the URL is none, or the key cannot stand in a header.
    pub fn new(url: &str, key: &str, from: &str) -> Result<Self, BadSetting> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadSetting("EVM_SMS_KEY is no key of visible ASCII characters".into()));
        }
        if from.is_empty() {
            return Err(BadSetting("EVM_SMS_FROM is empty".into()));
        }
        let url = outgoing::base_url("EVM_SMS_URL", url)?;
        Ok(Self { url, key: key.to_owned(), from: from.to_owned(), http: outgoing::client()? })
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), SmsError> {
        let body = json!({ "from": self.from, "to": message.national(), "text": message.text });
        exchange(self.http.post(&self.url).header("x-api-key", &self.key).json(&body)).await
    }
}

impl fmt::Debug for CallPro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPro").field("from", &self.from).finish_non_exhaustive()
    }
}
