//! The routes and their document, from one list.

use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{PathItem, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::problem::{self, Code, Problem, ProblemDocument};
use crate::http::{auth, idempotency, rates};
use crate::{App, balance, customer, devices, events, health, operator, purchases};

/// Most bytes of a customer's body.
const MOST_CUSTOMER_BODY: usize = 256 * 1024;
/// Most bytes of an operator's body.
const MOST_OPERATOR_BODY: usize = 1024 * 1024;
/// A request is over after this; commands to chargers wait for 35 s at the longest.
const REQUEST_TIME: Duration = Duration::from_secs(60);

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
        (name = "operator: chargers", description = "Register and command chargers."),
        (name = "operator: customers", description = "Cash and cards."),
        (name = "operator: lists", description = "Everything there is, a page at a time."),
        (name = "health", description = "For load balancers."),
    )
)]
struct Head;

fn customers() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(customer::me::me))
        .routes(routes!(customer::logout::logout))
        .routes(routes!(customer::sessions::sessions))
        .routes(routes!(customer::sessions::end_session))
        .routes(routes!(events::events))
        .routes(routes!(customer::update_info::update_info))
        .routes(routes!(customer::update_notification_token::update_notification_token))
        .routes(routes!(devices::by_location::by_location))
        .routes(routes!(devices::start::start))
        .routes(routes!(devices::finish::finish))
        .routes(routes!(purchases::payment_options::payment_options))
        .routes(routes!(purchases::pay::pay))
        .routes(routes!(purchases::status::status))
        .routes(routes!(purchases::feedback::feedback))
        .routes(routes!(purchases::list::list))
        .routes(routes!(balance::replenish::replenish))
        .routes(routes!(balance::replenishment::replenishment))
}

fn strangers() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(customer::otp_request::otp_request))
        .routes(routes!(customer::otp_check::otp_check))
}

fn operators() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(operator::register::register, operator::charger::charger))
        .routes(routes!(operator::chargers::chargers))
        .routes(routes!(operator::command::command))
        .routes(routes!(operator::messages::messages))
        .routes(routes!(operator::sessions::sessions))
        .routes(routes!(operator::purchases::purchases))
        .routes(routes!(operator::customers::customers))
        .routes(routes!(operator::credit::credit))
        .routes(routes!(operator::cards::put_card, operator::cards::delete_card))
        .routes(routes!(operator::ledger::ledger))
        .routes(routes!(operator::reconciliation::reconciliation))
}

fn api(app: Option<&App>) -> OpenApiRouter<App> {
    let (mut customers, mut operators) = (customers(), operators());
    if let Some(app) = app {
        // The app was documented with a slash at the end here; both work.
        let slash = axum::routing::post(balance::replenishment::replenishment);
        customers = customers
            .route("/customer/replenishment/", slash)
            .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::layer))
            .route_layer(middleware::from_fn_with_state(app.clone(), auth::customer));
        operators = operators.route_layer(middleware::from_fn_with_state(app.clone(), auth::operator));
    }
    OpenApiRouter::with_openapi(Head::openapi())
        .nest("/api/v1", strangers().merge(customers).layer(DefaultBodyLimit::max(MOST_CUSTOMER_BODY)))
        .nest("/admin/v1", operators.layer(DefaultBodyLimit::max(MOST_OPERATOR_BODY)))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = api(None).split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    if let Some(components) = &mut document.components {
        for (name, what) in [("customer", "The `token` of a login."), ("operator", "`EVM_ADMIN_TOKEN`.")] {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
            components.security_schemes.insert(name.into(), RefOr::T(SecurityScheme::Http(scheme)));
        }
    }
    for (path, item) in &mut document.paths.paths {
        complete(path, item);
    }
    document
}

/// What holds for every route, or all of a kind, is said here once.
fn complete(path: &str, item: &mut PathItem) {
    let of_operator = path.starts_with("/admin/");
    let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
    for operation in operations.into_iter().flatten() {
        let mut common = vec![Code::Internal, Code::StoreUnavailable];
        let health = path.ends_with("z");
        if !health {
            common.push(Code::TooManyRequests);
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
        for (status, response) in problem::document(&common) {
            operation.responses.responses.entry(status).or_insert(response);
        }
    }
}

/// All routes, with what stands around them.
pub(crate) fn router(app: App) -> Router {
    let (router, _) = api(Some(&app)).split_for_parts();
    let cors =
        CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::POST, Method::DELETE]).allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
        ]);
    let cors = cors.expose_headers([header::RETRY_AFTER]);
    let swagger = utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", document());
    router
        .merge(swagger)
        .fallback(|| async { Problem::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::from(Code::MethodNotAllowed) })
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIME))
        .layer(middleware::from_fn_with_state(app.clone(), rates::layer))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
        .with_state(app)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request panicked");
    Problem::from(Code::Internal).into_response()
}
