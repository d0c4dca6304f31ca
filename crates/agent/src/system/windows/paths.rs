//! Paths that mean something to this system.

use std::io;
use std::path::Path;

/// Where an agent keeps what must survive it.
pub(crate) const DEFAULT_STATE_DIR: &str = r"C:\ProgramData\Rampart\agent";

/// There is no file with the names of users: the sensor tells them.
pub(crate) const USER_TABLE: &str = r"\\.\nul";

/// What can be run by its name.
const EXECUTABLE: [&str; 13] =
    ["exe", "dll", "sys", "scr", "com", "cpl", "ocx", "msi", "bat", "cmd", "hta", "wsf", "lnk"];

/// Whether what was written there may be scanned.
pub(crate) fn is_scanned(path: &str) -> bool {
    // A drive and a folder; neither a device nor another host.
    matches!(path.as_bytes(), [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic())
}

/// Whether an image of which nothing is known was not asked for, as it is another host's.
pub(crate) fn leads_to_another_host(path: &str) -> bool {
    win32::file::may_not_answer(Path::new(path))
}

/// There is no second path to an image.
pub(crate) fn image_of(_: u32) -> String {
    String::new()
}

/// Whether its name lets anybody run it.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.extension().is_some_and(|end| EXECUTABLE.iter().any(|one| end.eq_ignore_ascii_case(one)))
}

/// Lets only the system and administrators into the agent's state directory.
///
/// # Errors
/// Something in it may be another's. Where the file system knows no owners the agent runs all the same, and says so.
pub(crate) fn close_state_dir(path: &Path) -> io::Result<()> {
    win32::access_list::close_folder(path).or_else(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        tracing::error!(dir = %path.display(), %error, "who may use the state directory could not be set");
        Ok(())
    })
}
