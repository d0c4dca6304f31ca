//! Finds a file as a process sees it, and as far as that process might read it.
//!
//! The agent may read everything. What it reads for somebody else it looks for itself,
//! step by step from that process's root: links stay below that root, directories and
//! file must be open to the process's user, and nothing is touched that is the kernel's
//! own or may not answer.

use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat, readlinkat};

use crate::watch::mounts::{FileSystem, RemoteMounts};

/// Links that are followed for one path, as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// Directories between the root and a file. Each is held by a descriptor.
const DEPTH_MAX: usize = 128;
/// Parts of a path with those of its links that still wait to be walked.
const PARTS_MAX: usize = 4_096;

/// Read and search, as bits of a mode.
const READ: u32 = 4;
const SEARCH: u32 = 1;

/// For whom a file is read.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// Real and effective user id at the exec. Both must be able to read: who starts a
    /// set-user-id program chooses its arguments.
    pub(super) uids: [u32; 2],
    /// Real group id at the exec.
    pub(super) gid: u32,
    /// Supplementary groups; `None` where nobody knows them.
    pub(super) groups: Option<Vec<u32>>,
}

impl Reader {
    /// Whom nothing is kept from.
    pub(crate) const ROOT: Self = Self { uids: [0; 2], gid: 0, groups: None };

    /// With the groups of a living process. Its effective group is not asked for: it
    /// may have changed since the exec.
    pub(super) fn with_groups_of(mut self, pid: u32) -> Self {
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Groups:"));
        self.groups = line
            .and_then(|line| std::str::from_utf8(line).ok())
            .map(|line| line.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect());
        self
    }

    /// By the bits for owner, group and others. Where it is not known whether the reader
    /// is of the group, both must allow it.
    fn may(&self, of: &Metadata, bit: u32) -> bool {
        self.uids.iter().all(|uid| self.may_as(*uid, of, bit))
    }

    fn may_as(&self, uid: u32, of: &Metadata, bit: u32) -> bool {
        let mode = of.mode();
        let (owner, group, other) = (mode >> 6 & bit != 0, mode >> 3 & bit != 0, mode & bit != 0);
        if uid == 0 {
            return true;
        }
        if uid == of.uid() {
            return owner;
        }
        match &self.groups {
            _ if self.gid == of.gid() => group,
            Some(groups) if groups.contains(&of.gid()) => group,
            Some(_) => other,
            None => group && other,
        }
    }
}

/// Opens the file to which a descriptor of a process leads.
///
/// # Errors
/// As [`open_below`].
pub(super) fn open_descriptor(pid: u32, descriptor: u32, reader: &Reader) -> Result<File, &'static str> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let held = openat(CWD, format!("/proc/{pid}/fd/{descriptor}"), flags, Mode::empty());
    open(&File::from(held.map_err(|_| "unreadable")?), reader)
}

/// A root to look from.
pub(crate) fn root(path: &str) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a regular file below a root.
///
/// # Errors
/// The reason in a word: `unreadable`, `not_regular`, `forbidden` (the reader may not
/// read it), `kernel_file_system`, `remote_file_system`.
pub(super) fn open_below(
    root: OwnedFd,
    path: &str,
    mounts: &RemoteMounts,
    reader: &Reader,
) -> Result<File, &'static str> {
    open(&held_below(root, path.as_bytes(), mounts, reader)?, reader)
}

/// Finds what is at a path below a root, and holds it without opening it (`O_PATH`).
///
/// # Errors
/// As [`open_below`], but for what only the file itself can tell.
pub(crate) fn held_below(
    root: OwnedFd,
    path: &[u8],
    mounts: &RemoteMounts,
    reader: &Reader,
) -> Result<File, &'static str> {
    // Only held, never opened, on the way: a FIFO would wait, a device would begin to work.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    push_parts(&mut parts, path)?;
    // The root, and the directories on the way with their names.
    let root = File::from(root);
    let mut way: Vec<(Vec<u8>, File)> = Vec::new();
    let mut links = 0;
    while let Some(part) = parts.pop() {
        if part == b".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(&root, |(_, file)| file);
        let of_here = here.metadata().map_err(|_| "unreadable")?;
        if !of_here.is_dir() {
            return Err("unreadable");
        }
        if !reader.may(&of_here, SEARCH) {
            return Err("forbidden");
        }
        // Before it is touched: what is dead would hold this thread.
        let names = way.iter().map(|(name, _)| name).chain([&part]);
        let whole: Vec<u8> = names.flat_map(|name| [b"/", name.as_slice()].concat()).collect();
        if mounts.hold(&whole) {
            return Err("remote_file_system");
        }
        let next = openat(here.as_fd(), part.as_slice(), flags, Mode::empty());
        let next = File::from(next.map_err(|_| "unreadable")?);
        check_file_system(&next)?;
        let kind = next.metadata().map_err(|_| "unreadable")?.file_type();
        if kind.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err("unreadable");
            }
            let to = readlinkat(next.as_fd(), c"", Vec::new()).map_err(|_| "unreadable")?;
            if to.as_bytes().starts_with(b"/") {
                way.clear();
            }
            push_parts(&mut parts, to.as_bytes())?;
        } else if parts.is_empty() {
            return Ok(next);
        } else if way.len() < DEPTH_MAX && !kind.is_fifo() {
            way.push((part, next));
        } else {
            return Err("unreadable");
        }
    }
    Err("not_regular")
}

/// Puts the parts of a path before those that wait; the next one is last.
fn push_parts(parts: &mut Vec<Vec<u8>>, path: &[u8]) -> Result<(), &'static str> {
    let new = path.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.']));
    parts.extend(new.rev().map(<[u8]>::to_vec));
    if parts.len() > PARTS_MAX { Err("unreadable") } else { Ok(()) }
}

/// Opens what is held, if it is for this reader.
///
/// # Errors
/// As [`open_below`].
pub(crate) fn open(held: &File, reader: &Reader) -> Result<File, &'static str> {
    check_file_system(held)?;
    let of_it = held.metadata().map_err(|_| "unreadable")?;
    if !of_it.is_file() {
        return Err("not_regular");
    }
    if !reader.may(&of_it, READ) {
        return Err("forbidden");
    }
    // Without waiting: somebody may hold a lease on it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    openat(CWD, again, flags, Mode::empty()).map(File::from).map_err(|_| "unreadable")
}

/// Whether what is held is on a file system that answers, and whose files are files.
///
/// # Errors
/// `kernel_file_system` or `remote_file_system`.
fn check_file_system(held: &File) -> Result<(), &'static str> {
    match FileSystem::of(fstatfs(held).map_err(|_| "unreadable")?.f_type) {
        FileSystem::Local => Ok(()),
        FileSystem::Kernel => Err("kernel_file_system"),
        FileSystem::Remote if is_on_the_root(held) => Ok(()),
        FileSystem::Remote => Err("remote_file_system"),
    }
}

/// The root that is remote answers as well as this program's own file does.
fn is_on_the_root(held: &File) -> bool {
    let root = std::fs::metadata("/");
    matches!((held.metadata(), root), (Ok(one), Ok(root)) if one.dev() == root.dev())
}
