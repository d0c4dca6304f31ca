//! fanotify(7) on single directories, with the directory's handle and the name in
//! each event.
//!
//! The handle is only compared with those of the directories that were marked, so
//! nothing has to be opened by it.

#![allow(
    unsafe_code,
    reason = "rustix has no fanotify and no name_to_handle_at; each call is one line with its reason"
)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Change, What};
use crate::integrity::tree::DirId;

// linux/fanotify.h; libc lacks some of them on some targets.
const REPORT_DFID_NAME: u32 = 0x400 | 0x800;
const ATTRIB: u64 = 0x4;
const CLOSE_WRITE: u64 = 0x8;
const MOVED_FROM: u64 = 0x40;
const MOVED_TO: u64 = 0x80;
const CREATE: u64 = 0x100;
const DELETE: u64 = 0x200;
const Q_OVERFLOW: u64 = 0x4000;
const EVENT_ON_CHILD: u64 = 0x0800_0000;
/// Since Linux 5.17.
const RENAME: u64 = 0x1000_0000;
const ONDIR: u64 = 0x4000_0000;

const MARK_ADD: u32 = 0x1;
const MARK_ONLYDIR: u32 = 0x8;

const INFO_DFID_NAME: u8 = 2;
const INFO_OLD_DFID_NAME: u8 = 10;
const INFO_NEW_DFID_NAME: u8 = 12;

/// `struct fanotify_event_metadata`.
const METADATA: usize = 24;

/// linux/exportfs.h: `MAX_HANDLE_SZ`.
const MAX_HANDLE: usize = 128;

/// `AT_HANDLE_FID` (Linux 6.5): a handle to compare with, where the file system has none to open.
const HANDLE_FID: c_int = 0x200;

const BUFFER: usize = 64 << 10;

/// File system, type of the handle, the handle.
type Handle = ([u8; 8], i32, Vec<u8>);

#[derive(Debug)]
pub(in crate::integrity) struct Fanotify {
    fd: OwnedFd,
    mask: u64,
    dirs: HashMap<Handle, DirId>,
    handles: HashMap<DirId, Handle>,
    buffer: Vec<u8>,
}

impl Fanotify {
    pub(super) fn open() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | REPORT_DFID_NAME;
        let events = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).cast_unsigned();
        // SAFETY: the call takes two numbers and gives a new descriptor or -1.
        let fd = unsafe { libc::fanotify_init(flags, events) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mask = CREATE | DELETE | CLOSE_WRITE | ATTRIB | RENAME | EVENT_ON_CHILD | ONDIR;
        Ok(Self { fd, mask, dirs: HashMap::new(), handles: HashMap::new(), buffer: vec![0; BUFFER] })
    }

    pub(super) fn watch(&mut self, dir: BorrowedFd<'_>, id: DirId) -> io::Result<()> {
        let handle = handle_of(dir)?;
        if let Err(error) = self.mark(dir) {
            let old_kernel = error.raw_os_error() == Some(libc::EINVAL) && self.mask & RENAME != 0;
            if !old_kernel {
                return Err(error);
            }
            // Before 5.17 the two sides of a rename come one by one.
            self.mask = self.mask & !RENAME | MOVED_FROM | MOVED_TO;
            self.mark(dir)?;
        }
        self.forget(id);
        self.handles.insert(id, handle.clone());
        self.dirs.insert(handle, id);
        Ok(())
    }

    fn mark(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MARK_ADD | MARK_ONLYDIR;
        // SAFETY: both descriptors are open for the length of the call; without a path
        // the mark is for the directory itself.
        let result = unsafe {
            libc::fanotify_mark(self.fd.as_raw_fd(), flags, self.mask, dir.as_raw_fd(), std::ptr::null())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(super) fn forget(&mut self, id: DirId) {
        // The mark goes with the directory's inode; until then its events find no entry here.
        if let Some(handle) = self.handles.remove(&id)
            && self.dirs.get(&handle) == Some(&id)
        {
            self.dirs.remove(&handle);
        }
    }

    pub(super) fn read(&mut self, each: &mut dyn FnMut(Change)) -> io::Result<bool> {
        let length = match rustix::io::read(&self.fd, &mut self.buffer[..]) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            result => result?,
        };
        let mut rest = &self.buffer[..length];
        while let Some(size) = number(rest, 0, 4).and_then(|size| usize::try_from(size).ok()) {
            let Some(event) = rest.get(..size).filter(|_| size >= METADATA) else { break };
            if let Some(change) = self.change(event) {
                each(change);
            }
            rest = &rest[size..];
        }
        Ok(length > 0)
    }

    fn change(&self, event: &[u8]) -> Option<Change> {
        let mask = number(event, 8, 8)?;
        if mask & Q_OVERFLOW != 0 {
            return Some(Change::Overflow);
        }
        let pid = number(event, 20, 4).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let (mut old, mut new, mut plain) = (None, None, None);
        let mut infos = event.get(usize::try_from(number(event, 6, 2)?).ok()?..)?;
        while let (Some(kind), Some(size)) = (infos.first(), number(infos, 2, 2)) {
            let size = usize::try_from(size).ok()?;
            let Some(info) = infos.get(..size).filter(|_| size >= 4) else { break };
            match *kind {
                INFO_DFID_NAME => plain = self.place(info),
                INFO_OLD_DFID_NAME => old = self.place(info),
                INFO_NEW_DFID_NAME => new = self.place(info),
                _ => {}
            }
            infos = &infos[size..];
        }
        if mask & RENAME != 0 && (old.is_some() || new.is_some()) {
            return Some(Change::Rename { from: old, to: new, pid });
        }
        let (dir, name) = plain?;
        let what = What {
            made: mask & (CREATE | MOVED_TO) != 0,
            removed: mask & (DELETE | MOVED_FROM) != 0,
            written: mask & CLOSE_WRITE != 0,
            attributes: mask & ATTRIB != 0,
            is_dir: mask & ONDIR != 0,
        };
        // The directory itself; its parent tells the same with its name.
        (name != b".").then_some(Change::Name { dir, name, what, pid })
    }

    /// `struct fanotify_event_info_fid` with a name behind the handle.
    fn place(&self, info: &[u8]) -> Option<(DirId, Vec<u8>)> {
        let file_system: [u8; 8] = info.get(4..12)?.try_into().ok()?;
        let length = usize::try_from(number(info, 12, 4)?).ok()?;
        let kind = i32::from_ne_bytes(info.get(16..20)?.try_into().ok()?);
        let handle = info.get(20..20 + length)?.to_vec();
        let name = info.get(20 + length..)?.split(|byte| *byte == 0).next()?.to_vec();
        let dir = *self.dirs.get(&(file_system, kind, handle))?;
        (!name.is_empty()).then_some((dir, name))
    }
}

impl AsFd for Fanotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let part = bytes.get(at..at + length)?;
    Some(match length {
        2 => u16::from_ne_bytes(part.try_into().ok()?).into(),
        4 => u32::from_ne_bytes(part.try_into().ok()?).into(),
        _ => u64::from_ne_bytes(part.try_into().ok()?),
    })
}

/// `struct file_handle` with room for the longest one.
#[repr(C)]
struct RawHandle {
    length: u32,
    kind: i32,
    bytes: [u8; MAX_HANDLE],
}

fn handle_of(dir: BorrowedFd<'_>) -> io::Result<Handle> {
    let mut raw = RawHandle { length: MAX_HANDLE as u32, kind: 0, bytes: [0; MAX_HANDLE] };
    let mut mount: c_int = 0;
    let mut ask = |flags: c_int| {
        // SAFETY: `raw` is a file_handle with as much room behind it as it says, the
        // name is empty and ended, and the descriptor is open.
        let result = unsafe {
            libc::name_to_handle_at(
                dir.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount,
                flags,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    match ask(libc::AT_EMPTY_PATH) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            ask(libc::AT_EMPTY_PATH | HANDLE_FID)?
        }
        result => result?,
    }
    let file_system = rustix::fs::fstatvfs(dir)?.f_fsid;
    let length = usize::try_from(raw.length).unwrap_or(MAX_HANDLE).min(MAX_HANDLE);
    Ok((file_system.to_ne_bytes(), raw.kind, raw.bytes[..length].to_vec()))
}
