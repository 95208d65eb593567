//! One test's world: the program on an engine, the tap before it, the clients, and the audit at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::api::{Customer, Operator, decimal, wh};
use crate::charger::{RawCharger, Version};
use crate::engine::{Backend, Engine};
use crate::poll::{eventually, until};
use crate::program::Program;
use crate::tap::Tap;

const ADMIN_TOKEN: &str = "operator-token-of-the-tests-0123456789";

/// Everything one test uses.
pub struct World {
    /// What it runs on.
    pub engine: Engine,
    /// The program: everything in one process.
    pub program: Program,
    /// Where chargers connect.
    pub tap: Tap,
    /// The operator.
    pub operator: Operator,
    /// The HTTP client of customers.
    pub http: reqwest::Client,
    /// What the program stands on.
    pub backend: Backend,
    delivered: BTreeMap<String, i64>,
    dir: tempfile::TempDir,
}

impl World {
    /// Starts `evm serve` on this engine.
    pub async fn start(engine: Engine) -> Self {
        Self::start_on(engine, None, &[]).await
    }

    /// Starts `evm serve`, with another PostgreSQL than the run's and with settings beyond the usual.
    pub async fn start_on(engine: Engine, cluster: Option<&str>, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("evm-test.").tempdir().unwrap();
        let backend = Backend::start(engine, cluster).await;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = backend.env().into_iter().chain(common_env()).chain(settings);
        let program = Program::start("serve", &dir.path().join("data"), env).await;
        let tap = Tap::start(program.ocpp.unwrap()).await;
        let http = client();
        let operator = Operator { base: program.http.clone(), token: ADMIN_TOKEN.into(), http: http.clone() };
        Self { engine, program, tap, operator, http, backend, delivered: BTreeMap::new(), dir }
    }

    /// A folder that goes with the test.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The SQLite file or the PostgreSQL URL, for tests that look behind the API.
    pub fn store_url(&self) -> String {
        match &self.backend.database {
            Some(database) => database.url.clone(),
            None => PathBuf::from(self.dir.path()).join("data/evm.db").to_str().unwrap().to_owned(),
        }
    }

    /// Logs a customer in.
    pub async fn customer(&self, phone: &str) -> Customer {
        Customer::login(&self.operator.base, &self.http, phone).await
    }

    /// Logs a customer in and gives them money, in MNT.
    pub async fn rich_customer(&self, phone: &str, amount: u32) -> Customer {
        let customer = self.customer(phone).await;
        self.operator.credit(phone, amount).await;
        customer
    }

    /// Connects a hand-made charger and boots it, with connector 1 free.
    pub async fn raw(&self, identity: &str, version: Version) -> RawCharger {
        let mut charger = RawCharger::connect(&self.tap, identity, version).await;
        charger.boot().await;
        charger.status(1, "Available").await;
        charger
    }

    /// Waits until the device is in this state on the map.
    pub async fn device_is(&self, customer: &Customer, device: &str, state: &str) {
        eventually(&format!("device {device} to be {state}"), async || {
            (customer.state(device).await.as_deref() == Some(state)).then_some(())
        })
        .await;
    }

    /// Notes what a charger says it delivered in the charge that this purchase bills. The audit compares.
    pub fn delivered(&mut self, purchase: &str, wh: i64) {
        self.delivered.insert(purchase.to_owned(), wh);
    }

    /// Waits until a purchase bills this energy; the charge's last messages may be on their way.
    pub async fn billed(&mut self, purchase: &str, delivered_wh: i64) {
        self.delivered(purchase, delivered_wh);
        let mut last = None;
        for _ in 0..500 {
            last = self.billed_wh().await.get(purchase).copied();
            if last == Some(delivered_wh) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the charger delivered {delivered_wh} Wh, purchase {purchase} bills {last:?}");
    }

    async fn billed_wh(&self) -> BTreeMap<String, i64> {
        let purchases = self.operator.all("/purchases").await;
        let id = |purchase: &Value| purchase["id"].as_str().unwrap().to_owned();
        purchases.iter().map(|purchase| (id(purchase), wh(&purchase["energy"]))).collect()
    }

    /// The audit that every test ends with.
    pub async fn audit(&self) {
        let mut last = Value::Null;
        until_quiet(async || {
            last = self.operator.get("/reconciliation").await.ok();
            last["outboxPending"] == 0 && last["liveSessions"] == 0
        })
        .await
        .unwrap_or_else(|()| panic!("something never came to rest: {last}"));
        assert_eq!(last["violations"], serde_json::json!([]), "{last}");
        let billed = self.billed_wh().await;
        for (purchase, delivered) in &self.delivered {
            assert_eq!(billed.get(purchase), Some(delivered), "Wh of purchase {purchase}: billed, then delivered");
        }
        self.audit_ledger().await;
    }

    /// Sums the ledger with our own hands: zero in each transaction and in all.
    async fn audit_ledger(&self) {
        let mut sums: BTreeMap<String, rust_decimal::Decimal> = BTreeMap::new();
        for transaction in self.operator.all("/ledger").await {
            let id = transaction["id"].as_str().unwrap().to_owned();
            let postings = transaction["postings"].as_array().unwrap_or_else(|| panic!("{transaction}"));
            assert!(postings.len() >= 2, "{transaction}");
            for posting in postings {
                *sums.entry(id.clone()).or_default() += decimal(&posting["amount"]);
            }
        }
        for (id, sum) in sums {
            assert!(sum.is_zero(), "ledger transaction {id} sums to {sum}");
        }
    }

    /// Audits, stops the program, and sees to it that nothing stays behind.
    pub async fn finish(mut self) {
        self.audit().await;
        self.program.stop().await;
        let violations = self.tap.violations();
        assert!(violations.is_empty(), "the central system broke OCPP:\n{}", violations.join("\n"));
        let path = self.dir.path().to_owned();
        let Self { backend, dir, program, .. } = self;
        drop(program);
        drop(backend);
        dir.close().unwrap();
        assert!(!path.exists());
    }
}

/// The settings of every process in the tests.
pub fn common_env() -> Vec<(String, String)> {
    [
        ("EVM_OTP_DEV_CODE", "0000"),
        ("EVM_ADMIN_TOKEN", ADMIN_TOKEN),
        // All customers of a test come from one address.
        ("EVM_RATE_PER_ADDRESS", "0"),
        ("EVM_RATE_PER_CUSTOMER", "0"),
        ("RUST_LOG", "info,evm=debug,csms=debug"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The operator of a REST API at this address.
pub fn operator(base: &str) -> Operator {
    Operator { base: base.to_owned(), token: ADMIN_TOKEN.into(), http: client() }
}

/// An HTTP client as all tests use it.
pub fn client() -> reqwest::Client {
    // Built along with the API, reqwest has TLS without a provider of its own; the second time it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap()
}

async fn until_quiet(mut quiet: impl AsyncFnMut() -> bool) -> Result<(), ()> {
    for _ in 0..400 {
        if quiet().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(())
}

/// Waits for a condition on a purchase.
pub async fn purchase_is(customer: &Customer, id: &str, status: &str) {
    until(&format!("purchase {id} to be {status}"), Duration::from_secs(20), async || {
        (customer.purchase(id).await["status"] == status).then_some(())
    })
    .await;
}
