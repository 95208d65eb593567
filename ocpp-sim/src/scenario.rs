//! What people do at a charger, step by step: read from a JSON or TOML file, or the everyday routine.

use crate::{Charger, ChargerState, ConnectorStatus, SimEvent};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A wait without `timeout_s` ends after this time.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// How long the answer to a card may take: a CALL waits 30 s, and may wait for another one before it.
const CARD_WAIT: Duration = Duration::from_secs(60);
const MAX_STEPS: usize = 10_000;
/// Longest time a file may name, seconds.
const MAX_SECONDS: u64 = 30 * 86_400;

/// Steps for one charger, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
struct Step {
    at: Option<Duration>,
    sleep: Option<Duration>,
    connector: u32,
    deed: Option<Deed>,
    /// The charger or the central system is to say no.
    refused: bool,
    wait: Option<(Wish, Duration)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Deed {
    PlugIn,
    Unplug,
    PresentCard(String),
    StopLocal,
    SuspendEv,
    SuspendEvse,
    Resume,
    Fault(String),
    ClearFault,
    GoOffline,
    GoOnline,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wish {
    Status(ConnectorStatus),
    Online,
    Offline,
    Booted,
    Transaction,
    TransactionId,
    NoTransaction,
    QueueEmpty,
    Energy(i64),
}

/// A file that is no scenario, or a scenario that went wrong. Steps count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither JSON nor TOML of the right shape.
    #[error("cannot read the scenario: {0}")]
    Syntax(String),
    /// A step that cannot be understood.
    #[error("step {step}: {problem}")]
    Step {
        /// Its number.
        step: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The charger, or the central system, said no to a step.
    #[error("step {step}: refused: {reason}")]
    Refused {
        /// Its number.
        step: usize,
        /// Why.
        reason: String,
    },
    /// A step with `refused` was not refused.
    #[error("step {step}: was to be refused, and was not")]
    NotRefused {
        /// Its number.
        step: usize,
    },
    /// A wait ended without what it waited for.
    #[error("step {step}: waited {seconds} s in vain for {wish}; the charger is {state:?}")]
    TimedOut {
        /// The number of the step.
        step: usize,
        /// What was waited for.
        wish: String,
        /// How long.
        seconds: u64,
        /// The state at the end of the wait.
        state: Box<ChargerState>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at_s: Option<u64>,
    sleep_s: Option<u64>,
    #[serde(rename = "do")]
    deed: Option<String>,
    wait: Option<String>,
    connector: Option<u32>,
    id_tag: Option<String>,
    error_code: Option<String>,
    wh: Option<i64>,
    timeout_s: Option<u64>,
    #[serde(default)]
    refused: bool,
}

impl Scenario {
    /// Reads JSON (a list of steps, or an object with `steps`) or TOML (`[[steps]]`).
    ///
    /// # Errors
    /// [`ScenarioError::Syntax`] and [`ScenarioError::Step`].
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let text = text.trim();
        let syntax = |e: &dyn std::fmt::Display| ScenarioError::Syntax(e.to_string());
        // A JSON list of steps begins with `[{` or is empty; TOML's tables begin with `[[` or a name.
        let list = text.strip_prefix('[').map(str::trim_start).is_some_and(|t| t.starts_with(['{', ']']));
        let raw: Vec<RawStep> = if list {
            serde_json::from_str(text).map_err(|e| syntax(&e))?
        } else if text.starts_with('{') {
            serde_json::from_str::<RawFile>(text).map_err(|e| syntax(&e))?.steps
        } else {
            toml::from_str::<RawFile>(text).map_err(|e| syntax(&e))?.steps
        };
        if raw.len() > MAX_STEPS {
            return Err(ScenarioError::Syntax(format!("more than {MAX_STEPS} steps")));
        }
        let numbered = raw.into_iter().zip(1..);
        let steps = numbered.map(|(raw, step)| {
            let problem = |problem| ScenarioError::Step { step, problem };
            Step::new(raw).map_err(problem)
        });
        Ok(Scenario { steps: steps.collect::<Result<_, _>>()? })
    }

    /// Plays the steps on a charger; times count from now, whether it is connected or not.
    ///
    /// # Errors
    /// [`ScenarioError::TimedOut`] when a wait was in vain, [`ScenarioError::Refused`] when a step was refused.
    pub async fn run(&self, charger: &Charger) -> Result<(), ScenarioError> {
        let start = Instant::now();
        let mut answers = Answers { events: charger.subscribe(), open: Vec::new() };
        for (step, number) in self.steps.iter().zip(1..) {
            tokio::select! {
                () = step.time(start) => {}
                refused = answers.refusal() => return Err(refused),
            }
            if let Some(deed) = &step.deed {
                answers.act(charger, step, deed, number).await?;
            }
            if let Some((wish, limit)) = step.wait {
                tokio::select! {
                    waited = step.wait(charger, wish, limit, number) => waited?,
                    refused = answers.refusal() => return Err(refused),
                }
            }
        }
        answers.all().await
    }
}

/// What becomes of the steps that may be refused.
struct Answers {
    events: Receiver<SimEvent>,
    /// Cards whose answer has not come: connector and step.
    open: Vec<(u32, usize)>,
}

impl Answers {
    /// Does it. What is refused at once is told at once; the answer to a card may come later.
    async fn act(&mut self, charger: &Charger, step: &Step, deed: &Deed, number: usize) -> Result<(), ScenarioError> {
        self.open.push((step.connector, number));
        deed.act(charger, step.connector).await;
        if step.refused {
            // Only a card's answer comes later.
            let limit = if matches!(deed, Deed::PresentCard(_)) { CARD_WAIT } else { Duration::ZERO };
            let answer = timeout(limit, async {
                while !self.open.is_empty() {
                    self.next().await?;
                }
                Ok(())
            });
            return match answer.await {
                Ok(Err(ScenarioError::Refused { step, .. })) if step == number => Ok(()),
                Ok(Err(other)) => Err(other),
                Ok(Ok(())) | Err(_) => Err(ScenarioError::NotRefused { step: number }),
            };
        }
        while let Ok(event) = self.events.try_recv() {
            self.take(&event)?;
        }
        if !matches!(deed, Deed::PresentCard(_)) {
            self.open.retain(|(_, open)| *open != number);
        }
        Ok(())
    }

    /// Comes back with the first refusal only.
    async fn refusal(&mut self) -> ScenarioError {
        loop {
            if let Err(refused) = self.next().await {
                return refused;
            }
        }
    }

    /// Until all cards have their answer.
    async fn all(&mut self) -> Result<(), ScenarioError> {
        let all = timeout(CARD_WAIT, async {
            while !self.open.is_empty() {
                self.next().await?;
            }
            Ok(())
        });
        all.await.unwrap_or(Ok(()))
    }

    async fn next(&mut self) -> Result<(), ScenarioError> {
        match self.events.recv().await {
            Ok(event) => self.take(&event),
            Err(RecvError::Lagged(_)) => Ok(()),
            // The charger is gone, and with it whatever could be refused.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    fn take(&mut self, event: &SimEvent) -> Result<(), ScenarioError> {
        let (connector, reason) = match event {
            SimEvent::Refused { connector, reason } => (*connector, Some(reason)),
            SimEvent::Authorized { connector, .. } | SimEvent::TransactionStopped { connector, .. } => {
                (*connector, None)
            }
            _ => return Ok(()),
        };
        let Some(place) = self.open.iter().position(|(open, _)| *open == connector) else { return Ok(()) };
        let (_, step) = self.open.remove(place);
        match reason {
            Some(reason) => Err(ScenarioError::Refused { step, reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

impl Step {
    /// Lets the time before it pass.
    async fn time(&self, start: Instant) {
        if let Some(at) = self.at {
            sleep_until(start + at).await;
        }
        if let Some(time) = self.sleep {
            sleep(time).await;
        }
    }

    async fn wait(&self, charger: &Charger, wish: Wish, limit: Duration, step: usize) -> Result<(), ScenarioError> {
        let waited = charger.wait_until(limit, |state| wish.holds(state, self.connector)).await;
        let in_vain = |crate::NotInTime(state)| ScenarioError::TimedOut {
            step,
            wish: format!("{wish:?}"),
            seconds: limit.as_secs(),
            state,
        };
        waited.map(drop).map_err(in_vain)
    }

    fn new(raw: RawStep) -> Result<Step, String> {
        let time = |seconds: u64| match seconds {
            0..=MAX_SECONDS => Ok(Duration::from_secs(seconds)),
            _ => Err(format!("{seconds} s is too long")),
        };
        let deed = match raw.deed.as_deref() {
            None => None,
            Some("plug_in") => Some(Deed::PlugIn),
            Some("unplug") => Some(Deed::Unplug),
            Some("present_card") => Some(Deed::PresentCard(raw.id_tag.clone().ok_or("present_card needs id_tag")?)),
            Some("stop_local") => Some(Deed::StopLocal),
            Some("suspend_ev") => Some(Deed::SuspendEv),
            Some("suspend_evse") => Some(Deed::SuspendEvse),
            Some("resume") => Some(Deed::Resume),
            Some("fault") => Some(Deed::Fault(raw.error_code.clone().unwrap_or_else(|| "InternalError".to_owned()))),
            Some("clear_fault") => Some(Deed::ClearFault),
            Some("go_offline") => Some(Deed::GoOffline),
            Some("go_online") => Some(Deed::GoOnline),
            Some(other) => return Err(format!("cannot do {other:?}")),
        };
        let limit = raw.timeout_s.map(time).transpose()?.unwrap_or(DEFAULT_WAIT);
        let wish = raw.wait.as_deref().map(|name| Wish::new(name, raw.wh)).transpose()?;
        let step = Step {
            at: raw.at_s.map(time).transpose()?,
            sleep: raw.sleep_s.map(time).transpose()?,
            connector: raw.connector.unwrap_or(1),
            deed,
            refused: raw.refused,
            wait: wish.map(|wish| (wish, limit)),
        };
        if step.refused && step.deed.is_none() {
            return Err("refused needs a do".to_owned());
        }
        let idle = step.at.is_none() && step.sleep.is_none() && step.deed.is_none() && step.wait.is_none();
        if idle { Err("needs one of do, wait, at_s, sleep_s".to_owned()) } else { Ok(step) }
    }
}

impl Wish {
    fn new(name: &str, wh: Option<i64>) -> Result<Wish, String> {
        Ok(match name {
            "available" => Wish::Status(ConnectorStatus::Available),
            "preparing" => Wish::Status(ConnectorStatus::Preparing),
            "charging" => Wish::Status(ConnectorStatus::Charging),
            "suspended_ev" => Wish::Status(ConnectorStatus::SuspendedEv),
            "suspended_evse" => Wish::Status(ConnectorStatus::SuspendedEvse),
            "finishing" => Wish::Status(ConnectorStatus::Finishing),
            "unavailable" => Wish::Status(ConnectorStatus::Unavailable),
            "faulted" => Wish::Status(ConnectorStatus::Faulted),
            "online" => Wish::Online,
            "offline" => Wish::Offline,
            "booted" => Wish::Booted,
            "transaction" => Wish::Transaction,
            "transaction_id" => Wish::TransactionId,
            "no_transaction" => Wish::NoTransaction,
            "queue_empty" => Wish::QueueEmpty,
            "energy" => Wish::Energy(wh.ok_or("waiting for energy needs wh")?),
            other => return Err(format!("cannot wait for {other:?}")),
        })
    }

    fn holds(self, state: &ChargerState, connector: u32) -> bool {
        let at = |wish: &dyn Fn(&crate::ConnectorState) -> bool| state.connector(connector).is_some_and(wish);
        match self {
            Wish::Status(status) => at(&|c| c.status == status),
            Wish::Online => state.online,
            Wish::Offline => !state.online,
            Wish::Booted => state.online && state.booted,
            Wish::Transaction => at(&|c| c.in_transaction),
            Wish::TransactionId => at(&|c| c.transaction_id.is_some()),
            Wish::NoTransaction => at(&|c| !c.in_transaction),
            Wish::QueueEmpty => state.queued == 0,
            Wish::Energy(wh) => at(&|c| c.session_wh >= wh),
        }
    }
}

impl Deed {
    async fn act(&self, charger: &Charger, connector: u32) {
        match self {
            Deed::PlugIn => charger.plug_in(connector).await,
            Deed::Unplug => charger.unplug(connector).await,
            Deed::PresentCard(id_tag) => charger.present_card(connector, id_tag).await,
            Deed::StopLocal => charger.stop_local(connector).await,
            Deed::SuspendEv => charger.suspend_ev(connector).await,
            Deed::SuspendEvse => charger.suspend_evse(connector).await,
            Deed::Resume => charger.resume(connector).await,
            Deed::Fault(code) => charger.fault(connector, code).await,
            Deed::ClearFault => charger.clear_fault(connector).await,
            Deed::GoOffline => charger.go_offline().await,
            Deed::GoOnline => charger.go_online().await,
        }
    }
}

/// The routine of a connector nobody wrote a scenario for, for ever: a car plugs in, somebody starts it from afar, it
/// charges until it is full or stopped, leaves after `pause`, and another one comes.
pub async fn everyday(charger: &Charger, connector: u32, pause: Duration) {
    let ever = Duration::from_secs(MAX_SECONDS);
    let is = |state: &ChargerState, wish: Wish| wish.holds(state, connector);
    loop {
        if charger.wait_until(ever, |s| is(s, Wish::Booted)).await.is_err() {
            return;
        }
        sleep(pause).await;
        charger.plug_in(connector).await;
        let began = charger.wait_until(ever, |s| is(s, Wish::Transaction)).await;
        let full = Wish::Status(ConnectorStatus::SuspendedEv);
        let over = |s: &ChargerState| is(s, full) || is(s, Wish::NoTransaction);
        if began.is_err() || charger.wait_until(ever, over).await.is_err() {
            return;
        }
        sleep(pause).await;
        charger.unplug(connector).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_and_toml_say_the_same() {
        let list = r#" [ {"at_s": 1, "do": "plug_in"}, {"do": "present_card", "connector": 2, "id_tag": "ABC"},
            {"wait": "charging", "timeout_s": 5}, {"wait": "energy", "wh": 500} ]"#;
        let object = format!(r#"{{"steps": {list}}}"#);
        let toml = r#"
            [[steps]]
            at_s = 1
            do = "plug_in"
            [[steps]]
            do = "present_card"
            connector = 2
            id_tag = "ABC"
            [[steps]]
            wait = "charging"
            timeout_s = 5
            [[steps]]
            wait = "energy"
            wh = 500
        "#;
        let scenario = Scenario::parse(list).unwrap();
        assert_eq!(scenario.steps.len(), 4);
        assert_eq!(scenario.steps[1].deed, Some(Deed::PresentCard("ABC".to_owned())));
        assert_eq!(scenario.steps[3].wait, Some((Wish::Energy(500), DEFAULT_WAIT)));
        assert_eq!(Scenario::parse(&object).unwrap(), scenario);
        assert_eq!(Scenario::parse(toml).unwrap(), scenario);
    }

    #[test]
    fn mistakes_name_their_step() {
        for (text, says) in [
            (r#"[{"do": "plug_in"}, {"do": "dance"}]"#, "step 2: cannot do \"dance\""),
            (r#"[{"wait": "rain"}]"#, "step 1: cannot wait for \"rain\""),
            (r#"[{"do": "present_card"}]"#, "step 1: present_card needs id_tag"),
            (r#"[{"wait": "energy"}]"#, "step 1: waiting for energy needs wh"),
            (r#"[{"connector": 1}]"#, "step 1: needs one of"),
            (r#"[{"sleep_s": 99999999999}]"#, "too long"),
            (r#"[{"d": "plug_in"}]"#, "unknown field `d`"),
            ("nonsense", "cannot read the scenario"),
        ] {
            let error = Scenario::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
