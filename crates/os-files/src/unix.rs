use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

pub use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};

/// Opening what somebody else may have put there.
pub trait OpenCautiously {
    /// A link is not followed, and a pipe is not waited for.
    fn cautiously(&mut self) -> &mut Self;
}

impl OpenCautiously for OpenOptions {
    fn cautiously(&mut self) -> &mut Self {
        self.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
    }
}

/// A folder whose names are to be on disk.
#[derive(Debug)]
pub struct Folder(File);

impl Folder {
    /// Opens it.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Writes its names to disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
