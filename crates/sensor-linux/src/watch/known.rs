//! What is known of one watched file, and how it is read: bounded, and never
//! waiting for anybody.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::places::Kind;
use super::secrets::{HostKey, without_secrets};

/// Text of a file is kept up to here; configuration is far smaller.
const KEPT_TEXT: usize = 256 << 10;

/// Files up to this size are read whole for their hash; programs of run-parts and PAM modules are smaller.
const READ_WHOLE: u64 = 4 << 20;

/// Account files of a host with a hundred thousand users.
const ACCOUNT_FILE: u64 = 8 << 20;

/// Kernel modules up to this size are hashed.
const MODULE: u64 = 64 << 20;

/// A file that changes while it is read is read again so many times.
const TRIES: u32 = 3;

/// Tells without reading whether a file is the same as before: what of lstat(2) changes with it.
/// Not the device, whose number may be another after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    pub(super) changed_ns: i64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(ns).unwrap_or(0))
        };
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// Permission bits.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Why the content is not, or not wholly, known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    TooLarge,
    NotRegular,
    Unreadable,
    ChangedWhileRead,
    /// A link in a home to a file of somebody else, which its owner may not be able to read.
    ForeignFile,
    /// The agent keeps no more texts.
    NotKept,
}

impl Shortage {
    pub(super) const ALL: [Self; 6] = [
        Self::TooLarge,
        Self::NotRegular,
        Self::Unreadable,
        Self::ChangedWhileRead,
        Self::ForeignFile,
        Self::NotKept,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotRegular => "not_regular",
            Self::Unreadable => "unreadable",
            Self::ChangedWhileRead => "changed_while_read",
            Self::ForeignFile => "belongs_to_another_user",
            Self::NotKept => "not_kept",
        }
    }
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Its text, of account files without what is secret; its beginning where there is a [`Shortage`].
    Text(Vec<u8>),
    /// It is a symbolic link to this.
    Link(Vec<u8>),
    /// No text, or not read.
    Opaque,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) identity: Identity,
    pub(super) content: Content,
    /// Of the whole file, as it was read.
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) shortage: Option<Shortage>,
}

impl Known {
    /// The text or the link's target.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether both have the same content, as far as can be told.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        if let (Some(own), Some(theirs)) = (self.sha256, other.sha256) {
            return own == theirs;
        }
        let whole = self.shortage.is_none() && other.shortage.is_none();
        match (&self.content, &other.content) {
            (Content::Text(own), Content::Text(theirs)) if whole => own == theirs,
            (Content::Link(own), Content::Link(theirs)) => own == theirs,
            (own, theirs) => {
                own == theirs
                    && self.shortage == other.shortage
                    && (self.identity.size, self.identity.modified_ns)
                        == (other.identity.size, other.identity.modified_ns)
                    && self.identity.inode == other.identity.inode
                    && (self.shortage.is_none() || self.identity.changed_ns == other.identity.changed_ns)
            }
        }
    }

    pub(super) fn same_access(&self, other: &Self) -> bool {
        let access = |known: &Self| (known.identity.permissions(), known.identity.uid, known.identity.gid);
        // A link's own mode says nothing.
        matches!(self.content, Content::Link(_)) || access(self) == access(other)
    }

    /// Bytes of content that are held in memory for it.
    pub(super) fn held(&self) -> usize {
        match &self.content {
            Content::Text(bytes) | Content::Link(bytes) => bytes.len(),
            Content::Opaque => 0,
        }
    }

    /// Gives up the text, so that no more memory is held for it.
    pub(super) fn give_up_text(&mut self) {
        if matches!(self.content, Content::Text(_)) {
            self.content = Content::Opaque;
            self.shortage.get_or_insert(Shortage::NotKept);
        }
    }
}

/// A file to be read.
pub(super) struct Source<'a> {
    /// Its directory, open.
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    /// As it was just seen.
    pub(super) stat: Stat,
    pub(super) kind: Kind,
    /// Owner of the home in which it lies.
    pub(super) home_owner: Option<u32>,
}

impl Source<'_> {
    /// Reads it. `None` if it is gone. `hash_modules` says whether a kernel module is worth reading now.
    pub(super) fn read(&self, key: &HostKey, hash_modules: bool) -> Option<Known> {
        let mut known = Known {
            identity: Identity::of(&self.stat),
            content: Content::Opaque,
            sha256: None,
            shortage: None,
        };
        match known.identity.file_type() {
            FileType::RegularFile => {}
            FileType::Symlink => {
                match rustix::fs::readlinkat(self.dir, self.name, Vec::new()) {
                    Ok(target) => known.content = Content::Link(target.into_bytes()),
                    Err(Errno::NOENT) => return None,
                    Err(_) => known.shortage = Some(Shortage::Unreadable),
                }
                return Some(known);
            }
            _ => {
                known.shortage = Some(Shortage::NotRegular);
                return Some(known);
            }
        }
        let foreign = self
            .home_owner
            .is_some_and(|owner| self.stat.st_uid != owner && self.stat.st_nlink > 1 && owner != 0);
        if foreign {
            known.shortage = Some(Shortage::ForeignFile);
            return Some(known);
        }
        if self.kind == Kind::KernelModule && !hash_modules {
            return Some(known);
        }
        for _ in 0..TRIES {
            match self.read_once(key) {
                Ok(Some(read)) => return Some(read),
                Ok(None) => known.shortage = Some(Shortage::ChangedWhileRead),
                Err(Errno::NOENT) => return None,
                Err(Errno::LOOP) => known.shortage = Some(Shortage::ChangedWhileRead),
                Err(_) => {
                    known.shortage = Some(Shortage::Unreadable);
                    return Some(known);
                }
            }
        }
        // The next notice has it read again; until then it does not look the same as any file.
        known.identity.changed_ns = 0;
        Some(known)
    }

    /// `None` if it changed meanwhile.
    fn read_once(&self, key: &HostKey) -> rustix::io::Result<Option<Known>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir, self.name, flags, Mode::empty())?;
        let before = Identity::of(&rustix::fs::fstat(&file)?);
        if before.file_type() != FileType::RegularFile {
            return Ok(None);
        }
        let mut known = Known { identity: before, content: Content::Opaque, sha256: None, shortage: None };
        let (read_most, keep_most) = match self.kind {
            Kind::KernelModule => (MODULE, 0),
            Kind::AccountFile => (ACCOUNT_FILE, ACCOUNT_FILE as usize),
            _ => (READ_WHOLE, KEPT_TEXT),
        };
        let whole = before.size <= read_most;
        let limit = if whole { read_most } else { keep_most as u64 };
        let mut file = std::fs::File::from(file);
        let mut hash = Context::new(&SHA256);
        let mut text = Vec::new();
        let mut total = 0_u64;
        let mut buffer = [0; 16 << 10];
        while total < limit {
            let most = usize::try_from(limit - total).unwrap_or(usize::MAX).min(buffer.len());
            let count = match file.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            hash.update(&buffer[..count]);
            text.extend_from_slice(&buffer[..count.min(keep_most - text.len())]);
            total += count as u64;
        }
        let after = Identity::of(&rustix::fs::fstat(file.as_fd())?);
        if after != before || (whole && total != before.size) {
            return Ok(None);
        }
        if !whole || text.len() as u64 != total && keep_most > 0 {
            known.shortage = Some(Shortage::TooLarge);
        }
        match self.kind {
            Kind::AccountFile if known.shortage.is_none() => {
                known.content = Content::Text(without_secrets(key, self.name.as_bytes(), &text));
                return Ok(Some(known));
            }
            Kind::KernelModule | Kind::AccountFile => {}
            _ if text.contains(&0) => {}
            _ => known.content = Content::Text(text),
        }
        if whole && self.kind != Kind::AccountFile {
            known.sha256 = hash.finish().as_ref().try_into().ok();
        }
        Ok(Some(known))
    }
}

/// The file's facts without following a link. `None` if there is none.
pub(super) fn look(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}
