//! inotify(7), where fanotify is refused. It does not say who did it.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::{Change, What};
use crate::integrity::tree::DirId;

const BUFFER: usize = 64 << 10;
const MOST_AT_ONCE: usize = 65_536;

#[derive(Debug)]
pub(in crate::integrity) struct Inotify {
    fd: OwnedFd,
    dirs: HashMap<i32, DirId>,
    watches: HashMap<DirId, i32>,
}

impl Inotify {
    pub(super) fn open() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { fd, dirs: HashMap::new(), watches: HashMap::new() })
    }

    pub(super) fn watch(&mut self, dir: BorrowedFd<'_>, id: DirId) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        // The descriptor's own path: the directory's may be longer than the kernel takes.
        let watch = inotify::add_watch(&self.fd, format!("/proc/self/fd/{}", dir.as_raw_fd()), flags)?;
        if let Some(before) = self.dirs.insert(watch, id) {
            self.watches.remove(&before);
        }
        self.watches.insert(id, watch);
        Ok(())
    }

    pub(super) fn forget(&mut self, id: DirId) {
        if let Some(watch) = self.watches.remove(&id) {
            self.dirs.remove(&watch);
            // It is gone by itself where the directory is.
            let _ = inotify::remove_watch(&self.fd, watch);
        }
    }

    pub(super) fn read(&mut self, each: &mut dyn FnMut(Change)) -> io::Result<bool> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut any = false;
        // The side of a rename that came first, with its cookie.
        let mut from: Option<(u32, DirId, Vec<u8>)> = None;
        // The kernel's queue holds fewer: whoever writes without end waits for the next look.
        for _ in 0..MOST_AT_ONCE {
            let event = match reader.next() {
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            any = true;
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                each(Change::Overflow);
                continue;
            }
            let Some(&dir) = self.dirs.get(&event.wd()) else { continue };
            // Without a name it is the directory itself, of which its parent tells.
            let Some(name) = event.file_name().map(|name| name.to_bytes().to_vec()) else { continue };
            if flags.contains(ReadFlags::MOVED_TO) {
                // The kernel puts the two sides of a rename one after the other.
                let pair = from.take_if(|(cookie, ..)| *cookie == event.cookie());
                leave(&mut from, each);
                let from = pair.map(|(_, dir, name)| (dir, name));
                each(Change::Rename { from, to: Some((dir, name)), pid: None });
                continue;
            }
            leave(&mut from, each);
            if flags.contains(ReadFlags::MOVED_FROM) {
                from = Some((event.cookie(), dir, name));
                continue;
            }
            let what = What {
                made: flags.contains(ReadFlags::CREATE),
                removed: flags.contains(ReadFlags::DELETE),
                written: flags.contains(ReadFlags::CLOSE_WRITE),
                attributes: flags.contains(ReadFlags::ATTRIB),
                is_dir: flags.contains(ReadFlags::ISDIR),
            };
            each(Change::Name { dir, name, what, pid: None });
        }
        leave(&mut from, each);
        Ok(any)
    }
}

/// A rename whose other side is not watched.
fn leave(from: &mut Option<(u32, DirId, Vec<u8>)>, each: &mut dyn FnMut(Change)) {
    if let Some((_, dir, name)) = from.take() {
        each(Change::Rename { from: Some((dir, name)), to: None, pid: None });
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
