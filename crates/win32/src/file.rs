//! Files by what identifies them, and taking one away by its handle.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, DELETE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_NORMAL,
    FILE_ATTRIBUTE_READONLY, FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS, FILE_ATTRIBUTE_RECALL_ON_OPEN,
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_BASIC_INFO, FILE_DISPOSITION_FLAG_DELETE,
    FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE, FILE_DISPOSITION_FLAG_POSIX_SEMANTICS,
    FILE_DISPOSITION_INFO, FILE_DISPOSITION_INFO_EX, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, FILE_INFO_BY_HANDLE_CLASS, FILE_NAME_NORMALIZED,
    FILE_SHARE_READ, FILE_WRITE_ATTRIBUTES, FileBasicInfo, FileDispositionInfo, FileDispositionInfoEx,
    GetFileInformationByHandle, GetFileInformationByHandleEx, GetFinalPathNameByHandleW,
    MOVEFILE_WRITE_THROUGH, MoveFileExW, QueryDosDeviceW, SetFileInformationByHandle,
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

    /// Whether its content is in a cloud, and would be fetched by reading it. Only the system sets these attributes;
    /// `FILE_ATTRIBUTE_OFFLINE` is left out, as whoever may write a file may set it to have it passed over.
    pub fn is_not_local(&self) -> bool {
        self.attributes & (FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS | FILE_ATTRIBUTE_RECALL_ON_OPEN) != 0
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
    let open = |access| {
        OpenOptions::new()
            .access_mode(access)
            .share_mode(FILE_SHARE_READ)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(path)
    };
    let needed = FILE_GENERIC_READ | DELETE;
    // With the right to take "read only" off, which is needed only where the system can't remove such a file.
    open(needed | FILE_WRITE_ATTRIBUTES).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => open(needed),
        _ => Err(error),
    })
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

/// Removes an open file, also one that is read only. Its name is gone when this handle is closed; where the
/// system or the file system is too old for that, when its last handle is.
///
/// # Errors
/// It was not opened for that, or is one that may not be removed (it runs).
pub fn remove(file: &File) -> io::Result<()> {
    let info = FILE_DISPOSITION_INFO_EX {
        Flags: FILE_DISPOSITION_FLAG_DELETE
            | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS
            | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
    };
    set(file, FileDispositionInfoEx, &info).or_else(|_| remove_writable(file))
}

/// The way of Windows before 10 1809 and of file systems other than NTFS: only what is not read only goes.
fn remove_writable(file: &File) -> io::Result<()> {
    let marked = || set(file, FileDispositionInfo, &FILE_DISPOSITION_INFO { DeleteFile: true });
    let attributes = facts(file)?.attributes;
    if attributes & FILE_ATTRIBUTE_READONLY == 0 {
        return marked();
    }
    // Zero would mean "as it is".
    let without = (attributes & !FILE_ATTRIBUTE_READONLY).max(FILE_ATTRIBUTE_NORMAL);
    set_attributes(file, without)?;
    marked().inspect_err(|_| {
        // It stays, so it stays as it was.
        let _ = set_attributes(file, attributes);
    })
}

fn set_attributes(file: &File, attributes: u32) -> io::Result<()> {
    // Zero leaves a time as it is.
    let info = FILE_BASIC_INFO {
        CreationTime: 0,
        LastAccessTime: 0,
        LastWriteTime: 0,
        ChangeTime: 0,
        FileAttributes: attributes,
    };
    set(file, FileBasicInfo, &info)
}

/// `T` is the structure of that class.
fn set<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS, info: &T) -> io::Result<()> {
    let size = u32::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the handle is open for the call, `info` is live and `size` its size.
    check(unsafe {
        SetFileInformationByHandle(file.as_raw_handle(), class, std::ptr::from_ref(info).cast(), size)
    })
}

/// Gives a file another name in the same folder, if nobody has that name.
///
/// # Errors
/// Somebody has it (`AlreadyExists`), or the system refuses.
pub fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (wide(&from.to_string_lossy()), wide(&to.to_string_lossy()));
    // SAFETY: both end in a zero. Without MOVEFILE_REPLACE_EXISTING a name that is taken is an error.
    check(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), MOVEFILE_WRITE_THROUGH) })
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
