//! The routes and their document, from one list.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::problem::{Answer, Code, Problem};
use crate::http::{auth, headers, idempotency, parameters, rates};
use crate::{App, balance, customer, devices, events, health, operator, payments, purchases};

/// Most bytes of a customer's body.
const MOST_CUSTOMER_BODY: usize = 256 * 1024;
/// Most bytes of an operator's body.
const MOST_OPERATOR_BODY: usize = 1024 * 1024;
/// A request is over after this; commands to chargers wait for 35 s at the longest.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Calls that move a customer's money or start something: they take an `Idempotency-Key`.
fn customers_keyed() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(devices::start::start))
        .routes(routes!(devices::finish::finish))
        .routes(routes!(purchases::pay::pay))
        .routes(routes!(balance::replenish::replenish))
}

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
        .routes(routes!(purchases::payment_options::payment_options))
        .routes(routes!(purchases::status::status))
        .routes(routes!(purchases::feedback::feedback))
        .routes(routes!(purchases::list::list))
        .routes(routes!(customer::statement::statement))
        .routes(routes!(balance::replenishment::replenishment))
}

fn strangers() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(customer::otp_request::otp_request))
        .routes(routes!(customer::otp_check::otp_check))
        .routes(routes!(payments::callback::callback))
}

/// The operator's calls that take an `Idempotency-Key`.
fn operators_keyed() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(operator::command::command))
        .routes(routes!(operator::credit::credit))
        .routes(routes!(operator::refund::refund))
}

fn operators() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(operator::register::register, operator::charger::charger))
        .routes(routes!(operator::chargers::chargers))
        .routes(routes!(operator::messages::messages))
        .routes(routes!(operator::messages::message))
        .routes(routes!(operator::sessions::sessions))
        .routes(routes!(operator::purchases::purchases))
        .routes(routes!(operator::customers::customers))
        .routes(routes!(operator::cards::put_card, operator::cards::delete_card))
        .routes(routes!(operator::ledger::ledger))
        .routes(routes!(operator::gateway_payments::gateway_payments))
        .routes(routes!(operator::reconciliation::reconciliation))
}

/// All routes; with `app` what stands before them, too.
pub(crate) fn api(app: Option<&App>) -> OpenApiRouter<App> {
    let (mut customers, mut operators) = (customers(), operators());
    let (mut customers_keyed, mut operators_keyed) = (customers_keyed(), operators_keyed());
    let mut open = strangers();
    let mut health = OpenApiRouter::new().routes(routes!(health::livez)).routes(routes!(health::readyz));
    if let Some(app) = app {
        let parameters = || middleware::from_fn(parameters::layer);
        (open, health) = (open.route_layer(parameters()), health.route_layer(parameters()));
        // The app was documented with a slash at the end here; both work.
        let slash = axum::routing::post(balance::replenishment::replenishment);
        customers = customers.route("/customer/replenishment/", slash).route_layer(parameters());
        operators = operators.route_layer(parameters());
        customers_keyed = customers_keyed
            .route_layer(parameters())
            .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::customer));
        operators_keyed = operators_keyed
            .route_layer(parameters())
            .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::operator));
    }
    customers = customers.merge(customers_keyed);
    operators = operators.merge(operators_keyed);
    if let Some(app) = app {
        customers = customers.route_layer(middleware::from_fn_with_state(app.clone(), auth::customer));
        operators = operators.route_layer(middleware::from_fn_with_state(app.clone(), auth::operator));
    }
    OpenApiRouter::with_openapi(crate::document::head())
        .nest("/api/v1", open.merge(customers).layer(DefaultBodyLimit::max(MOST_CUSTOMER_BODY)))
        .nest("/admin/v1", operators.layer(DefaultBodyLimit::max(MOST_OPERATOR_BODY)))
        .merge(health)
}

/// The paths of calls that take an `Idempotency-Key`.
pub(crate) fn keyed_paths() -> BTreeSet<String> {
    let router = OpenApiRouter::new().nest("/api/v1", customers_keyed()).nest("/admin/v1", operators_keyed());
    let (_, document) = router.split_for_parts();
    document.paths.paths.into_keys().collect()
}

/// All routes, with what stands around them.
pub(crate) fn router(app: App) -> Router {
    let (router, _) = api(Some(&app)).split_for_parts();
    let swagger = utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", crate::document());
    router
        .merge(swagger)
        .fallback(|| async { Problem::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::from(Code::MethodNotAllowed) })
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(app.clone(), rates::layer))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors())
        .layer(middleware::from_fn_with_state(app.clone(), headers::layer))
        .with_state(app)
}

/// Web clients of any origin: a token is sent by hand, never by the browser itself.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            header::CONTENT_DISPOSITION,
            HeaderName::from_static("idempotent-replayed"),
        ])
}

/// Ends what takes too long: until the head of the answer, so that streams go on.
async fn in_time(request: Request, next: Next) -> Answer<Response> {
    tokio::time::timeout(REQUEST_TIME, next.run(request)).await.map_err(|_| Code::TimedOut.into())
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request panicked");
    Problem::from(Code::Internal).into_response()
}
