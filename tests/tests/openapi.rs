//! The API's document: it is what the specification calls one, and the program does what it says.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use evm_tests::{Version, World, charge, env, on_both_engines};
use serde_json::Value;

const PHONE: &str = "+97686661488";

#[test]
fn the_committed_document_is_valid_openapi() {
    let checked = Command::new(env::python())
        .args(["-m", "openapi_spec_validator", "--schema", "3.1"])
        .arg(env::repository().join("docs/app/openapi.json"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn every_operation_says_what_a_stranger_needs() {
    let text = std::fs::read_to_string(env::repository().join("docs/app/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            for field in ["operationId", "summary"] {
                if operation[field].as_str().is_none_or(str::is_empty) {
                    wrong.push(format!("{name} has no {field}"));
                }
            }
            if operation["tags"].as_array().is_none_or(Vec::is_empty) {
                wrong.push(format!("{name} has no tag"));
            }
            let responses = operation["responses"].as_object().unwrap();
            if !responses.keys().any(|status| status.starts_with('2')) {
                wrong.push(format!("{name} has no success"));
            }
            for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
                let problem = &response["content"]["application/problem+json"];
                let examples = problem["examples"].as_object();
                if examples.is_none_or(|examples| examples.is_empty()) {
                    wrong.push(format!("{name} {status} gives no code"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lets schemathesis try everything that the document offers, as one who holds this token.
fn try_everything(world: &World, token: &str, paths: &str) {
    let program = env::python().with_file_name("schemathesis");
    let tried = Command::new(program)
        .current_dir(world.scratch())
        .arg("run")
        .arg(format!("{}/openapi.json", world.program.http))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--include-path-regex", paths])
        // They end the login that everything else needs.
        .args(["--exclude-operation-id", "logout", "--exclude-operation-id", "endLoginSession"])
        // A stream has no end to wait for.
        .args(["--exclude-operation-id", "events"])
        // One worker: with two, CPython 3.11 breaks now and then ("AST constructor recursion depth mismatch").
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--workers", "1"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance", "--request-timeout", "70", "--continue-on-failure"])
        .args(["--generation-database", "none", "--no-color", "--suppress-health-check", "all"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success(), "{said}\n{}", String::from_utf8_lossy(&tried.stderr));
    assert!(!said.contains("returned only 401/403"), "{said}");
}

/// Ids that exist, so that the calls reach what they are about.
fn known_ids(world: &World, device: &str, purchase: &str) {
    let of = |pattern: &str, name: &str, id: &str| {
        format!("[[operations]]\ninclude-path-regex = \"{pattern}\"\nparameters = {{ \"path.{name}\" = \"{id}\" }}\n\n")
    };
    let config = [
        of("^/api/v1/devices/", "id", device),
        of("^/api/v1/purchases/", "id", purchase),
        of("^/admin/v1/customers/", "id", PHONE),
    ];
    std::fs::write(world.scratch().join("schemathesis.toml"), config.concat()).unwrap();
}

on_both_engines! {
    async fn nothing_that_the_document_offers_breaks_the_program(world) {
        let device = world.operator.charger("UB-0001", 1).await.remove(0);
        let customer = world.rich_customer(PHONE, 10_000).await;
        let mut charger = world.raw("UB-0001", Version::V16).await;
        let transaction = charge::begin_16(&customer, &mut charger, &device, 0).await;
        charger.stop(transaction, 500).await;
        charger.status(1, "Available").await;
        let purchase = customer.finish(&device).await;
        known_ids(world, &device, &purchase);
        tokio::task::block_in_place(|| {
            try_everything(world, &customer.token, "^/(api/v1|livez|readyz)");
            try_everything(world, &world.operator.token, "^/admin/v1");
        });
        // A start of its may stand; the device's number is the operator's to change meanwhile.
        customer.post(&format!("/devices/{device}/finish"), None).await;
    }
}
