//! The OpenAPI document: what the routes say of themselves, completed by what holds for all of them.

use std::collections::btree_map::Entry;

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{PathItem, RefOr, Response};

use crate::http::problem::{self, Code, ProblemDocument};
use crate::openapi::{api, keyed_paths};

/// The head of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "EVM billing API",
        description = "Find a charger, start, watch, finish, pay.\n\n\
            **Units.** Amounts are MNT with at most 2 decimals, energy is kWh with at most 3, prices are MNT a kWh and MNT a \
            minute of waiting, times are whole seconds; all of them exact decimals.\n\n\
            **Errors** are `application/problem+json` with a stable `code`.\n\n\
            **Events** come over NATS: log in with `nats` of the login and subscribe to `{topic}.>`. `CHARGING` \
            `{energy, waitingTime, amount}` every 2 to 5 s while charging or waiting, the last one with the final figures; `PAYMENT` \
            `{status, amount}`; `REPLENISHMENT` `{status, amount}`. A repeated event carries the same `Nats-Msg-Id`. Web clients \
            get the same from `GET /api/v1/events`.\n\n\
            **Limits.** Requests of an address and of a customer are counted, those of a login more. Beyond what is allowed the \
            answer is 429 with `Retry-After`, in seconds.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "login", description = "Log in with a phone and a code."),
        (name = "profile", description = "The customer's own data."),
        (name = "devices", description = "Chargers on the map."),
        (name = "charging", description = "Start and finish a charge."),
        (name = "purchases", description = "What charges cost, and how to pay."),
        (name = "balance", description = "Top up the balance."),
        (name = "gateway", description = "What the payment gateway calls."),
        (name = "operator: chargers", description = "Register and command chargers."),
        (name = "operator: customers", description = "Cash and cards."),
        (name = "operator: lists", description = "Everything there is, a page at a time."),
        (name = "health", description = "For load balancers."),
    )
)]
struct Head;

/// The document before its routes.
pub(crate) fn head() -> utoipa::openapi::OpenApi {
    Head::openapi()
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = api(None).split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    document.info.description.get_or_insert_default().push_str(&code_table());
    if let Some(components) = &mut document.components {
        for (name, what) in [("customer", "The `token` of a login."), ("operator", "`EVM_ADMIN_TOKEN`.")] {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
            components.security_schemes.insert(name.into(), RefOr::T(SecurityScheme::Http(scheme)));
        }
    }
    let keyed = keyed_paths();
    for (path, item) in &mut document.paths.paths {
        complete(path, item, keyed.contains(path));
    }
    document
}

/// All codes at one place.
fn code_table() -> String {
    let mut table = "\n\n| code | status | meaning |\n|---|---|---|\n".to_owned();
    for code in Code::ALL {
        let (status, word, meaning) = code.facts();
        table.push_str(&format!("| `{word}` | {status} | {meaning} |\n"));
    }
    table
}

/// What holds for every route, or all of a kind, is said here once.
fn complete(path: &str, item: &mut PathItem, keyed: bool) {
    let of_operator = path.starts_with("/admin/");
    let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
    for operation in operations.into_iter().flatten() {
        let mut common = vec![Code::Internal, Code::StoreUnavailable, Code::TimedOut];
        let health = path.ends_with('z');
        if !health {
            common.push(Code::TooManyRequests);
        }
        // An unknown query parameter, if nothing else.
        if !path.contains("/callback/") {
            common.push(Code::InvalidRequest);
        }
        let open = operation.security.is_some() || health;
        if !open {
            let scheme = if of_operator { "operator" } else { "customer" };
            operation.security = Some(vec![SecurityRequirement::new(scheme, Vec::<String>::new())]);
            common.push(Code::Unauthorized);
        }
        if operation.request_body.is_some() {
            common.push(Code::BodyTooLarge);
        }
        if keyed {
            common.extend([Code::IdempotencyInFlight, Code::IdempotencyKeyReused]);
            operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
        }
        for (status, response) in problem::document(&common) {
            match operation.responses.responses.get_mut(&status) {
                Some(RefOr::T(own)) => join(own, response),
                _ => drop(operation.responses.responses.insert(status, response)),
            }
        }
        describe(operation);
    }
}

fn idempotency_key() -> utoipa::openapi::path::Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some("^[!-~]+$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(utoipa::openapi::Required::False)
        .description(Some("A new random text for each new request. The same request sent again gets the same answer and does nothing twice, for 7 days."))
        // No example: a page that tries calls out would send it with each of them.
        .schema(Some(text))
        .build()
}

/// One response tells all codes of its status.
fn join(own: &mut Response, more: RefOr<Response>) {
    let RefOr::T(more) = more else { return };
    for (kind, content) in more.content {
        let (Some(RefOr::T(own_content)), RefOr::T(content)) = (own.content.get_mut(&kind), content) else { continue };
        for (word, example) in content.examples {
            if let Entry::Vacant(place) = own_content.examples.entry(word) {
                own.description.push_str("\n\n");
                let start = format!("`{}`", place.key());
                let line = more.description.split("\n\n").find(|line| line.starts_with(&start));
                own.description.push_str(line.unwrap_or_default());
                place.insert(example);
            }
        }
    }
}

/// The first sentence is the summary, all of it the description; every answer has a sentence.
fn describe(operation: &mut Operation) {
    if let Some(text) = operation.summary.take() {
        let all = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = all.split_inclusive(". ").next().unwrap_or_default().trim().trim_end_matches('.').to_owned();
        operation.summary = Some(first);
        operation.description.get_or_insert(all);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = "The answer.".into();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    /// Calls of apps that are out there and move no money, and commands, which OCPP describes.
    const LENIENT: [&str; 8] = [
        "otpRequest",
        "otpCheck",
        "updateInfo",
        "updateNotificationToken",
        "feedback",
        "purchaseStatus",
        "replenishment",
        "command",
    ];

    /// The objects below a schema that take fields they do not name.
    fn open_objects(document: &Value, schema: &Value, found: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/")) {
            let target = &document["components"]["schemas"][name];
            if target["properties"].is_object() && target["additionalProperties"] != false {
                found.push(name.to_owned());
            }
            return open_objects(document, target, found);
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|value| open_objects(document, value, found)),
            Value::Array(items) => items.iter().for_each(|value| open_objects(document, value, found)),
            _ => {}
        }
    }

    #[test]
    fn bodies_that_change_something_take_no_field_that_they_do_not_know() {
        let document = serde_json::to_value(super::document()).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let mut seen = 0;
        for operation in paths.flat_map(|item| item.as_object().unwrap().values()) {
            let name = operation["operationId"].as_str().unwrap();
            let body = &operation["requestBody"];
            if body.is_null() || LENIENT.contains(&name) {
                continue;
            }
            let mut found = Vec::new();
            open_objects(&document, body, &mut found);
            assert!(found.is_empty(), "{name}: {found:?} need #[serde(deny_unknown_fields)]");
            seen += 1;
        }
        assert!(seen >= 6, "{seen}");
    }

    #[test]
    fn the_committed_document_is_the_code_s() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/app/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let made = super::document().to_pretty_json().unwrap() + "\n";
        assert!(committed == made, "docs/app/openapi.json is old: evm openapi >docs/app/openapi.json");
    }
}
