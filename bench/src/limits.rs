//! Limits of the system.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process opens beside its sockets.
const OTHERS: u64 = 100;

/// Raises the limit of open files as far as it goes; servers started from here inherit it.
///
/// # Errors
/// Where that is too few for so many sockets.
pub(crate) fn raise_open_files(sockets: u32) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    // Refused in some containers; what is there counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current;
    let needed = u64::from(sockets) + OTHERS;
    ensure!(
        allowed.is_none_or(|allowed| allowed >= needed),
        "{needed} open files are needed and {} allowed (ulimit -Hn {needed})",
        allowed.unwrap_or_default()
    );
    Ok(())
}
