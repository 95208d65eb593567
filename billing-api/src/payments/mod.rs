//! Payments through a gateway: invoices made, asked about until they have ended, and given back.
//!
//! Money moves in the store, on the gateway's own answer alone. No transaction is open while the gateway is asked, and
//! what is to be done is stored before: a process that dies leaves nothing that another does not finish.

pub(crate) mod ask;
pub(crate) mod callback;
pub(crate) mod make;
pub mod qpay;
pub(crate) mod refund;
pub(crate) mod watch;

use evm_store::StoreError;

/// Why nothing came of a question to the gateway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Gateway(#[from] qpay::QpayError),
}
