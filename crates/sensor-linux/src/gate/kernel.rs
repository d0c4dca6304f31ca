//! fanotify(7) for permission to execute: the group, its marks, its questions and their answers.

#![allow(unsafe_code, reason = "rustix has no fanotify; each call is one line with its reason")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};

// linux/fanotify.h; libc lacks some of them on some targets.
const CLASS_CONTENT: u32 = 0x4;
/// The thread that asks, not only its process: arguments are read from where it waits.
const REPORT_TID: u32 = 0x100;
const OPEN_EXEC_PERM: u64 = 0x4_0000;
const Q_OVERFLOW: u64 = 0x4000;
const MARK_ADD: u32 = 0x1;
const MARK_FLUSH: u32 = 0x80;
const MARK_FILESYSTEM: u32 = 0x100;
const ALLOW: u32 = 1;
const DENY: u32 = 2;

/// `struct fanotify_event_metadata`.
const METADATA: usize = 24;
const BUFFER: usize = METADATA * 64;

/// Somebody executes a file.
#[derive(Debug)]
pub(super) struct Asked {
    /// The thread, as this process's PID namespace numbers it.
    pub(super) thread: u32,
    /// The file; its number names the question to the kernel.
    pub(super) file: OwnedFd,
}

/// About what nobody could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Untaken {
    /// Files that can't be opened here: the kernel refused them.
    pub(super) unopened: u64,
    /// Times that the kernel's queue was full: it let an unknown number through.
    pub(super) overflows: u64,
}

/// What `struct fanotify_event_metadata` says.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Asked { thread: u32, file: i32 },
    Overflow,
    Unopened,
}

impl Event {
    fn parse(event: &[u8]) -> Option<Self> {
        let number = |at: usize| event.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let mask = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
        let (file, thread) = (i32::from_ne_bytes(number(16)?), u32::from_ne_bytes(number(20)?));
        Some(match file {
            0.. => Self::Asked { thread, file },
            _ if mask & Q_OVERFLOW != 0 => Self::Overflow,
            _ => Self::Unopened,
        })
    }
}

/// The group.
#[derive(Debug)]
pub(super) struct Executions {
    group: OwnedFd,
}

impl Executions {
    pub(super) fn open() -> io::Result<Self> {
        let flags = CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | REPORT_TID;
        // Without waiting: read(2) of the group opens the file in this process, and whoever has a lease on it
        // (`F_SETLEASE`; everybody may on files of their own) would hold up all that waits here.
        let files = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE | libc::O_NONBLOCK).cast_unsigned();
        // SAFETY: the call takes two numbers and gives a new descriptor or -1.
        let group = unsafe { libc::fanotify_init(flags, files) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Self { group: unsafe { OwnedFd::from_raw_fd(group) } })
    }

    /// Asks about everything that is executed on the file system of what is held (`O_PATH`). To ask again changes
    /// nothing.
    pub(super) fn watch(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        let by_descriptor = format!("/proc/self/fd/{}\0", place.as_raw_fd());
        // SAFETY: the path ends with a zero byte and lives as long as the call.
        let result = unsafe {
            libc::fanotify_mark(
                self.group.as_raw_fd(),
                MARK_ADD | MARK_FILESYSTEM,
                OPEN_EXEC_PERM,
                libc::AT_FDCWD,
                by_descriptor.as_ptr().cast(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Asks about nothing any more.
    pub(super) fn watch_nothing(&self) -> io::Result<()> {
        // SAFETY: without a path the call only needs the group.
        let result = unsafe {
            libc::fanotify_mark(
                self.group.as_raw_fd(),
                MARK_FLUSH | MARK_FILESYSTEM,
                0,
                libc::AT_FDCWD,
                c"/".as_ptr(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes the questions that are there. Of a file that can't be opened for this process there is none: the kernel
    /// refuses it to whoever asked, and read(2) says no more than the reason. Where others came before it in the same
    /// reading not even that.
    ///
    /// # Errors
    /// If the group itself does not work.
    pub(super) fn take(&self, each: &mut dyn FnMut(Asked)) -> io::Result<Untaken> {
        let mut untaken = Untaken::default();
        let mut buffer = [0; BUFFER];
        // Right before: who asks may be killed any time.
        let ready = self.has_some();
        let length = match rustix::io::read(&self.group, &mut buffer) {
            Ok(length) => length,
            Err(rustix::io::Errno::INTR) => return Ok(untaken),
            Err(error @ (rustix::io::Errno::BADF | rustix::io::Errno::INVAL | rustix::io::Errno::FAULT)) => {
                return Err(error.into());
            }
            // That of a lease is that of nothing there. (So it is, too, when who asked has just been killed.)
            Err(rustix::io::Errno::AGAIN) => {
                untaken.unopened = u64::from(ready);
                return Ok(untaken);
            }
            Err(_) => {
                untaken.unopened = 1;
                return Ok(untaken);
            }
        };
        let mut rest = &buffer[..length];
        while let Some(size) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
            let Some(event) = rest.get(..size).filter(|_| size >= METADATA) else { break };
            match Event::parse(event) {
                Some(Event::Asked { thread, file }) => {
                    // SAFETY: the kernel has just put it into this process's table, for this event only.
                    each(Asked { thread, file: unsafe { OwnedFd::from_raw_fd(file) } });
                }
                Some(Event::Overflow) => untaken.overflows += 1,
                Some(Event::Unopened) => untaken.unopened += 1,
                None => {}
            }
            rest = &rest[size..];
        }
        Ok(untaken)
    }

    fn has_some(&self) -> bool {
        let mut group = [PollFd::new(&self.group, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut group, Some(&at_once)).is_ok() && group[0].revents().contains(PollFlags::IN)
    }

    /// Lets it run, or not.
    pub(super) fn answer(&self, file: BorrowedFd<'_>, deny: bool) -> io::Result<()> {
        // `struct fanotify_response`.
        let mut response = [0; 8];
        response[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
        response[4..].copy_from_slice(&(if deny { DENY } else { ALLOW }).to_ne_bytes());
        rustix::io::write(&self.group, &response)?;
        Ok(())
    }
}

impl AsFd for Executions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let event = |mask: u64, file: i32| {
            let mut bytes = [0; METADATA];
            bytes[8..16].copy_from_slice(&mask.to_ne_bytes());
            bytes[16..20].copy_from_slice(&file.to_ne_bytes());
            bytes[20..24].copy_from_slice(&4711_u32.to_ne_bytes());
            Event::parse(&bytes)
        };
        assert_eq!(event(OPEN_EXEC_PERM, 0), Some(Event::Asked { thread: 4711, file: 0 }));
        assert_eq!(event(Q_OVERFLOW, -1), Some(Event::Overflow));
        assert_eq!(event(OPEN_EXEC_PERM, -11), Some(Event::Unopened));
        assert_eq!(Event::parse(&[0; METADATA - 1]), None);
    }
}
