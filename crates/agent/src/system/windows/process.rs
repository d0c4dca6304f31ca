//! Little facts of processes.

use win32::process::{Process, Wanted};

/// Nothing: a process of Windows never runs another's image.
pub(crate) fn image_number(_: u32) -> Option<u64> {
    None
}

/// Whether there is a process of this PID.
pub(crate) fn is_there(pid: u32) -> bool {
    match Process::open(pid, Wanted::Look) {
        Ok(process) => !process.has_ended(),
        // One that may not be opened is there.
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// A wait status of Windows is the exit code.
pub(crate) fn end_of(wait_status: u32) -> (Option<u32>, Option<u8>) {
    (Some(wait_status), None)
}

/// The pipeline runs at normal priority.
pub(crate) fn prefer_this_thread() {}
