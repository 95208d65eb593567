//! Why a call of the gateway gave no answer to go by.

/// What is known after a call that failed. Texts carry no secret, no token and no customer's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QpayError {
    /// What was asked breaks the gateway's limits; nothing was sent.
    #[error("the gateway would refuse this: {0}")]
    Invalid(&'static str),
    /// The call never reached the gateway, so nothing happened there. Worth another try later.
    #[error("the payment gateway was not reached: {0}")]
    NotSent(String),
    /// The gateway failed too often lately; the call was not sent. Worth another try later.
    #[error("the payment gateway is left alone for a while")]
    BreakerOpen,
    /// The call may have reached the gateway and may have been carried out: no answer, an answer that says the
    /// gateway itself failed, or one that cannot be read.
    #[error("the payment gateway's answer is not known: {0}")]
    Unknown(String),
    /// The gateway, or what stands before it, said no.
    #[error("the payment gateway refused: {status} {key}")]
    Refused {
        /// The HTTP status, 400 to 499.
        status: u16,
        /// The gateway's `error`, such as `INVALID_AMOUNT`; empty where it gave none.
        key: String,
    },
    /// The gateway knows no such invoice or payment.
    #[error("the payment gateway knows no such thing")]
    NotFound,
    /// The gateway does not take our client id and secret, or no token that it gives for them.
    #[error("the payment gateway does not accept our credentials")]
    Unauthorised,
}

impl QpayError {
    /// Whether the call may have been carried out although it failed here.
    pub fn may_have_reached(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether it is sure that what was asked was not done: by its key, the gateway itself said no.
    pub fn is_clear(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::NotFound => true,
            Self::Refused { status, key } => *status != 429 && !key.is_empty(),
            _ => false,
        }
    }

    /// Whether the same question may be answered later; the others stay as they are until somebody changes something.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::BreakerOpen | Self::Unknown(_) | Self::Refused { status: 429, .. })
    }
}
