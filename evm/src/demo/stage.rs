//! Before the story: the folder, the ports, and what a reader can try.

use std::path::PathBuf;

use anyhow::Context;

use super::narrator::Narrator;
use crate::settings::Settings;

/// The code that logs everybody in, where none was set.
const DEV_CODE: &str = "0000";

/// A folder that goes with the demo.
pub(super) struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The demo's own settings: the default store and bus, a folder and ports that nobody else uses.
///
/// # Errors
/// Where there is no room for temporary files.
pub(super) fn prepare(
    mut settings: Settings,
    narrator: &Narrator,
) -> anyhow::Result<(Settings, Option<TemporaryFolder>)> {
    settings.database_url = None;
    settings.nats_url = None;
    settings.nats_public_url = None;
    settings.nats_callout_url = None;
    settings.public_url = None;
    settings.otp_dev_code.get_or_insert_with(|| DEV_CODE.to_owned());
    let folder = if settings.is_given("data_dir") {
        None
    } else {
        settings.data_dir = std::env::temp_dir().join(format!("evm-demo-{}", evm_store::new_id()));
        crate::data::make_folder(&settings.data_dir).context("no room for the demo")?;
        Some(TemporaryFolder(settings.data_dir.clone()))
    };
    for key in ["http_addr", "ocpp_addr", "nats_hub_addr"] {
        let given = settings.is_given(key);
        let address = match key {
            "http_addr" => &mut settings.http_addr,
            "ocpp_addr" => &mut settings.ocpp_addr,
            _ => &mut settings.nats_hub_addr,
        };
        // A taken port that somebody asked for is an error, told when it is bound.
        if !given && std::net::TcpListener::bind(*address).is_err() {
            narrator.say(&format!("{address} is taken; using a free port instead."));
            address.set_port(0);
        }
    }
    Ok((settings, folder))
}

/// Where to click and what to type. The operator's token is shown where it was made for this demo; `qpay`: one can pay by it.
pub(super) fn introduce(narrator: &Narrator, base: &str, dev_code: &str, token: Option<&str>, qpay: bool) {
    let operator = match token {
        Some(token) => format!("ADMIN={token}"),
        None => "ADMIN=$EVM_ADMIN_TOKEN".to_owned(),
    };
    let by_qpay = if qpay {
        format!(
            "  Pay by QPAY: open the url of the answer, and click Pay, Pay half or Cancel.
  First a top-up; then a purchase, with the id that finish answered:
    curl -s {base}/api/v1/customer/replenish \\
      -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
      -d '{{\"amount\": 20000, \"option\": \"QPAY\"}}'
    PURCHASE=…
    curl -s {base}/api/v1/purchases/$PURCHASE/pay \\
      -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
      -d '{{\"option\": \"QPAY\"}}'
"
        )
    } else {
        String::new()
    };
    narrator.say("evm demo: a central system, its billing API, chargers and customers.");
    narrator.plain(&format!(
        "
  Look:  {base}/docs       (the API, to try in a browser)

  Log in as a customer, with any phone and the development code:
    curl -s {base}/api/v1/user/otp-check \\
      -H 'content-type: application/json' \\
      -d '{{\"phone\": \"+976 8666 1488\", \"code\": \"{dev_code}\"}}'
  See the map with the token of the answer; charge with a device's _id from it:
    TOKEN=…  ID=…
    curl -sG {base}/api/v1/devices/by-location \\
      -H \"authorization: Bearer $TOKEN\" \\
      -d bottom-left-longitude=106 -d bottom-left-latitude=47 \\
      -d upper-right-longitude=108 -d upper-right-latitude=49
    curl -s -X POST {base}/api/v1/devices/$ID/start \\
      -H \"authorization: Bearer $TOKEN\"
    curl -s -X POST {base}/api/v1/devices/$ID/finish \\
      -H \"authorization: Bearer $TOKEN\"
{by_qpay}  Give money to this customer as the operator, and look at the chargers:
    {operator}
    curl -s {base}/admin/v1/customers/+97686661488/credit \\
      -H \"authorization: Bearer $ADMIN\" \\
      -H 'content-type: application/json' -d '{{\"amount\": 20000, \"note\": \"cash\"}}'
    curl -s {base}/admin/v1/chargers \\
      -H \"authorization: Bearer $ADMIN\"
"
    ));
}
