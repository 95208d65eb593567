//! What is read from a request, with errors that name the field.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{Code, Problem};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        parse(&read(request, state).await?).map(Self)
    }
}

/// Nothing: no body, `null` or `{}`. A field in it is refused by name, for it would do nothing.
pub(crate) struct NoBody;

/// Takes no field at all.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        MaybeBody::<Option<Nothing>>::from_request(request, state).await.map(|_| Self)
    }
}

/// A JSON body that may be left out.
pub(crate) struct MaybeBody<T>(pub(crate) Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read(request, state).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) { Ok(Self(None)) } else { parse(&bytes).map(Some).map(Self) }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::from(Code::BodyTooLarge),
        _ => Code::InvalidRequest.because("the body did not arrive"),
    })
}

/// Reads JSON; a misfit names its field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        // What is missing or told twice is told at its parent.
        let named = |start: &str| detail.strip_prefix(start).and_then(|rest| rest.split('`').next());
        let at = |field: &str| if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        if let Some(field) = named("missing field `") {
            return Problem::field(at(field), "is missing");
        }
        if let Some(field) = named("duplicate field `") {
            return Problem::field(at(field), "is told twice");
        }
        if path == "." {
            return Code::InvalidRequest.because(format!("the body is not what this call takes: {detail}"));
        }
        match detail.strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once(" at line ")) {
            Some((rest, _)) => {
                let known = rest.split_once("`, ").map_or("none is", |(_, known)| known);
                let path: String = path.chars().take(200).collect();
                Problem::field(path, format!("is no field of this call: {known}"))
            }
            None => Problem::field(path, detail),
        }
    })?;
    json.end().map_err(|error| Code::InvalidRequest.because(format!("the body goes on after its end: {error}")))?;
    Ok(value)
}

/// Tells null from absent.
pub(crate) fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
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

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Inner,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    #[serde(deny_unknown_fields)]
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
        assert!(field(r#"{"inner":{"score":1,"score":2}}"#).contains(r#"Some("inner.score")"#));
    }

    #[test]
    fn fields_that_nobody_knows_are_named() {
        let problem = |text: &str| format!("{:?}", parse::<Outer>(text.as_bytes()).err());
        for (text, field) in [
            (r#"{"amount":1,"inner":{"score":1}}"#, r#"Some("amount")"#),
            (r#"{"inner":{"score":1,"colour":null}}"#, r#"Some("inner.colour")"#),
            (r#"{"inner":{"score":1},"list":[{"score":1},{"Score":1}]}"#, r#"Some("list[1].Score")"#),
        ] {
            let problem = problem(text);
            assert!(problem.contains(field) && problem.contains("is no field of this call"), "{problem}");
        }
        let none = format!("{:?}", parse::<Option<Nothing>>(br#"{"amount":1}"#).err());
        assert!(none.contains(r#"Some("amount")"#), "{none}");
        assert!(parse::<Option<Nothing>>(b"null").is_ok() && parse::<Option<Nothing>>(b"{}").is_ok());
    }
}
