//! The kernel's notices about directories, each led to the places that care.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::pattern;

/// No more directories than this are watched; what lies beyond is only compared
/// from time to time. The kernel holds about a kilobyte for each.
const MOST_WATCHES: usize = 16_384;

/// Notices read in one round, so that a flood does not keep the thread from comparing.
const MOST_NOTICES: usize = 4_096;

/// Which names in a directory matter to a place.
#[derive(Debug, Clone)]
pub(super) enum Interest {
    /// All.
    Any,
    /// Those that fit one of these patterns.
    Names(&'static [&'static str]),
    /// Those that fit this pattern: the next directory on the way.
    Next(Vec<u8>),
}

impl Interest {
    fn covers(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Names(patterns) => pattern::matches_any(patterns, name),
            Self::Next(next) => pattern::matches(next, name),
        }
    }
}

/// What a round of reading brought.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Places in which something may have changed; may name one more than once.
    pub(super) touched: Vec<usize>,
    /// The kernel's queue was full: anything may have changed.
    pub(super) overflowed: bool,
}

/// Watches on directories. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    by_watch: HashMap<i32, Vec<(usize, Interest)>>,
    by_place: HashMap<usize, Vec<i32>>,
    /// The watches of the place that is being looked through, before this time.
    before: Vec<i32>,
    /// A directory could not be watched; said once.
    incomplete: bool,
}

impl Watches {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            by_watch: HashMap::new(),
            by_place: HashMap::new(),
            before: Vec::new(),
            incomplete: false,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    pub(super) fn len(&self) -> usize {
        self.by_watch.len()
    }

    /// From here to [`end`](Self::end) the place says anew which directories it cares for.
    pub(super) fn begin(&mut self, place: usize) {
        self.before = self.by_place.remove(&place).unwrap_or_default();
        for watch in &self.before {
            if let Some(interests) = self.by_watch.get_mut(watch) {
                interests.retain(|(who, _)| *who != place);
            }
        }
    }

    /// Watches an open directory. `written` asks for a notice of writes to its files too, which
    /// need not be closed after.
    pub(super) fn watch(&mut self, place: usize, dir: BorrowedFd<'_>, interest: Interest, written: bool) {
        if self.by_watch.len() >= MOST_WATCHES {
            return self.refused("the limit of the agent is reached");
        }
        // Replaced, removed and renamed are notices of the directory, so a file need not exist.
        let mut flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::MASK_ADD;
        if written {
            flags |= WatchFlags::MODIFY;
        }
        // By its descriptor, so that what is watched is what is being looked through.
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => {
                self.by_watch.entry(watch).or_default().push((place, interest));
                self.by_place.entry(place).or_default().push(watch);
            }
            // It went away meanwhile; its parent tells.
            Err(Errno::NOENT) => {}
            Err(Errno::NOSPC) => {
                self.refused("the kernel's limit is reached; hint: raise sysctl fs.inotify.max_user_watches");
            }
            Err(error) => self.refused(&error.to_string()),
        }
    }

    fn refused(&mut self, why: &str) {
        if !std::mem::replace(&mut self.incomplete, true) {
            tracing::warn!(
                why,
                watches = self.len(),
                "not every directory can be watched; the others are compared every few minutes"
            );
        }
    }

    /// Ends the watches that nobody cares for any more.
    pub(super) fn end(&mut self) {
        for watch in std::mem::take(&mut self.before) {
            if self.by_watch.get(&watch).is_some_and(Vec::is_empty) {
                self.by_watch.remove(&watch);
                // It may have ended by itself with its directory.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
    }

    /// Reads what the kernel has to tell.
    pub(super) fn read(&mut self) -> Notices {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(self.inotify.as_fd(), &mut buffer);
        let mut notices = Notices::default();
        let mut count = 0;
        // What the reader holds already must not be left in it.
        while count < MOST_NOTICES || !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else { break };
            count += 1;
            let (watch, flags) = (event.wd(), event.events());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                notices.overflowed = true;
                continue;
            }
            let gone = flags.intersects(
                ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED,
            );
            let name = event.file_name().map(CStr::to_bytes);
            if let Some(interests) = self.by_watch.get(&watch) {
                let touched = interests
                    .iter()
                    .filter(|(_, interest)| gone || name.is_none_or(|name| interest.covers(name)))
                    .map(|(place, _)| *place);
                notices.touched.extend(touched);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.by_watch.remove(&watch);
            }
        }
        notices
    }
}
