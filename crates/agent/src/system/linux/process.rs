//! Little facts of processes.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Nice value of the pipeline's thread.
const PRIORITY: i32 = -10;

/// Inode of the image that a process runs, as the kernel has it: a file system of a program would have to be asked for
/// more, and may never answer.
pub(crate) fn image_number(pid: u32) -> Option<u64> {
    let path = crate::system::paths::image_of(pid);
    statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok().map(|file| file.stx_ino)
}

/// Whether there is a process of this PID.
pub(crate) fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Exit code and signal of a wait status.
pub(crate) fn end_of(wait_status: u32) -> (Option<u32>, Option<u8>) {
    // The layout of wait(2): the low seven bits are the signal, 0x80 is the
    // core dump flag, the next eight bits are the exit code.
    let signal = wait_status & 0x7f;
    let code = (wait_status >> 8) & 0xff;
    ((signal == 0).then_some(code), (signal != 0).then(|| u8::try_from(signal).unwrap_or(u8::MAX)))
}

/// Between an exec and the signal that answers it stands the scheduler first of all.
/// On a host that is busy with something else this thread goes first; it sleeps
/// whenever there is nothing to judge.
pub(crate) fn prefer_this_thread() {
    // On Linux the priority is the calling thread's own.
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!(%error, "the pipeline runs at normal priority");
    }
}
