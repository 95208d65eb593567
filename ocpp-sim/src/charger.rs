//! The handle on a simulated charger.

use crate::{
    config::ChargerConfig,
    socket::Task,
    state::{ChargerState, ConnectorStatus, SimEvent},
    station::{Local, Now, Station},
};
use chrono::Utc;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, timeout},
};

/// What handles tell the task.
#[derive(Debug)]
pub(crate) enum Order {
    Local(Local, oneshot::Sender<()>),
    Shutdown(oneshot::Sender<()>),
}

/// What was waited for did not happen in time; carries the state at the end of the wait.
#[derive(Debug, thiserror::Error)]
#[error("not in time; the charger is {0:?}")]
pub struct NotInTime(pub Box<ChargerState>);

/// A running charger. Clones are handles on the same one; when the last is dropped, it stops at once.
#[derive(Debug, Clone)]
pub struct Charger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: String,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<ChargerState>,
    events: broadcast::Sender<SimEvent>,
    task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Charger {
    /// Starts a charger: it connects, boots, and keeps reconnecting with a capped, jittered back-off.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn spawn(config: ChargerConfig) -> Charger {
        Charger::spawn_watched(config).0
    }

    /// As [`Charger::spawn`], with its events from the very first on: [`Charger::subscribe`] may come after some.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn spawn_watched(config: ChargerConfig) -> (Charger, broadcast::Receiver<SimEvent>) {
        let identity = config.identity.clone();
        let now = Now { ms: 0, wall: Utc::now() };
        let station = Station::new(config, now);
        let (orders, orders_in) = mpsc::channel(16);
        let (state_out, state) = watch::channel(station.snapshot());
        let (events, all_events) = broadcast::channel(station.config.event_capacity);
        let task =
            Task { orders: orders_in, state: state_out, events: events.clone(), station, started: Instant::now() };
        let task = tokio::spawn(task.run()).abort_handle();
        (Charger(Arc::new(Inner { identity, orders, state, events, task })), all_events)
    }

    /// The charger's identity.
    pub fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Tells the task, and returns when it has acted.
    async fn tell(&self, local: Local) {
        let (done, acted) = oneshot::channel();
        if self.0.orders.send(Order::Local(local, done)).await.is_ok() {
            let _ = acted.await;
        }
    }

    /// Plugs a car in whose battery has room for the configured energy.
    pub async fn plug_in(&self, connector: u32) {
        self.tell(Local::PlugIn(connector)).await;
    }

    /// Unplugs the car; ends a running transaction.
    pub async fn unplug(&self, connector: u32) {
        self.tell(Local::Unplug(connector)).await;
    }

    /// Presents a card: it is authorised and, with a car plugged in, starts a transaction. The card that started a
    /// transaction ends it. Before the boot is accepted, and offline, the charger decides alone
    /// ([`ChargerConfig::offline_unknown_id`]).
    pub async fn present_card(&self, connector: u32, id_tag: &str) {
        self.tell(Local::PresentCard(connector, id_tag.to_owned())).await;
    }

    /// Stops the transaction with a button at the charger.
    pub async fn stop_local(&self, connector: u32) {
        self.tell(Local::Stop(connector)).await;
    }

    /// The car takes no more energy, until [`Charger::resume`].
    pub async fn suspend_ev(&self, connector: u32) {
        self.tell(Local::SuspendEv(connector)).await;
    }

    /// The charger gives no more energy, until [`Charger::resume`].
    pub async fn suspend_evse(&self, connector: u32) {
        self.tell(Local::SuspendEvse(connector)).await;
    }

    /// Ends both kinds of suspension.
    pub async fn resume(&self, connector: u32) {
        self.tell(Local::Resume(connector)).await;
    }

    /// Breaks the connector; ends a running transaction. The code is one of OCPP 1.6's (section 7.6), anything else
    /// is told as `OtherError` with the text as info. 2.0.1 has no code.
    pub async fn fault(&self, connector: u32, error_code: &str) {
        self.tell(Local::Fault(connector, error_code.to_owned())).await;
    }

    /// Repairs the connector.
    pub async fn clear_fault(&self, connector: u32) {
        self.tell(Local::ClearFault(connector)).await;
    }

    /// Drops the socket without a goodbye and stays offline until [`Charger::go_online`].
    pub async fn go_offline(&self) {
        self.tell(Local::GoOffline).await;
    }

    /// Connects again, at once.
    pub async fn go_online(&self) {
        self.tell(Local::GoOnline).await;
    }

    /// The state now.
    pub fn state(&self) -> ChargerState {
        self.0.state.borrow().clone()
    }

    /// The state and its changes.
    pub fn watch(&self) -> watch::Receiver<ChargerState> {
        self.0.state.clone()
    }

    /// Events from now on. A slow reader loses the oldest (see [`ChargerConfig::event_capacity`]).
    pub fn subscribe(&self) -> broadcast::Receiver<SimEvent> {
        self.0.events.subscribe()
    }

    /// Waits until the state is as wished, and answers it.
    ///
    /// # Errors
    /// [`NotInTime`] when the limit passes, or the charger is gone.
    pub async fn wait_until(
        &self,
        limit: Duration,
        mut wish: impl FnMut(&ChargerState) -> bool,
    ) -> Result<ChargerState, NotInTime> {
        let mut state = self.watch();
        let found = timeout(limit, state.wait_for(|s| wish(s))).await;
        match found {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) | Err(_) => Err(NotInTime(Box::new(self.state()))),
        }
    }

    /// Waits until the connector has this status.
    ///
    /// # Errors
    /// [`NotInTime`] when the limit passes, or the charger is gone.
    pub async fn wait_status(
        &self,
        connector: u32,
        status: ConnectorStatus,
        limit: Duration,
    ) -> Result<ChargerState, NotInTime> {
        self.wait_until(limit, |s| s.connector(connector).is_some_and(|c| c.status == status)).await
    }

    /// Closes the socket cleanly and ends the charger, for all handles.
    pub async fn shutdown(self) {
        let (done, closed) = oneshot::channel();
        if self.0.orders.send(Order::Shutdown(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}
