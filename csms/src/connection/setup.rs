//! What a station is to measure, set once a connection after its boot: one list of measurands after the other, and where a
//! list is refused, one measurand after the other. Whatever else is to be asked goes first.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::calls::{Asker, OWN_ANSWER};
use super::{Connection, End};
use crate::ocpp::{self, Measures, Version};

/// A station that has booted has much to say at first, and so have those who waited for it.
const AFTER_BOOT: Duration = Duration::from_secs(2);

/// What is still to be set.
pub(super) struct Setup {
    version: Version,
    not_before: Instant,
    /// The list that is set now.
    list: usize,
    /// While its measurands are tried one by one: which is tried, and those that were taken.
    one_by_one: Option<(usize, Vec<&'static str>)>,
    over: bool,
}

impl Setup {
    pub(super) fn new(version: Version) -> Self {
        Self { version, not_before: Instant::now() + AFTER_BOOT, list: 0, one_by_one: None, over: false }
    }

    /// The list to be set next, and the measurands in it.
    fn next(&self) -> Option<(&'static str, String)> {
        let (list, all) = ocpp::measured(self.version).get(self.list).filter(|_| !self.over)?;
        let measurands = match &self.one_by_one {
            None => all.join(","),
            Some((tried, taken)) => {
                let with_it: Vec<_> = taken.iter().copied().chain(all.get(*tried).copied()).collect();
                with_it.join(",")
            }
        };
        Some((list, measurands))
    }

    /// Takes in what the station said to the last list.
    fn hear(&mut self, said: Measures) {
        let all = ocpp::measured(self.version).get(self.list).map_or(&[][..], |(_, all)| all);
        match (&mut self.one_by_one, said) {
            (None, Measures::No) if all.len() > 1 => self.one_by_one = Some((0, Vec::new())),
            (Some((tried, taken)), Measures::Yes | Measures::No) => {
                taken.extend(all.get(*tried).filter(|_| said == Measures::Yes));
                *tried += 1;
                if *tried >= all.len() {
                    self.next_list();
                }
            }
            _ => self.next_list(),
        }
    }

    fn next_list(&mut self) {
        (self.list, self.one_by_one) = (self.list + 1, None);
    }
}

impl Connection {
    pub(super) fn wants_setup(&self) -> bool {
        self.next_setup().is_some_and(|at| at <= Instant::now())
    }

    /// When the station is to be asked for the next list.
    pub(super) fn next_setup(&self) -> Option<Instant> {
        let setup = self.setup.as_ref().filter(|setup| self.outstanding.is_none() && setup.next().is_some())?;
        Some(setup.not_before)
    }

    /// Asks for the next list.
    pub(super) async fn set_up(&mut self) -> Result<(), End> {
        let Some((list, measurands)) = self.setup.as_ref().and_then(Setup::next) else { return Ok(()) };
        let (action, payload) = ocpp::ask_to_measure(self.version, list, &measurands);
        self.call(action, &payload, OWN_ANSWER, Asker::Setup).await
    }

    /// `None`: it answered with an error.
    pub(super) fn on_setup(&mut self, answer: Option<&Value>) {
        if let Some(setup) = &mut self.setup {
            let said = answer.map_or(Measures::No, |answer| ocpp::measures(setup.version, answer));
            setup.hear(said);
        }
    }

    pub(super) fn give_up_setup(&mut self) {
        if let Some(setup) = &mut self.setup {
            setup.over = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked of a station that says so to each list.
    fn asked(version: Version, says: impl Fn(&str, &str) -> Measures) -> Vec<(&'static str, String)> {
        let (mut setup, mut asked) = (Setup::new(version), Vec::new());
        while let Some((list, measurands)) = setup.next() {
            setup.hear(says(list, &measurands));
            asked.push((list, measurands));
        }
        asked
    }

    #[test]
    fn a_list_that_is_refused_is_tried_one_by_one() {
        let all = asked(Version::V201, |_, _| Measures::Yes);
        assert_eq!(
            all.iter().map(|(list, _)| *list).collect::<Vec<_>>(),
            ["TxStartedMeasurands", "TxUpdatedMeasurands", "TxEndedMeasurands"]
        );
        assert_eq!(asked(Version::V16, |_, _| Measures::Never).len(), 2, "nothing is tried that cannot be set");
        let no_power = asked(Version::V16, |_, list| if list.contains("Power") { Measures::No } else { Measures::Yes });
        let lists: Vec<_> =
            no_power.iter().map(|(_, measurands)| measurands.replace("Energy.Active.Import.", "")).collect();
        assert_eq!(
            lists,
            [
                "Register,Power.Active.Import,SoC",
                "Register",
                "Register,Power.Active.Import",
                "Register,SoC",
                "Register"
            ]
        );
    }
}
