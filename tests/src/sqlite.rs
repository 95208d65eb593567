//! Somebody else at the SQLite file.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::env;

const HOLD: &str = "
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
file.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.read()
file.execute('ROLLBACK')
";

/// The lock for writing, held by another process until [`WriteLock::release`].
pub struct WriteLock {
    child: Child,
    stdin: ChildStdin,
}

impl WriteLock {
    /// Takes the lock of this file.
    pub async fn take(path: &str) -> Self {
        let mut child = Command::new(env::python())
            .args(["-c", HOLD, path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("held"));
        Self { child, stdin }
    }

    /// Gives the lock back.
    pub async fn release(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().await.unwrap().success());
    }
}
