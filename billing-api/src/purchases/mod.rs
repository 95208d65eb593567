//! What charges came to, and how they are paid.

pub(crate) mod feedback;
pub(crate) mod list;
pub(crate) mod pay;
pub(crate) mod payment_options;
pub(crate) mod status;
