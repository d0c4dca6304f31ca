//! Files by what identifies them, and taking one away by its handle.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, DELETE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT,
    FILE_BASIC_INFO, FILE_DISPOSITION_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_GENERIC_READ, FILE_NAME_NORMALIZED, FILE_SHARE_READ, FileBasicInfo, FileDispositionInfo,
    GetFileInformationByHandle, GetFileInformationByHandleEx, GetFinalPathNameByHandleW, QueryDosDeviceW,
    SetFileInformationByHandle,
};

use crate::clock::{joined, unix_ns};
use crate::text::{shown, until_zero, wide};
use crate::{check, last_error};

/// A file by what does not change while its content does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Serial number of the volume.
    pub volume: u64,
    /// Number of the file on it.
    pub index: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of modification, in nanoseconds since 1970. Its owner may set it.
    pub modified_ns: i64,
    /// Time of the last change of anything, in nanoseconds since 1970.
    pub changed_ns: i64,
    /// Names of it.
    pub links: u32,
    /// Its attributes.
    pub attributes: u32,
}

impl Facts {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.attributes & FILE_ATTRIBUTE_DIRECTORY != 0
    }

    /// Whether it leads elsewhere: a link, a junction, a place holder of a cloud.
    pub fn is_reparse_point(&self) -> bool {
        self.attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0
    }
}

/// What an open file is.
///
/// # Errors
/// The system does not say.
pub fn facts(file: &File) -> io::Result<Facts> {
    // SAFETY: a structure of numbers, for which zero is good.
    let mut info: BY_HANDLE_FILE_INFORMATION = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is open for the call, `info` is live.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut info) })?;
    // SAFETY: as above.
    let mut basic: FILE_BASIC_INFO = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of::<FILE_BASIC_INFO>()).unwrap_or(0);
    // SAFETY: the handle is open for the call, `basic` is live and `size` its size.
    let got = unsafe {
        GetFileInformationByHandleEx(file.as_raw_handle(), FileBasicInfo, (&raw mut basic).cast(), size)
    };
    let modified = joined(info.ftLastWriteTime);
    let changed = if got == 0 { 0 } else { u64::try_from(basic.ChangeTime).unwrap_or(0) };
    Ok(Facts {
        volume: info.dwVolumeSerialNumber.into(),
        index: u64::from(info.nFileIndexHigh) << 32 | u64::from(info.nFileIndexLow),
        size: u64::from(info.nFileSizeHigh) << 32 | u64::from(info.nFileSizeLow),
        modified_ns: unix_ns(modified),
        // Not every file system keeps it.
        changed_ns: unix_ns(if changed == 0 { modified } else { changed }),
        links: info.nNumberOfLinks,
        attributes: info.dwFileAttributes,
    })
}

/// Opens a file or folder only to ask what it is; a link is opened itself.
///
/// # Errors
/// There is none, or it may not be opened.
pub fn open_to_ask(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
    OpenOptions::new().access_mode(0).custom_flags(flags).open(path)
}

/// What stands at a path.
///
/// # Errors
/// Nothing, or it may not be opened.
pub fn facts_at(path: &Path) -> io::Result<Facts> {
    facts(&open_to_ask(path)?)
}

/// Opens a file so that nobody else can write, rename or remove it while it is held, and it can be removed
/// by its handle. A link is opened itself.
///
/// # Errors
/// There is none, somebody has it open for writing, or it may not be removed.
pub fn open_to_remove(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .access_mode(FILE_GENERIC_READ | DELETE)
        .share_mode(FILE_SHARE_READ)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// The path of an open file with every link on the way resolved, as `C:\…`.
///
/// # Errors
/// The system does not say.
pub fn real_path(file: &File) -> io::Result<String> {
    let mut path = vec![0_u16; 32_768];
    // SAFETY: the handle is open for the call, and 32,768 what `path` has room for.
    let length = unsafe {
        GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), 32_768, FILE_NAME_NORMALIZED)
    };
    if length == 0 || length >= 32_768 {
        return Err(last_error());
    }
    let path = shown(&path[..length as usize]);
    Ok(path.strip_prefix(r"\\?\").unwrap_or(&path).to_owned())
}

/// Removes an open file once its last handle is closed.
///
/// # Errors
/// It was not opened for that, or is one that may not be removed (it runs, it is read only).
pub fn remove(file: &File) -> io::Result<()> {
    set_removed(file, true)
}

/// Takes [`remove`] back, as long as the file is held.
///
/// # Errors
/// The system refuses.
pub fn keep(file: &File) -> io::Result<()> {
    set_removed(file, false)
}

fn set_removed(file: &File, removed: bool) -> io::Result<()> {
    let info = FILE_DISPOSITION_INFO { DeleteFile: removed };
    let size = u32::try_from(size_of::<FILE_DISPOSITION_INFO>()).unwrap_or(0);
    // SAFETY: the handle is open for the call, `info` is live and `size` its size.
    let set = unsafe {
        SetFileInformationByHandle(file.as_raw_handle(), FileDispositionInfo, (&raw const info).cast(), size)
    };
    check(set)
}

/// Drives with the name that the kernel has for each: `C:` and `\Device\HarddiskVolume3`.
pub fn drives() -> Vec<(String, String)> {
    let letters = (b'A'..=b'Z').map(|letter| format!("{}:", char::from(letter)));
    let named = letters.filter_map(|drive| {
        let mut device = [0_u16; 512];
        let name = wide(&drive);
        // SAFETY: the name ends in a zero, and 512 is what `device` has room for.
        let length = unsafe { QueryDosDeviceW(name.as_ptr(), device.as_mut_ptr(), 512) };
        // Several may be given; the first is in force.
        (length != 0).then(|| (drive, shown(until_zero(&device))))
    });
    named.filter(|(_, device)| !device.is_empty()).collect()
}
