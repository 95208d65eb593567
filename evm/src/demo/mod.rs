//! `evm demo`: everything in one process, simulated chargers around Ulaanbaatar, and customers who log in, charge,
//! watch and pay through the same sockets as anybody else.

mod api;
mod city;
mod customer;
mod narrator;
mod stage;
mod till;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use evm_bus::Bus;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, Parts};
use crate::settings::Settings;
use api::Api;
use city::City;
use customer::Customer;
use narrator::Narrator;
use till::Till;

/// What the demo logs: problems, but not the warnings of a development code and of plain passwords, which it means to use.
pub(crate) const LOG: &str = "warn,evm::node=error,billing_api::operator::register=error";
/// How long `--once` may take.
const ONCE_LIMIT: Duration = Duration::from_secs(120);
/// Customers who charge beside the first.
const OTHERS: u32 = 3;
/// Between two charges of one customer.
const BREAK: Duration = Duration::from_secs(8);

/// How long the demo goes on, and what is in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after one whole paid charge; the last line is its purchase as JSON
    #[arg(long)]
    once: bool,
    /// Take payments by QPAY too, at a stand-in of the gateway with a page to click Pay, Pay half or Cancel
    #[arg(long)]
    qpay: bool,
}

pub(crate) async fn run(args: &Args, settings: Settings, stop: &CancellationToken) -> anyhow::Result<()> {
    let narrator = Narrator::new();
    let (mut settings, _folder) = stage::prepare(settings, &narrator)?;
    let till = if args.qpay { Some(Arc::new(Till::open(&mut settings).await?)) } else { None };
    let node = Node::start(&settings, Parts::All).await?;
    let story = Story::new(&node, &settings, narrator.clone(), till)?;

    // Whichever ends first, the story or the node, ends the other.
    let over = CancellationToken::new();
    let told = async {
        let told = tokio::select! {
            told = story.tell(args.once) => told,
            told = story.tell_of_the_till() => told,
            () = over.cancelled() => Ok(None),
            () = stop.cancelled() => Ok(None),
        };
        story.city.close().await;
        over.cancel();
        told
    };
    let served = async {
        let served = node.until(&over).await;
        over.cancel();
        served
    };
    let (told, served) = Box::pin(futures_util::future::join(told, served)).await;
    served?;
    match told? {
        Some(purchase) => narrator.plain(&purchase.to_string()),
        None if args.once => bail!("stopped before the charge was paid"),
        None => narrator.say("The end."),
    }
    Ok(())
}

/// What all scenes need.
struct Story {
    operator: Api,
    dev_code: String,
    city: City,
    narrator: Narrator,
    bus: Bus,
    till: Option<Arc<Till>>,
}

impl Story {
    fn new(node: &Node, settings: &Settings, narrator: Narrator, till: Option<Arc<Till>>) -> anyhow::Result<Self> {
        let (Some(http), Some(ocpp)) = (node.listening.http, node.listening.ocpp) else { bail!("no ports") };
        let Some((token, new)) = &node.admin_token else { bail!("no operator token") };
        let dev_code = settings.otp_dev_code.clone().context("no development code")?;
        let base = format!("http://{http}");
        stage::introduce(&narrator, &base, &dev_code, new.then_some(token.as_str()), till.is_some());
        Ok(Self {
            operator: Api::new(&base, Some(token))?,
            dev_code,
            city: City::new(ocpp),
            narrator,
            bus: node.bus.clone(),
            till,
        })
    }

    /// Tells of one charge and, where that was not all, of further ones until the program ends.
    async fn tell(&self, once: bool) -> anyhow::Result<Option<Value>> {
        let first = async {
            self.city.open(&self.operator, &self.narrator).await?;
            let mut customer = self.customer(0).await?;
            let purchase = customer.charge(&self.city).await?;
            anyhow::Ok((customer, purchase))
        };
        let limit = format!("no charge was paid within {} s", ONCE_LIMIT.as_secs());
        let (first, purchase) = tokio::time::timeout(ONCE_LIMIT, Box::pin(first)).await.context(limit)??;
        if once {
            return Ok(Some(purchase));
        }
        self.narrator.say("Paid. More customers come and go from now on. Ctrl-C ends the demo.");
        self.narrator.say("Start a charge yourself, as written above: a car will come for it.");
        let others = (1..=OTHERS).map(|number| async move {
            match self.customer(number).await {
                Ok(customer) => self.go_on(customer).await,
                Err(error) => self.narrator.say(&format!("Customer {number} stays away: {error:#}")),
            }
        });
        let others = futures_util::future::join_all(others);
        let guests = self.city.serve_guests(&self.narrator);
        Box::pin(futures_util::future::join3(self.go_on(first), others, guests)).await;
        Ok(None)
    }

    /// Tells of what is paid at the till, if there is one, until the program ends.
    async fn tell_of_the_till(&self) -> anyhow::Result<Option<Value>> {
        match &self.till {
            Some(till) => till.tell(&self.bus, &self.narrator).await.map(|()| None),
            None => std::future::pending().await,
        }
    }

    async fn customer(&self, number: u32) -> anyhow::Result<Customer> {
        Customer::arrive(&self.operator, &self.dev_code, number, &self.narrator, self.till.clone()).await
    }

    async fn go_on(&self, mut customer: Customer) {
        loop {
            // Each at a pace of their own, so that not all come at once.
            tokio::time::sleep(BREAK + Duration::from_secs(3 * u64::from(customer.number))).await;
            if let Err(error) = customer.charge(&self.city).await {
                self.narrator.say(&format!("{}: that did not work: {error:#}", customer.name));
            }
        }
    }
}
