//! Query parameters that a route does not know are refused by name: passed over, they would be taken for a filter.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};

use super::problem::{Answer, Problem};

/// The gateway appends to its URL what it likes, and a hint that is refused may be the only one.
const OPEN: &str = "/api/v1/payments/qpay/callback/{token}";

type Known = HashMap<(Method, String), BTreeSet<String>>;

/// What the document names, a route: one list for both.
static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let mut known = Known::new();
    for (path, item) in crate::document().paths.paths {
        for (method, operation) in
            [(Method::GET, item.get), (Method::PUT, item.put), (Method::POST, item.post), (Method::DELETE, item.delete)]
        {
            if let Some(operation) = operation {
                known.insert((method, path.clone()), names(&operation));
            }
        }
    }
    known
});

fn names(operation: &Operation) -> BTreeSet<String> {
    let name = |parameter: &RefOr<_>| match parameter {
        RefOr::T(Parameter { name, parameter_in: ParameterIn::Query, .. }) => Some(name.clone()),
        _ => None,
    };
    operation.parameters.iter().flatten().filter_map(name).collect()
}

/// Stands around every route, behind the question who calls.
pub(crate) async fn layer(request: Request, next: Next) -> Answer<Response> {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().trim_end_matches('/'));
    if let (Some(route), Some(query)) = (route, request.uri().query())
        && route != OPEN
    {
        let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
        let known = KNOWN.get(&(method, route.to_owned()));
        let known = |name: &str| known.is_none_or(|known| known.contains(name));
        if let Some((name, _)) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| !known(name)) {
            return Err(Problem::field(name.chars().take(100).collect::<String>(), "is no parameter of this call"));
        }
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_known() {
        let of = |method: Method, path: &str| KNOWN.get(&(method, path.to_owned())).cloned().unwrap_or_default();
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(of(Method::GET, "/api/v1/purchases"), list(&["page", "page-size"]));
        assert_eq!(of(Method::POST, "/admin/v1/customers/{id}/credit"), list(&[]));
        assert!(KNOWN.contains_key(&(Method::GET, "/readyz".to_owned())));
        assert!(KNOWN.contains_key(&(Method::GET, OPEN.to_owned())));
    }
}
