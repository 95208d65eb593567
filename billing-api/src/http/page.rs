//! Lists a page at a time.

use evm_store::operator::Page;
use serde::{Deserialize, Serialize};

use super::problem::{Answer, Problem};

/// Most items of one page.
const MOST: i64 = 200;
/// Pages beyond this are empty anyway, and an offset costs.
const LAST_PAGE: i64 = 100_000;

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// From 1.
    #[param(minimum = 1, maximum = 100_000, required = false)]
    #[serde(default = "first")]
    page: i64,
    /// Items a page; more than 200 are taken for 200.
    #[param(minimum = 1, required = false)]
    #[serde(default = "fifty", rename = "page-size")]
    page_size: i64,
}

fn first() -> i64 {
    1
}

fn fifty() -> i64 {
    50
}

impl Paging {
    /// As the store takes it.
    pub(crate) fn check(&self) -> Answer<Page> {
        if !(1..=LAST_PAGE).contains(&self.page) {
            return Err(Problem::field("page", format!("from 1 to {LAST_PAGE}")));
        }
        if self.page_size < 1 {
            return Err(Problem::field("page-size", "is below 1"));
        }
        let limit = self.limit();
        Ok(Page { offset: (self.page - 1) * limit, limit })
    }

    /// The answer.
    pub(crate) fn with<T>(&self, total: i64, items: Vec<T>) -> Paged<T> {
        Paged { page: self.page, page_size: self.limit(), total, items }
    }

    fn limit(&self) -> i64 {
        self.page_size.min(MOST)
    }
}

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Paged<T> {
    /// From 1.
    page: i64,
    /// Items a page.
    page_size: i64,
    /// Items in all.
    total: i64,
    /// Newest first.
    items: Vec<T>,
}
