//! Paths that mean something to this system.

/// Where an agent keeps what must survive it.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/rampart/agent";

/// Where the names of users stand.
pub(crate) const USER_TABLE: &str = "/etc/passwd";

/// Whether what was written there may be scanned.
pub(crate) fn is_scanned(path: &str) -> bool {
    // Files of these are made by the kernel while they are read.
    path.starts_with('/') && !path.starts_with("/proc/") && !path.starts_with("/sys/")
}

/// Linux's sensors know what they tell of an image from the kernel; nobody asks another host for it.
pub(crate) fn leads_to_another_host(_: &str) -> bool {
    false
}

/// A second path to the image that a process runs, which leads to it also where its own path does not.
pub(crate) fn image_of(pid: u32) -> String {
    format!("/proc/{pid}/exe")
}

/// Whether its mode lets anybody run it.
pub(crate) fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}

/// Lets nobody but the agent's own user into its state directory: its mode does.
///
/// # Errors
/// None.
pub(crate) fn close_state_dir(_: &std::path::Path) -> std::io::Result<()> {
    Ok(())
}
