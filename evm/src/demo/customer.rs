//! A customer with the phone app: REST calls, and events over NATS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::api::Api;
use super::city::{City, Spot, text};
use super::narrator::{Narrator, kwh, money};
use super::till::Till;

/// What is paid in when the balance is low, MNT.
const CREDIT: u32 = 50_000;
/// A balance that is enough for one more charge, whole MNT.
const ENOUGH: i64 = 40_000;
/// The charge is finished after this many live events with energy.
const EVENTS: u32 = 6;
/// How long the next event may take.
const EVENT_PATIENCE: Duration = Duration::from_secs(20);

/// A customer who is logged in and listens for events.
pub(super) struct Customer {
    /// What the story calls them.
    pub(super) name: String,
    /// From 0; the higher, the longer the charges.
    pub(super) number: u32,
    api: Api,
    operator: Api,
    phone: String,
    events: async_nats::Subscriber,
    /// Kept open for as long as the customer listens.
    _nats: async_nats::Client,
    narrator: Narrator,
    till: Option<Arc<Till>>,
    /// Charges so far.
    charges: u32,
}

impl Customer {
    /// Logs in as an app does, and connects to NATS with what the login answered.
    ///
    /// # Errors
    /// Where either is refused.
    pub(super) async fn arrive(
        operator: &Api,
        code: &str,
        number: u32,
        narrator: &Narrator,
        till: Option<Arc<Till>>,
    ) -> anyhow::Result<Self> {
        // Another customer in every demo, so that a kept data folder holds no old debts.
        let phone = format!("+976 88{:02} {:04}", number, u16::from_be_bytes(evm_store::random()) % 10_000);
        let nobody = operator.with_token(None);
        nobody.post("/api/v1/user/otp-request", json!({ "phone": phone })).await?;
        let login = nobody.post("/api/v1/user/otp-check", json!({ "phone": phone, "code": code })).await?;
        let token = login["token"].as_str().context("the login has no token")?;
        let nats = &login["nats"];
        let [servers, topic, user, pass] = ["servers", "topic", "user", "pass"].map(|field| text(nats, field));
        let options = async_nats::ConnectOptions::with_user_and_password(user, pass);
        let client = options.connect(&servers).await.with_context(|| format!("cannot connect to {servers}"))?;
        let events = client.subscribe(format!("{topic}.>")).await?;
        client.flush().await?;
        if let Some(till) = &till {
            till.knows(&topic);
        }

        let name = if number == 0 { "The customer".to_owned() } else { format!("Customer {number}") };
        narrator.say(&format!("{name} logs in by phone, {phone}, and listens for events at {servers}."));
        Ok(Self {
            name,
            api: operator.with_token(Some(token)),
            operator: operator.clone(),
            phone,
            events,
            _nats: client,
            number,
            narrator: narrator.clone(),
            till,
            charges: 0,
        })
    }

    /// One whole charge, from the map to the receipt; gives the paid purchase.
    ///
    /// # Errors
    /// Where any step does not succeed, saying which.
    pub(super) async fn charge(&mut self, city: &City) -> anyhow::Result<Value> {
        // With a till, every second charge is paid there and the others from the balance.
        let till = self.till.clone().filter(|_| (self.charges + self.number).is_multiple_of(2));
        self.charges += 1;
        if till.is_none() {
            self.top_up().await?;
        }
        let (idle, spot) = city.find(&self.api).await?;
        let free = if self.in_full() { format!("finds {idle} free places on the map and ") } else { String::new() };
        self.say(&format!("{free}plugs in at {}.", spot.description));
        spot.charger.plug_in(spot.connector).await;
        let purchase = self.charge_at(&spot).await;
        spot.charger.unplug(spot.connector).await;
        let purchase = purchase?;
        let by_qpay = match till {
            Some(till) => self.pay_at(&till, &purchase).await?,
            None => false,
        };
        if by_qpay { self.receipt(&purchase, None).await } else { self.pay_from_balance(&purchase).await }
    }

    /// Pays in when the balance is low: some by QPAY, others in cash at the operator's desk.
    async fn top_up(&mut self) -> anyhow::Result<()> {
        let me = self.api.post("/api/v1/user/me", Value::Null).await?;
        let balance = &me["profile"]["balance"];
        let whole = balance.to_string().split('.').next().and_then(|whole| whole.parse::<i64>().ok());
        if whole.context("the balance is no number")? >= ENOUGH {
            return Ok(());
        }
        if let Some(till) = self.till.clone().filter(|_| !self.number.is_multiple_of(2))
            && self.replenish_at(&till).await?
        {
            return Ok(());
        }
        let phone = self.phone.replace(' ', "");
        let credit = json!({ "amount": CREDIT, "note": "cash" });
        self.operator.post(&format!("/admin/v1/customers/{phone}/credit"), credit).await?;
        self.say(&format!("pays {} MNT in at the operator's desk.", money(&CREDIT)));
        Ok(())
    }

    /// Starts, watches and finishes; gives the purchase's id.
    async fn charge_at(&mut self, spot: &Spot<'_>) -> anyhow::Result<String> {
        let device = text(&spot.device, "_id");
        self.api.post(&format!("/api/v1/devices/{device}/start"), Value::Null).await?;
        if self.in_full() {
            let (price, waiting) = (&spot.device["price"], &spot.device["waitingPrice"]);
            self.say(&format!(
                "starts the charge in the app, at {} MNT a kWh and {} MNT a minute of waiting.",
                money(price),
                money(waiting)
            ));
        }
        let mut flowing = 0;
        while flowing < EVENTS + 2 * self.number {
            let event = self.event("CHARGING").await?;
            if event["energy"] != json!(0) {
                flowing += 1;
            }
            if self.in_full() {
                self.narrator.say(&live(&event, spot));
            }
        }
        let finished = self.api.post(&format!("/api/v1/devices/{device}/finish"), Value::Null).await?;
        let purchase = text(&finished, "id");
        self.say(&format!("finishes, unplugs and gets purchase {purchase}."));
        Ok(purchase)
    }

    /// Tops the balance up by QPAY; `false` where somebody canceled that on the page.
    async fn replenish_at(&mut self, till: &Till) -> anyhow::Result<bool> {
        self.say("tops up by QPAY.");
        let body = json!({ "amount": CREDIT, "option": "QPAY" });
        let asked = self.api.post("/api/v1/customer/replenish", body).await?;
        if !till.pay(&text(&asked, "url")).await? {
            return Ok(false);
        }
        let event = self.event("REPLENISHMENT").await?;
        self.say(&format!("hears REPLENISHMENT: {} MNT.", money(&event["amount"])));
        Ok(true)
    }

    /// Pays by QPAY; `false` where somebody canceled that on the page.
    async fn pay_at(&mut self, till: &Till, purchase: &str) -> anyhow::Result<bool> {
        self.say("chooses QPAY.");
        let asked = self.api.post(&format!("/api/v1/purchases/{purchase}/pay"), json!({ "option": "QPAY" })).await?;
        till.pay(&text(&asked, "url")).await?;
        if self.event("PAYMENT").await?["status"] == "success" {
            return Ok(true);
        }
        self.say("hears PAYMENT: that came to nothing.");
        self.top_up().await?;
        Ok(false)
    }

    async fn pay_from_balance(&mut self, purchase: &str) -> anyhow::Result<Value> {
        let paid = self.api.post(&format!("/api/v1/purchases/{purchase}/pay"), json!({ "option": "EVM" })).await?;
        let event = self.event("PAYMENT").await?;
        if event["status"] != "success" {
            bail!("the payment of purchase {purchase} ended as {}", event["status"]);
        }
        self.receipt(purchase, Some(&paid["newBalance"])).await
    }

    /// Looks the paid purchase up and tells of it, and of the balance that paid it.
    async fn receipt(&self, purchase: &str, balance: Option<&Value>) -> anyhow::Result<Value> {
        let purchases = self.api.get("/api/v1/purchases").await?;
        let all = purchases["items"].as_array().context("the purchases are no list")?;
        let purchase = all.iter().find(|one| one["id"] == *purchase).context("the purchase is not in the list")?;
        if purchase["status"] != "paid" {
            bail!("the purchase is {} after the payment", purchase["status"]);
        }
        let (amount, energy) = (money(&purchase["amount"]), kwh(&purchase["energy"]));
        self.say(&match balance.map(money) {
            Some(left) => format!("pays {amount} MNT for {energy} kWh from the balance and has {left} MNT left."),
            None => format!("hears PAYMENT: {amount} MNT for {energy} kWh are paid."),
        });
        Ok(purchase.clone())
    }

    /// The next event of this name; others go by.
    async fn event(&mut self, name: &str) -> anyhow::Result<Value> {
        let next = async {
            while let Some(message) = self.events.next().await {
                if message.subject.as_str().rsplit('.').next() == Some(name) {
                    return serde_json::from_slice(&message.payload).context("an event is no JSON");
                }
            }
            bail!("the connection to NATS ended")
        };
        let late = || format!("no {name} event within {} s", EVENT_PATIENCE.as_secs());
        tokio::time::timeout(EVENT_PATIENCE, next).await.with_context(late)?
    }

    /// The first customer is told of in full, the others in a few lines.
    fn in_full(&self) -> bool {
        self.number == 0
    }

    fn say(&self, what: &str) {
        self.narrator.say(&format!("{} {what}", self.name));
    }
}

/// A live event as a line, and what the charger shows beside it.
fn live(event: &Value, spot: &Spot<'_>) -> String {
    let shown = spot.charger.state();
    let (power, battery) =
        shown.connector(spot.connector).map_or((0, 0), |plug| (plug.power_w / 1000, plug.soc_percent));
    let (energy, amount) = (kwh(&event["energy"]), money(&event["amount"]));
    format!("  {energy:>7} kWh  {amount:>10} MNT   {power:>3} kW   battery {battery:>3} %")
}
