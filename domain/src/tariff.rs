//! What a charge costs. One pure function gives the live figure and the final one.

use crate::bands::{Bands, Pieces, SLOTS};
use crate::units::{Money, Timestamp, Wh};
use crate::wall_clock::WallClock;

/// One immutable version of a device's prices, frozen onto a session at its start. VAT is included in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tariff {
    /// Price of one kWh outside the bands.
    pub energy_price: Money,
    /// Price of one minute of waiting outside the bands.
    pub waiting_price: Money,
    /// The first seconds of waiting, which cost nothing.
    pub waiting_grace_s: i64,
    /// Price of the charge itself; one that took nothing is free of it.
    pub start_fee: Money,
    /// Least total of a charge that took energy.
    pub minimum: Money,
    /// Most total; it goes before the minimum.
    pub cap: Option<Money>,
    /// The VAT that is in the total, hundredths of a percent.
    pub vat_bp: i64,
    /// Parts of the day with prices of their own.
    pub bands: Bands,
    /// The wall clock that the bands go by. It stays for the session.
    pub clock: WallClock,
}

impl Tariff {
    /// Prices of one kWh and of one minute of waiting at a moment.
    pub fn prices_at(&self, at: Timestamp) -> (Money, Money) {
        let slot = self.slot_at(at);
        (self.energy_price_in(slot), self.waiting_price_in(slot))
    }

    pub(crate) fn slot_at(&self, at: Timestamp) -> usize {
        self.bands.slot_at(at, &self.clock)
    }

    pub(crate) fn pieces(&self, from: Timestamp, to: Timestamp) -> Pieces<'_> {
        self.bands.pieces(from, to, &self.clock)
    }

    fn energy_price_in(&self, slot: usize) -> Money {
        let band = slot.checked_sub(1).and_then(|n| self.bands.as_slice().get(n));
        band.map_or(self.energy_price, |band| band.energy_price)
    }

    fn waiting_price_in(&self, slot: usize) -> Money {
        let band = slot.checked_sub(1).and_then(|n| self.bands.as_slice().get(n));
        band.and_then(|band| band.waiting_price).unwrap_or(self.waiting_price)
    }
}

/// What a charge used, apart by price: outside the bands first, then in each band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Energy.
    pub energy: [Wh; SLOTS],
    /// Whole seconds of waiting in all, the free ones included.
    pub waiting_s: i64,
    /// Whole seconds of waiting beyond the grace.
    pub paid_waiting_s: [i64; SLOTS],
}

/// The lines of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// Energy taken.
    pub energy: Wh,
    /// Whole seconds of waiting, the free ones included.
    pub waiting_s: i64,
    /// The start fee.
    pub start_amount: Money,
    /// The energy line.
    pub energy_amount: Money,
    /// The waiting line.
    pub waiting_amount: Money,
    /// What lifts the sum to the minimum, or, negative, lowers it to the cap.
    pub adjustment_amount: Money,
    /// The VAT that is in the total.
    pub vat_amount: Money,
}

impl Bill {
    /// What the customer owes: the sum of the lines, VAT included.
    pub fn total(&self) -> Money {
        self.start_amount + self.energy_amount + self.waiting_amount + self.adjustment_amount
    }

    /// The total as earned by energy and by waiting, VAT included. Start fee and adjustment belong to the energy; a cap
    /// below the waiting line lowers the waiting too, so that neither part is negative.
    pub fn parts(&self) -> (Money, Money) {
        let waiting = self.waiting_amount.min(self.total());
        (self.total() - waiting, waiting)
    }
}

/// Prices what was used. Rounds half up to one möngö, once a line, here and nowhere else.
pub fn price(tariff: &Tariff, usage: &Usage) -> Bill {
    let energy: Wh = usage.energy.iter().copied().sum();
    let mut bill = Bill {
        energy,
        waiting_s: usage.waiting_s,
        energy_amount: line(usage.energy.iter().enumerate().map(|(n, wh)| (tariff.energy_price_in(n), wh.0)), 1000),
        waiting_amount: line(
            usage.paid_waiting_s.iter().enumerate().map(|(n, seconds)| (tariff.waiting_price_in(n), *seconds)),
            60,
        ),
        ..Bill::default()
    };
    if energy > Wh(0) || usage.waiting_s > 0 {
        bill.start_amount = tariff.start_fee;
    }
    let sum = bill.total();
    let least = if energy > Wh(0) { sum.max(tariff.minimum) } else { sum };
    bill.adjustment_amount = tariff.cap.map_or(least, |cap| least.min(cap)) - sum;
    bill.vat_amount = vat_in(bill.total(), tariff.vat_bp);
    bill
}

/// The VAT in an amount that includes it.
fn vat_in(total: Money, vat_bp: i64) -> Money {
    let whole = 10_000 + i128::from(vat_bp.max(0));
    rounded(i128::from(total.0) * i128::from(vat_bp.max(0)), whole)
}

fn line(quantities: impl Iterator<Item = (Money, i64)>, quantity_per_unit: i128) -> Money {
    // Five products of 64 bits each stay far inside 128.
    let exact = quantities.map(|(unit_price, quantity)| i128::from(unit_price.0) * i128::from(quantity)).sum();
    rounded(exact, quantity_per_unit)
}

/// Half up, for what is not negative; never beyond what is ever charged.
fn rounded(dividend: i128, divisor: i128) -> Money {
    i64::try_from((dividend + divisor / 2) / divisor).map_or(Money::MOST, |amount| Money(amount).min(Money::MOST))
}

#[cfg(test)]
#[path = "tariff_tests.rs"]
mod tests;
