//! How long a charge charged, by what was said of that, and how much of it no register measured.

use crate::point::{ChargingState, Point, PointKind};

/// A car that takes nothing may be called charging for so long, seconds.
const LEAST_SAID_S: i64 = 5 * 60;
/// So much of a battery can be its own count, percent.
const LEAST_SOC: i64 = 5;
/// The smallest battery that tells its state, 2 kWh: Wh a percent.
const LEAST_WH_A_PERCENT: i64 = 20;

/// What was told of charging besides energy and power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Charged {
    /// How long the charger said that it charges, or said nothing of that, milliseconds.
    pub(crate) charging_ms: i64,
    /// How long it said so.
    pub(crate) said_ms: i64,
    /// The part of `charging_ms` before the register was read first, and since it was read last.
    pub(crate) before_first_ms: i64,
    pub(crate) since_last_ms: i64,
    /// The first state of charge told, percent; 0 is none.
    pub(crate) first_soc: i64,
}

/// What nothing was told of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Untold {
    /// So long it had begun before anything was told of it, milliseconds.
    pub(crate) ms: i64,
    /// Whether its end was not told.
    pub(crate) cut_off: bool,
}

impl Charged {
    /// Passes time in a state.
    pub(crate) fn pass(&mut self, state: ChargingState, ms: i64) {
        if !matches!(state, ChargingState::Charging | ChargingState::Unknown) {
            return;
        }
        self.charging_ms = self.charging_ms.saturating_add(ms);
        self.since_last_ms = self.since_last_ms.saturating_add(ms);
        if state == ChargingState::Charging {
            self.said_ms = self.said_ms.saturating_add(ms);
        }
    }

    /// The register was read.
    pub(crate) fn read(&mut self, first: bool) {
        if first {
            self.before_first_ms = self.since_last_ms;
        }
        self.since_last_ms = 0;
    }

    pub(crate) fn take(&mut self, point: Point) {
        if point.kind == PointKind::Soc && self.first_soc == 0 {
            self.first_soc = point.value;
        }
    }

    /// For how long it charged while the register was not read, seconds.
    pub(crate) fn unmeasured_s(&self) -> i64 {
        self.before_first_ms.saturating_add(self.since_last_ms) / 1000
    }

    /// Whether it was said to charge for longer than a car that takes nothing is; `covered_ms` of that its power was told.
    pub(crate) fn was_said(&self, covered_ms: i64) -> bool {
        (self.said_ms - covered_ms) / 1000 >= LEAST_SAID_S
    }

    /// By how many percent a battery rose that this energy cannot have filled.
    pub(crate) fn soc_beyond(&self, last_soc: Option<i64>, energy_wh: i64) -> Option<i64> {
        let rise = last_soc.filter(|_| self.first_soc > 0)?.saturating_sub(self.first_soc);
        (rise >= LEAST_SOC && energy_wh < rise.saturating_mul(LEAST_WH_A_PERCENT)).then_some(rise)
    }
}
