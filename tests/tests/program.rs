//! The program's commands, as an operator types them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use evm_tests::clock::Clock;
use evm_tests::engine::Backend;
use evm_tests::program::Program;
use evm_tests::world::{common_env, operator, purchase_is};
use evm_tests::{Customer, Engine, Phone, env, eventually};
use ocpp_sim::{Charger, ChargerConfig, ConnectorStatus};
use reqwest::StatusCode;

struct Ended {
    success: bool,
    stdout: String,
    stderr: String,
}

/// Runs a command that ends by itself, with nothing set but this.
async fn evm(dir: &Path, args: &[&str], settings: &[(&str, &str)]) -> Ended {
    let mut command = tokio::process::Command::new(env::program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EVM_")) {
        command.env_remove(name);
    }
    command.args(args).envs(settings.iter().copied()).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let Output { status, stdout, stderr } = output.unwrap_or_else(|_| panic!("`evm {args:?}` does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { success: status.success(), stdout: text(stdout), stderr: text(stderr) }
}

const FREE_PORTS: [(&str, &str); 3] =
    [("EVM_HTTP_ADDR", "127.0.0.1:0"), ("EVM_OCPP_ADDR", "127.0.0.1:0"), ("EVM_NATS_HUB_ADDR", "127.0.0.1:0")];

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("evm-test.").tempdir().unwrap()
}

#[tokio::test]
async fn help_lists_the_commands_and_the_settings() {
    let help = evm(folder().path(), &["--help"], &[]).await;
    assert!(help.success, "{}", help.stderr);
    for command in ["serve", "csms", "billing-api", "demo", "migrate", "doctor", "nats-config"] {
        assert!(help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}");
    }
    for setting in ["--config", "--http-addr", "EVM_DATABASE_URL", "127.0.0.1:9000"] {
        assert!(help.stdout.contains(setting), "{setting} in {}", help.stdout);
    }
    let unknown = evm(folder().path(), &["srve"], &[]).await;
    assert!(!unknown.success && unknown.stderr.contains("serve"), "{}", unknown.stderr);
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let dir = folder();
    std::fs::write(dir.path().join("evm.toml"), "htp_addr = \"127.0.0.1:0\"\n").unwrap();
    let unknown = evm(dir.path(), &["serve"], &FREE_PORTS).await;
    assert!(!unknown.success && unknown.stderr.contains("unknown key `htp_addr`"), "{}", unknown.stderr);
    let missing = evm(dir.path(), &["serve", "--config", "absent.toml"], &FREE_PORTS).await;
    assert!(!missing.success && missing.stderr.contains("absent.toml"), "{}", missing.stderr);

    for part in ["csms", "billing-api"] {
        let alone = evm(folder().path(), &[part], &FREE_PORTS).await;
        let names = alone.stderr.contains("EVM_DATABASE_URL") && alone.stderr.contains("EVM_NATS_URL");
        assert!(!alone.success && names, "{}", alone.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_a_sqlite_folder() {
    let dir = folder();
    let mut first = Program::start("serve", dir.path(), []).await;
    let data = [("EVM_DATA_DIR", dir.path().to_str().unwrap())];
    let settings: Vec<_> = FREE_PORTS.into_iter().chain(data).collect();
    for command in ["serve", "migrate"] {
        let second = evm(dir.path(), &[command], &settings).await;
        assert!(!second.success, "{}", second.stdout);
        let pid = format!("in use by another process ({})", first.pid().unwrap());
        assert!(second.stderr.contains(&pid), "{}", second.stderr);
    }
    first.stop().await;
    assert!(!dir.path().join("listening.json").exists(), "a clean end removes it");
    let migrated = evm(dir.path(), &["migrate"], &settings).await;
    assert!(migrated.success && migrated.stdout.contains("up to date"), "{}{}", migrated.stdout, migrated.stderr);

    // Killed, it leaves its lock file and its listening.json, and neither is in the way.
    first.restart().await;
    first.kill().await;
    first.restart().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_token_is_made_once_and_printed_once() {
    let dir = folder();
    let mut program = Program::start("serve", dir.path(), []).await;
    let token = eventually("the operator's token", async || {
        let log = program.log();
        let mut lines = log.lines().skip_while(|line| !line.starts_with("Operator token"));
        lines.nth(1).map(|line| line.trim().to_owned())
    })
    .await;
    assert!(token.len() >= 32, "{token}");
    let status = async |program: &Program, token: &str| {
        let request = evm_tests::world::client().get(format!("{}/admin/v1/chargers", program.http)).bearer_auth(token);
        request.send().await.unwrap().status()
    };
    assert_eq!(status(&program, &token).await, StatusCode::OK);
    assert_eq!(status(&program, "another-token-0123456789").await, StatusCode::UNAUTHORIZED);
    program.stop().await;
    program.restart().await;
    assert_eq!(status(&program, &token).await, StatusCode::OK, "it lasts");
    program.stop().await;
    assert_eq!(program.log().matches(&token).count(), 1);
    assert!(!program.log().contains('\x1b'), "colours in a file");
}

/// Two central systems and a billing API that meet in PostgreSQL and NATS only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_large_deployment_work_together() {
    const PHONE: &str = "+97686661488";
    let (dir, backend) = (folder(), Backend::start(Engine::PostgresNats, None).await);
    let settings = || backend.env().into_iter().chain(common_env());
    let mut api = Program::start("billing-api", &dir.path().join("api"), settings()).await;
    let mut nodes = Vec::new();
    for name in ["csms-1", "csms-2"] {
        nodes.push(Program::start("csms", &dir.path().join(name), settings()).await);
    }
    assert!(api.ocpp.is_none() && nodes.iter().all(|node| node.http.is_empty()), "each serves its part");

    let operator = operator(&api.http);
    let customer = Customer::login(&api.http, &operator.http, PHONE).await;
    operator.credit(PHONE, 100_000).await;
    let phone = Phone::connect(&customer).await;
    for (node, version) in nodes.iter().zip([ocpp_sim::Version::V16, ocpp_sim::Version::V201]) {
        let identity = format!("PART-{version}");
        let device = operator.charger(&identity, 1).await.remove(0);
        let mut config = ChargerConfig::new(format!("ws://{}/ocpp", node.ocpp.unwrap()), identity, version);
        config.speed = 200;
        let charger = Charger::spawn(config);
        eventually("the charger to be free", async || {
            (customer.state(&device).await.as_deref() == Some("Idle")).then_some(())
        })
        .await;
        charger.plug_in(1).await;
        customer.start(&device).await.ok();
        charger.wait_status(1, ConnectorStatus::Charging, Duration::from_secs(20)).await.unwrap();
        let seen = phone.heard("CHARGING").len();
        eventually("energy on the phone", async || {
            phone.heard("CHARGING").iter().skip(seen).any(|event| event["energy"] != 0).then_some(())
        })
        .await;
        let purchase = customer.finish(&device).await;
        customer.pay(&purchase, "EVM").await.ok();
        purchase_is(&customer, &purchase, "paid").await;
        charger.unplug(1).await;
        charger.shutdown().await;
    }
    phone.hears("PAYMENT", |event| event["status"] == "success").await;
    for program in nodes.iter_mut().chain([&mut api]) {
        program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_what_is_wrong() {
    let dir = folder();
    let fine = evm(dir.path(), &["doctor"], &FREE_PORTS).await;
    assert!(fine.success && fine.stdout.contains("0 failures, 0 warnings"), "{}", fine.stdout);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it changes nothing");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [
        ("EVM_OCPP_ADDR", address.as_str()),
        ("EVM_OTP_DEV_CODE", "0000"),
        ("EVM_HTP_ADDR", "127.0.0.1:0"),
        ("EVM_DATABASE_URL", "postgres://nobody:hidden@127.0.0.1:1/evm"),
        ("EVM_NATS_URL", "nats://api:hidden@127.0.0.1:1"),
    ];
    let sick = evm(dir.path(), &["doctor"], &settings).await;
    assert!(!sick.success, "{}", sick.stdout);
    assert!(!sick.stdout.contains("hidden") && !sick.stderr.contains("hidden"), "{}{}", sick.stdout, sick.stderr);
    let line = |what: &str, word: &str| {
        let found = sick.stdout.lines().any(|line| line.starts_with(word) && line.contains(what));
        assert!(found, "no {word} of {what} in {}", sick.stdout);
    };
    line("OCPP port", "FAIL");
    line("database", "FAIL");
    line("NATS", "FAIL");
    line("EVM_OTP_DEV_CODE", "warn");
    line("EVM_HTP_ADDR", "warn");

    let unreadable = evm(dir.path(), &["doctor"], &[("EVM_ADMIN_TOKEN", "short")]).await;
    assert!(!unreadable.success && unreadable.stdout.contains("EVM_ADMIN_TOKEN"), "{}", unreadable.stdout);
}

/// One list of checks: what `serve` refuses, `doctor` finds, in the same words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serve_refuses_doctor_finds() {
    let qpay = ("EVM_QPAY_URL", "https://merchant.qpay.mn/v2");
    let sms = ("EVM_SMS_DRIVER", "callpro");
    let key = ("EVM_SMS_KEY", "0123456789abcdef");
    let from = ("EVM_SMS_FROM", "72000000");
    let nats = ("EVM_NATS_URL", "nats://api:hidden@127.0.0.1:1");
    let public = ("EVM_NATS_PUBLIC_URL", "nats://127.0.0.1:1");
    let callout = [
        ("EVM_NATS_CALLOUT_URL", "nats://auth:hidden@127.0.0.1:1"),
        ("EVM_NATS_CALLOUT_ISSUER_SEED", "SAnot-a-seed"),
        ("EVM_NATS_CALLOUT_XKEY_SEED", "SXnot-a-seed"),
    ];
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("EVM_SMS_KEY", vec![sms]),
        ("EVM_SMS_FROM", vec![sms, key]),
        ("EVM_PHONE_COUNTRIES", vec![sms, key, from, ("EVM_PHONE_COUNTRIES", "976,7")]),
        ("EVM_SMS_TEXT", vec![("EVM_SMS_TEXT", "your code is on its way")]),
        ("EVM_SMS_TEXT", vec![sms, key, from, ("EVM_SMS_TEXT", "{code} https://evm.example.mn")]),
        ("EVM_SMS_URL", vec![("EVM_SMS_DRIVER", "http")]),
        ("EVM_FCM_CREDENTIALS", vec![("EVM_FCM_CREDENTIALS", "/nowhere/firebase.json")]),
        ("EVM_QPAY_CLIENT_ID", vec![qpay]),
        ("EVM_QPAY_CLIENT_SECRET", vec![("EVM_QPAY_CLIENT_ID", "M")]),
        ("EVM_NATS_PUBLIC_URL", vec![nats]),
        ("EVM_NATS_CALLOUT_ISSUER_SEED", [nats, public].into_iter().chain(callout).collect()),
    ];
    for (names, settings) in cases {
        let dir = folder();
        let settings: Vec<_> = FREE_PORTS.into_iter().chain(settings).collect();
        let (serve, doctor) =
            tokio::join!(evm(dir.path(), &["serve"], &settings), evm(dir.path(), &["doctor"], &settings));
        assert!(!serve.success && serve.stderr.contains(names), "serve with {settings:?}: {}", serve.stderr);
        let why = serve.stderr.lines().find_map(|line| line.strip_prefix("evm: ")).unwrap_or_default();
        let found = doctor.stdout.lines().any(|line| line.starts_with("FAIL") && line.ends_with(why));
        assert!(!doctor.success && found, "{why}\nis not in\n{}", doctor.stdout);
        assert!(!dir.path().join("data").exists(), "refused before anything is made");
    }
}

/// The mode of a file or folder.
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_that_is_open_to_others_is_closed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings: Vec<_> = FREE_PORTS.into_iter().chain([("EVM_DATA_DIR", data.to_str().unwrap())]).collect();
    let doctor = evm(dir.path(), &["doctor"], &settings).await;
    let warned = doctor.stdout.lines().any(|line| line.starts_with("warn") && line.contains("mode 755"));
    assert!(doctor.success && warned, "{}", doctor.stdout);
    assert_eq!(mode(&data), 0o755, "it changes nothing");

    let mut program = Program::start("serve", &data, []).await;
    let names = ["evm.db", "evm.db-wal", "evm.db-shm", "evm.db.lock", "listening.json"];
    for name in names {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&data), 0o700);
    program.kill().await;
    // As an older program left them.
    for name in ["evm.db", "evm.db-wal", "evm.db.lock"] {
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    program.restart().await;
    for name in names {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_off_is_refused() {
    let (dir, backend, clock) = (folder(), Backend::start(Engine::PostgresNats, None).await, Clock::new());
    let all: Vec<(String, String)> = backend.env().into_iter().chain(common_env()).chain([clock.setting()]).collect();
    let settings: Vec<(&str, &str)> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let settings: Vec<_> = FREE_PORTS.into_iter().chain(settings).collect();
    for (seconds, side) in [(40, "ahead of"), (-3600, "behind")] {
        clock.ahead(seconds);
        for part in ["csms", "billing-api", "serve"] {
            let refused = evm(dir.path(), &[part], &settings).await;
            let why = refused.stderr.contains(side) && refused.stderr.contains("EVM_MAX_CLOCK_SKEW_S=30");
            assert!(!refused.success && why, "{part}: {}", refused.stderr);
        }
        let doctor = evm(dir.path(), &["doctor"], &settings).await;
        let found = doctor.stdout.lines().any(|line| line.starts_with("FAIL") && line.contains(side));
        assert!(!doctor.success && found, "{}", doctor.stdout);
    }
}

#[tokio::test]
async fn a_nats_configuration_in_files_is_nobody_elses_to_read() {
    let dir = folder();
    let script = "umask 022; \"$0\" nats-config > nats-server.conf 2> nats.env";
    let mut shell = tokio::process::Command::new("sh");
    let done = shell.arg("-c").arg(script).arg(env::program()).current_dir(dir.path()).status().await.unwrap();
    assert!(done.success());
    for name in ["nats-server.conf", "nats.env"] {
        let path = dir.path().join(name);
        assert!(path.metadata().unwrap().len() > 100, "{name}");
        assert_eq!(mode(&path), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_nats_configuration_comes_with_its_settings() {
    let printed = evm(folder().path(), &["nats-config", "--port", "4333", "--name", "nats.example.org"], &[]).await;
    assert!(printed.success, "{}", printed.stderr);
    assert!(printed.stdout.contains("port: 4333") && printed.stdout.contains("auth_callout"), "{}", printed.stdout);
    let settings: Vec<(&str, &str)> = printed
        .stderr
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap())
        .collect();
    for (name, value) in &settings {
        assert!(name.starts_with("EVM_NATS_") && !value.is_empty(), "{name}");
    }
    let url = settings.iter().find(|(name, _)| *name == "EVM_NATS_URL").unwrap().1;
    let password = url.strip_prefix("nats://api:").unwrap().split_once('@').unwrap();
    assert_eq!(password.1, "nats.example.org:4333");
    assert!(printed.stdout.contains(password.0), "the passwords belong together");
    // Another run makes other keys.
    let other = evm(folder().path(), &["nats-config"], &[]).await;
    assert!(!other.stdout.contains(password.0));
}
