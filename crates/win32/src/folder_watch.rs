//! Changes in a folder and all below it (ReadDirectoryChangesW).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle;
use std::path::{Component, Path, PathBuf, Prefix};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_IO_INCOMPLETE, ERROR_NOTIFY_ENUM_DIR};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ACTION_ADDED, FILE_ACTION_MODIFIED, FILE_ACTION_REMOVED, FILE_ACTION_RENAMED_NEW_NAME,
    FILE_ACTION_RENAMED_OLD_NAME, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY,
    FILE_NOTIFY_CHANGE_ATTRIBUTES, FILE_NOTIFY_CHANGE_CREATION, FILE_NOTIFY_CHANGE_DIR_NAME,
    FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SECURITY,
    FILE_NOTIFY_CHANGE_SIZE, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, ReadDirectoryChangesW,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};

use crate::check;
use crate::event::Event;
use crate::text::shown;

/// Room for some hundreds of changes between two looks. More than 64 KiB fails on network drives.
const BUFFER: usize = 64 << 10;

/// An absolute path as the file system has it (`\\?\C:\…`), in which each name stands for itself: by others a name
/// that ends in a dot or a blank, or is a device's, leads elsewhere or nowhere.
pub fn verbatim(path: &Path) -> PathBuf {
    let Some(Component::Prefix(prefix)) = path.components().next() else { return path.to_owned() };
    let (start, skipped) = match prefix.kind() {
        Prefix::Disk(_) => (r"\\?\", 0),
        // `\\server\share`: its two backslashes go.
        Prefix::UNC(..) => (r"\\?\UNC\", 2),
        _ => return path.to_owned(),
    };
    let rest: Vec<u16> = path.as_os_str().encode_wide().skip(skipped).collect();
    let mut verbatim = OsString::from(start);
    verbatim.push(OsString::from_wide(&rest));
    verbatim.into()
}

/// A path as people read it; two different ones never look alike.
pub fn path_shown(path: &Path) -> String {
    shown(&path.as_os_str().encode_wide().collect::<Vec<u16>>())
}

/// What was done to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It came.
    Added,
    /// It went.
    Removed,
    /// What it names changed: content, size, times, attributes, who may use it.
    Modified,
    /// It had this name before; the new one follows.
    RenamedFrom,
    /// It has this name now.
    RenamedTo,
}

/// What a look gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet.
    Nothing,
    /// These, in order; names are relative to the folder.
    Changes(Vec<(Act, OsString)>),
    /// More than the buffer holds: nobody knows what.
    Overflow,
}

/// A folder that is watched.
pub struct FolderWatch {
    folder: File,
    event: Event,
    /// Boxed: the system writes to both until the read is over.
    buffer: Box<[u32]>,
    overlapped: Box<OVERLAPPED>,
    reading: bool,
}

// SAFETY: the handles may be used from any thread, and what the system writes to is owned and never moves.
unsafe impl Send for FolderWatch {}

impl FolderWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no such folder, or it may not be listed.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let folder = OpenOptions::new()
            .access_mode(FILE_LIST_DIRECTORY)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED)
            .open(path)?;
        // SAFETY: a structure of numbers and null pointers.
        let overlapped = Box::new(unsafe { std::mem::zeroed::<OVERLAPPED>() });
        let buffer = vec![0_u32; BUFFER / 4].into_boxed_slice();
        let mut watch = Self { folder, event: Event::new()?, buffer, overlapped, reading: false };
        watch.read()?;
        Ok(watch)
    }

    /// Set when there is something to be taken.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What changed since the last time.
    ///
    /// # Errors
    /// The folder is gone, or can't be watched any more.
    pub fn take(&mut self) -> io::Result<Seen> {
        if !self.reading {
            self.read()?;
            return Ok(Seen::Nothing);
        }
        let mut length = 0;
        // SAFETY: the handle is owned, the structure is the one that the read was begun with.
        let got = unsafe {
            GetOverlappedResult(self.folder.as_raw_handle(), &raw const *self.overlapped, &raw mut length, 0)
        };
        let result = check(got);
        if let Err(error) = &result
            && error.raw_os_error() == Some(ERROR_IO_INCOMPLETE.cast_signed())
        {
            return Ok(Seen::Nothing);
        }
        self.reading = false;
        let seen = match result {
            Ok(()) if length == 0 => Seen::Overflow,
            Ok(()) => Seen::Changes(self.changes()),
            Err(error) if error.raw_os_error() == Some(ERROR_NOTIFY_ENUM_DIR.cast_signed()) => Seen::Overflow,
            Err(error) => return Err(error),
        };
        self.read()?;
        Ok(seen)
    }

    fn read(&mut self) -> io::Result<()> {
        self.event.reset();
        // SAFETY: a structure of numbers and null pointers.
        *self.overlapped = unsafe { std::mem::zeroed() };
        self.overlapped.hEvent = self.event.raw();
        let what = FILE_NOTIFY_CHANGE_FILE_NAME
            | FILE_NOTIFY_CHANGE_DIR_NAME
            | FILE_NOTIFY_CHANGE_ATTRIBUTES
            | FILE_NOTIFY_CHANGE_SIZE
            | FILE_NOTIFY_CHANGE_LAST_WRITE
            | FILE_NOTIFY_CHANGE_CREATION
            | FILE_NOTIFY_CHANGE_SECURITY;
        let room = u32::try_from(self.buffer.len() * 4).unwrap_or(0);
        // SAFETY: buffer and structure are owned, do not move, and outlive the read: `drop` waits for it.
        let begun = unsafe {
            ReadDirectoryChangesW(
                self.folder.as_raw_handle(),
                self.buffer.as_mut_ptr().cast(),
                room,
                1,
                what,
                std::ptr::null_mut(),
                &raw mut *self.overlapped,
                None,
            )
        };
        check(begun)?;
        self.reading = true;
        Ok(())
    }

    /// The entries of the buffer, each a FILE_NOTIFY_INFORMATION: offset of the next, act, length, name.
    fn changes(&self) -> Vec<(Act, OsString)> {
        // Not cut to the length that was told: Wine leaves the padding between entries out of it. What lies
        // behind the last entry is never looked at.
        let words = &self.buffer[..];
        let mut changes = Vec::new();
        let mut at = 0;
        while let Some([next, act, bytes]) = words.get(at..at + 3) {
            let units = (*bytes as usize) / 2;
            let Some(name) = words.get(at + 3..at + 3 + units.div_ceil(2)) else { break };
            let name: Vec<u16> = name
                .iter()
                .flat_map(|word| [(word & 0xffff) as u16, (word >> 16) as u16])
                .take(units)
                .collect();
            let act = match *act {
                FILE_ACTION_ADDED => Some(Act::Added),
                FILE_ACTION_REMOVED => Some(Act::Removed),
                FILE_ACTION_MODIFIED => Some(Act::Modified),
                FILE_ACTION_RENAMED_OLD_NAME => Some(Act::RenamedFrom),
                FILE_ACTION_RENAMED_NEW_NAME => Some(Act::RenamedTo),
                _ => None,
            };
            changes.extend(act.map(|act| (act, OsString::from_wide(&name))));
            if *next == 0 || !next.is_multiple_of(4) {
                break;
            }
            at += (*next as usize) / 4;
        }
        changes
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        if !self.reading {
            return;
        }
        // SAFETY: the handle is owned, the structure is the one that the read was begun with.
        unsafe { CancelIoEx(self.folder.as_raw_handle(), &raw const *self.overlapped) };
        let mut length = 0;
        // A read that was cancelled is over soon; until then the system may write to the buffer.
        if self.event.wait(Duration::from_secs(5)) {
            // SAFETY: as above.
            unsafe {
                GetOverlappedResult(
                    self.folder.as_raw_handle(),
                    &raw const *self.overlapped,
                    &raw mut length,
                    0,
                )
            };
        } else {
            // Rather lost than written to by the system later.
            std::mem::forget(std::mem::take(&mut self.buffer));
            // SAFETY: a structure of numbers and null pointers.
            std::mem::forget(std::mem::replace(
                &mut self.overlapped,
                Box::new(unsafe { std::mem::zeroed() }),
            ));
        }
    }
}
