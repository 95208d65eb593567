//! Power over time, to hold the register against. It never bills.

use crate::point::{ChargingState, Point, PointKind};
use crate::units::{Timestamp, Wh};

/// A power told holds for no longer than this.
const HOLDS_MS: i64 = 15 * 60_000;
/// Energy and power × time contradict each other where one is so many times the other, and more than the least.
const TIMES: i64 = 4;
const LEAST_WH: i64 = 150;
const LEAST_BEYOND_WH: i64 = 2000;
/// So many times as much is no energy too much: the power is told in kW.
const KILO_TIMES: i64 = 500;
/// Energy is too much only where power was told nearly all the time, for some minutes.
const LEAST_SPAN_MS: i64 = 3 * 60_000;

/// What was told of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Drawn {
    /// The time of the last power told; 0 where none holds.
    pub(crate) at: Timestamp,
    pub(crate) watts: i64,
    /// Power × time, W × ms; of two powers the lower one counts for the time between.
    pub(crate) watt_ms: i64,
    pub(crate) covered_ms: i64,
}

impl Drawn {
    pub(crate) fn take(&mut self, point: Point) {
        match point.kind {
            PointKind::Power => {
                self.pass(point.at, point.value);
                (self.at, self.watts) = (point.at, point.value);
            }
            PointKind::End => self.stop(point.at),
            PointKind::State => match ChargingState::from_code(point.value) {
                ChargingState::Charging | ChargingState::Unknown => {}
                _ => self.stop(point.at),
            },
            _ => {}
        }
    }

    fn pass(&mut self, to: Timestamp, watts: i64) {
        if self.at != Timestamp(0) {
            let ms = to.since(self.at).min(HOLDS_MS);
            self.watt_ms = self.watt_ms.saturating_add(self.watts.min(watts).saturating_mul(ms));
            self.covered_ms = self.covered_ms.saturating_add(ms);
        }
    }

    fn stop(&mut self, at: Timestamp) {
        self.pass(at, self.watts);
        self.pause();
    }

    /// What was told holds no longer.
    pub(crate) fn pause(&mut self) {
        self.at = Timestamp(0);
    }

    pub(crate) fn energy(&self) -> Wh {
        Wh(self.watt_ms / 3_600_000)
    }

    /// Whether this energy cannot be what was drawn in a charge of this length; a register holds back up to `rounding_wh`.
    pub(crate) fn contradicts(&self, energy_wh: i64, rounding_wh: i64, span_ms: i64) -> bool {
        let drawn = self.energy().0;
        let too_little = is_far_more(drawn, energy_wh, rounding_wh);
        let covered = span_ms >= LEAST_SPAN_MS && self.covered_ms >= span_ms / 10 * 9;
        let beyond = drawn.saturating_mul(TIMES) + LEAST_BEYOND_WH + rounding_wh;
        let too_much = drawn > 0 && energy_wh > beyond && energy_wh < drawn.saturating_mul(KILO_TIMES);
        too_little || (covered && too_much)
    }
}

/// Whether what was told otherwise is too much beside a register that holds back up to `rounding_wh`.
pub(crate) fn is_far_more(told_wh: i64, energy_wh: i64, rounding_wh: i64) -> bool {
    told_wh >= LEAST_WH + rounding_wh && told_wh > (energy_wh + rounding_wh).saturating_mul(TIMES)
}
