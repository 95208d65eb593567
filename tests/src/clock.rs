//! The program's clock, moved while it runs. Only a debug build lets itself be moved.

use std::path::PathBuf;

/// What moves it; the clock goes right again with this value.
pub struct Clock {
    dir: tempfile::TempDir,
}

impl Clock {
    /// A clock that goes right.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("evm-test-clock.").tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ms")
    }

    /// The program's setting.
    pub fn setting(&self) -> (String, String) {
        ("EVM_TEST_CLOCK".to_owned(), self.path().to_str().unwrap().to_owned())
    }

    /// Lets the program's clock be so many seconds ahead.
    pub fn ahead(&self, seconds: i64) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
        std::fs::rename(&new, self.path()).unwrap();
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
