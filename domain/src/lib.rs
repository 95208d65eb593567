//! The rules of charging and of money, and nothing else.
//!
//! Pure: no async, no I/O, no clock (`now` is an argument), no JSON, no SQL.
//! Energy is counted in whole watt-hours, money in whole möngö (1/100 MNT).

pub mod again;
pub mod bands;
pub mod bounds;
mod charged;
mod clock;
pub mod credit;
mod doubt;
mod drawn;
pub mod event;
pub mod ids;
pub mod ledger;
pub mod meter;
mod meter_text;
mod point;
mod registers;
pub mod seq_nos;
pub mod session;
mod stand_in;
pub mod tariff;
pub mod units;
mod wall_clock;

pub use bands::{Band, Bands};
pub use event::{ChargerEvent, ConnectorState, NO_AUTHORIZATION, Phase, StatusReport, TransactionUpdate};
pub use ids::{ChargerId, CustomerId, DeviceId, Id, InvoiceId, PurchaseId, SessionId};
pub use meter::{ChargingState, Dated, Doubt, Doubts, Heard, Meter, Point, PointKind};
pub use seq_nos::SeqNos;
pub use session::{Session, Status};
pub use tariff::{Bill, Tariff, Usage, price};
pub use units::{Money, Timestamp, Wh};
pub use wall_clock::WallClock;
