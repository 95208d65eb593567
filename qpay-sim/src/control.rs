//! The handle: the payer's deeds, the gateway's bad days, and what was seen.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::api;
use crate::callback::{self, Answer, NoAnswer};
use crate::server::Port;
use crate::state::{Button, Call, Fault, Invoice, Kind, Numbers, Options, Seen, State, Unknown};

/// News that wait for a listener; the oldest go first.
const NEWS: usize = 256;

/// A running stand-in. Clones are the same stand-in; it runs until the runtime ends or [`QpaySim::down`].
#[derive(Clone)]
pub struct QpaySim {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    base: String,
    port: Port,
    state: Mutex<State>,
    news: broadcast::Sender<Invoice>,
}

/// A payment that was made and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The gateway's id of the payment.
    pub payment_id: String,
    /// What the merchant answered to the callback.
    pub answer: Result<Answer, NoAnswer>,
}

impl fmt::Debug for QpaySim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QpaySim").field(&self.inner.base).finish()
    }
}

impl QpaySim {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn spawn(options: Options) -> std::io::Result<Self> {
        Self::spawn_on(TcpListener::bind("127.0.0.1:0").await?, options)
    }

    /// Starts on this listener.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn spawn_on(listener: TcpListener, options: Options) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let base = options.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let news = broadcast::Sender::new(NEWS);
        let inner = Inner { options, base, port: Port::new(address), state: Mutex::default(), news };
        let sim = Self { inner: Arc::new(inner) };
        sim.inner.port.open(listener, api::router(sim.clone()));
        Ok(sim)
    }

    /// The base of the gateway's calls, `http://…/v2`.
    pub fn url(&self) -> String {
        format!("http://{}/v2", self.inner.port.address)
    }

    /// The page of an invoice, its `qPay_shortUrl`.
    pub fn page_url(&self, invoice_id: &str) -> String {
        format!("{}/pay/{invoice_id}", self.inner.base)
    }

    /// The settings that it runs with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- What is known

    /// An invoice by the gateway's id.
    pub fn invoice(&self, invoice_id: &str) -> Option<Invoice> {
        self.state().invoices.get(invoice_id).cloned()
    }

    /// An invoice by the merchant's number, for one whose answer was lost.
    pub fn invoice_numbered(&self, sender_invoice_no: &str) -> Option<Invoice> {
        self.invoices().into_iter().find(|invoice| invoice.sender_invoice_no == sender_invoice_no)
    }

    /// The newest invoice.
    pub fn last_invoice(&self) -> Option<Invoice> {
        let state = self.state();
        state.invoices.get(state.order.last()?).cloned()
    }

    /// All invoices, oldest first.
    pub fn invoices(&self) -> Vec<Invoice> {
        let state = self.state();
        state.order.iter().filter_map(|id| state.invoices.get(id).cloned()).collect()
    }

    /// Every invoice as it stands right after it was made, and after each callback.
    pub fn subscribe(&self) -> broadcast::Receiver<Invoice> {
        self.inner.news.subscribe()
    }

    pub(crate) fn tell(&self, invoice: &Invoice) {
        // That nobody listens is fine.
        let _ = self.inner.news.send(invoice.clone());
    }

    /// The calls so far, oldest first, those under way included.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.iter().cloned().collect()
    }

    /// How often a call came.
    pub fn count(&self, call: Call) -> usize {
        self.state().seen.iter().filter(|seen| seen.call == call).count()
    }

    /// Forgets the calls so far.
    pub fn forget_seen(&self) {
        let mut state = self.state();
        state.forgotten += state.seen.len();
        state.seen.clear();
    }

    // ---- The payer

    /// Does what a button of the page does, the callback included, and gives the invoice as it stands then. What cannot be
    /// done, because the invoice is paid or canceled, is not done.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub async fn click(&self, invoice_id: &str, button: Button) -> Result<Invoice, Unknown> {
        let to_call = self.state().click(invoice_id, button, self.inner.options.fee_per_mille)?;
        if let Some(url) = to_call {
            let _ = self.call(invoice_id, &url).await;
        }
        self.invoice(invoice_id).ok_or(Unknown)
    }

    /// Pays this many möngö and calls back, as an honest gateway does.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub async fn pay(&self, invoice_id: &str, mongo: i64, kind: Kind) -> Result<Paid, Unknown> {
        let payment_id = self.pay_silently(invoice_id, mongo, kind)?;
        let answer = self.call_back(invoice_id, &payment_id).await?;
        Ok(Paid { payment_id, answer })
    }

    /// Pays and never calls back; gives the payment's id. Also where the invoice was canceled: banks are late.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub fn pay_silently(&self, invoice_id: &str, mongo: i64, kind: Kind) -> Result<String, Unknown> {
        self.pay_with_status(invoice_id, mongo, kind, "PAID")
    }

    /// Makes a payment of another status, such as `NEW`, and does not call back.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub fn pay_with_status(&self, invoice_id: &str, mongo: i64, kind: Kind, status: &str) -> Result<String, Unknown> {
        self.state().add_payment(invoice_id, mongo, kind, status, self.inner.options.fee_per_mille)
    }

    /// Changes the status of a payment.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such payment.
    pub fn set_status(&self, payment_id: &str, status: &str) -> Result<(), Unknown> {
        self.state().payment(payment_id).ok_or(Unknown).map(|payment| payment.status = status.to_owned())
    }

    /// Changes the currency of a payment.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such payment.
    pub fn set_currency(&self, payment_id: &str, currency: &str) -> Result<(), Unknown> {
        self.state().payment(payment_id).ok_or(Unknown).map(|payment| payment.currency = currency.to_owned())
    }

    /// Calls back for an invoice with any payment id: again, of another invoice, or made up.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub async fn call_back(&self, invoice_id: &str, payment_id: &str) -> Result<Result<Answer, NoAnswer>, Unknown> {
        let url = self.state().invoices.get(invoice_id).ok_or(Unknown)?.callback_url.clone();
        Ok(self.call(invoice_id, &callback::with_payment(&url, payment_id)).await)
    }

    async fn call(&self, invoice_id: &str, url: &str) -> Result<Answer, NoAnswer> {
        let answer = callback::get(url).await;
        if let Some(invoice) = self.state().invoices.get_mut(invoice_id) {
            invoice.last_callback = Some(answer.clone());
            self.tell(invoice);
        }
        answer
    }

    /// Calls back this many times at once.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub async fn call_back_at_once(
        &self,
        invoice_id: &str,
        payment_id: &str,
        times: usize,
    ) -> Result<Vec<Result<Answer, NoAnswer>>, Unknown> {
        join_all((0..times).map(|_| self.call_back(invoice_id, payment_id))).await.into_iter().collect()
    }

    /// Cancels an invoice without the merchant's doing and does not call back; one that is paid stays as it is.
    ///
    /// # Errors
    /// [`Unknown`] where there is no such invoice.
    pub fn cancel(&self, invoice_id: &str) -> Result<(), Unknown> {
        self.state().click(invoice_id, Button::Cancel, 0).map(drop)
    }

    /// The next invoices are paid, and called back for, before the merchant has the answer that they exist.
    pub fn pay_before_answering(&self, invoices: u32) {
        self.state().pay_early = invoices;
    }

    // ---- Bad days

    /// The next calls of this kind meet a fault. Faults are met in the order in which they were asked for.
    pub fn fault(&self, call: Call, times: u32, fault: Fault) {
        if times > 0 {
            self.state().faults.push((Some(call), times, fault));
        }
    }

    /// The next calls of any kind meet a fault.
    pub fn fault_any(&self, times: u32, fault: Fault) {
        if times > 0 {
            self.state().faults.push((None, times, fault));
        }
    }

    /// From now on nothing is wrong any more: no faults, no delay, tokens are taken. A closed port stays closed.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.delay = Duration::ZERO;
        state.pay_early = 0;
        state.refuse_tokens = false;
    }

    /// Every call takes this much longer.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// How numbers are written.
    pub fn set_numbers(&self, numbers: Numbers) {
        self.state().numbers = numbers;
    }

    /// The access and refresh tokens that are good now: no log may hold one.
    pub fn tokens(&self) -> Vec<String> {
        let state = self.state();
        state.access_tokens.keys().chain(state.refresh_tokens.keys()).cloned().collect()
    }

    /// All access tokens end now; refresh tokens live on.
    pub fn expire_tokens(&self) {
        self.state().access_tokens.clear();
    }

    /// All refresh tokens end now.
    pub fn expire_refresh_tokens(&self) {
        self.state().refresh_tokens.clear();
    }

    /// Gives tokens but takes none, as for a merchant that was shut out.
    pub fn refuse_tokens(&self, refuse: bool) {
        self.state().refuse_tokens = refuse;
    }

    /// Cuts every socket and refuses connections.
    pub async fn down(&self) {
        self.inner.port.close().await;
    }

    /// Takes connections again, on the same port.
    ///
    /// # Errors
    /// Where somebody else took the port meanwhile.
    pub async fn up(&self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.inner.port.address).await?;
        self.inner.port.open(listener, api::router(self.clone()));
        Ok(())
    }
}
