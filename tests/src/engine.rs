//! The two ways to run.

use crate::env;
use crate::nats::Nats;
use crate::postgres::Database;

/// What the program stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite in the data folder, the bus inside the process, the built-in NATS port.
    SqliteLocal,
    /// PostgreSQL and a NATS server.
    PostgresNats,
}

/// What was started for one test; it ends with this value.
pub struct Backend {
    /// The PostgreSQL database.
    pub database: Option<Database>,
    /// The NATS server.
    pub nats: Option<Nats>,
}

impl Backend {
    /// Starts what the engine needs; `cluster` in place of the run's PostgreSQL where given.
    pub async fn start(engine: Engine, cluster: Option<&str>) -> Self {
        match engine {
            Engine::SqliteLocal => Self { database: None, nats: None },
            Engine::PostgresNats => {
                let url = cluster.map_or_else(env::postgres_url, str::to_owned);
                Self { database: Some(Database::create(&url)), nats: Some(Nats::start().await) }
            }
        }
    }

    /// The program's settings.
    pub fn env(&self) -> Vec<(String, String)> {
        let database = self.database.iter().map(|database| ("EVM_DATABASE_URL".into(), database.url.clone()));
        let nats = self.nats.iter().flat_map(Nats::env);
        database.chain(nats).collect()
    }
}

/// Writes one test per engine for each of these functions, which take the engine and start a world of their own.
#[macro_export]
macro_rules! on_each_engine {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite_local() {
                Box::pin(super::$name($crate::Engine::SqliteLocal)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres_nats() {
                Box::pin(super::$name($crate::Engine::PostgresNats)).await;
            }
        }
    )+};
}
