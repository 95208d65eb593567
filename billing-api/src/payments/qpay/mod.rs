//! A client of the QPay v2 merchant gateway: invoices, what was paid on them, refunds. It moves no money of ours.
//!
//! One [`QpayClient`] a process: all calls share its token, its breaker and its connections.

mod breaker;
mod client;
mod error;
mod http;
mod token;
mod wire;

pub use client::{QpayClient, QpayConfig};
pub use error::QpayError;
pub use wire::{Canceled, Invoice, InvoiceState, NewInvoice, Payment, PaymentKind, PaymentOrigin, PaymentStatus};
