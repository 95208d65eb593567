//! The packages depend on each other as drawn in ARCHITECTURE.md, come from the registry, and may be used.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_workspace_keeps_its_arrows_sources_and_licences() {
    let version = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        // What only other platforms need was never downloaded here.
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host])
        .current_dir(evm_tests::env::repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).unwrap();
    let wrong = evm_tests::arrows::violations(&metadata);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
