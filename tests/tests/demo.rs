//! `evm demo --once`, run as a person does whose terminal is a pipe.
#![allow(clippy::unwrap_used)]

use std::process::{Output, Stdio};
use std::time::Duration;

use evm_tests::api::decimal;
use evm_tests::env;
use serde_json::Value;

/// Runs the demo to its end; gives its stdout and the purchase in its last line, both looked over.
async fn demo(args: &[&str]) -> (String, Value) {
    let dir = tempfile::Builder::new().prefix("evm-test.").tempdir().unwrap();
    let mut command = tokio::process::Command::new(env::program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EVM_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    for address in ["EVM_HTTP_ADDR", "EVM_OCPP_ADDR", "EVM_NATS_HUB_ADDR"] {
        command.env(address, "127.0.0.1:0");
    }
    command.arg("demo").args(args).current_dir(dir.path()).env("TMPDIR", dir.path());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Output { status, stdout, stderr } =
        tokio::time::timeout(Duration::from_secs(150), output).await.expect("the demo does not end").unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");

    let mut lines: Vec<&str> = stdout.lines().collect();
    let purchase: Value = serde_json::from_str(lines.pop().unwrap()).unwrap_or_else(|_| panic!("{stdout}"));
    assert_eq!(purchase["status"], "paid", "{purchase}");
    assert!(decimal(&purchase["energy"]) > 0.into() && decimal(&purchase["amount"]) > 0.into(), "{purchase}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'), "colours without a terminal:\n{stdout}\n{stderr}");
    assert!(!stdout.contains('\r'), "{stdout}");
    for line in lines {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    for told in ["/docs", "otp-check", "plugs in at", " kWh "] {
        assert!(stdout.contains(told), "nothing of {told} in:\n{stdout}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    (stdout, purchase)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whole_paid_charge_in_plain_lines() {
    let (stdout, purchase) = demo(&["--once"]).await;
    assert_eq!(purchase["option"], "EVM", "{purchase}");
    assert!(stdout.contains("from the balance") && !stdout.contains("QPAY"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_charge_paid_by_qpay() {
    let (stdout, purchase) = demo(&["--once", "--qpay"]).await;
    assert_eq!(purchase["option"], "QPAY", "{purchase}");
    for told in
        ["chooses QPAY", "Click Pay, Pay half or Cancel", "http://127.0.0.1:", "/pay/", "SUCCESS", "hears PAYMENT"]
    {
        assert!(stdout.contains(told), "nothing of {told} in:\n{stdout}");
    }
}
