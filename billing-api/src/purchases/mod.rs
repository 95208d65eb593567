//! What charges came to, and how they are paid.

use evm_domain::{CustomerId, PurchaseId, Session};
use evm_store::{Db, sessions};

use crate::http::problem::Answer;

pub(crate) mod feedback;
pub(crate) mod list;
pub(crate) mod pay;
pub(crate) mod payment_options;
pub(crate) mod status;

/// The customer's charge that a purchase is, or will be, of.
async fn charge_of(db: &mut Db, customer: CustomerId, purchase: PurchaseId) -> Answer<Option<Session>> {
    Ok(sessions::of_purchase(db, purchase).await?.filter(|session| session.customer == Some(customer)))
}
