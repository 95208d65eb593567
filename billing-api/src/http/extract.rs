//! What is read from a request, with errors that name the field.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::from(Code::BodyTooLarge),
                _ => Code::InvalidRequest.because("the body did not arrive"),
            }
        })?;
        parse(&bytes).map(Self)
    }
}

/// Reads JSON; a misfit names its field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        // A missing field is told at its parent.
        let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", None) => Code::InvalidRequest.because(format!("the body is not what this call takes: {detail}")),
            (".", Some(field)) => Problem::field(field, "is missing"),
            (parent, Some(field)) => Problem::field(format!("{parent}.{field}"), "is missing"),
            (field, None) => Problem::field(field, detail),
        }
    })?;
    json.end().map_err(|error| Code::InvalidRequest.because(format!("the body goes on after its end: {error}")))?;
    Ok(value)
}

/// A query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            let path = error.path().to_string();
            let detail = error.into_inner().to_string();
            let named = detail.split('`').nth(1).filter(|_| path == ".");
            match named {
                Some(field) => Problem::field(field, detail.clone()),
                None => Problem::field(path, detail),
            }
        })
    }
}

/// An id in the path. What is no id names nothing.
pub(crate) struct PathId<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Code::NotFound.into());
        };
        text.parse().map(Self).map_err(|_| Code::NotFound.into())
    }
}

/// Refuses a text that is longer than the store and the screen take, or holds control characters.
pub(crate) fn short(field: &str, text: &str, most: usize) -> Result<(), Problem> {
    if text.chars().count() > most {
        return Err(Problem::field(field, format!("has more than {most} characters")));
    }
    if text.chars().any(|c| c.is_control() && !['\n', '\r', '\t'].contains(&c)) {
        return Err(Problem::field(field, "holds control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        score: u8,
    }

    #[test]
    fn misfits_name_their_field() {
        let field = |text: &str| {
            let response = parse::<Outer>(text.as_bytes()).err().map(|problem| format!("{problem:?}"));
            response.unwrap_or_default()
        };
        assert!(field(r#"{"inner":{"score":"x"}}"#).contains(r#"Some("inner.score")"#));
        assert!(field(r#"{"inner":{}}"#).contains(r#"Some("inner.score")"#));
        assert!(field("{}").contains(r#"Some("inner")"#));
        assert!(field("").contains("None"));
        assert!(field(r#"{"inner":{"score":1}} x"#).contains("after its end"));
    }
}
