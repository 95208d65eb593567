//! The gateways that the settings name: SMS and push messages.

use anyhow::{Context, ensure};
use billing_api::push::{Fcm, ServiceAccount};
use billing_api::sms::{CallPro, Http, HttpTemplate, Sms, Text};

use crate::settings::{Secret, Settings, SmsDriver};

/// Puts the gateways of the settings into the API's.
///
/// # Errors
/// Where one of them cannot work as it is set; names the setting.
pub(crate) fn configure(settings: &Settings, config: &mut billing_api::Config) -> anyhow::Result<()> {
    config.sms = sms(settings)?;
    if let Some(text) = &settings.sms_text {
        config.sms_text = Text::new(text)?;
    }
    config.codes_per_hour = settings.sms_per_hour;
    config.fcm = fcm(settings)?;
    Ok(())
}

fn sms(settings: &Settings) -> anyhow::Result<Sms> {
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

fn fcm(settings: &Settings) -> anyhow::Result<Option<Fcm>> {
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
