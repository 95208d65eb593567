use proptest::prelude::*;

use super::*;
use crate::bands::Band;
use crate::ledger::{self, Account};

fn used(wh: i64, waiting_s: i64) -> Usage {
    let mut usage = Usage { waiting_s, ..Usage::default() };
    (usage.energy[0], usage.paid_waiting_s[0]) = (Wh(wh), waiting_s);
    usage
}

#[test]
fn prices_by_kwh_and_minute() {
    let tariff = Tariff { energy_price: Money(50_000), waiting_price: Money(10_000), ..Tariff::default() };
    let bill = price(&tariff, &used(12_345, 90));
    assert_eq!(bill.energy_amount, Money(617_250));
    assert_eq!(bill.waiting_amount, Money(15_000));
    assert_eq!(bill.total(), Money(632_250));
    assert_eq!(bill.vat_amount, Money(0));
}

#[test]
fn rounds_half_up_once_a_line() {
    let tariff = Tariff { energy_price: Money(1), waiting_price: Money(1), ..Tariff::default() };
    assert_eq!(price(&tariff, &used(499, 29)).total(), Money(0));
    assert_eq!(price(&tariff, &used(500, 30)).total(), Money(2));
    // Two bands of a half möngö each are one möngö: the line is rounded, not its parts.
    let mut usage = used(500, 0);
    usage.energy[1] = Wh(500);
    let band = Band { from_min: 0, to_min: 60, energy_price: Money(1), waiting_price: None };
    let banded = Tariff { bands: Bands::new(vec![band]).unwrap_or_default(), ..tariff };
    assert_eq!(price(&banded, &usage).energy_amount, Money(1));
}

#[test]
fn bands_have_their_own_prices() {
    let night = Band { from_min: 1320, to_min: 360, energy_price: Money(20_000), waiting_price: None };
    let noon = Band { from_min: 660, to_min: 780, energy_price: Money(90_000), waiting_price: Some(Money(0)) };
    let tariff = Tariff {
        energy_price: Money(50_000),
        waiting_price: Money(6_000),
        bands: Bands::new(vec![night, noon]).unwrap_or_default(),
        clock: WallClock::fixed(480),
        ..Tariff::default()
    };
    let mut usage = used(1000, 60);
    (usage.energy[1], usage.energy[2]) = (Wh(2000), Wh(500));
    (usage.paid_waiting_s[1], usage.paid_waiting_s[2]) = (120, 600);
    let bill = price(&tariff, &usage);
    assert_eq!(bill.energy, Wh(3500));
    assert_eq!(bill.energy_amount, Money(50_000 + 40_000 + 45_000));
    assert_eq!(bill.waiting_amount, Money(6_000 + 12_000));
    assert_eq!(tariff.prices_at(Timestamp(15 * 3_600_000)), (Money(20_000), Money(6_000)), "23:00 there");
    assert_eq!(tariff.prices_at(Timestamp(4 * 3_600_000)), (Money(90_000), Money(0)), "noon there");
}

#[test]
fn a_start_costs_where_something_was_taken() {
    let tariff =
        Tariff { energy_price: Money(50_000), start_fee: Money(30_000), minimum: Money(70_000), ..Tariff::default() };
    assert_eq!(price(&tariff, &used(0, 0)), Bill::default());
    let bill = price(&tariff, &used(1, 0));
    assert_eq!(
        (bill.start_amount, bill.energy_amount, bill.adjustment_amount),
        (Money(30_000), Money(50), Money(39_950))
    );
    assert_eq!(bill.total(), Money(70_000));
    assert_eq!(price(&tariff, &used(1000, 0)).adjustment_amount, Money(0));
}

#[test]
fn a_cap_takes_from_the_energy_first() {
    let tariff = Tariff {
        energy_price: Money(50_000),
        waiting_price: Money(60_000),
        cap: Some(Money(70_000)),
        vat_bp: 1000,
        ..Tariff::default()
    };
    let bill = price(&tariff, &used(1000, 40));
    assert_eq!((bill.total(), bill.adjustment_amount), (Money(70_000), Money(-20_000)));
    assert_eq!(bill.parts(), (Money(30_000), Money(40_000)));
    let long = price(&tariff, &used(1000, 600));
    assert_eq!(long.parts(), (Money(0), Money(70_000)));
    assert_eq!(long.vat_amount, Money(6_364), "70 000 / 11, rounded");
}

#[test]
fn absurd_figures_neither_wrap_nor_panic() {
    let tariff = Tariff {
        energy_price: Money(10_000_000_000),
        waiting_price: Money(10_000_000_000),
        vat_bp: 10_000,
        ..Tariff::default()
    };
    assert_eq!(price(&tariff, &used(i64::MAX, i64::MAX)).total(), Money(2 * Money::MOST.0));
}

fn any_tariff() -> impl Strategy<Value = Tariff> {
    let prices = (0i64..10_000_000, 0i64..10_000_000, 0i64..1_000_000, 0i64..5_000_000);
    let bands = (0i64..10_000_000, prop::option::of(0i64..10_000_000));
    (prices, prop::option::of(0i64..100_000_000), 0i64..3000, bands).prop_map(|(prices, cap, vat_bp, band)| {
        let band = Band { from_min: 0, to_min: 60, energy_price: Money(band.0), waiting_price: band.1.map(Money) };
        Tariff {
            energy_price: Money(prices.0),
            waiting_price: Money(prices.1),
            waiting_grace_s: 0,
            start_fee: Money(prices.2),
            minimum: Money(prices.3),
            cap: cap.map(Money),
            vat_bp,
            bands: Bands::new(vec![band]).unwrap_or_default(),
            clock: WallClock::fixed(480),
        }
    })
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (0i64..2_000_000, 0i64..2_000_000, 0i64..100_000, 0i64..100_000, 0i64..1000).prop_map(
        |(a, b, wait, wait_b, free)| {
            let waits = if a + b > 0 { (wait, wait_b, free) } else { (0, 0, 0) };
            let mut usage = Usage { waiting_s: waits.0 + waits.1 + waits.2, ..Usage::default() };
            (usage.energy[0], usage.energy[1]) = (Wh(a), Wh(b));
            (usage.paid_waiting_s[0], usage.paid_waiting_s[1]) = (waits.0, waits.1);
            usage
        },
    )
}

proptest! {
    #[test]
    fn more_never_costs_less(tariff in any_tariff(), usage in any_usage(), slot in 0usize..2, more in 0i64..100_000) {
        let less = price(&tariff, &usage).total();
        let mut taken = usage;
        taken.energy[slot] += Wh(more);
        prop_assert!(price(&tariff, &taken).total() >= less);
        let mut waited = usage;
        waited.waiting_s += more;
        waited.paid_waiting_s[slot] += more;
        prop_assert!(price(&tariff, &waited).total() >= less);
    }

    #[test]
    fn lines_add_up_and_stay_in_their_bounds(tariff in any_tariff(), usage in any_usage()) {
        let bill = price(&tariff, &usage);
        let lines = bill.start_amount.0 + bill.energy_amount.0 + bill.waiting_amount.0 + bill.adjustment_amount.0;
        prop_assert_eq!(bill.total(), Money(lines));
        prop_assert!(bill.total() >= Money::ZERO);
        prop_assert!(Money::ZERO <= bill.vat_amount && bill.vat_amount <= bill.total());
        prop_assert!(tariff.cap.is_none_or(|cap| bill.total() <= cap));
        if bill.energy > Wh(0) {
            prop_assert!(bill.total() >= tariff.cap.map_or(tariff.minimum, |cap| cap.min(tariff.minimum)));
        }
        let (energy, waiting) = bill.parts();
        prop_assert!(energy >= Money::ZERO && waiting >= Money::ZERO);
        prop_assert_eq!(energy + waiting, bill.total());
    }

    /// Summing to zero is asserted where postings are made.
    #[test]
    fn a_charge_books_its_total_and_no_negative_revenue(
        tariff in any_tariff(), usage in any_usage(), earlier in any_usage(),
    ) {
        let (bill, before) = (price(&tariff, &usage), price(&tariff, &earlier));
        let sum = |all: &[ledger::Posting], account| -> Money {
            all.iter().filter(|p| p.account == account).map(|p| p.amount).sum()
        };
        let all = ledger::charge(&bill);
        prop_assert_eq!(sum(&all, Account::Receivable), -bill.total());
        prop_assert_eq!(sum(&all, Account::Vat), bill.vat_amount);
        prop_assert!(sum(&all, Account::RevenueEnergy) >= Money::ZERO);
        prop_assert!(sum(&all, Account::RevenueWaiting) >= Money::ZERO);
        // First bill and correction together book what the last bill alone would.
        let (first, difference) = (ledger::charge(&before), ledger::Position::unpaid(before).corrected(bill).1);
        for account in Account::ALL {
            prop_assert_eq!(sum(&first, account) + sum(&difference, account), sum(&all, account));
        }
    }
}
