//! The ways to pay.

pub mod qpay;
