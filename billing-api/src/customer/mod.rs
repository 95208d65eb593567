//! Login, profile and statement.

mod code_limits;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod me;
pub(crate) mod otp_check;
pub(crate) mod otp_request;
pub(crate) mod phone;
pub(crate) mod sessions;
pub(crate) mod statement;
pub(crate) mod update_info;
pub(crate) mod update_notification_token;
