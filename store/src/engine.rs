//! Two engines, one SQL text: SQLite for one process, PostgreSQL for many. What truly differs stands here.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Database, Pool, Transaction};

use crate::error::{self, StoreError};
use crate::{chargers, clock, frames, leases, settings};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long a caller waits for a connection before the store counts as down.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write may take before the store counts as one that takes none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was not used for so long is asked whether it still is one.
const ASK_IDLE: Duration = Duration::from_secs(1);
/// Prepared statements kept a connection; batches of different sizes are different statements.
const STATEMENTS: usize = 512;

/// Rows that SQLite's thread gets ahead of the reader: a whole batch.
const ROWS: usize = 512;

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Store {
    /// One file, one process. Writers take turns on one connection, so that none ever waits inside SQLite.
    Sqlite {
        /// The one connection that writes.
        write: Pool<Sqlite>,
        /// Connections that only read; write-ahead logging lets them go on beside the writer.
        read: Pool<Sqlite>,
    },
    /// A server, shared by many nodes.
    Postgres(Pool<Postgres>),
}

/// A connection, inside a transaction or not. Every function with SQL takes one.
#[derive(Debug)]
pub enum Db {
    /// To SQLite.
    Sqlite(Handle<Sqlite>),
    /// To PostgreSQL.
    Postgres(Handle<Postgres>),
}

/// A connection of one engine.
#[derive(Debug)]
pub enum Handle<D: Database> {
    /// Each statement on its own.
    Plain(PoolConnection<D>),
    /// All or nothing; dropped without [`Db::commit`] it is nothing.
    Tx(Transaction<'static, D>),
}

impl<D: Database> Handle<D> {
    pub(crate) fn get(&mut self) -> &mut D::Connection {
        match self {
            Self::Plain(connection) => &mut *connection,
            Self::Tx(transaction) => &mut *transaction,
        }
    }
}

/// Stamps one body for each engine: `on!(db, conn => sqlx::query("…$1…").bind(x).execute(conn).await?)`.
macro_rules! on {
    ($db:expr, $conn:ident => $body:expr) => {
        match $db {
            $crate::engine::Db::Sqlite(handle) => {
                let $conn = handle.get();
                $body
            }
            $crate::engine::Db::Postgres(handle) => {
                let $conn = handle.get();
                $body
            }
        }
    };
}
pub(crate) use on;

impl Store {
    /// Opens `postgres://…` or `sqlite://path`. Does not migrate.
    ///
    /// # Errors
    /// [`StoreError::Config`] for another scheme, [`StoreError::Down`] where the database cannot be opened.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::open_postgres(url).await;
        }
        match url.strip_prefix("sqlite://") {
            Some(path) => Self::open_sqlite(Path::new(path)).await,
            None => Err(StoreError::Config(format!(
                "the database URL begins with postgres:// or sqlite://, not {url:.12}…"
            ))),
        }
    }

    async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Config(format!("the database URL: {error}")))?
            .application_name("evm")
            .statement_cache_capacity(STATEMENTS)
            .options([
                ("statement_timeout", "30s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "60s"),
            ]);
        let pool = PoolOptions::new().max_connections(24).min_connections(2).acquire_timeout(ACQUIRE_TIMEOUT);
        // Asking a connection that was used just now costs a trip each time and tells next to nothing.
        let pool = pool.test_before_acquire(false).before_acquire(|connection: &mut PgConnection, known| {
            Box::pin(async move {
                if known.idle_for > ASK_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
        Ok(Self::Postgres(pool.connect_with(options).await?))
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(ROWS)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", "4000");
        // A connection to a file does not break; no need to ask it before each use.
        let pool = || PoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false);
        let write =
            pool().max_connections(1).min_connections(1).after_release(|connection: &mut SqliteConnection, _| {
                Box::pin(async move {
                    // First what is still to be rolled back. SQLite rolls back by itself where the disk is full or fails, and
                    // sqlx, whose own ROLLBACK fails then, takes the connection for one inside a transaction for ever.
                    connection.ping().await?;
                    let whole = !connection.is_in_transaction();
                    if !whole {
                        tracing::warn!("the connection that writes is replaced: a transaction broke off");
                    }
                    Ok(whole)
                })
            });
        let write = write.idle_timeout(None).max_lifetime(None).connect_with(options.clone()).await?;
        // One stays open, so that the files beside the database stay, too: on a full disk no new ones can be made.
        let read = pool().max_connections(4).min_connections(1).connect_with(options.read_only(true)).await?;
        Ok(Self::Sqlite { write, read })
    }

    /// Brings the tables up to this program's version; forward only.
    ///
    /// # Errors
    /// Where the database is newer than the program, or was changed by hand.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite { write, .. } => SQLITE_MIGRATIONS.run(write).await?,
            Self::Postgres(pool) => POSTGRES_MIGRATIONS.run(pool).await?,
        }
        let mut db = self.begin().await?;
        frames::make_days(&mut db, clock::now()).await?;
        db.commit().await
    }

    /// Says that no other process has this database, so that whoever held leases and sockets before is gone.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn take_over(&self) -> Result<(), StoreError> {
        let mut db = self.begin().await?;
        leases::forget(&mut db).await?;
        chargers::disconnect_dead_nodes(&mut db).await?;
        db.commit().await
    }

    /// How many migrations the database lacks. Changes nothing.
    ///
    /// # Errors
    /// Where the database does not answer, or is newer than the program.
    pub async fn pending_migrations(&self) -> Result<usize, StoreError> {
        let (all, applied) = match self {
            Self::Sqlite { read, .. } => {
                let mut connection = read.acquire().await?;
                (&SQLITE_MIGRATIONS, connection.list_applied_migrations(&SQLITE_MIGRATIONS.table_name).await)
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                (&POSTGRES_MIGRATIONS, connection.list_applied_migrations(&POSTGRES_MIGRATIONS.table_name).await)
            }
        };
        let applied = match applied {
            Ok(applied) => applied,
            // A fresh database has no table of migrations.
            Err(MigrateError::Execute(sqlx::Error::Database(_))) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if let Some(newer) = applied.iter().find(|migration| !all.version_exists(migration.version)) {
            return Err(MigrateError::VersionMissing(newer.version).into());
        }
        Ok(all.iter().filter(|migration| !applied.iter().any(|done| done.version == migration.version)).count())
    }

    /// A connection for reading, each statement on its own.
    ///
    /// # Errors
    /// [`StoreError::Down`] after 5 s without one.
    pub async fn read(&self) -> Result<Db, StoreError> {
        Ok(match self {
            Self::Sqlite { read, .. } => Db::Sqlite(Handle::Plain(read.acquire().await?)),
            Self::Postgres(pool) => Db::Postgres(Handle::Plain(pool.acquire().await?)),
        })
    }

    /// Begins a transaction that may write. Take no second connection inside it, and wait for no network.
    ///
    /// # Errors
    /// [`StoreError::Down`] after 5 s without a connection.
    pub async fn begin(&self) -> Result<Db, StoreError> {
        Ok(match self {
            Self::Sqlite { write, .. } => Db::Sqlite(Handle::Tx(write.begin_with("BEGIN IMMEDIATE").await?)),
            Self::Postgres(pool) => Db::Postgres(Handle::Tx(pool.begin().await?)),
        })
    }

    /// Whether the database takes a write, and has not told of a full disk just now: a small write may still find room
    /// where the next larger one does not.
    pub async fn can_write(&self) -> bool {
        let probe = async {
            let mut db = self.begin().await?;
            settings::probe(&mut db, crate::now()).await?;
            db.commit().await
        };
        matches!(tokio::time::timeout(PROBE_TIMEOUT, probe).await, Ok(Ok(()))) && !error::was_full_lately()
    }

    /// How many groups of chargers write side by side: PostgreSQL overlaps the waits for the disk.
    pub fn writers(&self) -> usize {
        match self {
            Self::Sqlite { .. } => 1,
            Self::Postgres(_) => 2,
        }
    }

    /// Closes all connections; SQLite folds its log into the file.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Db {
    /// Makes the transaction last.
    ///
    /// # Errors
    /// Where the database did not say that it did; it may have.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(Handle::Tx(transaction)) => transaction.commit().await?,
            Self::Postgres(Handle::Tx(transaction)) => transaction.commit().await?,
            Self::Sqlite(Handle::Plain(_)) | Self::Postgres(Handle::Plain(_)) => {}
        }
        Ok(())
    }

    /// Behind a SELECT from sessions as `s` that is about to change them. SQLite's writers take turns anyway.
    pub(crate) fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " FOR UPDATE OF s",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    /// Table → lines of its columns and constraints, engine spellings made one.
    fn shape(sql: &str) -> BTreeMap<String, Vec<String>> {
        let plain: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        plain
            .join("\n")
            .split(';')
            .map(|statement| {
                let same = statement
                    .replace("INTEGER PRIMARY KEY AUTOINCREMENT", "SERIAL")
                    .replace("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "SERIAL")
                    .replace("INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "SERIAL")
                    .replace(" WITHOUT ROWID", "");
                let mut lines = same.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
                (lines.next().unwrap_or_default(), lines.collect())
            })
            .collect()
    }

    /// What the engines keep differently: PostgreSQL has the frames in partitions. `tests/frames.rs` holds both to one behaviour.
    const APART: [&str; 1] = ["0037_frames_by_block.sql"];

    #[test]
    fn both_engines_have_the_same_migrations() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let names = |engine: &str| {
            let mut all: Vec<_> =
                std::fs::read_dir(root.join(engine)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            all.sort();
            all
        };
        assert_eq!(names("sqlite"), names("postgres"));
        for name in names("sqlite").into_iter().filter(|name| !APART.iter().any(|apart| name == apart)) {
            let text = |engine: &str| std::fs::read_to_string(root.join(engine).join(&name)).unwrap();
            assert_eq!(shape(&text("sqlite")), shape(&text("postgres")), "{name:?}");
        }
    }

    async fn fill(db: &mut super::Db) -> crate::Result<()> {
        on!(db, conn => {
            sqlx::query("PRAGMA max_page_count = 1").execute(&mut *conn).await?;
            sqlx::query("CREATE TABLE filler AS SELECT hex(randomblob(1000000)) AS x").execute(conn).await?;
        });
        Ok(())
    }

    /// `SQLITE_FULL` is the same whether the disk or a limit says so; the limit goes with the connection.
    #[tokio::test]
    async fn a_write_that_found_no_room_does_not_break_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = super::Store::open(&format!("sqlite://{}", dir.path().join("evm.db").display())).await.unwrap();
        store.migrate().await.unwrap();
        assert!(store.can_write().await);
        let before = crate::now();
        for _ in 0..3 {
            let mut db = store.begin().await.unwrap();
            crate::settings::probe(&mut db, before.plus_millis(-5_000)).await.unwrap();
            let error = fill(&mut db).await.unwrap_err();
            assert!(error.is_down(), "{error}");
            drop(db);
        }
        assert!(!store.can_write().await, "it was full a moment ago");
        let mut db = store.begin().await.unwrap();
        let kept = crate::settings::get_or_create(&mut db, "probe", || "gone".into()).await.unwrap();
        assert!(kept.parse::<i64>().unwrap() >= before.0, "what broke off is not there: {kept}");
        db.commit().await.unwrap();
        store.close().await;
    }

    #[test]
    fn the_comparison_sees_a_missing_column() {
        assert_ne!(shape("CREATE TABLE a (\n x TEXT,\n y TEXT\n);"), shape("CREATE TABLE a (\n x TEXT\n);"));
    }
}
