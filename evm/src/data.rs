//! The data folder: the SQLite file with its lock, and the file that says where the running process listens.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// The file in the data folder with the addresses of the running process.
pub(crate) const LISTENING: &str = "listening.json";
const SQLITE: &str = "evm.db";
/// In a folder's mode: everybody makes files in it, as in /tmp.
const STICKY: u32 = 0o1000;

/// Makes the data folder where it is missing, for this user only: it holds keys and customers. One that is there and open
/// to others is closed, unless it holds other folders, too: then it is more than ours, and only our files are closed.
///
/// # Errors
/// Where it cannot be made.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the data folder {} (EVM_DATA_DIR)", path.display()))?;
    let Some(mode) = open_to_others(path) else { return Ok(()) };
    let shared = mode & STICKY != 0 || holds_folders(path);
    if shared || std::fs::set_permissions(path, Permissions::from_mode(0o700)).is_err() {
        tracing::warn!("other users see into the data folder {} (mode {mode:o}): `chmod 700` it", path.display());
    }
    close(&path.join(LISTENING))
}

/// The mode of a folder or file that others may read or write.
pub(crate) fn open_to_others(path: &Path) -> Option<u32> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

fn holds_folders(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

/// The SQLite file and those beside it.
pub(crate) fn database_files(database: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", ".lock"].map(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
}

/// Closes the SQLite file, made where it is missing, and those beside it to other users. SQLite gives those that it makes
/// the mode of the first.
///
/// # Errors
/// Where that is not allowed.
pub(crate) fn close_database(database: &Path) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(database);
    made.with_context(|| format!("cannot open the database {}", database.display()))?;
    database_files(database).iter().try_for_each(|file| close(file))
}

fn close(file: &Path) -> anyhow::Result<()> {
    if open_to_others(file).is_none() {
        return Ok(());
    }
    let closed = std::fs::set_permissions(file, Permissions::from_mode(0o600));
    closed.with_context(|| format!("other users may read {}, and that cannot be changed", file.display()))
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
            .mode(0o600)
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
        let text = self.text()?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written =
            file.and_then(|mut file| file.write_all(text.as_bytes())).and_then(|()| std::fs::rename(&new, &path));
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

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folder_and_files_are_closed_to_others_and_a_shared_folder_is_left() {
        let folder = folder("closed");
        let database = folder.join("evm.db");
        for file in database_files(&database) {
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        }
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        make_folder(&folder).unwrap();
        close_database(&database).unwrap();
        assert_eq!(mode(&folder), 0o700);
        assert!(database_files(&database).iter().all(|file| mode(file) == 0o600));

        std::fs::create_dir(folder.join("others")).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        make_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o755, "who knows who else lives there");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_addresses_are_written_and_only_ours_removed() {
        let folder = folder("listening");
        let ours = Listening { http: Some("127.0.0.1:8080".parse().unwrap()), ..Listening::default() };
        let others = Listening { ocpp: Some("127.0.0.1:9000".parse().unwrap()), ..Listening::default() };
        ours.write(&folder).unwrap();
        let path = folder.join(LISTENING);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"http":"127.0.0.1:8080"}"#);
        others.remove(&folder);
        assert!(path.exists());
        ours.remove(&folder);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
