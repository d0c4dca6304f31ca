//! Opening files that an attacker may have laid out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType as InodeType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::content_reading::ContentUnread;

/// A file by what does not change while its content does not. The owner of a file can
/// put back its size and modification time after a change, but not its change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileIdentity {
    /// Device, as `st_dev` of stat(2) gives it.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Time of the last change of the inode (`st_ctime`) in nanoseconds since the Unix epoch.
    pub changed_ns: i64,
    /// Size in bytes.
    pub size: u64,
}

impl FileIdentity {
    fn of(file: &std::fs::Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            device: file.dev(),
            inode: file.ino(),
            modified_ns: nanos(file.mtime(), file.mtime_nsec()),
            changed_ns: nanos(file.ctime(), file.ctime_nsec()),
            size: file.size(),
        }
    }
}

/// What to do where the last part of a path is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastSymlink {
    /// It is not a regular file, so it is refused.
    Refuse,
    /// Follow it, as for `/proc/PID/exe`.
    Follow,
}

/// A regular file, open for reading, and what it was when it was opened.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    identity: FileIdentity,
}

impl RegularFile {
    /// Opens a regular file for reading. What is something else is never opened:
    /// to open a pipe can block or wake its writer, to open a device can act.
    ///
    /// # Errors
    /// [`ContentUnread::NotRegular`] or [`ContentUnread::Unreadable`].
    pub fn open(path: &Path, last: LastSymlink) -> Result<Self, ContentUnread> {
        let follow = match last {
            LastSymlink::Refuse => OFlags::NOFOLLOW,
            LastSymlink::Follow => OFlags::empty(),
        };
        // A reference first, which touches nothing, and from it the file itself: by
        // the path another file might stand there by now.
        let reference =
            open(path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty()).map_err(io::Error::from)?;
        let inode = fstat(&reference).map_err(io::Error::from)?;
        if InodeType::from_raw_mode(inode.st_mode) != InodeType::RegularFile {
            return Err(ContentUnread::NotRegular);
        }
        let path = format!("/proc/self/fd/{}", reference.as_raw_fd());
        // Not to wait for the holder of a lease. Access times are evidence; only the
        // owner and root may leave them alone.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open(&*path, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => open(&*path, flags, Mode::empty()),
            result => result,
        };
        let file = file.map_err(io::Error::from)?;
        Self::from_file(file.into())
    }

    /// Takes a file that is already open for reading.
    ///
    /// # Errors
    /// [`ContentUnread::NotRegular`] or [`ContentUnread::Unreadable`].
    pub fn from_file(file: File) -> Result<Self, ContentUnread> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ContentUnread::NotRegular);
        }
        Ok(Self { file, identity: FileIdentity::of(&metadata) })
    }

    /// What the file was when it was opened.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// True while it is still what it was when it was opened. Changes within one tick
    /// of the kernel's clock (at most 10 ms) can't be told apart.
    pub fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| FileIdentity::of(&now) == self.identity)
    }

    /// Reads at an offset; the position that others of the descriptor see stays.
    ///
    /// # Errors
    /// As pread(2).
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// All bytes, where there are at most `max_bytes`.
    ///
    /// # Errors
    /// The reason why there are none. A change meanwhile is an error, as in
    /// [`crate::ContentReading`].
    pub fn read_all(&self, max_bytes: u64) -> Result<Vec<u8>, ContentUnread> {
        let size = usize::try_from(self.identity.size).map_err(|_| ContentUnread::TooLarge)?;
        if self.identity.size > max_bytes {
            return Err(ContentUnread::TooLarge);
        }
        // One byte more shows a file that grew, or one of /proc that has no size.
        let mut bytes = vec![0; size.saturating_add(1)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if filled != size || !self.is_unchanged() {
            return Err(ContentUnread::Changed);
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}
