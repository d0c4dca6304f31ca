//! Opening files that an attacker may have laid out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::content_reading::ContentUnread;

/// `FILE_FLAG_OPEN_REPARSE_POINT` of CreateFileW.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// A file by what does not change while its content does not. The owner of a file can
/// put back its size and modification time after a change, but not its change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileIdentity {
    /// Serial number of the volume.
    pub device: u64,
    /// Number of the file on it.
    pub inode: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Time of the last change of anything in nanoseconds since the Unix epoch.
    pub changed_ns: i64,
    /// Size in bytes.
    pub size: u64,
}

impl FileIdentity {
    fn of(facts: &win32::file::Facts) -> Self {
        Self {
            device: facts.volume,
            inode: facts.index,
            modified_ns: facts.modified_ns,
            changed_ns: facts.changed_ns,
            size: facts.size,
        }
    }
}

/// What to do where the last part of a path is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastSymlink {
    /// It is not a regular file, so it is refused.
    Refuse,
    /// Follow it.
    Follow,
}

/// A regular file, open for reading, and what it was when it was opened.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    identity: FileIdentity,
}

impl RegularFile {
    /// Opens a regular file for reading. A link, a junction or the place holder of a file that is
    /// elsewhere is none; a device's name (`CON`, `\\\\.\\pipe\\x`) is refused before it is opened.
    ///
    /// # Errors
    /// [`ContentUnread::NotRegular`] or [`ContentUnread::Unreadable`].
    pub fn open(path: &Path, last: LastSymlink) -> Result<Self, ContentUnread> {
        if path.as_os_str().as_encoded_bytes().starts_with(br"\\.\") {
            return Err(ContentUnread::NotRegular);
        }
        let flags = match last {
            LastSymlink::Refuse => OPEN_REPARSE_POINT,
            LastSymlink::Follow => 0,
        };
        Self::from_file(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
    }

    /// Takes a file that is already open for reading.
    ///
    /// # Errors
    /// [`ContentUnread::NotRegular`] or [`ContentUnread::Unreadable`].
    pub fn from_file(file: File) -> Result<Self, ContentUnread> {
        let facts = win32::file::facts(&file)?;
        if facts.is_folder() || facts.is_reparse_point() {
            return Err(ContentUnread::NotRegular);
        }
        Ok(Self { file, identity: FileIdentity::of(&facts) })
    }

    /// What the file was when it was opened.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// True while it is still what it was when it was opened.
    pub fn is_unchanged(&self) -> bool {
        win32::file::facts(&self.file).is_ok_and(|now| FileIdentity::of(&now) == self.identity)
    }

    /// Reads at an offset.
    ///
    /// # Errors
    /// As ReadFile.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.seek_read(buffer, offset)
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
