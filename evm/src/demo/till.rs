//! `--qpay`: the stand-in of QPay in this process, the payer of the story's customers, and the clicks of guests.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use evm_bus::{Bus, Message};
use evm_domain::Money;
use qpay_sim::{Button, Invoice, Options, QpaySim};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::narrator::{Narrator, money};
use crate::settings::Settings;

/// How long a payer of the story looks at the page.
const LOOKING: Duration = Duration::from_secs(2);
/// Most characters of the system's answer to a callback that are told.
const ANSWER: usize = 40;

/// Where money is taken in.
pub(super) struct Till {
    sim: QpaySim,
    /// Topics of the story's own customers, who tell themselves what they hear.
    own: Mutex<HashSet<String>>,
}

impl Till {
    /// Starts the stand-in on a free port and points the settings at it.
    ///
    /// # Errors
    /// Where there is no port.
    pub(super) async fn open(settings: &mut Settings) -> anyhow::Result<Self> {
        let options = Options::default();
        settings.qpay_client_id = Some(options.client_id.clone());
        settings.qpay_client_secret = Some(options.client_secret.parse()?);
        settings.qpay_invoice_code = Some(options.invoice_code.clone());
        let sim = QpaySim::spawn(options).await.context("no port for the stand-in of QPay")?;
        settings.qpay_url = Some(sim.url());
        Ok(Self { sim, own: Mutex::default() })
    }

    /// The owner of this topic belongs to the story.
    pub(super) fn knows(&self, topic: &str) {
        self.own().insert(topic.to_owned());
    }

    /// Plays the payer on the page at `url`, who pays what is left; `false` where somebody clicked `Cancel` before.
    ///
    /// # Errors
    /// Where there is no such page.
    pub(super) async fn pay(&self, url: &str) -> anyhow::Result<bool> {
        tokio::time::sleep(LOOKING).await;
        let id = url.rsplit('/').next().unwrap_or_default();
        let invoice = self.sim.click(id, Button::Pay).await.with_context(|| url.to_owned())?;
        Ok(!invoice.canceled)
    }

    /// Tells where to click, what was clicked, and what the apps of guests hear of it, until the bus ends.
    ///
    /// # Errors
    /// Where the bus cannot be listened to.
    pub(super) async fn tell(&self, bus: &Bus, narrator: &Narrator) -> anyhow::Result<()> {
        let mut invoices = self.sim.subscribe();
        let mut events = bus.subscribe("ev.>").await?;
        loop {
            let line = tokio::select! {
                invoice = invoices.recv() => match invoice {
                    Ok(invoice) => Some(self.news(&invoice)),
                    Err(RecvError::Lagged(_)) => None,
                    Err(RecvError::Closed) => return Ok(()),
                },
                event = events.next() => match event {
                    Some(event) => self.heard(&event),
                    None => return Ok(()),
                },
            };
            if let Some(line) = line {
                narrator.say(&line);
            }
        }
    }

    /// An invoice that was made, paid or canceled.
    fn news(&self, invoice: &Invoice) -> String {
        let mnt = |mongo| money(&Money(mongo).to_mnt());
        let (amount, paid) = (mnt(invoice.amount), mnt(invoice.paid()));
        let answer = match &invoice.last_callback {
            None => {
                let page = self.sim.page_url(&invoice.invoice_id);
                return format!("QPAY asks for {amount} MNT. Click Pay, Pay half or Cancel at {page}");
            }
            Some(Ok(answer)) => format!("the system answers {}", answer.body.chars().take(ANSWER).collect::<String>()),
            Some(Err(none)) => none.to_string(),
        };
        let canceled = if invoice.canceled { "canceled, " } else { "" };
        format!("QPAY: {canceled}{paid} of {amount} MNT paid; {answer}.")
    }

    /// What a guest's app hears of money.
    fn heard(&self, event: &Message) -> Option<String> {
        let (topic, name) = event.subject.rsplit_once('.')?;
        if !matches!(name, "PAYMENT" | "REPLENISHMENT") || self.own().contains(topic) {
            return None;
        }
        let told: Value = serde_json::from_slice(&event.payload).ok()?;
        let status = told["status"].as_str().unwrap_or_default();
        Some(format!("A guest's app hears {name}: {status}, {} MNT.", money(&told["amount"])))
    }

    fn own(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
