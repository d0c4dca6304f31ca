//! The one way to a process that is to be acted on.
//!
//! The order is what makes a wrong kill impossible. The pidfd is opened before
//! the identity is read: if the identity fits, the pidfd was opened while that
//! very process lived, so it can't mean a later process that got the same PID.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sensor_api::ProcessClock;

use crate::plan::Target;
use crate::proc;

/// How long a process may seem to be neither there nor ended. Short: the caller waits.
const WHILE_ENDING: Duration = Duration::from_millis(5);

/// A signal could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotActed {
    #[error("process {0} had already ended")]
    Gone(u32),
    #[error("PID {pid} is another process by now ({now}), nothing was sent")]
    AnotherProcess { pid: u32, now: String },
    #[error("identity of process {pid} could not be checked ({why}), nothing was sent")]
    Unchecked { pid: u32, why: &'static str },
    #[error("{call} for process {pid}: {errno}")]
    System { call: &'static str, pid: u32, errno: Errno },
}

/// The living process that `target` names, held so that its PID no longer matters.
pub(crate) fn open(processes: &dyn ProcessClock, target: &Target) -> Result<OwnedFd, NotActed> {
    let pid = target.entity_id.pid();
    let pidfd = hold_pid(pid)?;
    // An exact clock knows none that has ended, and is asked anyway: each call more is time in which the process runs.
    if processes.precision_ns() <= 1 && processes.start_ns(pid) == Some(target.entity_id.start_ns()) {
        return Ok(pidfd);
    }
    if has_ended(&pidfd) {
        return Err(NotActed::Gone(pid));
    }
    check(processes, target, &pidfd)?;
    Ok(pidfd)
}

/// The living process that has this PID now, whoever it is.
pub(crate) fn open_pid(pid: u32) -> Result<OwnedFd, NotActed> {
    let pidfd = hold_pid(pid)?;
    // A zombie takes any signal and does nothing with it.
    if has_ended(&pidfd) { Err(NotActed::Gone(pid)) } else { Ok(pidfd) }
}

/// The process that has this PID now, be it a zombie.
fn hold_pid(pid: u32) -> Result<OwnedFd, NotActed> {
    let gone = NotActed::Gone(pid);
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(pidfd),
        Err(Errno::SRCH) => Err(gone),
        Err(errno) => Err(NotActed::System { call: "pidfd_open", pid, errno }),
    }
}

/// Sends a signal to a process that is held.
pub(crate) fn signal(pidfd: &OwnedFd, pid: u32, signal: Signal) -> Result<(), NotActed> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(NotActed::Gone(pid)),
        Err(errno) => Err(NotActed::System { call: "pidfd_send_signal", pid, errno }),
    }
}

fn check(processes: &dyn ProcessClock, target: &Target, pidfd: &OwnedFd) -> Result<(), NotActed> {
    let pid = target.entity_id.pid();
    let wanted = target.entity_id.start_ns();
    let Some(start) = processes.start_ns(pid) else {
        return check_by_proc(target, pidfd);
    };
    let precision = processes.precision_ns();
    let same_start = start.abs_diff(wanted) < precision.max(1);
    // With a coarse clock two lives can share a start; then the image must be
    // the same as well, so that at worst another run of the same program is hit.
    if same_start && (precision <= 1 || same_image(target) == Some(true)) {
        return Ok(());
    }
    Err(another_process(pid))
}

/// The identity where the sensor's clock does not know a process that is there: its
/// map is full, or the process is just ending.
#[cold]
fn check_by_proc(target: &Target, pidfd: &OwnedFd) -> Result<(), NotActed> {
    let pid = target.entity_id.pid();
    let why = match (proc::stat(pid), same_image(target)) {
        (Some(stat), _) if !proc::same_ticks(stat.start_ticks, target.entity_id.start_ns()) => {
            return Err(another_process(pid));
        }
        (Some(_), Some(true)) => return Ok(()),
        (Some(_), Some(false)) => return Err(another_process(pid)),
        (Some(_), None) => "the sensor does not know its start, and its image can't be read",
        (None, _) => "the sensor does not know its start, and /proc does not show it",
    };
    // One that ends has lost its image a moment before its pidfd tells of the end.
    if ends_within(pidfd, WHILE_ENDING) {
        Err(NotActed::Gone(pid))
    } else {
        Err(NotActed::Unchecked { pid, why })
    }
}

/// Whether the process runs the image that was observed; `None` if that can't be told.
fn same_image(target: &Target) -> Option<bool> {
    let pid = target.entity_id.pid();
    match target.image {
        Some(image) => Some(proc::image_of(pid)? == image),
        None => Some(proc::executable_of(pid)? == target.executable),
    }
}

fn another_process(pid: u32) -> NotActed {
    NotActed::AnotherProcess { pid, now: proc::executable_of(pid).unwrap_or_else(|| "unknown".to_owned()) }
}

/// A pidfd is readable once its process has ended, also as a zombie.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    ends_within(pidfd, Duration::ZERO)
}

pub(crate) fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    matches!(poll(&mut fds, Some(&limit)), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use event_model::{BootId, ProcessEntityId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_can_not_be_told_is_said_and_not_called_ended() {
        // A thread of the kernel stands for any process whose image can't be read.
        let Some(stat) = proc::stat(2).filter(|stat| stat.kernel_thread) else {
            eprintln!("skipped: the kernel's threads can't be seen here");
            return;
        };
        let start_ns = stat.start_ticks * 10_000_000;
        let entity_id = ProcessEntityId::new(BootId::from_uuid(Uuid::from_u128(1)), 2, start_ns);
        let target =
            Target { entity_id, executable: String::new(), image: Some((1, 1)), kernel_thread: false };
        let pidfd = pidfd_open(Pid::from_raw(2).unwrap(), PidfdFlags::empty()).unwrap();
        let error = check_by_proc(&target, &pidfd).unwrap_err().to_string();
        assert!(error.contains("could not be checked"), "{error}");
    }
}
