//! The way from the root to the files of a place, by open directories, so that
//! nobody can exchange a part of the path on the way.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::inotify::{Interest, Watches};
use super::known::look;
use super::mounts::RemoteMounts;
use super::pattern;
use super::places::{PLACES, Place};

/// Entries of one directory that are looked at.
const MOST_ENTRIES: usize = 20_000;

/// Where a place is on this host: a row of the table with its home filled in.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) place: Place,
    /// The parts of the directory's path; each may have `*`.
    pub(super) steps: Vec<Vec<u8>>,
    /// How many of the parts lead to a home. Below it its owner decides what is a
    /// link, so none is followed.
    pub(super) home_steps: Option<usize>,
}

/// A file that was found.
pub(super) struct Found<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    /// From the root that is watched.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
    /// Owner of the home in which it lies.
    pub(super) home_owner: Option<u32>,
}

/// Goes the way of one place.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    pub(super) mounts: &'a RemoteMounts,
    pub(super) watches: &'a mut Watches,
    pub(super) index: usize,
    pub(super) spot: &'a Spot,
    /// Told each file.
    pub(super) on_file: &'a mut dyn FnMut(&Found<'_>),
    /// Something could not be looked at, so what was not found may still be there.
    pub(super) doubtful: bool,
}

/// How the way goes on from a directory.
#[derive(Clone, Copy)]
struct On {
    /// Steps done, while the place's directory is not reached.
    step: usize,
    home_owner: Option<u32>,
}

impl Walk<'_> {
    /// Looks at every file of the place and watches every directory on the way.
    pub(super) fn run(&mut self) {
        self.watches.begin(self.index);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(self.root, flags, Mode::empty()) {
            Ok(root) => self.step(&root, &mut Vec::new(), On { step: 0, home_owner: None }),
            Err(_) => self.doubtful = true,
        }
        self.watches.end();
    }

    fn step(&mut self, dir: &OwnedFd, path: &mut Vec<u8>, mut on: On) {
        if self.spot.home_steps == Some(on.step) {
            on.home_owner = rustix::fs::fstat(dir).ok().map(|stat| stat.st_uid);
        }
        let spot = self.spot;
        let Some(next) = spot.steps.get(on.step) else {
            if !self.is_told_elsewhere(dir, path, on) {
                self.files(dir, path, spot.place.depth, on.home_owner);
            }
            return;
        };
        self.watches.watch(self.index, dir.as_fd(), Interest::Next(next.clone()), false);
        let names = if next.contains(&b'*') {
            self.names(dir, |name| pattern::matches(next, name))
        } else {
            BTreeSet::from([OsString::from_vec(next.clone())])
        };
        let may_be_link = on.home_owner.is_none();
        for name in names {
            let before = path.len();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            if let Some(below) = self.open(dir, &name, path, may_be_link) {
                self.step(&below, path, On { step: on.step + 1, ..on });
            }
            path.truncate(before);
        }
    }

    /// The files in the place's directory, and below as far as its depth goes.
    fn files(&mut self, dir: &OwnedFd, path: &mut Vec<u8>, depth: u8, home_owner: Option<u32>) {
        let spot = self.spot;
        let interest = if depth > 0 { Interest::Any } else { Interest::Names(spot.place.names) };
        self.watches.watch(self.index, dir.as_fd(), interest, true);
        let names = spot.place.names;
        let literal = depth == 0 && !names.iter().any(|name| name.contains('*'));
        let candidates: BTreeSet<OsString> = if literal {
            names.iter().map(OsString::from).collect()
        } else {
            self.names(dir, |name| depth > 0 || pattern::matches_any(names, name))
        };
        for name in candidates {
            let stat = match look(dir.as_fd(), &name) {
                Ok(Some(stat)) => stat,
                Ok(None) => continue,
                Err(_) => {
                    self.doubtful = true;
                    continue;
                }
            };
            let before = path.len();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if depth > 0
                    && let Some(below) = self.open(dir, &name, path, false)
                {
                    self.files(&below, path, depth - 1, home_owner);
                }
            } else if pattern::matches_any(names, name.as_bytes()) {
                (self.on_file)(&Found { dir: dir.as_fd(), name: &name, path, stat, home_owner });
            }
            path.truncate(before);
        }
    }

    fn open(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], may_be_link: bool) -> Option<OwnedFd> {
        let root = self.root.as_os_str().as_bytes();
        if self.mounts.hold(&[root.strip_suffix(b"/").unwrap_or(root), path].concat()) {
            return None;
        }
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if !may_be_link {
            flags |= OFlags::NOFOLLOW;
        }
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(below) => Some(below),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(_) => {
                self.doubtful = true;
                None
            }
        }
    }

    fn names(&mut self, dir: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> BTreeSet<OsString> {
        let mut names = BTreeSet::new();
        let Ok(entries) = Dir::read_from(dir) else {
            self.doubtful = true;
            return names;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                self.doubtful = true;
                break;
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || !wanted(name) {
                continue;
            }
            if names.len() >= MOST_ENTRIES {
                self.doubtful = true;
                break;
            }
            names.insert(OsString::from_vec(name.to_vec()));
        }
        names
    }

    /// Whether the directory was reached through a link and is a place of the same kind by its real path too.
    fn is_told_elsewhere(&self, dir: &OwnedFd, path: &[u8], on: On) -> bool {
        if on.home_owner.is_some() {
            return false;
        }
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let Ok(real) = std::fs::read_link(link) else { return false };
        let Ok(real) = real.strip_prefix(self.root) else { return false };
        let real = real.as_os_str().as_bytes();
        real != path.strip_prefix(b"/").unwrap_or(path)
            && PLACES.iter().any(|place| place.kind == self.spot.place.kind && place.is_dir(real))
    }
}
