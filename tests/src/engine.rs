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
    nats: Option<Nats>,
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
