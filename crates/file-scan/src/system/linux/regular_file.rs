//! Opening files that an attacker may have laid out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType as InodeType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::content_reading::ContentUnread;
use crate::regular_file::{FileIdentity, LastSymlink};

/// Opens a regular file for reading. What is something else is never opened.
pub(crate) fn open_regular(path: &Path, last: LastSymlink) -> Result<File, ContentUnread> {
    let follow = match last {
        LastSymlink::Refuse => OFlags::NOFOLLOW,
        LastSymlink::Follow => OFlags::empty(),
    };
    // A reference first, which touches nothing, and from it the file itself: by
    // the path another file might stand there by now.
    let reference =
        open(path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty()).map_err(io::Error::from)?;
    let inode = fstat(&reference).map_err(io::Error::from)?;
    if InodeType::from_raw_mode(inode.st_mode) != InodeType::RegularFile {
        return Err(ContentUnread::NotRegular);
    }
    let path = format!("/proc/self/fd/{}", reference.as_raw_fd());
    // Not to wait for the holder of a lease. Access times are evidence; only the
    // owner and root may leave them alone.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(&*path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => open(&*path, flags, Mode::empty()),
        result => result,
    };
    let file = file.map_err(io::Error::from)?;
    Ok(file.into())
}

/// What an open file is; refused where it is no regular one.
pub(crate) fn identity_of(file: &File) -> Result<FileIdentity, ContentUnread> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ContentUnread::NotRegular);
    }
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Ok(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
    })
}
