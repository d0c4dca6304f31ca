//! What the kernel tells of the watched directories as it happens: fanotify, which
//! also says who did it, else inotify.
//!
//! Both are asked about single directories and not about whole file systems: what
//! happens elsewhere then costs nothing, and a directory that fills with work (a
//! build, a database) next to a watched one wakes nobody.

mod fanotify;
mod inotify;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::tree::DirId;

/// Something happened to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The name was made, removed, written to or its inode changed.
    Name { dir: DirId, name: Vec<u8>, what: What, pid: Option<u32> },
    /// It got another name. One side is `None` where it is not watched.
    Rename { from: Option<(DirId, Vec<u8>)>, to: Option<(DirId, Vec<u8>)>, pid: Option<u32> },
    /// The kernel's queue was full: anything may have happened.
    Overflow,
}

/// What happened to a name; several may come as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct What {
    pub(super) made: bool,
    pub(super) removed: bool,
    pub(super) written: bool,
    pub(super) attributes: bool,
    /// It is a directory.
    pub(super) is_dir: bool,
}

impl What {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            made: self.made || other.made,
            removed: self.removed || other.removed,
            written: self.written || other.written,
            attributes: self.attributes || other.attributes,
            is_dir: self.is_dir || other.is_dir,
        }
    }
}

/// The kernel's side of the watch.
#[derive(Debug)]
pub(super) enum Live {
    Fanotify(fanotify::Fanotify),
    Inotify(inotify::Inotify),
}

impl Live {
    /// The best that this host allows, tried on a directory; with inotify also why it is that.
    pub(super) fn open(try_on: Option<BorrowedFd<'_>>) -> io::Result<(Self, Option<String>)> {
        let refused = match fanotify::Fanotify::open().and_then(|mut one| {
            try_on.map_or(Ok(()), |dir| one.watch(dir, usize::MAX))?;
            one.forget(usize::MAX);
            Ok(one)
        }) {
            Ok(fanotify) => return Ok((Self::Fanotify(fanotify), None)),
            Err(error) => error.to_string(),
        };
        Self::open_inotify(&refused)
    }

    pub(super) fn open_inotify(refused: &str) -> io::Result<(Self, Option<String>)> {
        Ok((Self::Inotify(inotify::Inotify::open()?), Some(refused.to_owned())))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Fanotify(_) => "fanotify",
            Self::Inotify(_) => "inotify",
        }
    }

    /// Begins to tell of that directory. Telling of it again changes nothing.
    pub(super) fn watch(&mut self, dir: BorrowedFd<'_>, id: DirId) -> io::Result<()> {
        match self {
            Self::Fanotify(fanotify) => fanotify.watch(dir, id),
            Self::Inotify(inotify) => inotify.watch(dir, id),
        }
    }

    /// The directory is not known any more.
    pub(super) fn forget(&mut self, id: DirId) {
        match self {
            Self::Fanotify(fanotify) => fanotify.forget(id),
            Self::Inotify(inotify) => inotify.forget(id),
        }
    }

    /// Hands out what there is, without waiting; true if there was anything.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(Change)) -> io::Result<bool> {
        match self {
            Self::Fanotify(fanotify) => fanotify.read(each),
            Self::Inotify(inotify) => inotify.read(each),
        }
    }
}

impl AsFd for Live {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Fanotify(fanotify) => fanotify.as_fd(),
            Self::Inotify(inotify) => inotify.as_fd(),
        }
    }
}
