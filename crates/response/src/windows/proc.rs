//! The little that is asked of a process here. On Windows a file stands beside this one in `src/`
//! with the same names for Linux.

use win32::access_list::belongs_to_windows;
use win32::clock::since_boot_ns;
use win32::process::{Process, Wanted, list};

/// What identifies a process and its place among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: u32,
    /// The kernel's own.
    pub(crate) kernel_thread: bool,
    /// Start in nanoseconds on the counter of the boot.
    pub(crate) start_ticks: u64,
}

/// The process's stat; `None` if there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let listed = list().ok()?.into_iter().find(|one| one.pid == pid)?;
    let process = Process::open(pid, Wanted::Look);
    if process.as_ref().is_ok_and(Process::has_ended) {
        return None;
    }
    let start_ticks = process
        .ok()
        .and_then(|process| process.times().ok())
        .map_or(0, |(created, _)| since_boot_ns(created));
    Some(Stat { parent: listed.parent_pid, kernel_thread: matches!(pid, 0 | 4), start_ticks })
}

/// Whether the system itself runs it. That a process says of itself that the system can't do without it counts for
/// nothing: whoever may debug can say so.
pub(crate) fn runs_for_the_system(pid: u32) -> bool {
    // Whatever even an administrator may not look at is the system's.
    Process::open(pid, Wanted::Look).map_or(true, |process| is_run_by_the_system(&process))
}

fn is_run_by_the_system(process: &Process) -> bool {
    process.user().map_or(true, |user| is_of_the_system(&user.sid))
}

/// Whether the system can't do without it: it is marked so, the system runs it, and its image is one of Windows' own.
pub(crate) fn takes_the_system_down(pid: u32) -> bool {
    let Ok(process) = Process::open(pid, Wanted::Look) else { return false };
    let is_windows_own = || match process.image_path() {
        Ok(path) => belongs_to_windows(path.as_ref()).unwrap_or(true),
        Err(_) => true,
    };
    process.is_critical().unwrap_or(true) && is_run_by_the_system(&process) && is_windows_own()
}

/// The system, the accounts of services, and those that the system makes for each session: the window manager's
/// (`dwm.exe`) and the font driver host's. Nobody can log on as one of these.
fn is_of_the_system(sid: &str) -> bool {
    matches!(sid, "S-1-5-18" | "S-1-5-19" | "S-1-5-20")
        || sid.starts_with("S-1-5-90-")
        || sid.starts_with("S-1-5-96-")
}

/// Volume and number of the image that the process runs.
pub(crate) fn image_of(pid: u32) -> Option<(u64, u64)> {
    crate::protected::file_id(executable_of(pid)?.as_ref())
}

/// Path of the image that the process runs.
pub(crate) fn executable_of(pid: u32) -> Option<String> {
    Process::open(pid, Wanted::Look).ok()?.image_path().ok()
}

/// Seconds since boot, sleep included: a clock that nobody sets.
pub(crate) fn uptime_seconds() -> u64 {
    win32::clock::boot_ns() / 1_000_000_000
}
