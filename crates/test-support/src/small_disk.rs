//! A file system that is soon full.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own in memory. It goes with the value.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Of that size in KiB; `None`, said as [`skip`](crate::skip) does, where none can be mounted.
    ///
    /// # Panics
    /// If there can be no temporary folder.
    pub fn mount(kib: u32) -> Option<Self> {
        let folder = TempDir::with_prefix("rampart-small-disk-").expect("a temporary folder");
        let size = format!("size={kib}k");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        crate::skip("a small file system can't be mounted here");
        None
    }

    /// Makes it that large, in KiB, with what is on it.
    ///
    /// # Panics
    /// If that is refused.
    pub fn resize(&self, kib: u32) {
        let size = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &size]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "{size}");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte, with a file of that name.
    ///
    /// # Panics
    /// If the file can't be made.
    pub fn fill(&self, name: &str) {
        let path = self.path().join(name);
        // Ends with an error of its own, which is what is wanted.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", "status=none"])
            .arg(format!("of={}", path.display()))
            .stderr(std::process::Stdio::null())
            .status();
        assert!(path.exists(), "{} can't be made", path.display());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
