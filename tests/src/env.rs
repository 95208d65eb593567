//! What `./test` hands to the tests, and where things lie.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The program under test: `EVM_TEST_BIN`, else the `evm` that was built beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("EVM_TEST_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/this-test-… → target/debug/evm
    let path = test.parent().and_then(Path::parent).unwrap().join("evm");
    assert!(path.is_file(), "no program at {}: run the tests by ./test, which builds it", path.display());
    path
}

/// The Python of the virtual environment that `./test` makes.
pub fn python() -> PathBuf {
    let path = repository().join(".venv/bin/python");
    assert!(path.exists(), "no {}: run the tests by ./test, which makes it", path.display());
    path
}

/// The nats-server binary.
pub fn nats_server() -> PathBuf {
    required("EVM_TEST_NATS_SERVER").into()
}

/// The URL of the run's private PostgreSQL, with a role that may create databases.
pub fn postgres_url() -> String {
    required("EVM_TEST_POSTGRES_URL")
}

/// The folder of the PyPI package `ocpp`.
pub fn python_ocpp() -> PathBuf {
    let lib = repository().join(".venv/lib");
    std::fs::read_dir(&lib)
        .ok()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages/ocpp"))
        .find(|path| path.is_dir())
        .unwrap_or_else(|| panic!("no package ocpp under {}: run the tests by ./test", lib.display()))
}

/// How many orders a test of "any order" plays: `EVM_TEST_ROUNDS`, else a few.
pub fn rounds() -> usize {
    std::env::var("EVM_TEST_ROUNDS").ok().map_or(3, |rounds| rounds.parse().unwrap())
}

fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set: run the tests by ./test, which starts what they need"),
    }
}
