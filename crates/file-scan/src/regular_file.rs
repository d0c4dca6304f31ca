//! A regular file, open for reading, that an attacker may have laid out.

use std::fs::File;
use std::io;
use std::path::Path;

use os_files::FileExt as _;

use crate::content_reading::ContentUnread;
use crate::system::{identity_of, open_regular};

/// A file by what does not change while its content does not. The owner of a file can
/// put back its size and modification time after a change, but not its change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileIdentity {
    /// Device, as `st_dev` of stat(2) gives it; on Windows the serial number of the volume.
    pub device: u64,
    /// Inode; on Windows the number of the file on its volume.
    pub inode: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Time of the last change of the inode (`st_ctime`), on Windows of anything, in nanoseconds since the
    /// Unix epoch.
    pub changed_ns: i64,
    /// Size in bytes.
    pub size: u64,
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
        Self::from_file(open_regular(path, last)?)
    }

    /// Takes a file that is already open for reading.
    ///
    /// # Errors
    /// [`ContentUnread::NotRegular`] or [`ContentUnread::Unreadable`].
    pub fn from_file(file: File) -> Result<Self, ContentUnread> {
        let identity = identity_of(&file)?;
        Ok(Self { file, identity })
    }

    /// What the file was when it was opened.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// True while it is still what it was when it was opened. Changes within one tick
    /// of the kernel's clock (at most 10 ms) can't be told apart.
    pub fn is_unchanged(&self) -> bool {
        identity_of(&self.file).is_ok_and(|now| now == self.identity)
    }

    /// Reads at an offset, without regard to where others of the handle are.
    ///
    /// # Errors
    /// As pread(2), on Windows as ReadFile.
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
