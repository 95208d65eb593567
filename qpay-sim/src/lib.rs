//! A stand-in of the QPay v2 merchant gateway, written from what is known of it, and able to misbehave.
//!
//! [`QpaySim::spawn`] serves the gateway's calls below [`QpaySim::url`] and, where the short URL of an invoice leads,
//! a page with which a person plays the payer. Tests are the payer through the handle: pay, pay twice, call back
//! never, a hundred times, or with a lie; and the gateway's bad days: slow, down, 500, not JSON, answers lost.
//!
//! Amounts are whole möngö, 1/100 of a tögrög.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use qpay_sim::{Call, Fault, Kind, Options, QpaySim};
//! let sim = QpaySim::spawn(Options::default()).await?;
//! // … point the system under test at sim.url(), let it make an invoice …
//! sim.fault(Call::Check, 2, Fault::Status(500));
//! if let Some(invoice) = sim.last_invoice() {
//!     let paid = sim.pay(&invoice.invoice_id, 10_000, Kind::P2p).await?;
//!     assert_eq!(paid.answer?.body, "SUCCESS");
//! }
//! # Ok(()) }
//! ```

mod api;
mod callback;
mod control;
mod gate;
mod page;
mod rows;
mod server;
mod state;

pub use callback::{Answer, NoAnswer};
pub use control::{Paid, QpaySim};
pub use state::{Button, Call, Fault, Invoice, Kind, Numbers, Options, Payment, Seen, Unknown};
