//! A file by descriptors: its folder is held, no symbolic link is followed, and what
//! was looked at is what is acted on, whatever happens to the path meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, fstat, fstatfs, open,
    openat2, statat, statx,
};
use rustix::io::Errno;

use crate::platform::Failure;

/// Filesystems of the network and of user space (magic numbers of statfs(2)): what a
/// name means there, another machine decides.
const REMOTE: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
];

/// A name in a folder that is held.
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    /// Device and inode of the folder.
    pub(super) dir_id: (u64, u64),
    pub(super) name: String,
    path: String,
}

/// A file that is held, and what it was when it was opened.
pub(super) struct Held {
    pub(super) file: File,
    pub(super) stat: Stat,
}

impl Held {
    pub(super) fn id(&self) -> (u64, u64) {
        id_of(&self.stat)
    }
}

pub(super) fn id_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Place {
    /// Opens the folder of `path`. Paths were checked to be absolute and without `..`.
    pub(super) fn open(path: &str) -> Result<Self, Failure> {
        let (parent, name) = (Path::new(path).parent(), Path::new(path).file_name().and_then(OsStr::to_str));
        let (Some(parent), Some(name)) = (parent, name) else {
            return Err(not_the_target(path, "it names no file"));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat2(CWD, parent, flags, Mode::empty(), no_links()).map_err(|errno| match errno {
            Errno::LOOP => not_the_target(path, "a part of its path is a symbolic link"),
            Errno::NOENT | Errno::NOTDIR => not_the_target(path, "its folder is not there"),
            errno => Failure::system(format!("opening the folder of {}", path.escape_debug()), errno),
        })?;
        let stat = fstat(&dir).map_err(|errno| Failure::system("reading the folder", errno))?;
        Ok(Self { dir, dir_id: id_of(&stat), name: name.to_owned(), path: path.to_owned() })
    }

    /// Opens the file, if it is one that may be moved.
    pub(super) fn open_file(&self) -> Result<Held, Failure> {
        self.open_named(&self.name)
    }

    /// Opens the file of another name in the folder.
    pub(super) fn open_named(&self, name: &str) -> Result<Held, Failure> {
        let path = self.path.as_str();
        // By O_PATH first: opening a device or a FIFO can itself do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A link is opened as the link that it is, and refused below by its kind.
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        let held = openat2(&self.dir, name, flags, Mode::empty(), beneath).map_err(|errno| match errno {
            Errno::NOENT => not_the_target(path, "it is not there"),
            Errno::XDEV => not_allowed(path, "is a mount point", "unmount it first"),
            errno => Failure::system(format!("opening {}", path.escape_debug()), errno),
        })?;
        let stat = fstat(&held).map_err(|errno| Failure::system("reading the file", errno))?;
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => None,
            libc::S_IFLNK => Some("is a symbolic link"),
            libc::S_IFDIR => Some("is a folder"),
            libc::S_IFIFO => Some("is a FIFO"),
            libc::S_IFSOCK => Some("is a socket"),
            _ => Some("is a device"),
        };
        if let Some(kind) = kind {
            return Err(not_allowed(path, kind, "only regular files are moved; name the file itself"));
        }
        if stat.st_nlink != 1 {
            let why = format!("has {} names (hard links)", stat.st_nlink);
            return Err(not_allowed(path, &why, "the other names would keep the content; remove them first"));
        }
        check_filesystem(&held, path)?;
        let file = reopen(&held, path)?;
        Ok(Held { file, stat })
    }

    /// Opens the file of that name to be copied only: it may have other names and be anybody's.
    pub(super) fn open_to_read(&self) -> Result<File, Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = openat2(&self.dir, self.name.as_str(), flags, Mode::empty(), ResolveFlags::BENEATH)
            .map_err(|errno| Failure::system(format!("opening {}", self.path.escape_debug()), errno))?;
        let stat = fstat(&held).map_err(|errno| Failure::system("reading the file", errno))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(not_allowed(&self.path, "is no regular file", "name the file itself"));
        }
        // Reading from another machine or program may take for ever, and holds up all other orders.
        check_is_here(&held, &self.path)?;
        reopen(&held, &self.path)
    }

    /// Device and inode of what has that name in the folder now.
    pub(super) fn look(&self, name: &str) -> Result<Option<(u64, u64)>, Failure> {
        match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(id_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Failure::system(format!("looking at {}", self.path.escape_debug()), errno)),
        }
    }
}

/// Opened by its descriptor: the same file, whatever has its name now.
fn reopen(held: &OwnedFd, path: &str) -> Result<File, Failure> {
    let by_descriptor = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    open(by_descriptor, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| Failure::system(format!("reading {}", path.escape_debug()), errno))
}

fn no_links() -> ResolveFlags {
    ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn check_is_here(file: &OwnedFd, path: &str) -> Result<(), Failure> {
    let filesystem = fstatfs(file).map_err(|errno| Failure::system("reading the filesystem", errno))?;
    if let Some((_, name)) = REMOTE.iter().find(|(magic, _)| *magic == filesystem.f_type) {
        let why = format!("is on a filesystem of another machine or program ({name})");
        return Err(not_allowed(path, &why, "act on the machine that has the file"));
    }
    Ok(())
}

fn check_filesystem(file: &OwnedFd, path: &str) -> Result<(), Failure> {
    check_is_here(file, path)?;
    let attributes = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map_err(|errno| Failure::system("reading the file's attributes", errno))?
        .stx_attributes;
    if attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        return Err(not_allowed(path, "is immutable or append-only", "`chattr -i -a` makes it movable"));
    }
    Ok(())
}

pub(super) fn not_the_target(path: &str, why: &str) -> Failure {
    Failure::NotTheTarget { subject: path.escape_debug().to_string(), why: why.to_owned() }
}

pub(super) fn not_allowed(path: &str, why: &str, hint: &'static str) -> Failure {
    Failure::NotAllowed { subject: path.escape_debug().to_string(), why: why.to_owned(), hint }
}
