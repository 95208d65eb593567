//! Double entry: every ledger transaction is a list of postings that sums to zero.
//!
//! Credit is positive: a customer's account sums to the balance, a revenue account to what was earned, and a
//! receivable to minus what is still owed.

use crate::tariff::Bill;
use crate::units::Money;

/// The accounts of the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// A customer's prepaid balance.
    Customer,
    /// What a customer owes for charges, as a negative sum.
    Receivable,
    /// Money an operator took in or gave back by hand.
    Cash,
    /// Earned by energy.
    RevenueEnergy,
    /// Earned by waiting.
    RevenueWaiting,
}

impl Account {
    /// The word the store uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Receivable => "receivable",
            Self::Cash => "cash",
            Self::RevenueEnergy => "revenue_energy",
            Self::RevenueWaiting => "revenue_waiting",
        }
    }

    /// Whether postings to it belong to one customer.
    pub fn is_personal(self) -> bool {
        matches!(self, Self::Customer | Self::Receivable)
    }
}

/// One line of a ledger transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Which account.
    pub account: Account,
    /// How much; credit is positive.
    pub amount: Money,
}

fn postings(lines: &[(Account, Money)]) -> Vec<Posting> {
    let all: Vec<_> = lines
        .iter()
        .filter(|(_, amount)| *amount != Money::ZERO)
        .map(|&(account, amount)| Posting { account, amount })
        .collect();
    assert_eq!(all.iter().map(|p| p.amount).sum::<Money>(), Money::ZERO, "a ledger transaction sums to zero");
    all
}

/// A charge is over: the customer owes, the operator has earned. With a bill already booked, only the difference.
pub fn charge(bill: &Bill, booked: &Bill) -> Vec<Posting> {
    postings(&[
        (Account::Receivable, booked.total() - bill.total()),
        (Account::RevenueEnergy, bill.energy_amount - booked.energy_amount),
        (Account::RevenueWaiting, bill.waiting_amount - booked.waiting_amount),
    ])
}

/// Moves `amount` from the customer's balance to what the customer owes; negative gives it back.
pub fn pay_from_balance(amount: Money) -> Vec<Posting> {
    postings(&[(Account::Customer, -amount), (Account::Receivable, amount)])
}

/// An operator credits a customer's balance; negative corrects it down.
pub fn credit_by_operator(amount: Money) -> Vec<Posting> {
    postings(&[(Account::Cash, -amount), (Account::Customer, amount)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Wh;

    #[test]
    fn a_correction_books_the_difference_only() {
        let first = Bill { energy: Wh(1000), waiting_s: 0, energy_amount: Money(500), waiting_amount: Money(20) };
        let last = Bill { energy: Wh(1200), waiting_s: 0, energy_amount: Money(600), waiting_amount: Money(20) };
        assert_eq!(charge(&first, &Bill::default()).len(), 3);
        assert_eq!(
            charge(&last, &first),
            vec![
                Posting { account: Account::Receivable, amount: Money(-100) },
                Posting { account: Account::RevenueEnergy, amount: Money(100) },
            ]
        );
        assert!(charge(&first, &first).is_empty());
    }
}
