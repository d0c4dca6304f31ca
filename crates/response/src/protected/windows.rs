use std::net::IpAddr;
use std::path::{Path, PathBuf};

use win32::file::{facts_at, may_not_answer};
use win32::registry::Key;

/// Programs of the system that are never ended while they run as the system itself.
const SERVICES: &[&str] = &[
    "smss.exe",
    "csrss.exe",
    "wininit.exe",
    "winlogon.exe",
    "services.exe",
    "lsass.exe",
    "lsaiso.exe",
    "svchost.exe",
    "dwm.exe",
    "fontdrvhost.exe",
    "LogonUI.exe",
    "userinit.exe",
    "spoolsv.exe",
];

/// Programs of Windows' own protection against malware, which is not in the system's folder.
const DEFENDERS: &[&str] = &["MsMpEng.exe", "NisSrv.exe", "MpDefenderCoreService.exe"];
/// Below the folder that all its updates are put into, each in one of its own.
const DEFENDER_UPDATES: &str = r"ProgramData\Microsoft\Windows Defender\Platform";
const DEFENDER_AS_INSTALLED: &str = r"Program Files\Windows Defender";
/// An update leaves the one before it; there are two or three.
const MOST_UPDATES: usize = 64;

/// Volume and number of the services' files, of the agent's own and of the server beside it.
pub(crate) fn services() -> impl Iterator<Item = (u64, u64)> {
    let folder = system_folder();
    let standard = SERVICES.iter().map(move |name| folder.join(name)).chain(defenders());
    let beside = std::env::current_exe().ok().into_iter().flat_map(|exe| {
        let folder = exe.parent().map(PathBuf::from).unwrap_or_default();
        [exe, folder.join("edr-server.exe")]
    });
    standard.chain(beside).filter_map(|path| file_id(&path))
}

fn defenders() -> impl Iterator<Item = PathBuf> {
    let drive = system_folder().ancestors().last().map(PathBuf::from).unwrap_or_default();
    let updates = std::fs::read_dir(drive.join(DEFENDER_UPDATES)).into_iter().flatten().flatten();
    let folders = updates.take(MOST_UPDATES).map(|entry| entry.path());
    let folders = folders.chain([drive.join(DEFENDER_AS_INSTALLED)]);
    folders.flat_map(|folder| DEFENDERS.iter().map(move |name| folder.join(name)))
}

/// Whether a service has this name.
pub(crate) fn is_name_of_service(name: &str) -> bool {
    SERVICES.iter().chain(DEFENDERS).any(|service| service.eq_ignore_ascii_case(name))
}

/// Volume and number of a file; none of one on another host, which is not asked.
pub(crate) fn file_id(path: &Path) -> Option<(u64, u64)> {
    if may_not_answer(path) {
        return None;
    }
    facts_at(path).ok().map(|facts| (facts.volume, facts.index))
}

/// Whether a path is this folder or in it.
pub(crate) fn is_below(path: &str, folder: &Path) -> bool {
    let folder = folder.to_string_lossy().to_ascii_lowercase();
    let folder = folder.strip_prefix(r"\\?\").unwrap_or(&folder);
    let path = path.to_ascii_lowercase();
    path.strip_prefix(folder.trim_end_matches('\\'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'))
}

/// Whether it is the idle process or the kernel's.
pub(crate) fn is_first_process(pid: u32) -> bool {
    matches!(pid, 0 | 4)
}

/// Why a file may not be taken away, if the system needs it.
pub(crate) fn needed_by_the_system(path: &str) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let windows =
        system_folder().parent().map(|dir| dir.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let is = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('\\'));
    let config = format!("{windows}\\system32\\config");
    let boot = format!("{windows}\\boot");
    let drivers = format!("{windows}\\system32\\drivers");
    if is(&config)
        || is(&boot)
        || is(&drivers)
        || path.ends_with(":\\bootmgr")
        || path.ends_with(":\\pagefile.sys")
    {
        return Some("the system needs it to start or to run");
    }
    let name = path.rsplit('\\').next().unwrap_or_default();
    let in_system = is(&format!("{windows}\\system32")) || is(&format!("{windows}\\syswow64"));
    let needed = [
        "ntdll.dll",
        "kernel32.dll",
        "kernelbase.dll",
        "user32.dll",
        "advapi32.dll",
        "ntoskrnl.exe",
        "hal.dll",
    ];
    if in_system && (needed.contains(&name) || is_name_of_service(name)) {
        return Some("every program needs it");
    }
    None
}

/// Addresses of this host besides the one that it would use: not asked for here.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    Vec::new()
}

/// Name servers of this host's interfaces, whether somebody wrote them down or DHCP gave them.
pub(crate) fn resolvers() -> Vec<IpAddr> {
    const MOST_INTERFACES: u32 = 4_096;
    let roots = ["Tcpip", "Tcpip6"]
        .map(|family| format!(r"HKLM\SYSTEM\CurrentControlSet\Services\{family}\Parameters\Interfaces"));
    let mut found = Vec::new();
    for root in roots {
        let names = Key::open(&root).and_then(|key| key.subkeys(MOST_INTERFACES)).unwrap_or_default();
        for name in names {
            let Ok(key) = Key::open(&format!(r"{root}\{}", win32::shown(&name))) else { continue };
            for value in ["NameServer", "DhcpNameServer"] {
                let Ok(value) = key.value(value) else { continue };
                let units: Vec<u16> =
                    value.data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
                let text = String::from_utf16_lossy(&units);
                found.extend(text.split([',', ' ', '\0']).filter_map(|one| one.parse::<IpAddr>().ok()));
            }
        }
    }
    found
}

/// By the system's own word and not by an environment that a user may have set.
fn system_folder() -> PathBuf {
    win32::host::system_folder()
}
