//! A store of each engine for one test.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use evm_store::Store;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Runs a test on an empty file of SQLite.
pub(crate) async fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Store, String) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("evm.db").display());
    let store = Store::open(&url).await.unwrap();
    test(store.clone(), url).await;
    store.close().await;
}

/// Runs a test on an empty database of the run's PostgreSQL, which is dropped however the test ends.
pub(crate) async fn on_postgres<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Store, String) -> F) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let admin = std::env::var("EVM_TEST_POSTGRES_URL")
        .expect("EVM_TEST_POSTGRES_URL is not set: run the tests by ./test, which starts what they need");
    let name = format!("evm_store_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&admin).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let url = format!("{}/{name}", admin.rsplit_once('/').unwrap().0);
    let store = Store::open(&url).await.unwrap();
    let done = tokio::spawn(test(store.clone(), url)).await;
    store.close().await;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut connection).await.unwrap();
    done.unwrap();
}

/// Runs one test on both engines.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {$(
            #[tokio::test]
            async fn $name() {
                crate::common::on_sqlite(super::$name).await;
            }
        )*}
        mod postgres {$(
            #[tokio::test]
            async fn $name() {
                crate::common::on_postgres(super::$name).await;
            }
        )*}
    };
}
pub(crate) use on_both;
