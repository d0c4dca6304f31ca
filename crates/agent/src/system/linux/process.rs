//! Little facts of processes.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Nice value of the pipeline's thread.
const PRIORITY: i32 = -10;

/// How long the pipeline's thread may run before others may, in ns: the shortest that Linux takes. Since 6.12 a thread
/// that asks for less at once gets it sooner, at the cost of whoever runs just then; before, this is not looked at.
const SLICE_NS: u64 = 100_000;

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

/// Between an exec and the signal that answers it stands the scheduler first of all. On a host that is busy with
/// something else this thread goes first; it sleeps whenever there is nothing to judge.
///
/// Not a real-time class: were the agent flooded, it would keep all others from a core. A class that an administrator
/// chose stays.
#[allow(unsafe_code, reason = "no safe wrapper gives sched_setattr(2)")]
pub(crate) fn prefer_this_thread() {
    // On Linux the priority is the calling thread's own.
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!(%error, "the pipeline runs at normal priority");
    }
    // SAFETY: nothing is handed over but a number; 0 is this thread.
    if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
        return;
    }
    let attributes = libc::sched_attr {
        // A dozen words.
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: rustix::process::getpriority_process(None).unwrap_or(0),
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of what the pointer names, which lives until then. 0 is this thread.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the pipeline has turns of the usual length");
    }
}
