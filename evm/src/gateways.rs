//! The gateways that the settings name: SMS, push messages and QPay.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use billing_api::payments::qpay::{QpayClient, QpayConfig};
use billing_api::push::{Fcm, ServiceAccount};
use billing_api::sms::{CallPro, Http, HttpTemplate, Sms, Text};

use crate::settings::{Secret, Settings, SmsDriver};

/// Puts the gateways of the settings into the API's.
///
/// # Errors
/// Where one of them cannot work as it is set; names the setting.
pub(crate) fn configure(settings: &Settings, config: &mut billing_api::Config) -> anyhow::Result<()> {
    config.sms = sms(settings)?;
    config.sms_text = sms_text(settings)?;
    config.codes_per_hour = settings.sms_per_hour;
    config.fcm = fcm(settings)?;
    config.qpay = qpay(settings)?;
    config.qpay_expiry = Duration::from_secs(settings.qpay_expiry_s.into());
    Ok(())
}

/// What sends codes.
///
/// # Errors
/// As [`configure`].
pub(crate) fn sms(settings: &Settings) -> anyhow::Result<Sms> {
    let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.as_str().to_owned()).unwrap_or_default();
    let (url, key) = (text(&settings.sms_url), text(&settings.sms_key));
    let from = settings.sms_from.as_deref().unwrap_or_default();
    Ok(match settings.sms_driver {
        SmsDriver::Log => Sms::Log,
        SmsDriver::CallPro => {
            let countries = "CallPro sends to Mongolian phones only: EVM_PHONE_COUNTRIES must be 976";
            ensure!(settings.phone_countries.0 == [976], countries);
            Sms::CallPro(CallPro::new(if url.is_empty() { CallPro::URL } else { &url }, &key, from)?)
        }
        SmsDriver::Http => Sms::Http(Http::new(&HttpTemplate {
            method: &settings.sms_method,
            url: &url,
            headers: &text(&settings.sms_headers),
            body: settings.sms_body.as_ref().map(Secret::as_str),
            key: &key,
            from,
        })?),
    })
}

/// What a message with a code says.
///
/// # Errors
/// As [`configure`].
pub(crate) fn sms_text(settings: &Settings) -> anyhow::Result<Text> {
    let Some(text) = &settings.sms_text else { return Ok(Text::default()) };
    let text = Text::new(text)?;
    let refused = settings.sms_driver == SmsDriver::CallPro && text.has_link();
    ensure!(!refused, "EVM_SMS_TEXT has a link in it, which CallPro refuses");
    Ok(text)
}

/// The payment gateway, where it is set.
///
/// # Errors
/// As [`configure`].
pub(crate) fn qpay(settings: &Settings) -> anyhow::Result<Option<QpayClient>> {
    let secret = settings.qpay_client_secret.as_ref().map(Secret::as_str);
    let (url, id) = (settings.qpay_url.as_deref(), settings.qpay_client_id.as_deref());
    match (url, id, secret, settings.qpay_invoice_code.as_deref()) {
        (None, None, None, None) => Ok(None),
        (Some(url), Some(id), Some(secret), Some(code)) => {
            ensure!(settings.qpay_expiry_s > 0, "EVM_QPAY_EXPIRY_S is 0: nobody could pay");
            Ok(Some(QpayClient::new(QpayConfig::new(url, id, secret, code)).context("EVM_QPAY_URL")?))
        }
        _ => bail!(
            "EVM_QPAY_URL, EVM_QPAY_CLIENT_ID, EVM_QPAY_CLIENT_SECRET and EVM_QPAY_INVOICE_CODE go together; some are missing"
        ),
    }
}

/// Where push messages go, where it is set.
///
/// # Errors
/// As [`configure`].
pub(crate) fn fcm(settings: &Settings) -> anyhow::Result<Option<Fcm>> {
    let Some(credentials) = &settings.fcm_credentials else { return Ok(None) };
    let text = credentials.as_str();
    let json = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        std::fs::read_to_string(text).context("EVM_FCM_CREDENTIALS is neither JSON nor a file that can be read")?
    };
    let url = settings.fcm_url.as_deref().unwrap_or(Fcm::URL);
    Ok(Some(Fcm::new(url, ServiceAccount::from_json(&json)?)?))
}
