//! Who may begin a charge: the operator's rules of credit.

use crate::units::Money;

/// What a customer has and owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The prepaid balance.
    pub balance: Money,
    /// How many purchases are not paid.
    pub unpaid: i64,
    /// What is still to be paid for them.
    pub debt: Money,
}

/// The operator's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Whether a charge may begin while a purchase is not paid.
    pub start_with_unpaid: bool,
    /// Least balance at the start.
    pub least_balance: Money,
    /// Most debt at the start; `None`: any.
    pub most_debt: Option<Money>,
}

/// Why a charge may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A purchase must be paid first.
    UnpaidPurchase,
    /// More is owed than the operator lends.
    DebtTooLarge {
        /// The most that may be owed.
        most: Money,
    },
    /// The balance is too small.
    BalanceTooLow {
        /// The least that is needed.
        least: Money,
    },
}

impl Refusal {
    /// The word that apps get.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnpaidPurchase => "unpaid_purchase",
            Self::DebtTooLarge { .. } => "debt_too_large",
            Self::BalanceTooLow { .. } => "balance_too_low",
        }
    }
}

impl Rules {
    /// Whether they let everybody begin, so that nobody's standing need be known. A balance is never below 0.
    pub fn let_all(&self) -> bool {
        self.start_with_unpaid && self.most_debt.is_none() && self.least_balance <= Money::ZERO
    }

    /// Whether a customer may begin a charge.
    ///
    /// # Errors
    /// The first rule that says no.
    pub fn check(&self, standing: &Standing) -> Result<(), Refusal> {
        if standing.unpaid > 0 && !self.start_with_unpaid {
            return Err(Refusal::UnpaidPurchase);
        }
        if let Some(most) = self.most_debt.filter(|most| standing.debt > *most) {
            return Err(Refusal::DebtTooLarge { most });
        }
        if standing.balance < self.least_balance {
            return Err(Refusal::BalanceTooLow { least: self.least_balance });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_says_no_by_itself() {
        let owing = Standing { balance: Money(500), unpaid: 1, debt: Money(300) };
        let free = Standing { balance: Money(500), ..Standing::default() };
        assert_eq!(Rules::default().check(&owing), Err(Refusal::UnpaidPurchase));
        assert_eq!(Rules::default().check(&Standing::default()), Ok(()));
        let lent = |most| Rules { start_with_unpaid: true, most_debt: most, ..Rules::default() };
        assert_eq!(lent(None).check(&owing), Ok(()));
        assert_eq!(lent(Some(Money(300))).check(&owing), Ok(()));
        assert_eq!(lent(Some(Money(299))).check(&owing), Err(Refusal::DebtTooLarge { most: Money(299) }));
        assert!(lent(None).let_all() && !lent(Some(Money(0))).let_all() && !Rules::default().let_all());
        let prepaid = |least| Rules { least_balance: Money(least), ..Rules::default() };
        assert_eq!(prepaid(500).check(&free), Ok(()));
        assert_eq!(prepaid(501).check(&free), Err(Refusal::BalanceTooLow { least: Money(501) }));
    }
}
