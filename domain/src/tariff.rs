//! What a charge costs. One pure function gives the live figure and the final one.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::units::{Money, Wh};

/// One immutable version of a device's prices, frozen onto a session at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    /// Price of one kWh.
    pub energy_price: Money,
    /// Price of one minute of waiting.
    pub waiting_price: Money,
    /// Seconds of waiting that cost nothing.
    pub waiting_grace_s: i64,
}

/// The lines of a purchase and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// Energy taken.
    pub energy: Wh,
    /// Whole seconds of waiting, the free ones included.
    pub waiting_s: i64,
    /// The energy line.
    pub energy_amount: Money,
    /// The waiting line.
    pub waiting_amount: Money,
}

impl Bill {
    /// What the customer owes: the sum of the lines.
    pub fn total(&self) -> Money {
        self.energy_amount + self.waiting_amount
    }
}

/// Prices energy and waiting. Rounds half away from zero to one möngö, once a line, here and nowhere else.
pub fn price(tariff: &Tariff, energy: Wh, waiting_s: i64) -> Bill {
    let paid_seconds = (waiting_s - tariff.waiting_grace_s).max(0);
    Bill {
        energy,
        waiting_s,
        energy_amount: line(tariff.energy_price, energy.0, 1000),
        waiting_amount: line(tariff.waiting_price, paid_seconds, 60),
    }
}

fn line(unit_price: Money, quantity: i64, quantity_per_unit: i64) -> Money {
    // 28 digits hold every price times every quantity that the store's CHECKs let in.
    let exact = Decimal::from(unit_price.0) * Decimal::from(quantity) / Decimal::from(quantity_per_unit);
    let whole = exact.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
    Money(i64::try_from(whole.mantissa()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARIFF: Tariff = Tariff { energy_price: Money(50_000), waiting_price: Money(10_000), waiting_grace_s: 60 };

    #[test]
    fn prices_by_kwh_and_minute() {
        let bill = price(&TARIFF, Wh(12_345), 150);
        assert_eq!(bill.energy_amount, Money(617_250));
        assert_eq!(bill.waiting_amount, Money(15_000));
        assert_eq!(bill.total(), Money(632_250));
    }

    #[test]
    fn rounds_half_up_once_a_line() {
        let tariff = Tariff { energy_price: Money(1), waiting_price: Money(1), waiting_grace_s: 0 };
        assert_eq!(price(&tariff, Wh(499), 29).total(), Money(0));
        assert_eq!(price(&tariff, Wh(500), 30).total(), Money(2));
    }

    proptest! {
        #[test]
        fn more_never_costs_less(
            wh in 0i64..2_000_000, more in 0i64..1_000_000, waiting in 0i64..1_000_000,
            energy_price in 0i64..10_000_000, waiting_price in 0i64..10_000_000, grace in 0i64..10_000,
        ) {
            let tariff = Tariff { energy_price: Money(energy_price), waiting_price: Money(waiting_price), waiting_grace_s: grace };
            let less = price(&tariff, Wh(wh), waiting);
            prop_assert!(price(&tariff, Wh(wh + more), waiting).total() >= less.total());
            prop_assert!(price(&tariff, Wh(wh), waiting + more).total() >= less.total());
            prop_assert_eq!(less.total(), less.energy_amount + less.waiting_amount);
        }
    }
}
