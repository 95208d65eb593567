#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::units::Wh;

const LINES: [Account; 4] = [Account::Receivable, Account::RevenueEnergy, Account::RevenueWaiting, Account::Vat];

fn amount(all: &[Posting], account: Account) -> i64 {
    all.iter().filter(|posting| posting.account == account).map(|posting| posting.amount.0).sum()
}

fn bill(energy: i64, waiting: i64, vat_bp: i64) -> Bill {
    let vat = (energy + waiting) * vat_bp / (10_000 + vat_bp);
    Bill {
        energy: Wh(energy),
        waiting_s: waiting,
        energy_amount: Money(energy),
        waiting_amount: Money(waiting),
        vat_amount: Money(vat),
        ..Bill::default()
    }
}

#[test]
fn a_correction_books_the_difference_only() {
    let first = Bill { energy: Wh(1000), energy_amount: Money(500), waiting_amount: Money(20), ..Bill::default() };
    let last = Bill { energy: Wh(1200), energy_amount: Money(600), ..first };
    assert_eq!(charge(&first).len(), 3);
    let (after, booked) = Position::unpaid(first).corrected(last);
    assert_eq!(
        booked,
        vec![
            Posting { account: Account::Receivable, amount: Money(-100) },
            Posting { account: Account::RevenueEnergy, amount: Money(100) },
        ]
    );
    assert_eq!(after, Position::unpaid(last));
    assert!(after.corrected(last).1.is_empty());
}

#[test]
fn a_correction_gives_back_what_was_paid_beyond_it() {
    let paid = Position { paid: Money(1000), ..Position::unpaid(bill(1000, 0, 0)) };
    let (after, booked) = paid.corrected(bill(700, 0, 0));
    assert_eq!((after.paid, after.due(), amount(&booked, Account::Customer)), (Money(700), Money(0), 300));
    assert_eq!((amount(&booked, Account::Receivable), amount(&booked, Account::RevenueEnergy)), (0, -300));
}

#[test]
fn gateway_money_pays_what_is_owed_and_the_rest_is_balance() {
    let all = gateway_payment(Money(10_000), Money(100), Money(8_000));
    assert_eq!(amount(&all, Account::QpayClearing), -9_900);
    assert_eq!(amount(&all, Account::QpayFee), -100);
    assert_eq!((amount(&all, Account::Receivable), amount(&all, Account::Customer)), (8_000, 2_000));
}

/// 100.00 of energy and 10.00 of waiting with 10 % VAT in them: 10.00 of VAT.
#[test]
fn parts_that_are_given_back_add_up_to_the_whole() {
    let mut position = Position { paid: Money(11_000), ..Position::unpaid(bill(10_000, 1_000, 1000)) };
    let mut back = HashMap::new();
    for part in [1, 3_333, 3_333, 4_333] {
        let (after, booked) = position.given_back(Money(part), Money::ZERO).unwrap();
        assert_eq!(amount(&booked, Account::Customer), part);
        for posting in booked {
            *back.entry(posting.account).or_insert(0) += posting.amount.0;
        }
        position = after;
    }
    assert!(position.is_refunded());
    let sums = [Account::Customer, Account::RevenueEnergy, Account::RevenueWaiting, Account::Vat, Account::Receivable]
        .map(|account| back.get(&account).copied().unwrap_or_default());
    assert_eq!(sums, [11_000, -9_090, -910, -1_000, 0]);
}

#[test]
fn a_part_carries_its_share_of_vat_and_waiting() {
    let position = Position { paid: Money(11_000), ..Position::unpaid(bill(10_000, 1_000, 1000)) };
    let (after, booked) = position.given_back(Money(5_500), Money(2_000)).unwrap();
    assert_eq!((amount(&booked, Account::Customer), amount(&booked, Account::QpayClearing)), (3_500, 2_000));
    assert_eq!((amount(&booked, Account::Vat), after.refunded_vat()), (-500, Money(500)));
    // Half of 90.90 and 9.10.
    let revenue = (amount(&booked, Account::RevenueEnergy), amount(&booked, Account::RevenueWaiting));
    assert_eq!(revenue, (-4_545, -455));
    assert_eq!((after.left(), after.due(), after.is_refunded()), (Money(5_500), Money(0), false));
}

#[test]
fn nothing_and_more_than_is_left_are_not_given_back() {
    let position = Position { paid: Money(400), refunded: Money(100), ..Position::unpaid(bill(1_000, 0, 0)) };
    for (part, to_gateway) in [(0, 0), (-5, 0), (301, 0), (100, 101), (100, -1)] {
        assert_eq!(position.given_back(Money(part), Money(to_gateway)), None, "{part} {to_gateway}");
    }
    let (after, _) = position.given_back(Money(300), Money(300)).unwrap();
    assert_eq!((after.left(), after.due(), after.is_refunded()), (Money(0), Money(600), false));
}

#[test]
fn a_charge_that_costs_less_than_was_given_back_is_given_back_whole() {
    let position = Position { paid: Money(1000), refunded: Money(300), ..Position::unpaid(bill(1000, 0, 1000)) };
    let (less, booked) = position.corrected(bill(600, 0, 1000));
    assert_eq!((less.left(), amount(&booked, Account::Customer)), (Money(300), 400));
    let (least, booked) = position.corrected(bill(200, 0, 1000));
    assert!(least.is_refunded());
    // 700 were still the operator's; now the customer has got all 1000 back.
    assert_eq!(amount(&booked, Account::Customer), 700);
    assert!(least.lines().iter().all(|(_, sum)| *sum == Money::ZERO));
    let (nothing, booked) = position.corrected(bill(0, 0, 1000));
    assert_eq!((amount(&booked, Account::Customer), nothing.refunded, nothing.is_refunded()), (700, Money(0), false));
}

#[derive(Debug, Clone)]
enum Deed {
    Pay(i64),
    GiveBack { part: i64, to_gateway: i64 },
    Correct { energy: i64, waiting: i64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let amount = || prop_oneof![0..5_i64, 0..20_000_i64, Just(i64::MAX)];
    prop::collection::vec(
        prop_oneof![
            amount().prop_map(Deed::Pay),
            (amount(), amount()).prop_map(|(part, to_gateway)| Deed::GiveBack { part, to_gateway }),
            (0..10_000_i64, 0..10_000_i64).prop_map(|(energy, waiting)| Deed::Correct { energy, waiting }),
        ],
        0..25,
    )
}

proptest! {
    /// Whatever comes in whatever order: each booking sums to zero, what is owed is what is due, nothing is given back that
    /// was not paid, what the customer has put in stays in the purchase, and VAT is that of what the operator keeps.
    #[test]
    fn any_payments_refunds_and_corrections_keep_the_book(
        energy in 0..10_000_i64, waiting in 0..10_000_i64, vat_bp in prop_oneof![Just(0), Just(1000), 0..=10_000_i64], deeds in deeds(),
    ) {
        let mut position = Position::unpaid(bill(energy, waiting, vat_bp));
        let mut book: HashMap<Account, i64> = HashMap::new();
        let mut post = |all: Vec<Posting>| -> Result<HashMap<Account, i64>, TestCaseError> {
            prop_assert_eq!(all.iter().map(|posting| posting.amount.0).sum::<i64>(), 0);
            for posting in all {
                *book.entry(posting.account).or_insert(0) += posting.amount.0;
            }
            Ok(book.clone())
        };
        let mut book = post(charge(&position.bill))?;
        for deed in deeds {
            book = match deed {
                Deed::Pay(amount) => {
                    let amount = Money(amount).min(position.due());
                    position.paid += amount;
                    post(pay_from_balance(amount))?
                }
                Deed::GiveBack { part, to_gateway } => {
                    let part = Money(part).min(position.left());
                    match position.given_back(part, Money(to_gateway).min(part)) {
                        Some((after, booked)) => {
                            position = after;
                            post(booked)?
                        }
                        None => book,
                    }
                }
                Deed::Correct { energy, waiting } => {
                    let (after, booked) = position.corrected(bill(energy, waiting, vat_bp));
                    position = after;
                    post(booked)?
                }
            };
            let in_book = |account: Account| book.get(&account).copied().unwrap_or_default();
            prop_assert!(Money::ZERO <= position.refunded && position.refunded <= position.paid);
            prop_assert!(position.paid <= position.bill.total());
            prop_assert_eq!(in_book(Account::Receivable), -position.due().0);
            prop_assert_eq!(in_book(Account::Vat), position.bill.vat_amount.0 - position.refunded_vat().0);
            prop_assert_eq!(in_book(Account::Customer) + in_book(Account::QpayClearing), -position.left().0);
            for (account, sum) in position.lines() {
                prop_assert_eq!(in_book(account), sum.0);
                prop_assert!(account == Account::Receivable || sum >= Money::ZERO, "{:?} {:?}", position, account);
            }
            if position.is_refunded() {
                prop_assert!(LINES.iter().all(|account| in_book(*account) == 0));
            }
        }
    }
}

#[test]
fn accounts_read_back() {
    assert!(Account::ALL.iter().all(|account| Account::parse(account.as_str()) == Some(*account)));
    assert_eq!(Account::parse("pocket"), None);
}
