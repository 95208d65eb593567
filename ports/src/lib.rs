//! What every port of the program needs against crowds: who a client is, how many may wait before they have said who
//! they are, how often something may be tried, and an accept loop that survives.

mod accept;
mod address;
mod pace;
mod places;

pub use accept::accept;
pub use address::{BadNetwork, Networks, client, prefix, site};
pub use pace::{Pace, Paced, Paces};
pub use places::{Limits, Place, Places};
