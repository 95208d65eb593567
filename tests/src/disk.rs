//! A disk small enough to be filled: a file system in memory. Only root may make one.

use std::path::Path;
use std::process::Command;

/// A small disk, which goes with this value.
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// One of so many MiB; `None`, and a word why, where this user may not make one.
    pub fn small(mib: u32) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("evm-test-disk.").tempdir().unwrap();
        let options = format!("size={mib}m,mode=755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { dir }),
            other => {
                eprintln!("SKIPPED: no small disk can be mounted here, so none is filled: {other:?}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.dir.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still has a file open there keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
