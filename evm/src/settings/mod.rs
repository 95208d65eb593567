//! The settings, each written down once: flag, environment variable and key of `evm.toml` follow from its name.

mod flags;
mod sources;
mod types;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use evm_ports::Networks;

pub(crate) use flags::Flags;
pub(crate) use sources::unknown_variables;
pub(crate) use types::{LogFormat, Mnt, Numbers, Percent, Secret, SmsDriver};

use sources::{Origin, Values};

/// Read where `--config` names no other file, if it is there.
const CONFIG_FILE: &str = "evm.toml";
/// Fewest characters of the operator's token.
const MIN_TOKEN: usize = 16;

/// One line of the list below.
pub(crate) struct Setting {
    /// As in `evm.toml`: `http_addr` is also `--http-addr` and `EVM_HTTP_ADDR`.
    pub(crate) key: &'static str,
    /// For `--help`.
    pub(crate) help: &'static str,
    /// Where it has one; without, the setting may be absent.
    pub(crate) default: Option<&'static str>,
    /// Never shown, and may come from a file: `…_FILE`.
    pub(crate) secret: bool,
}

/// Makes [`Settings`] and [`SETTINGS`] of lines `/// help`, `key: Type = "default";`. Without a default the field
/// is an `Option`. The type reads itself from text (`FromStr`); `Secret` is never shown and may come from a file.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $key:ident: $type:tt $(= $default:literal)?;)+) => {
        /// What the program was told, checked.
        #[derive(Debug, Clone)]
        pub(crate) struct Settings {
            $($(#[doc = $help])+ pub(crate) $key: settings!(@field $type $($default)?),)+
            given: BTreeMap<&'static str, Origin>,
        }

        /// Every setting there is.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            help: concat!($($help),+),
            default: settings!(@default $($default)?),
            secret: matches!(stringify!($type).as_bytes(), b"Secret"),
        }),+];

        impl Settings {
            fn read(values: &Values) -> anyhow::Result<Self> {
                Ok(Self {
                    $($key: settings!(@read values $key $($default)?),)+
                    given: values.origins(),
                })
            }
        }
    };
    (@field $type:tt $default:literal) => { $type };
    (@field $type:tt) => { Option<$type> };
    (@default $default:literal) => { Some($default) };
    (@default) => { None };
    (@read $values:ident $key:ident $default:literal) => { $values.or_default(stringify!($key), $default)? };
    (@read $values:ident $key:ident) => { $values.get(stringify!($key))? };
}

settings! {
    /// Folder of the data: the SQLite file, its lock, and listening.json while it runs.
    data_dir: PathBuf = "./data";
    /// Where the REST API, /docs, /openapi.json, /livez and /readyz listen.
    http_addr: SocketAddr = "127.0.0.1:8080";
    /// Where chargers connect: ws://ADDR/ocpp/IDENTITY.
    ocpp_addr: SocketAddr = "127.0.0.1:9000";
    /// The built-in NATS port, where phones hear their events while nats_url is unset.
    nats_hub_addr: SocketAddr = "127.0.0.1:4222";
    /// postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH; SQLite in the data folder where unset.
    database_url: Secret;
    /// Seconds that the machine's clock may differ from PostgreSQL's at the start.
    max_clock_skew_s: u32 = "30";
    /// NATS server (2.10 or newer) with the login of its user `api`: nats://api:PASSWORD@HOST:PORT.
    nats_url: Secret;
    /// What customers are told to connect to for events; the built-in port's address where unset.
    nats_public_url: String;
    /// The NATS server with the login of its user `auth`, to say which customers it lets in.
    nats_callout_url: Secret;
    /// Seed of the account key that signs customers' NATS logins (SA…).
    nats_callout_issuer_seed: Secret;
    /// Seed of the key that seals NATS logins on their way (SX…).
    nats_callout_xkey_seed: Secret;
    /// Where browsers and payment gateways reach the REST API; http://HTTP_ADDR where unset.
    public_url: String;
    /// Bearer token of the operator API, 16 characters or more; made at the first start where unset.
    admin_token: Secret;
    /// For development: this code logs everybody in, and no SMS goes out.
    otp_dev_code: String;
    /// Country calling codes of the phones that may log in, with commas between.
    phone_countries: Numbers = "976";
    /// What sends codes: log (nothing does), callpro, or http for any other gateway.
    sms_driver: SmsDriver = "log";
    /// URL of the SMS gateway; with http a template over {to_e164} {to_national} {text} {id} {key} {from}.
    sms_url: Secret;
    /// Key of the SMS gateway.
    sms_key: Secret;
    /// The number or name that messages come from.
    sms_from: String;
    /// With http: GET, POST or PUT.
    sms_method: String = "POST";
    /// With http: headers as templates, `Name: value`, several with `|` between.
    sms_headers: Secret;
    /// With http: the body as a template.
    sms_body: Secret;
    /// The message, with {code} in it, Latin letters, 160 characters at most.
    sms_text: String;
    /// Most codes that are sent in an hour, to everybody together.
    sms_per_hour: u32 = "500";
    /// Percent of VAT in the prices of devices registered from now on.
    vat_rate: Percent = "0";
    /// Whether a charge may begin while an earlier purchase is not paid: true or false.
    start_with_unpaid: bool = "false";
    /// MNT that a customer must have to begin a charge.
    least_balance: Mnt = "0";
    /// MNT that a customer may owe at most and still begin a charge, with start_with_unpaid.
    most_debt: Mnt;
    /// Seconds that a customer waits at a device after a start without plugging in, twice as long each time; 0: none.
    start_again_s: u32 = "60";
    /// Whether a charge stops by itself when its amount reaches the customer's balance: true or false.
    stop_at_balance: bool = "false";
    /// Seconds that a charger which connects while the database does not answer waits for it, before it is refused (503).
    store_patience_s: u32 = "20";
    /// Seconds after which a charge ends that its station knows nothing of any more, by a boot or its connector's state.
    lost_charge_s: u32 = "900";
    /// The QPay gateway, https://merchant.qpay.mn/v2; with the next three, or QPAY is disabled.
    qpay_url: String;
    /// The merchant's user at QPay.
    qpay_client_id: String;
    /// The merchant's password at QPay.
    qpay_client_secret: Secret;
    /// The template of invoices that QPay gave the merchant.
    qpay_invoice_code: String;
    /// Seconds that an invoice can be paid.
    qpay_expiry_s: u32 = "3600";
    /// Where push messages go; Firebase itself where unset.
    fcm_url: String;
    /// The JSON of Firebase's service account, or the path of its file; without it there are no push messages.
    fcm_credentials: Secret;
    /// Proxies whose X-Forwarded-For or Forwarded is believed, and which may hold all connections: addresses and networks, with commas between.
    trusted_proxies: Networks;
    /// Requests a second of one address, in bursts four times as many; a login counts as ten. 0: no limit.
    rate_per_address: u32 = "50";
    /// Requests a second of one customer, in bursts four times as many. 0: no limit.
    rate_per_customer: u32 = "20";
    /// Most open connections of the REST API; one address may hold a quarter of them.
    http_connections: u32 = "4000";
    /// Most chargers connected; a quarter as many sockets more may not have said yet who they are.
    ocpp_connections: u32 = "50000";
    /// Most phones at the built-in NATS port; one address may hold a tenth of them.
    nats_hub_connections: u32 = "10000";
    /// Seconds of silence after which a charger is pinged; three pings unanswered, and it is offline.
    ping_every_s: u32 = "60";
    /// MiB of one charger's messages that are kept a day; those beyond are answered all the same, and counted.
    messages_mb_per_day: u32 = "100";
    /// Form of the log: text or json. RUST_LOG says what is logged.
    log_format: LogFormat = "text";
}

impl Settings {
    /// Reads flags, environment and file, in this order of precedence.
    ///
    /// # Errors
    /// Where a file cannot be read, a key is unknown or a value makes no sense; names the setting.
    pub(crate) fn load(flags: &Flags) -> anyhow::Result<Self> {
        let variable = || std::env::var_os("EVM_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let wanted = flags.config.clone().or_else(variable);
        let path = wanted.as_deref().unwrap_or(Path::new(CONFIG_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && wanted.is_none() => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read the settings in {}", path.display())),
        };
        Self::from_sources(&flags.values, |name| std::env::var(name).ok(), path, &text)
    }

    fn from_sources(
        flags: &BTreeMap<String, String>,
        env: impl Fn(&str) -> Option<String>,
        path: &Path,
        toml: &str,
    ) -> anyhow::Result<Self> {
        let mut settings = Self::read(&Values::gather(flags, env, path, toml)?)?;
        settings.check()?;
        Ok(settings)
    }

    /// Who may begin a charge.
    pub(crate) fn credit(&self) -> evm_domain::credit::Rules {
        evm_domain::credit::Rules {
            start_with_unpaid: self.start_with_unpaid,
            least_balance: self.least_balance.0,
            most_debt: self.most_debt.map(|most| most.0),
        }
    }

    /// Whether a setting was given anywhere, so that it is not merely the default.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Where each given setting came from, for people.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (&'static str, &Origin)> {
        self.given.iter().map(|(key, origin)| (*key, origin))
    }

    /// What no single value shows to be wrong.
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(token) = &self.admin_token {
            let fine = token.as_str().len() >= MIN_TOKEN && token.as_str().bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(fine, "EVM_ADMIN_TOKEN must be {MIN_TOKEN} or more visible ASCII characters, without spaces");
        }
        if let Some(code) = &self.otp_dev_code {
            let fine = (4..=8).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(fine, "EVM_OTP_DEV_CODE must be 4 to 8 digits");
        }
        if let Some(url) = &mut self.public_url {
            ensure!(has_scheme(url, &["http", "https"]), "EVM_PUBLIC_URL must begin with http:// or https://");
            url.truncate(url.trim_end_matches('/').len());
        }
        if let Some(url) = &self.nats_public_url {
            let schemes = ["nats", "tls", "ws", "wss"];
            ensure!(has_scheme(url, &schemes), "EVM_NATS_PUBLIC_URL must begin with nats://, tls://, ws:// or wss://");
        }
        if let Some(url) = &self.database_url {
            let schemes = ["postgres", "postgresql", "sqlite"];
            ensure!(has_scheme(url.as_str(), &schemes), "EVM_DATABASE_URL must begin with postgres:// or sqlite://");
        }
        self.check_nats()
    }

    fn check_nats(&self) -> anyhow::Result<()> {
        let callout = [
            ("EVM_NATS_CALLOUT_URL", self.nats_callout_url.is_some()),
            ("EVM_NATS_CALLOUT_ISSUER_SEED", self.nats_callout_issuer_seed.is_some()),
            ("EVM_NATS_CALLOUT_XKEY_SEED", self.nats_callout_xkey_seed.is_some()),
        ];
        let missing = callout.iter().find(|(_, given)| !given);
        if let (Some((missing, _)), Some((present, _))) = (missing, callout.iter().find(|(_, given)| *given)) {
            bail!("{present} is set, so {missing} must be too; `evm nats-config` prints them all");
        }
        if self.nats_callout_url.is_some() && self.nats_url.is_none() {
            bail!("EVM_NATS_CALLOUT_URL is set, so EVM_NATS_URL must be too; `evm nats-config` prints them all");
        }
        Ok(())
    }
}

fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

#[cfg(test)]
mod tests;
