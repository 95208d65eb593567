//! A world with a QPay stand-in: a customer with charges to pay, and the payer at the gateway.

use std::time::Duration;

use qpay_sim::{Invoice, Options, QpaySim};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::api::{Answer, Customer, decimal};
use crate::charge::ended_at_charger;
use crate::charger::{RawCharger, Version};
use crate::engine::Engine;
use crate::poll::until;
use crate::world::World;

/// The customer of these tests.
pub const PHONE: &str = "+97686661488";
/// How long the tests wait for what the system does by itself after a time of its own.
pub const BY_ITSELF: Duration = Duration::from_secs(60);

/// A customer at a device of 850 MNT a kWh.
pub struct Shop {
    /// The gateway.
    pub sim: QpaySim,
    /// The program, which knows the gateway.
    pub world: World,
    /// The customer, without money.
    pub customer: Customer,
    device: String,
    charger: RawCharger,
}

impl Shop {
    /// Starts it, with invoices that expire in an hour.
    pub async fn open(engine: Engine) -> Self {
        Self::open_with(engine, Options::default(), 3600).await
    }

    /// Starts it with a gateway of these settings; invoices expire after so many seconds.
    pub async fn open_with(engine: Engine, options: Options, expiry_s: u32) -> Self {
        let sim = QpaySim::spawn(options.clone()).await.unwrap();
        let settings = [
            ("EVM_QPAY_URL", sim.url()),
            ("EVM_QPAY_CLIENT_ID", options.client_id),
            ("EVM_QPAY_CLIENT_SECRET", options.client_secret),
            ("EVM_QPAY_INVOICE_CODE", options.invoice_code),
            ("EVM_QPAY_EXPIRY_S", expiry_s.to_string()),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let world = World::start_on(engine, None, &settings).await;
        let device = world.operator.charger_priced("CP-1", 1, 850, 0).await.remove(0);
        let customer = world.customer(PHONE).await;
        let charger = world.raw("CP-1", Version::V16).await;
        Self { sim, world, customer, device, charger }
    }

    /// One charge of so much energy; gives its purchase.
    pub async fn purchase(&mut self, wh: i64) -> String {
        ended_at_charger(&mut self.world, &mut self.charger, &self.customer, &self.device, wh).await
    }

    /// The charger comes back to a program that was started again.
    pub async fn reconnect(&mut self) {
        self.charger = self.world.raw("CP-1", Version::V16).await;
    }

    /// Asks to pay a purchase with QPAY; gives our invoice's id and the gateway's invoice.
    pub async fn invoice(&self, purchase: &str) -> (String, Invoice) {
        let answer = self.customer.pay(purchase, "QPAY").await.ok();
        self.invoice_of(&answer)
    }

    /// Asks for a top-up of so many MNT; gives our invoice's id and the gateway's invoice.
    pub async fn top_up(&self, amount: u32) -> (String, Invoice) {
        let answer = self.ask_top_up(json!(amount)).await.ok();
        self.invoice_of(&answer)
    }

    /// Asks for a top-up.
    pub async fn ask_top_up(&self, amount: Value) -> Answer {
        self.customer.post("/customer/replenish", Some(json!({ "amount": amount, "option": "QPAY" }))).await
    }

    fn invoice_of(&self, answer: &Value) -> (String, Invoice) {
        assert_eq!(answer["option"], "QPAY");
        let ours = answer["invoiceId"].as_str().unwrap().to_owned();
        assert!(ours.len() == 24 && ours.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{answer}");
        let at_gateway = self.sim.invoice_numbered(&ours).unwrap();
        assert_eq!(answer["url"], self.sim.page_url(&at_gateway.invoice_id));
        (ours, at_gateway)
    }

    /// What the app is told of a purchase's invoice.
    pub async fn status(&self, purchase: &str, invoice: &str) -> (String, Decimal) {
        let path = format!("/purchases/{purchase}/status");
        told(self.customer.post(&path, Some(json!({ "invoiceId": invoice }))).await)
    }

    /// What the app is told of a top-up's invoice.
    pub async fn replenishment(&self, invoice: &str) -> (String, Decimal) {
        told(self.customer.post("/customer/replenishment", Some(json!({ "invoiceId": invoice }))).await)
    }

    /// Waits until a purchase's invoice has ended so, as the app is told.
    pub async fn ends(&self, purchase: &str, invoice: &str, status: &str) {
        until(&format!("invoice {invoice} to end: {status}"), BY_ITSELF, async || {
            (self.status(purchase, invoice).await.0 == status).then_some(())
        })
        .await;
    }

    /// Waits until a purchase has this status, without asking about its invoice.
    pub async fn purchase_is(&self, purchase: &str, status: &str) {
        until(&format!("purchase {purchase} to be {status}"), BY_ITSELF, async || {
            (self.customer.purchase(purchase).await["status"] == status).then_some(())
        })
        .await;
    }

    /// Waits until the balance is so many MNT.
    pub async fn balance_is(&self, mnt: &str) {
        let wanted: Decimal = mnt.parse().unwrap();
        let mut last = Decimal::ZERO;
        let waited = tokio::time::timeout(BY_ITSELF, async {
            loop {
                last = self.balance().await;
                if last == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(waited.await.is_ok(), "the balance was to be {mnt}, it is {last}");
    }

    /// The balance now.
    pub async fn balance(&self) -> Decimal {
        decimal(&self.customer.post("/user/me", None).await.ok()["profile"]["balance"])
    }

    /// Payments at the gateway as the operator sees them, newest first.
    pub async fn payments(&self) -> Vec<Value> {
        self.world.operator.all("/gateway-payments").await
    }

    /// The flags of all payments, oldest first; empty where there is none.
    pub async fn flags(&self) -> Vec<String> {
        let all = self.payments().await;
        all.iter().rev().map(|payment| payment["flag"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What was credited is what was paid at the gateway, the log holds no secret, and the world's audit is content.
    pub async fn close(self) {
        let paid: i64 = self.sim.invoices().iter().map(Invoice::paid).sum();
        let given_back = self.payments().await.iter().filter(|payment| payment["refund"] == "refunded").count();
        if given_back == 0 {
            let credited: Decimal = self.payments().await.iter().map(|payment| decimal(&payment["amount"])).sum();
            assert_eq!(credited, Decimal::new(paid, 2), "credited, then paid at the gateway");
        }
        let log = self.world.program.log();
        let callback = |invoice: Invoice| invoice.callback_url.rsplit('/').next().unwrap_or_default().to_owned();
        let mut secrets = self.sim.tokens();
        secrets.push(self.sim.options().client_secret.clone());
        secrets.extend(self.sim.invoices().into_iter().map(callback));
        let told: Vec<_> = secrets.iter().filter(|secret| log.contains(secret.as_str())).collect();
        assert!(told.is_empty(), "the log holds secrets: {told:?}");
        self.world.finish().await;
    }
}

fn told(answer: Answer) -> (String, Decimal) {
    let body = answer.ok();
    (body["status"].as_str().unwrap().to_owned(), decimal(&body["amount"]))
}
