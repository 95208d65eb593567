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

/// How a purchase stands: what was charged, what of it is paid, and what of that was given back.
///
/// `refunded ≤ paid ≤ bill.total()`. Every booking about a purchase is the difference of two of these, so that whatever
/// comes in whatever order adds up to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// What was charged.
    pub bill: Bill,
    /// What of it is paid.
    pub paid: Money,
    /// What of that was given back.
    pub refunded: Money,
}

impl Position {
    /// A charge of which nothing is paid.
    pub fn unpaid(bill: Bill) -> Self {
        Self { bill, ..Self::default() }
    }

    /// What is still to be paid.
    pub fn due(&self) -> Money {
        self.bill.total() - self.paid
    }

    /// What can still be given back.
    pub fn left(&self) -> Money {
        self.paid - self.refunded
    }

    /// Whether the whole charge was given back.
    pub fn is_refunded(&self) -> bool {
        self.refunded > Money::ZERO && self.refunded == self.bill.total()
    }

    /// The VAT in what was given back, rounded half up.
    pub fn refunded_vat(&self) -> Money {
        self.share(self.bill.vat_amount)
    }

    /// How much of a part of the total was given back with the rest of it, rounded half up.
    fn share(&self, part: Money) -> Money {
        let total = i128::from(self.bill.total().0.max(1));
        let twice = 2 * i128::from(part.0) * i128::from(self.refunded.0) + total;
        Money(i64::try_from(twice / (2 * total)).unwrap_or(part.0))
    }

    /// What the book holds for the purchase, apart from where its money came from and went to. What was given back is taken
    /// from VAT, waiting and energy in proportion; sums of parts are rounded, so that no part is taken back beyond itself.
    fn lines(&self) -> [(Account, Money); 4] {
        let (energy, waiting) = net(&self.bill);
        let vat_back = self.refunded_vat();
        let waiting_back = self.share(self.bill.vat_amount + waiting) - vat_back;
        let energy_back = self.refunded - vat_back - waiting_back;
        [
            (Account::Receivable, -self.due()),
            (Account::RevenueEnergy, energy - energy_back),
            (Account::RevenueWaiting, waiting - waiting_back),
            (Account::Vat, self.bill.vat_amount - vat_back),
        ]
    }

    /// The postings that lead from `before` to here; `money` is where what came in or went out stands.
    fn since(&self, before: &Self, money: &[(Account, Money)]) -> Vec<Posting> {
        let moved =
            self.lines().into_iter().zip(before.lines()).map(|((account, now), (_, then))| (account, now - then));
        postings(&moved.chain(money.iter().copied()).collect::<Vec<_>>())
    }

    /// The charge costs something else: more is owed, or what is paid beyond it goes to the balance. Where more had been
    /// given back than it costs now, the charge counts as given back whole.
    pub fn corrected(&self, bill: Bill) -> (Self, Vec<Posting>) {
        let total = bill.total();
        let after = Self { bill, paid: self.paid.min(total), refunded: self.refunded.min(total) };
        let money = [(Account::Customer, self.left() - after.left())];
        (after, after.since(self, &money))
    }

    /// A part of what is paid is given back, `to_gateway` of it through the gateway, the rest as balance. The gateway's fee is
    /// not expected back. `None`: that is nothing, or more than is left.
    pub fn given_back(&self, amount: Money, to_gateway: Money) -> Option<(Self, Vec<Posting>)> {
        let within = |part, least, most| (least..=most).contains(&part);
        if !within(amount, Money(1), self.left()) || !within(to_gateway, Money::ZERO, amount) {
            return None;
        }
        let after = Self { refunded: self.refunded + amount, ..*self };
        let money = [(Account::Customer, amount - to_gateway), (Account::QpayClearing, to_gateway)];
        Some((after, after.since(self, &money)))
    }
}

/// A charge is over: the customer owes, the operator has earned, VAT apart.
pub fn charge(bill: &Bill) -> Vec<Posting> {
    Position::unpaid(*bill).since(&Position::default(), &[])
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

/// The gateway does not give a refund out: it becomes balance after all.
pub fn refund_to_balance(amount: Money) -> Vec<Posting> {
    postings(&[(Account::QpayClearing, -amount), (Account::Customer, amount)])
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
