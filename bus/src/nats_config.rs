//! The configuration file of the NATS server, whole, so that what operators run is what the tests run.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, XKey};

use crate::BusError;

/// The account that customers are let into, where only their events can be heard.
pub const CUSTOMER_ACCOUNT: &str = "CUSTOMERS";

/// What [`nats_config`] needs to know. Everything but the address is secret.
#[derive(Clone)]
pub struct NatsServerConfig {
    /// Address to listen on, e.g. `0.0.0.0`.
    pub host: String,
    /// Port to listen on; 0 for a free one.
    pub port: u16,
    /// Seed of the account key that signs customers' logins (`SA…`).
    pub issuer_seed: String,
    /// Seed of the key that seals logins on their way (`SX…`).
    pub xkey_seed: String,
    /// Password of the user `auth`, for [`crate::callout`].
    pub auth_password: String,
    /// Password of the user `api`, for [`crate::Bus::connect_nats`].
    pub api_password: String,
    /// Password of the user `sys`, for the operator's own tools.
    pub sys_password: String,
}

impl NatsServerConfig {
    /// Listens at this address, with new keys and passwords.
    ///
    /// # Errors
    /// [`BusError::Config`] when the system gives no random bits.
    pub fn generate(host: &str, port: u16) -> Result<NatsServerConfig, BusError> {
        Ok(NatsServerConfig {
            host: host.to_owned(),
            port,
            issuer_seed: KeyPair::new_account().seed().map_err(config)?,
            xkey_seed: XKey::new().seed().map_err(config)?,
            auth_password: password()?,
            api_password: password()?,
            sys_password: password()?,
        })
    }
}

/// 256 random bits.
fn password() -> Result<String, BusError> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(|error| BusError::Config(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

/// The text of `nats-server.conf`: nats-server 2.10 or newer, auth callout, three accounts and the limits.
///
/// # Errors
/// [`BusError::Config`] for a wrong seed, or a password that is not 8 or more letters, digits, `-` and `_`.
pub fn nats_config(config: &NatsServerConfig) -> Result<String, BusError> {
    let issuer = public_issuer(&config.issuer_seed)?;
    let xkey = XKey::from_seed(&config.xkey_seed).map_err(self::config)?.public_key();
    for password in [&config.auth_password, &config.api_password, &config.sys_password] {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if password.len() < 8 || !password.bytes().all(safe) {
            let rule = "passwords are 8 or more letters, digits, - and _";
            return Err(BusError::Config(rule.to_owned()));
        }
    }
    if !config.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte)) {
        return Err(BusError::Config("host".to_owned()));
    }
    let port = match config.port {
        0 => "-1".to_owned(),
        port => port.to_string(),
    };
    Ok(TEMPLATE
        .replace("{host}", &config.host)
        .replace("{port}", &port)
        .replace("{issuer}", &issuer)
        .replace("{xkey}", &xkey)
        .replace("{auth_password}", &config.auth_password)
        .replace("{api_password}", &config.api_password)
        .replace("{sys_password}", &config.sys_password)
        .replace("{customers}", CUSTOMER_ACCOUNT))
}

fn public_issuer(seed: &str) -> Result<String, BusError> {
    let key = KeyPair::from_seed(seed).map_err(config)?;
    let public = key.public_key();
    if !public.starts_with('A') {
        return Err(BusError::Config("the issuer's seed is not an account's".to_owned()));
    }
    Ok(public)
}

fn config(error: nkeys::error::Error) -> BusError {
    BusError::Config(error.to_string())
}

const TEMPLATE: &str = r#"# nats-server 2.10 or newer. Holds passwords: readable by the server's user only.
host: "{host}"
port: {port}
server_name: evm

# To serve phones over TLS. Their address is then tls://…
# tls { cert_file: "…", key_file: "…" }
# For web clients.
# websocket { port: 8443, tls { cert_file: "…", key_file: "…" } }

# Answers of chargers reach 1 MB. Customers publish nothing; their own limits stand below.
max_payload: 1MB
max_control_line: 4KB
max_connections: 20000
# A slow listener is cut off here and connects again.
max_pending: 8MB
write_deadline: "5s"
ping_interval: "30s"
ping_max: 2

accounts {
  # The operator's own tools: nats --user sys server report connections
  # The program may end connections, those of logins that are over.
  SYS {
    users: [ { user: sys, password: "{sys_password}" } ]
    exports: [ { service: "$SYS.REQ.SERVER.*.KICK", accounts: [APP] } ]
  }

  # Decides who may log in.
  AUTH {
    users: [ {
      user: auth, password: "{auth_password}"
      permissions: {
        subscribe: { allow: ["$SYS.REQ.USER.AUTH", "_INBOX.>"] }
        publish: { allow: ["_INBOX.>"] }
        allow_responses: { max: 1, expires: "5s" }
      }
    } ]
  }

  # The program itself: commands (cmd), charger control (ctl), hints between nodes and customers' events (ev).
  APP {
    users: [ {
      user: api, password: "{api_password}"
      permissions: {
        publish: { allow: ["ev.>", "cmd.>", "ctl.>", "hint.>", "_INBOX.>", "$SYS.REQ.SERVER.*.KICK"] }
        subscribe: { allow: ["ev.>", "cmd.>", "ctl.>", "hint.>", "_INBOX.>"] }
      }
    } ]
    imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.*.KICK" } } ]
    exports: [ { stream: "ev.>", accounts: [{customers}] } ]
  }

  # Customers. Events come in, nothing goes out, and each login may hear its own topic only (see auth_callout).
  # The limits stand here and not at the top, where max_subscriptions would count for the program too.
  {customers} {
    imports: [ { stream: { account: APP, subject: "ev.>" } } ]
    limits: { max_subscriptions: 16, max_payload: 64KB }
  }
}
system_account: SYS

authorization {
  timeout: 3
  auth_callout {
    issuer: {issuer}
    xkey: {xkey}
    account: AUTH
    # These log in with the passwords above; everyone else is asked about.
    auth_users: [ auth, api, sys ]
    allowed_accounts: [ {customers} ]
  }
}
"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        let settings = NatsServerConfig::generate("127.0.0.1", 4222).unwrap();
        let text = nats_config(&settings).unwrap();
        assert!(text.contains("port: 4222\n") && text.contains(&settings.api_password));
        for name in ["host", "port", "issuer", "xkey", "password", "customers"] {
            assert!(!text.contains(&format!("{name}}}")), "{name}");
        }
        assert!(!text.contains(&settings.issuer_seed) && !text.contains(&settings.xkey_seed));
    }

    #[test]
    fn what_would_break_the_file_is_refused() {
        let good = NatsServerConfig::generate("::1", 0).unwrap();
        assert!(nats_config(&good).unwrap().contains("port: -1\n"));
        let wrong = [
            NatsServerConfig { api_password: "pass\"word".to_owned(), ..good.clone() },
            NatsServerConfig { sys_password: "short".to_owned(), ..good.clone() },
            NatsServerConfig { host: "a\"\n".to_owned(), ..good.clone() },
            NatsServerConfig { issuer_seed: good.xkey_seed.clone(), ..good.clone() },
            NatsServerConfig { issuer_seed: good.auth_password.clone(), ..good.clone() },
            NatsServerConfig { xkey_seed: good.issuer_seed.clone(), ..good.clone() },
        ];
        assert!(wrong.iter().all(|config| nats_config(config).is_err()));
    }
}
