//! fanotify(7) for permission to execute: the group, its marks, its questions and their answers.

#![allow(unsafe_code, reason = "rustix has no fanotify; each call is one line with its reason")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

// linux/fanotify.h; libc lacks some of them on some targets.
const CLASS_CONTENT: u32 = 0x4;
/// The thread that asks, not only its process: arguments are read from where it waits.
const REPORT_TID: u32 = 0x100;
const OPEN_EXEC_PERM: u64 = 0x4_0000;
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

/// The group.
#[derive(Debug)]
pub(super) struct Executions {
    group: OwnedFd,
}

impl Executions {
    pub(super) fn open() -> io::Result<Self> {
        let flags = CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | REPORT_TID;
        let files = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).cast_unsigned();
        // SAFETY: the call takes two numbers and gives a new descriptor or -1.
        let group = unsafe { libc::fanotify_init(flags, files) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Self { group: unsafe { OwnedFd::from_raw_fd(group) } })
    }

    /// Asks about everything that is executed on the file system of that path.
    pub(super) fn watch(&self, path: &Path) -> io::Result<()> {
        let place = rustix::fs::open(
            path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
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

    /// Takes the questions that are there. A question that can't be read is none: the kernel gives its error to whoever
    /// asked.
    pub(super) fn take(&self, each: &mut dyn FnMut(Asked)) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        let length = match rustix::io::read(&self.group, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            result => result?,
        };
        let mut rest = &buffer[..length];
        while let Some(size) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
            let Some(event) = rest.get(..size).filter(|_| size >= METADATA) else { break };
            let number = |at: usize| event.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            let (file, thread) = (number(16).map(i32::from_ne_bytes), number(20).map(u32::from_ne_bytes));
            if let (Some(file @ 0..), Some(thread)) = (file, thread) {
                // SAFETY: the kernel has just put it into this process's table, for this event only.
                each(Asked { thread, file: unsafe { OwnedFd::from_raw_fd(file) } });
            }
            rest = &rest[size..];
        }
        Ok(())
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
