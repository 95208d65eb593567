//! Energy of stations that tell no register: what flowed in intervals, or the register of net energy.

use crate::point::{Point, PointKind};
use crate::units::Wh;

/// What was told of energy without a register of import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StandIn {
    /// The sum of all intervals.
    pub(crate) intervals: Wh,
    /// The first value of net energy, and the highest: what came back does not lower a bill.
    pub(crate) net: Option<(Wh, Wh)>,
    /// The sum of its values: where one lies below the first they are intervals. A 0 is a reading that failed.
    pub(crate) net_sum: Wh,
    pub(crate) net_fell: bool,
}

impl StandIn {
    /// Takes in a point; gives by how much the energy rose, which never falls.
    pub(crate) fn take(&mut self, point: Point) -> Wh {
        let (before, value) = (self.energy(), Wh(point.value.max(0)));
        match point.kind {
            PointKind::Interval => self.intervals = Wh(self.intervals.0.saturating_add(value.0)),
            PointKind::Net => {
                let (first, highest) = self.net.unwrap_or((value, value));
                self.net_fell |= value < first && value > Wh(0);
                self.net = Some((first, highest.max(value)));
                self.net_sum = Wh(self.net_sum.0.saturating_add(value.0));
            }
            _ => {}
        }
        self.energy() - before
    }

    pub(crate) fn energy(&self) -> Wh {
        let net = match self.net {
            Some(_) if self.net_fell => self.net_sum,
            Some((first, highest)) => highest - first,
            None => Wh(0),
        };
        self.intervals.max(net)
    }
}
