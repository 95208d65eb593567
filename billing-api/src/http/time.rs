//! Moments as JSON carries them.

use chrono::{DateTime, SecondsFormat};
use evm_domain::Timestamp;
use evm_store::statement::Period;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use super::problem::{Answer, Problem};

/// Milliseconds since 1970, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iso(pub(crate) i64);

impl std::fmt::Display for Iso {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for Iso {
    fn schema() -> RefOr<Schema> {
        let moment = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2026-01-31T08:15:30.000Z")]);
        Schema::Object(moment.build()).into()
    }
}

impl utoipa::ToSchema for Iso {}

/// From when to when.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Between {
    /// Not before this moment, RFC 3339 (a `+` in it is written `%2B`). Left out: from the first on.
    #[param(required = false, value_type = Option<Iso>, example = "2026-01-01T00:00:00Z")]
    from: Option<String>,
    /// Before this moment, RFC 3339. Left out: up to now.
    #[param(required = false, value_type = Option<Iso>, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
}

impl Between {
    /// As the store takes it.
    pub(crate) fn check(&self) -> Answer<Period> {
        let (from, to) = (moment("from", self.from.as_deref())?, moment("to", self.to.as_deref())?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(Problem::field("from", "is after `to`"));
        }
        Ok(Period { from, to })
    }
}

fn moment(field: &str, text: Option<&str>) -> Answer<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let moment = DateTime::parse_from_rfc3339(text)
        .map_err(|_| Problem::field(field, "is no RFC 3339 time such as 2026-01-31T08:15:30Z"))?;
    Ok(Some(Timestamp(moment.timestamp_millis())))
}
