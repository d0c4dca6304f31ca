//! Files by what identifies them, and taking one away by its handle.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, DELETE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_NORMAL,
    FILE_ATTRIBUTE_READONLY, FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS, FILE_ATTRIBUTE_RECALL_ON_OPEN,
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_BASIC_INFO, FILE_DISPOSITION_FLAG_DELETE,
    FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE, FILE_DISPOSITION_FLAG_POSIX_SEMANTICS,
    FILE_DISPOSITION_INFO, FILE_DISPOSITION_INFO_EX, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_INFO_BY_HANDLE_CLASS,
    FILE_NAME_NORMALIZED, FILE_RENAME_INFO, FILE_SHARE_READ, FILE_WRITE_ATTRIBUTES, FileBasicInfo,
    FileDispositionInfo, FileDispositionInfoEx, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFinalPathNameByHandleW, QueryDosDeviceW, SetFileInformationByHandle,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

use crate::clock::{joined, unix_ns};
use crate::process::check_status;
use crate::text::{shown, until_zero, wide};
use crate::{check, last_error};

/// `FileRenameInformation`. The call of Win32 resolves paths, and takes no folder that is held.
const RENAME: i32 = 10;

/// Exported since Windows XP.
mod nt {
    use core::ffi::c_void;
    use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS};
    use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

    windows_link::link!("ntdll.dll" "system" fn NtSetInformationFile(file: HANDLE, status: *mut IO_STATUS_BLOCK, info: *const c_void, size: u32, class: i32) -> NTSTATUS);
}

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

/// A path with a drive so that the system takes it as it stands: of any length, and with names that end in a dot or
/// a blank or are those of devices, which it would understand otherwise. Other paths stay as they are.
pub fn verbatim(path: &Path) -> PathBuf {
    let stands = |text: &str| {
        let is_name = |part: &str| !matches!(part, "" | "." | "..");
        let Some((drive, rest)) = text.split_once(":\\") else { return false };
        let is_drive = drive.len() == 1 && drive.bytes().all(|letter| letter.is_ascii_alphabetic());
        is_drive && !text.contains('/') && (rest.is_empty() || rest.split('\\').all(is_name))
    };
    match path.to_str() {
        Some(text) if stands(text) => PathBuf::from(format!(r"\\?\{text}")),
        _ => path.to_owned(),
    }
}

/// Opens a file to read it; a link is opened itself.
///
/// # Errors
/// There is none, or it may not be read.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(verbatim(path))
}

/// Opens a file or folder only to ask what it is; a link is opened itself.
///
/// # Errors
/// There is none, or it may not be opened.
pub fn open_to_ask(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
    OpenOptions::new().access_mode(0).custom_flags(flags).open(verbatim(path))
}

/// Whether a path may lead to another host, by its text and the letters of drives, without asking there: whoever opens
/// it may wait for ever, and tells that host who he is.
pub fn may_not_answer(path: &Path) -> bool {
    // A drive may stand for a folder of another one (`subst`); two that stand for each other end nowhere.
    const MOST_DRIVES: usize = 8;
    let mut path = path.to_string_lossy().replace('/', r"\");
    for _ in 0..MOST_DRIVES {
        let local = path.strip_prefix(r"\\?\").or_else(|| path.strip_prefix(r"\??\")).unwrap_or(&path);
        let Some(drive) = local.get(..2).filter(|start| start.ends_with(':')) else {
            return leads_to_a_host(&path);
        };
        // No drive at all, or one of another logon.
        let Some(device) = device_of(drive) else { return false };
        path = device;
    }
    true
}

/// Whether a path without a drive leads to another host: UNC in all its forms, and the devices of redirectors, which
/// alone have a `;` before the drive that they serve. What is relative is local.
fn leads_to_a_host(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let after = |start: &str| path.strip_prefix(start).map(str::to_owned);
    if let Some(rest) = after(r"\\?\").or_else(|| after(r"\\.\")).or_else(|| after(r"\??\")) {
        let device = rest.split('\\').next().unwrap_or_default();
        return matches!(device, "unc" | "mup" | "globalroot" | "");
    }
    if let Some(rest) = after(r"\device\") {
        let device = rest.split('\\').next().unwrap_or_default();
        return rest.contains(r"\;") || device == "mup" || device.ends_with("redirector");
    }
    path.starts_with(r"\\")
}

/// What a drive's letter stands for, for example `\Device\HarddiskVolume3`; `\??\C:\folder` where that is a folder.
fn device_of(drive: &str) -> Option<String> {
    let mut device = [0_u16; 1_024];
    let name = wide(drive);
    // SAFETY: the name ends in a zero, and 1,024 is what `device` has room for.
    let length = unsafe { QueryDosDeviceW(name.as_ptr(), device.as_mut_ptr(), 1_024) };
    // Several may be given; the first is in force.
    (length != 0).then(|| shown(until_zero(&device))).filter(|device| !device.is_empty())
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
    let path = verbatim(path);
    let open = |access| {
        OpenOptions::new()
            .access_mode(access)
            .share_mode(FILE_SHARE_READ)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(&path)
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

/// Makes a new file that nobody else can open while it is held, and that can be renamed and removed by its handle.
///
/// # Errors
/// There is one of that name (`AlreadyExists`), or none can be made there.
pub fn create_held(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .access_mode(FILE_GENERIC_READ | FILE_GENERIC_WRITE | DELETE)
        .share_mode(0)
        .create_new(true)
        .open(verbatim(path))
}

/// Gives an open file a name in a folder that is held, wherever that is by now, if nobody has that name. The file
/// must have been opened to be removed.
///
/// # Errors
/// Somebody has it (`AlreadyExists`), or the system refuses.
pub fn rename_into(file: &File, folder: &File, name: &str) -> io::Result<()> {
    const AT: usize = std::mem::offset_of!(FILE_RENAME_INFO, FileName);
    let name: Vec<u16> = name.encode_utf16().collect();
    let bytes = name.len() * 2;
    let size = (AT + bytes).max(size_of::<FILE_RENAME_INFO>());
    // Aligned as the structure asks; zero in the first field is "over no other file".
    let mut buffer = vec![0_u64; size.div_ceil(8)];
    let info = buffer.as_mut_ptr().cast::<FILE_RENAME_INFO>();
    // SAFETY: the buffer is aligned for the structure and has room for it and the name behind its head.
    unsafe {
        (*info).RootDirectory = folder.as_raw_handle();
        (*info).FileNameLength = u32::try_from(bytes).unwrap_or(u32::MAX);
        std::ptr::copy_nonoverlapping(name.as_ptr().cast::<u8>(), info.cast::<u8>().add(AT), bytes);
    }
    // SAFETY: a structure of numbers, for which zero is good.
    let mut status: IO_STATUS_BLOCK = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    // SAFETY: both handles are open for the call, `size` is no more than what the buffer has.
    check_status(unsafe {
        nt::NtSetInformationFile(file.as_raw_handle(), &raw mut status, info.cast(), size, RENAME)
    })
}

/// Drives with the name that the kernel has for each: `C:` and `\Device\HarddiskVolume3`.
pub fn drives() -> Vec<(String, String)> {
    let letters = (b'A'..=b'Z').map(|letter| format!("{}:", char::from(letter)));
    letters.filter_map(|drive| device_of(&drive).map(|device| (drive, device))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_drive_is_taken_as_it_stands() {
        for (path, taken) in [
            (r"C:\a\dot.", r"\\?\C:\a\dot."),
            (r"c:\", r"\\?\c:\"),
            (r"C:\a\..\b", r"C:\a\..\b"),
            ("C:/a", "C:/a"),
            (r"\\?\C:\a", r"\\?\C:\a"),
            (r"a\b", r"a\b"),
        ] {
            assert_eq!(verbatim(Path::new(path)), Path::new(taken));
        }
    }

    #[test]
    fn what_leads_to_another_host_is_known_by_its_text() {
        for path in [
            r"\\203.0.113.9\share\x.exe",
            "//203.0.113.9/share/x.exe",
            r"\\?\UNC\203.0.113.9\share\x.exe",
            r"\\?\unc\203.0.113.9\share\x.exe",
            r"\\.\UNC\203.0.113.9\share\x.exe",
            r"\\?\GLOBALROOT\Device\Mup\203.0.113.9\share\x.exe",
            r"\??\UNC\203.0.113.9\share",
            r"\Device\Mup\203.0.113.9\share\x.exe",
            r"\Device\LanmanRedirector\;Z:000000000003e7\203.0.113.9\share",
            r"\Device\VBoxMiniRdr\;E:\VBoxSvr\share",
        ] {
            assert!(may_not_answer(Path::new(path)), "{path}");
        }
        for path in [
            r"C:\Windows\notepad.exe",
            r"\\?\C:\Windows\notepad.exe",
            r"\Device\HarddiskVolume3\Windows\notepad.exe",
            r"\\?\Volume{00000000-0000-0000-0000-000000000000}\x.exe",
            "System",
        ] {
            assert!(!may_not_answer(Path::new(path)), "{path}");
        }
    }
}
