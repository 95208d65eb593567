//! The data folder: the SQLite file with its lock, and the file that says where the running process listens.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// The file in the data folder with the addresses of the running process.
const LISTENING: &str = "listening.json";
const SQLITE: &str = "evm.db";

/// Makes the data folder where it is missing, for this user only: it holds keys and customers.
///
/// # Errors
/// Where that is not allowed.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the data folder {} (EVM_DATA_DIR)", path.display()))
}

/// The database's URL as set, or SQLite in the data folder.
///
/// # Errors
/// Where the folder's name is not UTF-8.
pub(crate) fn database_url(settings: &Settings) -> anyhow::Result<String> {
    if let Some(url) = &settings.database_url {
        return Ok(url.as_str().to_owned());
    }
    let path = settings.data_dir.join(SQLITE);
    let path = path.to_str().context("the data folder's name is not UTF-8 (EVM_DATA_DIR)")?;
    Ok(format!("sqlite://{path}"))
}

/// The path behind a `sqlite://` URL.
pub(crate) fn sqlite_path(url: &str) -> Option<&Path> {
    url.strip_prefix("sqlite://").map(Path::new)
}

/// Holds a SQLite file for this process alone; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// Where another process has it, naming that process.
    pub(crate) fn take(database: &Path) -> anyhow::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder);
                bail!(
                    "{} is in use by another process ({}). SQLite serves one process: stop that one, or give this one \
                     another folder (EVM_DATA_DIR), or use PostgreSQL (EVM_DATABASE_URL)",
                    database.display(),
                    holder.trim(),
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Where the process listens; what it does not serve is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// The REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<SocketAddr>,
    /// For chargers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ocpp: Option<SocketAddr>,
    /// The built-in NATS port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats_hub: Option<SocketAddr>,
}

impl Listening {
    fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Writes `listening.json`: whole or not at all.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(LISTENING);
        let new = folder.join(format!("{LISTENING}.{}", std::process::id()));
        let written = std::fs::write(&new, self.text()?).and_then(|()| std::fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// What the process that runs in this folder wrote, if one does or did.
    pub(crate) fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join(LISTENING)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Removes the file, if it is still ours: with PostgreSQL several processes may share a folder.
    pub(crate) fn remove(&self, folder: &Path) {
        let path = folder.join(LISTENING);
        if std::fs::read_to_string(&path).ok() == self.text().ok() {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("evm-data-{name}-{}", std::process::id()));
        make_folder(&path).unwrap();
        path
    }

    #[test]
    fn a_database_is_held_once() {
        let folder = folder("lock");
        let database = folder.join("evm.db");
        let first = Lock::take(&database).unwrap();
        let refused = format!("{:#}", Lock::take(&database).unwrap_err());
        assert!(refused.contains(&format!("another process ({})", std::process::id())), "{refused}");
        drop(first);
        Lock::take(&database).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_addresses_are_written_and_only_ours_removed() {
        let folder = folder("listening");
        let ours = Listening { http: Some("127.0.0.1:8080".parse().unwrap()), ..Listening::default() };
        let others = Listening { ocpp: Some("127.0.0.1:9000".parse().unwrap()), ..Listening::default() };
        ours.write(&folder).unwrap();
        let path = folder.join(LISTENING);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"http":"127.0.0.1:8080"}"#);
        others.remove(&folder);
        assert!(path.exists());
        ours.remove(&folder);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
