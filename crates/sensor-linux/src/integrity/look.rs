//! Looks at one name of a directory: what is there, and what it holds.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aws_lc_rs::digest::{Context, SHA256, digest};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::tree::{Content, State};

/// Larger files are not hashed: a change shows in size and times all the same.
pub(super) const MAX_HASHED: u64 = 64 << 20;

const CHUNK: usize = 128 << 10;

/// What is under that name now; `None` if nothing is. Of a known file that did not
/// change the content is taken over.
pub(super) fn look(
    dir: BorrowedFd<'_>,
    name: &[u8],
    known: Option<&State>,
    written: bool,
) -> io::Result<Option<State>> {
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        result => result?,
    };
    let mut state = state_of(&stat);
    let same = known.is_some_and(|known| {
        let bare = State { content: state.content, links: state.links, mode: state.mode, ..*known };
        bare == state && known.kind() == state.kind()
    });
    match known {
        Some(known) if same && !written && known.content != Content::Changed => state.content = known.content,
        _ if state.kind() == libc::S_IFREG => {
            let (content, now) = content(dir, name, &stat);
            // What was hashed is what is told, if somebody was quicker than we.
            state = State { content, ..now.as_ref().map_or(state, state_of) };
        }
        _ if state.kind() == libc::S_IFLNK => {
            state.content = match readlinkat(dir, name, Vec::new()) {
                Ok(target) => Content::Sha256(sha256_of(target.as_bytes())),
                Err(_) => Content::Unreadable,
            };
        }
        _ => {}
    }
    Ok(Some(state))
}

fn state_of(stat: &Stat) -> State {
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    State {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed_ns: nanos(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        inode: stat.st_ino,
        device: stat.st_dev,
        content: Content::NotRegular,
    }
}

/// The content of a regular file, and the state in which it was read.
fn content(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> (Content, Option<Stat>) {
    if u64::try_from(stat.st_size).unwrap_or(0) > MAX_HASHED {
        return (Content::TooLarge, None);
    }
    // Not blocking and not following: between the look and now it may have become anything.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(dir, name, flags | OFlags::NOATIME, Mode::empty());
    let opened = match opened {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        result => result,
    };
    let Ok(file) = opened else { return (Content::Unreadable, None) };
    match fstat(&file) {
        Ok(before) if before.st_mode & libc::S_IFMT == libc::S_IFREG => match sha256(file) {
            Ok((Some(hash), file)) => {
                let after = fstat(&file).unwrap_or(before);
                let same =
                    (after.st_size, after.st_mtime, after.st_mtime_nsec, after.st_ctime, after.st_ctime_nsec)
                        == (
                            before.st_size,
                            before.st_mtime,
                            before.st_mtime_nsec,
                            before.st_ctime,
                            before.st_ctime_nsec,
                        );
                (if same { Content::Sha256(hash) } else { Content::Changed }, Some(after))
            }
            Ok((None, _)) => (Content::TooLarge, Some(before)),
            Err(_) => (Content::Unreadable, Some(before)),
        },
        Ok(_) => (Content::Changed, None),
        Err(_) => (Content::Unreadable, None),
    }
}

/// The one place where content is hashed; `None` past [`MAX_HASHED`].
fn sha256(file: OwnedFd) -> io::Result<(Option<[u8; 32]>, OwnedFd)> {
    let mut file = File::from(file);
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut read = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                read += count as u64;
                if read > MAX_HASHED {
                    return Ok((None, file.into()));
                }
                context.update(&chunk[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((context.finish().as_ref().try_into().ok(), file.into()))
}

fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or([0; 32])
}

/// Where a symbolic link leads, as it says.
pub(super) fn link_target(dir: impl AsFd, name: &[u8]) -> Option<Vec<u8>> {
    readlinkat(dir, name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
}
