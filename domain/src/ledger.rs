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
    /// VAT taken in for the state.
    Vat,
    /// Money that the payment gateway QPay holds for the operator, as a negative sum.
    QpayClearing,
    /// What QPay kept of it, as a negative sum.
    QpayFee,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Customer,
        Self::Receivable,
        Self::Cash,
        Self::RevenueEnergy,
        Self::RevenueWaiting,
        Self::Vat,
        Self::QpayClearing,
        Self::QpayFee,
    ];

    /// The word the store uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Receivable => "receivable",
            Self::Cash => "cash",
            Self::RevenueEnergy => "revenue_energy",
            Self::RevenueWaiting => "revenue_waiting",
            Self::Vat => "vat",
            Self::QpayClearing => "qpay_clearing",
            Self::QpayFee => "qpay_fee",
        }
    }

    /// The account behind a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|account| account.as_str() == word)
    }

    /// Whether charges book what they bring in to it; the rest says where money is and who owes it.
    pub fn is_earned(self) -> bool {
        matches!(self, Self::RevenueEnergy | Self::RevenueWaiting | Self::Vat)
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

/// A charge is over: the customer owes, the operator has earned, VAT apart. With a bill already booked, only the
/// difference.
pub fn charge(bill: &Bill, booked: &Bill) -> Vec<Posting> {
    let ((energy, waiting), (booked_energy, booked_waiting)) = (net(bill), net(booked));
    postings(&[
        (Account::Receivable, booked.total() - bill.total()),
        (Account::RevenueEnergy, energy - booked_energy),
        (Account::RevenueWaiting, waiting - booked_waiting),
        (Account::Vat, bill.vat_amount - booked.vat_amount),
    ])
}

/// What energy and waiting earned without VAT: each carries its share, the energy the möngö that does not divide.
fn net(bill: &Bill) -> (Money, Money) {
    let (energy, waiting) = bill.parts();
    let share = i128::from(bill.vat_amount.0) * i128::from(waiting.0) / i128::from(bill.total().0.max(1));
    let of_waiting = Money(i64::try_from(share).unwrap_or_default());
    (energy - (bill.vat_amount - of_waiting), waiting - of_waiting)
}

/// Moves `amount` from the customer's balance to what the customer owes; negative gives it back.
pub fn pay_from_balance(amount: Money) -> Vec<Posting> {
    postings(&[(Account::Customer, -amount), (Account::Receivable, amount)])
}

/// An operator credits a customer's balance; negative corrects it down.
pub fn credit_by_operator(amount: Money) -> Vec<Posting> {
    postings(&[(Account::Cash, -amount), (Account::Customer, amount)])
}

/// A customer paid `amount` at the gateway, which keeps `fee` of it. `applied` pays what the customer owes, the rest
/// becomes balance.
pub fn gateway_payment(amount: Money, fee: Money, applied: Money) -> Vec<Posting> {
    postings(&[
        (Account::QpayClearing, fee - amount),
        (Account::QpayFee, -fee),
        (Account::Receivable, applied),
        (Account::Customer, amount - applied),
    ])
}

/// Takes back what a paid purchase earned and gives it to the customer: a part as balance, a part through the gateway.
/// The gateway's fee is not expected back. `None`: the two parts are not what was earned.
pub fn refund(earned: &[(Account, Money)], to_balance: Money, to_gateway: Money) -> Option<Vec<Posting>> {
    let total: Money = earned.iter().map(|(_, amount)| *amount).sum();
    if total != to_balance + to_gateway {
        return None;
    }
    let mut lines: Vec<_> = earned.iter().map(|&(account, amount)| (account, -amount)).collect();
    lines.extend([(Account::Customer, to_balance), (Account::QpayClearing, to_gateway)]);
    Some(postings(&lines))
}

/// The gateway does not give a refund out: it becomes balance after all.
pub fn refund_to_balance(amount: Money) -> Vec<Posting> {
    postings(&[(Account::QpayClearing, -amount), (Account::Customer, amount)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Wh;

    #[test]
    fn a_correction_books_the_difference_only() {
        let first = Bill { energy: Wh(1000), energy_amount: Money(500), waiting_amount: Money(20), ..Bill::default() };
        let last = Bill { energy: Wh(1200), energy_amount: Money(600), ..first };
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

    #[test]
    fn gateway_money_pays_what_is_owed_and_the_rest_is_balance() {
        let amount =
            |all: &[Posting], account| all.iter().filter(|p| p.account == account).map(|p| p.amount.0).sum::<i64>();
        let all = gateway_payment(Money(10_000), Money(100), Money(8_000));
        assert_eq!(amount(&all, Account::QpayClearing), -9_900);
        assert_eq!(amount(&all, Account::QpayFee), -100);
        assert_eq!((amount(&all, Account::Receivable), amount(&all, Account::Customer)), (8_000, 2_000));
        let earned = [(Account::RevenueEnergy, Money(7_000)), (Account::RevenueWaiting, Money(1_000))];
        let back = refund(&earned, Money(3_000), Money(5_000)).unwrap_or_default();
        assert_eq!((amount(&back, Account::Customer), amount(&back, Account::QpayClearing)), (3_000, 5_000));
        assert_eq!(refund(&earned, Money(3_000), Money(5_001)), None);
    }

    #[test]
    fn accounts_read_back() {
        assert!(Account::ALL.iter().all(|account| Account::parse(account.as_str()) == Some(*account)));
        assert_eq!(Account::parse("pocket"), None);
    }
}
