//! What the host is.

use std::io;
use std::path::{Path, PathBuf};

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW, GetSystemDirectoryW, OSVERSIONINFOW,
};

use crate::check;
use crate::registry::Key;
use crate::text::{shown, until_zero, wide};

/// Where an installation has its program: only administrators may make anything there.
pub const PROGRAM_FOLDER: &str = r"C:\Program Files\Rampart";

/// Its name; empty where it has none.
pub fn name() -> String {
    let mut name = [0_u16; 256];
    let mut length = 256;
    // SAFETY: `length` is what `name` has room for.
    let got =
        unsafe { GetComputerNameExW(ComputerNamePhysicalDnsHostname, name.as_mut_ptr(), &raw mut length) };
    if got == 0 { String::new() } else { shown(until_zero(&name)) }
}

/// Version of the kernel, for example `10.0.22631`.
pub fn kernel_version() -> String {
    // SAFETY: a structure of numbers, for which zero is good.
    let mut version: OSVERSIONINFOW = unsafe { std::mem::zeroed() };
    version.dwOSVersionInfoSize = u32::try_from(size_of::<OSVERSIONINFOW>()).unwrap_or(0);
    // SAFETY: the structure is live and says its size.
    unsafe { RtlGetVersion(&raw mut version) };
    format!("{}.{}.{}", version.dwMajorVersion, version.dwMinorVersion, version.dwBuildNumber)
}

/// What it calls itself, for example `Windows Server 2022 Datacenter`.
pub fn product() -> String {
    text(r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion", "ProductName")
        .unwrap_or_else(|| "Windows".to_owned())
}

/// The id that the machine got when Windows was installed.
pub fn machine_guid() -> Option<String> {
    text(r"HKLM\SOFTWARE\Microsoft\Cryptography", "MachineGuid")
}

fn text(key: &str, value: &str) -> Option<String> {
    let data = Key::open(key).ok()?.value(value).ok()?.data;
    let units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(shown(until_zero(&units))).filter(|text| !text.is_empty())
}

/// The folder of the system's programs, for example `C:\Windows\System32`.
pub fn system_folder() -> PathBuf {
    let mut path = [0_u16; 512];
    // SAFETY: 512 is what `path` has room for.
    let length = unsafe { GetSystemDirectoryW(path.as_mut_ptr(), 512) } as usize;
    match length {
        1..512 => shown(&path[..length]).into(),
        _ => r"C:\Windows\System32".into(),
    }
}

/// Bytes that this process may still write to the disk of a folder.
///
/// # Errors
/// There is no such folder, or the system does not say.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let folder = wide(&folder.to_string_lossy());
    let mut free = 0;
    // SAFETY: the path ends in a zero, `free` is live, the others are not asked for.
    check(unsafe {
        GetDiskFreeSpaceExW(folder.as_ptr(), &raw mut free, std::ptr::null_mut(), std::ptr::null_mut())
    })?;
    Ok(free)
}
