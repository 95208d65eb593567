//! The rules of charging and of money, and nothing else.
//!
//! Pure: no async, no I/O, no clock (`now` is an argument), no JSON, no SQL.
//! Energy is counted in whole watt-hours, money in whole möngö (1/100 MNT).

pub mod bands;
pub mod credit;
pub mod event;
pub mod ids;
pub mod ledger;
pub mod meter;
mod point;
pub mod seq_nos;
pub mod session;
pub mod tariff;
pub mod units;

pub use bands::{Band, Bands};
pub use event::{ChargerEvent, ConnectorState, Phase, StatusReport, TransactionUpdate};
pub use ids::{ChargerId, CustomerId, DeviceId, Id, InvoiceId, PurchaseId, SessionId};
pub use meter::{ChargingState, Meter, Point, PointKind};
pub use seq_nos::SeqNos;
pub use session::{Session, Status};
pub use tariff::{Bill, Tariff, Usage, price};
pub use units::{Money, Timestamp, Wh};
