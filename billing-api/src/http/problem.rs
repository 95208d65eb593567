//! Every way to say no: `application/problem+json` (RFC 9457) with a stable `code`.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use evm_store::StoreError;
use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{Ref, RefOr, ResponseBuilder};

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    detail: String,
    field: Option<String>,
    retry_after_s: Option<u64>,
}

macro_rules! codes {
    ($($name:ident $status:literal $word:literal $meaning:literal;)*) => {
        /// The stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All of them, in the order of this file.
            pub(crate) const ALL: &'static [Code] = &[$(Code::$name),*];

            /// HTTP status, word, meaning.
            pub(crate) fn facts(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$name => ($status, $word, $meaning),)*
                }
            }
        }
    };
}

codes! {
    InvalidRequest 400 "invalid_request" "A value is missing, of the wrong kind or out of bounds; `field` names it.";
    Unauthorized 401 "unauthorized" "No token, or one that is unknown, expired or logged out.";
    NotFound 404 "not_found" "There is no such thing, or it is another customer's.";
    NotCharging 404 "not_charging" "The customer has no charge at this device.";
    MethodNotAllowed 405 "method_not_allowed" "The path exists, but not with this method.";
    DeviceBusy 409 "device_busy" "Somebody charges at the device, or it is reserved.";
    DeviceOutOfService 409 "device_out_of_service" "The operator or the charger took the device out of service.";
    DeviceFaulted 409 "device_faulted" "The device reports a fault.";
    ChargerOffline 409 "charger_offline" "The charger is out of touch.";
    StartRefused 409 "start_refused" "The charger refused to start.";
    AlreadyCharging 409 "already_charging" "The customer has a charge under way, here or elsewhere.";
    UnpaidPurchase 409 "unpaid_purchase" "An earlier purchase must be paid first.";
    DebtTooLarge 409 "debt_too_large" "More is owed than the operator lends.";
    BalanceTooLow 409 "balance_too_low" "The balance is smaller than the operator asks at the start.";
    AlreadyPaid 409 "already_paid" "Nothing is left to pay.";
    InsufficientBalance 409 "insufficient_balance" "The balance is smaller than what is due.";
    ChargeRunning 409 "charge_running" "The charge is not over, so its purchase has no final amount yet.";
    DeviceNumberTaken 409 "device_number_taken" "Another charger has a device of this number.";
    PasswordTaken 409 "password_taken" "Another charger has this password.";
    IdempotencyInFlight 409 "idempotency_in_flight" "The first request with this Idempotency-Key has no answer yet.";
    BodyTooLarge 413 "body_too_large" "The body is larger than this call takes.";
    WrongOtp 422 "wrong_code" "The phone code is wrong, too old, or was tried too often.";
    PaymentOptionDisabled 422 "payment_option_disabled" "This way to pay is not offered now.";
    IdempotencyKeyReused 422 "idempotency_key_reused" "The Idempotency-Key came before with another request.";
    TooManyRequests 429 "too_many_requests" "Too many requests; `Retry-After` says when to come again.";
    PlugInFirst 429 "plug_in_first" "The last start here was not followed by plugging in. Plug in, or come again when `Retry-After` says.";
    NotRefundable 409 "not_refundable" "Nothing of the purchase is paid, or all that was paid is given back.";
    Internal 500 "internal" "A defect of this system; it has been logged.";
    GatewayRefused 502 "gateway_refused" "The payment gateway refused; the operator has to look.";
    StoreUnavailable 503 "store_unavailable" "The database does not answer; try again.";
    BusUnavailable 503 "bus_unavailable" "The message bus does not answer; try again.";
    GatewayUnavailable 503 "gateway_unavailable" "The payment gateway is out of reach; try again.";
    GatewayNoAnswer 504 "gateway_no_answer" "The payment gateway did not answer in time; nothing is to be paid, try again.";
    StartTimeout 504 "start_timeout" "The charger did not answer in time; it may still begin.";
    TimedOut 504 "timed_out" "The request was not over within a minute, or its body did not arrive; it may have been done.";
    ChargerNoAnswer 504 "charger_no_answer" "The charger did not answer in time.";
}

impl Code {
    /// A refusal of this kind, in words for a human.
    pub(crate) fn because(self, detail: impl Into<String>) -> Problem {
        Problem { code: self, detail: detail.into(), field: None, retry_after_s: None }
    }

    fn status(self) -> u16 {
        self.facts().0
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        code.because(code.facts().2)
    }
}

impl Problem {
    /// A value that cannot be taken.
    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Code::InvalidRequest.because(detail) }
    }

    /// A refusal that passes with time; part of a second counts as one, so that who waits as told is let in.
    pub(crate) fn retry_after_ms(self, milliseconds: i64) -> Self {
        self.retry_after(u64::try_from(milliseconds).unwrap_or_default().div_ceil(1000).max(1))
    }

    /// A refusal that passes with time.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_down() {
            tracing::warn!(%error, "the store does not answer");
            return Problem::from(Code::StoreUnavailable).retry_after(5);
        }
        tracing::error!(%error, "a store call failed");
        Code::Internal.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, word, _) = self.code.facts();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "code": word,
            "detail": self.detail,
        });
        if let Some(field) = self.field {
            body["field"] = field.into();
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a route answers.
pub(crate) type Answer<T> = Result<T, Problem>;

/// Documents refusals: one response a status, naming its codes.
pub(crate) fn document(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(*code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(status, &codes).into())).collect()
}

fn response(status: u16, codes: &[Code]) -> utoipa::openapi::Response {
    let lines: Vec<_> = codes
        .iter()
        .map(|code| {
            let (_, word, meaning) = code.facts();
            format!("`{word}`: {meaning}")
        })
        .collect();
    let examples = codes.iter().map(|code| {
        let (_, word, meaning) = code.facts();
        let title = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
        let mut value =
            json!({ "type": "about:blank", "title": title, "status": status, "code": word, "detail": meaning });
        if *code == Code::InvalidRequest {
            value["field"] = "amount".into();
        }
        (word.to_owned(), utoipa::openapi::example::ExampleBuilder::new().value(Some(value)).build())
    });
    let content = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new().description(lines.join("\n\n")).content("application/problem+json", content).build()
}

/// Names the refusals of a route for its document: `refusals!(StartRefusals: DeviceBusy, ChargerOffline);`
macro_rules! refusals {
    ($name:ident: $($code:ident),* $(,)?) => {
        struct $name;
        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::http::problem::document(&[$($crate::http::problem::Code::$code),*])
            }
        }
    };
}
pub(crate) use refusals;

/// A refusal as clients see it (RFC 9457). Decide by `code`, show `detail`.
#[derive(utoipa::ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code)] // Read by the document only.
pub(crate) struct ProblemDocument {
    /// Always `about:blank`.
    #[schema(example = "about:blank")]
    r#type: String,
    /// The HTTP status in words.
    #[schema(example = "Conflict")]
    title: String,
    /// The HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// Stable; one of the codes that the call lists.
    #[schema(example = "device_busy")]
    code: String,
    /// For people; may change.
    #[schema(example = "Somebody charges at the device, or it is reserved.")]
    detail: String,
    /// Which value is wrong, with `invalid_request`.
    #[schema(required = false)]
    field: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own_and_a_sentence() {
        let words: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.facts().1).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.facts().2.ends_with('.')));
    }
}
