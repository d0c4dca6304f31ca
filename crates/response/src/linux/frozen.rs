//! Which processes stand still for an order, so that a crash does not leave them so for ever.
//!
//! Each is noted before it is stopped. The next agent lets those go on that are still there: it can't know whether their
//! end is still wanted. The note need not be synced: whatever takes it from the disk takes the processes, too.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use event_model::BootId;
use os_files::{OpenCautiously as _, OpenOptionsExt as _};
use rustix::process::Signal;

use crate::identity;
use crate::platform::Notice;
use crate::proc;

/// A note is read up to here: a thousand processes have some 20 KiB.
const MAX_NOTE: u64 = 1 << 20;

/// What stands still for the order that is being carried out.
pub(super) struct Frozen {
    path: PathBuf,
    file: Option<File>,
}

impl Frozen {
    pub(super) fn begin(dir: &Path, boot: BootId) -> Self {
        let path = path(dir);
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).cautiously().open(&path);
        // A disk that is full saves no process from its end.
        let file = opened.ok().and_then(|mut file| writeln!(file, "{boot}").ok().map(|()| file));
        Self { path, file }
    }

    /// Notes a process that is about to be stopped.
    pub(super) fn note(&mut self, pid: u32) {
        if let (Some(file), Some(stat)) = (&mut self.file, proc::stat(pid)) {
            let _ = writeln!(file, "{pid} {}", stat.start_ticks);
        }
    }

    /// All of them have ended or go on.
    pub(super) fn end(self) {
        let _ = fs::remove_file(self.path);
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("frozen")
}

/// Lets go on what a crash left standing, and tells of it.
pub(super) fn let_go(dir: &Path, boot: BootId) -> Option<Notice> {
    let path = path(dir);
    let mut bytes = Vec::new();
    OpenOptions::new()
        .read(true)
        .cautiously()
        .open(&path)
        .ok()?
        .take(MAX_NOTE)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let is_of_this_boot = lines.next() == Some(boot.to_string().as_str());
    let noted = lines.filter_map(|line| {
        let (pid, ticks) = line.split_once(' ')?;
        Some((pid.parse().ok()?, ticks.parse().ok()?))
    });
    // Parents were noted before their children, and go on after them.
    let noted: Vec<(u32, u64)> = noted.filter(|_| is_of_this_boot).collect();
    let count = noted.into_iter().rev().filter(|(pid, ticks)| goes_on(*pid, *ticks)).count();
    let _ = fs::remove_file(&path);
    (count > 0).then(|| {
        Notice::plain(format!(
            "{count} processes were stopped when the agent ended in the middle of ending their tree; they go on"
        ))
    })
}

fn goes_on(pid: u32, start_ticks: u64) -> bool {
    let Ok(pidfd) = identity::open_pid(pid) else { return false };
    // Read after the pidfd was opened: it is of that life of the PID. Its stop may still be on its way: the signal to go
    // on takes that back, too, and does nothing to a process that runs.
    let is_it = proc::stat(pid).is_some_and(|stat| stat.start_ticks == start_ticks);
    is_it && identity::signal(&pidfd, pid, Signal::CONT).is_ok()
}
