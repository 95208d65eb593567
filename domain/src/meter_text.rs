//! The parts of a meter that are kept as one text: numbers in a fixed order, zeros left out.

use crate::bands::SLOTS;
use crate::charged::Charged;
use crate::clock::Clock;
use crate::doubt::Doubts;
use crate::drawn::Drawn;
use crate::meter::{ChargingState, Meter};
use crate::registers::Aside;
use crate::stand_in::StandIn;
use crate::units::{Timestamp, Wh};

/// The numbers of [`Meter::rest`]. New ones are added at the end.
const REST: usize = 34;
/// The numbers of all of it.
const ALL: usize = 16 + 2 * SLOTS + REST;

impl Meter {
    /// What stands in no column of its own.
    pub fn rest_text(&self) -> String {
        text_of(&self.rest())
    }

    /// Reads what [`Meter::rest_text`] gave; `None` where it was written before there was any.
    ///
    /// # Errors
    /// Where it is not such a text.
    pub fn read_rest(&mut self, text: Option<&str>) -> Result<(), BadText> {
        match text {
            Some(text) => self.set_rest(read::<REST>(text)?),
            None => self.rest.has_register = [self.baseline, self.register].into_iter().flatten().any(|wh| wh > Wh(0)),
        }
        Ok(())
    }

    /// All of it, to fold later points on.
    pub fn to_text(&self) -> String {
        let mut all = [0; ALL];
        all[..16].copy_from_slice(&self.columns());
        for slot in 0..SLOTS {
            (all[16 + slot], all[16 + SLOTS + slot]) = (self.energy_in[slot].0, self.paid_waiting_s[slot]);
        }
        all[ALL - REST..].copy_from_slice(&self.rest());
        format!("{}|{}", text_of(&all), self.told_doubts.to_text().unwrap_or_default())
    }

    /// Reads what [`Meter::to_text`] gave.
    ///
    /// # Errors
    /// Where it is not such a text.
    pub fn from_text(text: &str) -> Result<Self, BadText> {
        let (numbers, doubts) = text.split_once('|').ok_or(BadText)?;
        let all = read::<ALL>(numbers)?;
        let mut meter = Self { told_doubts: Doubts::from_text(doubts), ..Self::default() };
        meter.set_columns(all);
        for slot in 0..SLOTS {
            (meter.energy_in[slot], meter.paid_waiting_s[slot]) = (Wh(all[16 + slot]), all[16 + SLOTS + slot]);
        }
        let mut rest = [0; REST];
        rest.copy_from_slice(&all[ALL - REST..]);
        meter.set_rest(rest);
        Ok(meter)
    }

    fn columns(&self) -> [i64; 16] {
        let (has_baseline, baseline) = optional(self.baseline.map(|wh| wh.0));
        let (has_register, register) = optional(self.register.map(|wh| wh.0));
        let (has_power, power) = optional(self.power_w);
        let (has_soc, soc) = optional(self.soc);
        #[rustfmt::skip]
        let all = [
            has_baseline, baseline, has_register, register, has_power, power, has_soc, soc,
            self.register_at.0, self.level_at.0, self.step_ms, self.last_at.0, self.last_kind, self.waiting_ms, self.quiet_ms,
            self.state as i64,
        ];
        all
    }

    fn set_columns(&mut self, all: [i64; ALL]) {
        let option = |n: usize| (all[n] != 0).then(|| all[n + 1]);
        (self.baseline, self.register) = (option(0).map(Wh), option(2).map(Wh));
        (self.power_w, self.soc) = (option(4), option(6));
        (self.register_at, self.level_at, self.step_ms) = (Timestamp(all[8]), Timestamp(all[9]), all[10]);
        (self.last_at, self.last_kind) = (Timestamp(all[11]), all[12]);
        (self.waiting_ms, self.quiet_ms, self.state) = (all[13], all[14], ChargingState::from_code(all[15]));
    }

    fn rest(&self) -> [i64; REST] {
        let (has_aside, aside) = self.rest.aside.map_or((0, [0; 4]), |aside| {
            (1, [aside.baseline.0, aside.register.0, aside.at.0, i64::from(aside.ends_only)])
        });
        let (has_net, net) = self.rest.stand_in.net.map_or((0, [0; 2]), |(first, last)| (1, [first.0, last.0]));
        let (has_lag, lag) = optional(self.rest.clock.least_lag_ms);
        #[rustfmt::skip]
        let all = [
            self.rest.has_register.into(), self.rest.charged.charging_ms, self.first_at.0,
            has_lag, lag, self.rest.clock.was_away.into(), self.rest.clock.heard_at.0,
            self.rest.drawn.at.0, self.rest.drawn.watts, self.rest.drawn.watt_ms, self.rest.drawn.covered_ms,
            self.rest.loose.into(), has_aside, aside[0], aside[1], aside[2], aside[3],
            self.rest.stand_in.intervals.0, has_net, net[0], net[1], self.rest.stand_in.net_sum.0, self.rest.stand_in.net_fell.into(),
            self.kept, self.left_out, self.rest.undated.into(), self.rest.begin_undated.into(),
            self.rest.clock.date_holds.into(), self.rest.clock.steady.0, self.rest.clock.steady.1.0,
            self.rest.charged.said_ms, self.rest.charged.before_first_ms, self.rest.charged.since_last_ms,
            self.rest.charged.first_soc,
        ];
        all
    }

    fn set_rest(&mut self, all: [i64; REST]) {
        (self.rest.has_register, self.first_at) = (all[0] != 0, Timestamp(all[2]));
        #[rustfmt::skip]
        let charged = Charged {
            charging_ms: all[1], said_ms: all[30], before_first_ms: all[31], since_last_ms: all[32], first_soc: all[33],
        };
        self.rest.charged = charged;
        let least_lag_ms = (all[3] != 0).then_some(all[4]);
        let (was_away, heard_at, date_holds) = (all[5] != 0, Timestamp(all[6]), all[27] != 0);
        self.rest.clock = Clock { least_lag_ms, was_away, heard_at, date_holds, steady: (all[28], Timestamp(all[29])) };
        self.rest.drawn = Drawn { at: Timestamp(all[7]), watts: all[8], watt_ms: all[9], covered_ms: all[10] };
        self.rest.loose = all[11] != 0;
        self.rest.aside = (all[12] != 0).then(|| Aside {
            baseline: Wh(all[13]),
            register: Wh(all[14]),
            at: Timestamp(all[15]),
            ends_only: all[16] != 0,
        });
        let net = (all[18] != 0).then(|| (Wh(all[19]), Wh(all[20])));
        self.rest.stand_in = StandIn { intervals: Wh(all[17]), net, net_sum: Wh(all[21]), net_fell: all[22] != 0 };
        (self.kept, self.left_out) = (all[23], all[24]);
        (self.rest.undated, self.rest.begin_undated) = (all[25] != 0, all[26] != 0);
    }
}

/// A text that is no meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the text of a meter")]
pub struct BadText;

fn optional(number: Option<i64>) -> (i64, i64) {
    number.map_or((0, 0), |number| (1, number))
}

fn text_of(numbers: &[i64]) -> String {
    use std::fmt::Write as _;
    let used = numbers.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
    let mut text = String::with_capacity(128);
    for (n, number) in numbers[..used].iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        if *number != 0 {
            let _ = write!(text, "{number}");
        }
    }
    text
}

fn read<const N: usize>(text: &str) -> Result<[i64; N], BadText> {
    let mut numbers = [0; N];
    for (n, word) in text.split(',').enumerate() {
        let number = if word.is_empty() { 0 } else { word.parse().map_err(|_| BadText)? };
        *numbers.get_mut(n).ok_or(BadText)? = number;
    }
    Ok(numbers)
}
