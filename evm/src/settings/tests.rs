#![allow(clippy::unwrap_used)]

use super::*;

fn load(flags: &[(&str, &str)], env: &[(&str, &str)], toml: &str) -> anyhow::Result<Settings> {
    let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Settings::from_sources(&flags, env, Path::new("evm.toml"), toml)
}

/// The whole chain of causes, as people see it.
fn error(flags: &[(&str, &str)], env: &[(&str, &str)], toml: &str) -> String {
    format!("{:#}", load(flags, env, toml).unwrap_err())
}

#[test]
fn every_default_can_be_read() {
    let settings = load(&[], &[], "").unwrap();
    assert_eq!(settings.http_addr, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(settings.data_dir, Path::new("./data"));
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!((settings.sms_driver, settings.sms_per_hour), (SmsDriver::Log, 500));
    assert!(settings.database_url.is_none() && settings.otp_dev_code.is_none());
    assert_eq!(settings.origins().count(), 0);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let flag = [("http_addr", "127.0.0.1:1")];
    let env = [("EVM_HTTP_ADDR", "127.0.0.1:2")];
    let file = "http_addr = '127.0.0.1:3'";
    let port = |flags: &[_], env: &[_], toml| load(flags, env, toml).unwrap().http_addr.port();
    assert_eq!(port(&flag, &env, file), 1);
    assert_eq!(port(&[], &env, file), 2);
    assert_eq!(port(&[], &[], file), 3);
    assert_eq!(port(&[], &[], ""), 8080);
    assert_eq!(load(&[], &[], "phone_countries = 976").unwrap().phone_countries, Numbers(vec![976]));
    assert_eq!(port(&[], &[("EVM_HTTP_ADDR", "")], file), 3, "an empty variable gives nothing");
}

#[test]
fn what_was_given_is_known_with_its_origin() {
    let flag = [("http_addr", "127.0.0.1:1")];
    let settings = load(&flag, &[("EVM_DATA_DIR", "/x")], "otp_dev_code = '0000'").unwrap();
    assert!(settings.is_given("data_dir") && !settings.is_given("ocpp_addr"));
    let origins: Vec<String> = settings.origins().map(|(key, origin)| format!("{key}: {origin}")).collect();
    let expected = ["data_dir: EVM_DATA_DIR", "http_addr: --http-addr", "otp_dev_code: otp_dev_code in evm.toml"]
        .map(str::to_owned);
    assert_eq!(origins, expected);
}

#[test]
fn secrets_may_stand_in_files_at_every_level() {
    let dir = std::env::temp_dir().join(format!("evm-settings-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("token");
    std::fs::write(&path, "token-from-a-file-0123456789\n").unwrap();
    let file = path.to_str().unwrap();
    let toml = format!("admin_token_file = '{file}'");
    let token = |flags: &[_], env: &[_], toml| load(flags, env, toml).unwrap().admin_token.unwrap().as_str().to_owned();
    let plain = "token-as-it-is-0123456789";
    assert_eq!(token(&[], &[("EVM_ADMIN_TOKEN_FILE", file)], ""), "token-from-a-file-0123456789");
    assert_eq!(token(&[], &[], &toml), "token-from-a-file-0123456789");
    assert_eq!(token(&[("admin_token_file", file)], &[("EVM_ADMIN_TOKEN", plain)], ""), "token-from-a-file-0123456789");
    assert_eq!(token(&[], &[("EVM_ADMIN_TOKEN", plain)], &toml), plain, "the environment beats the file's file");

    let both = error(&[], &[("EVM_ADMIN_TOKEN", plain), ("EVM_ADMIN_TOKEN_FILE", file)], "");
    assert!(both.contains("EVM_ADMIN_TOKEN and EVM_ADMIN_TOKEN_FILE"), "{both}");
    std::fs::write(&path, "\n").unwrap();
    assert!(error(&[], &[("EVM_ADMIN_TOKEN_FILE", file)], "").contains("is empty"));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(error(&[], &[("EVM_ADMIN_TOKEN_FILE", file)], "").starts_with("EVM_ADMIN_TOKEN_FILE: cannot read"));
}

#[test]
fn what_is_wrong_is_named() {
    let toml = error(&[], &[], "htp_addr = '127.0.0.1:1'");
    assert!(toml.starts_with("evm.toml: unknown key `htp_addr`"), "{toml}");
    assert!(error(&[], &[], "[http]\naddr = 1").contains("unknown key `http`"));
    assert!(error(&[], &[], "data_dir_file = 'x'").contains("unknown key `data_dir_file`"), "no secret, no file");
    assert!(error(&[], &[], "http_addr = [1]").contains("`http_addr` must be"));
    assert!(error(&[], &[], "http_addr = ").contains("evm.toml is not TOML"));
    let address = error(&[], &[("EVM_HTTP_ADDR", "localhost")], "");
    assert!(address.contains("EVM_HTTP_ADDR") && address.contains("127.0.0.1:8080"), "{address}");
    assert!(error(&[], &[], "phone_countries = '976,x'").contains("phone_countries in evm.toml"));
    assert!(error(&[("log_format", "xml")], &[], "").contains("--log-format: use text or json"));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (name, value) in [
        ("EVM_ADMIN_TOKEN", "fifteen-letters"),
        ("EVM_ADMIN_TOKEN", "sixteen letters!"),
        ("EVM_OTP_DEV_CODE", "abcd"),
        ("EVM_OTP_DEV_CODE", "123"),
        ("EVM_PUBLIC_URL", "example.org"),
        ("EVM_NATS_PUBLIC_URL", "http://example.org"),
        ("EVM_SMS_DRIVER", "pigeon"),
        ("EVM_TRUSTED_PROXIES", "10.0.0.0/64"),
        ("EVM_RATE_PER_ADDRESS", "-1"),
        ("EVM_DATABASE_URL", "mysql://user:hidden@host/db"),
        ("EVM_NATS_CALLOUT_URL", "nats://auth:hidden@host"),
    ] {
        let error = error(&[], &[(name, value)], "");
        assert!(error.contains(name) && !error.contains(value) && !error.contains("hidden"), "{error}");
    }
    let settings = load(&[], &[("EVM_PUBLIC_URL", "https://example.org/evm/")], "admin_token = 'exactly-sixteen!'");
    assert_eq!(settings.unwrap().public_url.unwrap(), "https://example.org/evm");
}

#[test]
fn secrets_are_not_shown() {
    let settings = load(&[], &[("EVM_DATABASE_URL", "postgres://user:hidden@host/db")], "").unwrap();
    assert!(!format!("{settings:?}").contains("hidden"));
}

#[test]
fn misspelt_variables_are_found() {
    let names = ["EVM_HTTP_ADDR", "EVM_ADMIN_TOKEN_FILE", "EVM_HTTP_ADR", "EVM_TEST_BIN", "PATH", "EVM_CONFIG"];
    assert_eq!(unknown_variables(names.map(str::to_owned).into_iter()), ["EVM_HTTP_ADR"]);
}
