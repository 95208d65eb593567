//! Which package may depend on which, and under which licences, checked over `cargo metadata`.

use serde_json::Value;

/// Our packages and those of ours that each may use, in any kind of dependency.
const OURS: &[(&str, &[&str])] = &[
    ("evm-domain", &[]),
    ("evm-store", &["evm-domain"]),
    ("evm-ports", &[]),
    ("evm-bus", &["evm-domain", "evm-ports"]),
    ("csms", &["evm-domain", "evm-store", "evm-ports", "evm-bus"]),
    ("billing-api", &["evm-domain", "evm-store", "evm-ports", "evm-bus"]),
    ("ocpp-sim", &[]),
    ("qpay-sim", &[]),
    ("evm", &["evm-domain", "evm-store", "evm-ports", "evm-bus", "csms", "billing-api", "ocpp-sim", "qpay-sim"]),
    ("evm-tests", &["evm-domain", "evm-store", "evm-bus", "ocpp-sim", "qpay-sim"]),
    ("evm-bench", &["evm-domain", "evm-store", "evm-bus", "csms", "billing-api"]),
];

/// What the tests of a package may use beside that.
const FOR_TESTS: &[(&str, &[&str])] = &[("csms", &["ocpp-sim"]), ("billing-api", &["qpay-sim"])];

/// Crates that only some of ours may use. `evm` talks to NATS as the demo's phone does.
const KEPT: &[(&str, &[&str])] = &[
    ("sqlx", &["evm-store"]),
    ("async-nats", &["evm-bus", "evm", "evm-tests"]),
    ("nkeys", &["evm-bus"]),
    ("rust-ocpp", &["csms", "ocpp-sim"]),
];

/// All that the domain may be built from.
const DOMAIN: &[&str] = &["rust_decimal", "thiserror"];

/// Licences that ask for no more than to be named, and MPL-2.0, which covers its own files only.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
];

/// Everything in this `cargo metadata` that is against the rules.
pub fn violations(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        match package["source"].as_str() {
            None => member(name, package, &mut wrong),
            Some(source) if source.starts_with("registry+") && source.ends_with("/crates.io-index") => {}
            Some(source) => wrong.push(format!("{name} comes from {source}")),
        }
        match package["license"].as_str() {
            Some(licence) if allowed(licence) => {}
            licence => wrong.push(format!("{name} has the licence {licence:?}")),
        }
    }
    wrong
}

fn member(name: &str, package: &Value, wrong: &mut Vec<String>) {
    let Some((_, may_use)) = OURS.iter().find(|(ours, _)| *ours == name) else {
        wrong.push(format!("{name} has no rule: say in tests/src/arrows.rs what it may use"));
        return;
    };
    for dependency in package["dependencies"].as_array().unwrap() {
        let used = dependency["name"].as_str().unwrap();
        let of_ours = OURS.iter().any(|(ours, _)| *ours == used);
        let for_tests = dependency["kind"] == "dev";
        let in_tests = for_tests && FOR_TESTS.iter().any(|(user, may)| *user == name && may.contains(&used));
        if of_ours && !may_use.contains(&used) && !in_tests {
            wrong.push(format!("{name} may not use {used}"));
        }
        let kept = KEPT.iter().find(|(root, _)| used == *root || used.starts_with(&format!("{root}-")));
        if kept.is_some_and(|(_, users)| !users.contains(&name)) {
            wrong.push(format!("{name} may not use {used}"));
        }
        if name == "evm-domain" && !of_ours && !for_tests && !DOMAIN.contains(&used) {
            wrong.push(format!("{name} may not use {used}"));
        }
    }
}

/// Whether an SPDX expression leaves a way to use the crate under the licences of the list.
fn allowed(expression: &str) -> bool {
    // Old manifests write `/` for OR. AND binds tighter than OR; parentheses are cut out innermost first.
    let mut expression = expression.replace('/', " OR ");
    while let Some(close) = expression.find(')') {
        let Some(open) = expression[..close].rfind('(') else { return false };
        let inner = if allowed(&expression[open + 1..close]) { "MIT" } else { "refused" };
        expression.replace_range(open..=close, inner);
    }
    expression.split(" OR ").any(|choice| {
        choice.split(" AND ").all(|licence| {
            let licence = licence.trim().split(" WITH ").next().unwrap_or_default();
            LICENCES.contains(&licence)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &[&str]) -> Value {
        let uses: Vec<Value> = uses.iter().map(|used| json!({ "name": used, "kind": null })).collect();
        json!({ "name": name, "source": null, "license": "MIT OR Apache-2.0", "dependencies": uses })
    }

    fn wrong(packages: Value) -> Vec<String> {
        violations(&json!({ "packages": packages }))
    }

    #[test]
    fn every_arrow_that_is_not_drawn_is_refused() {
        let ours = |name| OURS.iter().find(|(ours, _)| *ours == name).unwrap().1;
        for (name, may_use) in OURS {
            assert_eq!(wrong(json!([package(name, may_use)])), Vec::<String>::new());
            for (other, _) in OURS.iter().filter(|(other, _)| !may_use.contains(other)) {
                assert_eq!(wrong(json!([package(name, &[other])])).len(), 1, "{name} → {other}");
            }
        }
        assert!(!ours("csms").contains(&"billing-api") && !ours("billing-api").contains(&"csms"));
    }

    #[test]
    fn kept_crates_stay_where_they_are() {
        for (name, used) in [
            ("csms", "sqlx"),
            ("evm", "sqlx-core"),
            ("csms", "async-nats"),
            ("billing-api", "nkeys"),
            ("billing-api", "rust-ocpp"),
            ("evm-domain", "tokio"),
        ] {
            assert_eq!(wrong(json!([package(name, &[used])])), [format!("{name} may not use {used}")]);
        }
        assert!(wrong(json!([package("evm-domain", DOMAIN), package("evm-store", &["sqlx"])])).is_empty());
    }

    #[test]
    fn the_simulators_serve_tests_only() {
        let mut csms = package("csms", &["ocpp-sim"]);
        assert_eq!(wrong(json!([csms])).len(), 1);
        csms["dependencies"][0]["kind"] = "dev".into();
        assert!(wrong(json!([csms])).is_empty());
        csms["dependencies"][0]["name"] = "billing-api".into();
        assert_eq!(wrong(json!([csms])).len(), 1);
    }

    #[test]
    fn unknown_members_sources_and_licences_are_refused() {
        assert_eq!(wrong(json!([package("newcomer", &[])])).len(), 1);
        let mut foreign = package("crate", &[]);
        foreign["source"] = "git+ssh://somewhere".into();
        assert_eq!(wrong(json!([foreign])).len(), 1);
        let mut copyleft = package("evm-domain", &[]);
        copyleft["license"] = "GPL-3.0".into();
        assert_eq!(wrong(json!([copyleft])).len(), 1);
    }

    #[test]
    fn reads_licence_expressions() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0 OR MIT",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND AGPL-3.0", "", ")", "LGPL-2.1-or-later"] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
