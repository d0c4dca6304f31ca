//! Follows a file that only grows, over rotation, truncation and restarts.
//!
//! A file is known by device and inode and by a hash over its beginning: an inode
//! is used again, and `copytruncate` keeps it while the content is another's.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Into lines; what is longer than [`MAX_LINE`] is cut.
    Lines,
    /// Into records of so many bytes.
    Records(usize),
}

/// Longer lines are cut: syslog's own limit is 8 KiB where nobody raised it.
pub(super) const MAX_LINE: usize = 8 << 10;

/// Bytes read at once, and in one look at the file; the rest waits for the next look.
const CHUNK: usize = 64 << 10;
const MOST_AT_ONCE: usize = 1 << 20;

/// Bytes of the beginning that are hashed.
const HEAD: usize = 256;

/// Rotated files that are looked through for the one that was last read.
const MOST_ROTATED: usize = 256;

/// How far a file was read; what a restart needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    device: u64,
    inode: u64,
    offset: u64,
    head_length: u64,
    head_hash: String,
    /// The end of a line that was cut is still to come.
    skipping: bool,
}

/// What reading found besides frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// There is more to read right now.
    pub(super) more: bool,
    /// Something was there that can't be read any more.
    pub(super) lost: bool,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    framing: Framing,
    file: Option<File>,
    place: Place,
    /// Nothing of it was ever read: what is there already is not news.
    first: bool,
}

impl Tail {
    /// Goes on at `place`, or at the present end of the file where there is none.
    pub(super) fn new(path: PathBuf, framing: Framing, place: Option<Place>) -> Self {
        let first = place.is_none();
        Self { path, framing, file: None, place: place.unwrap_or_default(), first }
    }

    /// How far it has come.
    pub(super) fn place(&self) -> Option<Place> {
        (!self.first).then(|| self.place.clone())
    }

    /// Hands out what is new, frame by frame; true beside a frame that was cut.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(&[u8], bool)) -> io::Result<Found> {
        let mut found = Found::default();
        if self.file.is_none() {
            self.open(&mut found)?;
        }
        let Some(file) = &self.file else { return Ok(found) };
        let length = file.metadata()?.len();
        if length < self.place.offset {
            // Truncated. What was written after the last look and before is gone, if there was any.
            self.restart();
        }
        found.more = self.read_open(each)?;
        if found.more || !self.is_replaced()? {
            return Ok(found);
        }
        // Rotated: the last words of the old file, then the new one from its start.
        let more = self.read_open(each)?;
        if !more {
            self.file = None;
            self.place = Place::default();
        }
        found.more = true;
        Ok(found)
    }

    /// Another file has the name now.
    fn is_replaced(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(now) => Ok((now.dev(), now.ino()) != (self.place.device, self.place.inode)),
            // Moved away, and the new one is not there yet: the old one may still be written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self, found: &mut Found) -> io::Result<()> {
        let (file, status) = match open_regular(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Whatever comes under this name later is news from its start.
                self.first = false;
                return Ok(());
            }
            result => result?,
        };
        let was = std::mem::take(&mut self.place);
        self.place = Place { device: status.dev(), inode: status.ino(), ..Place::default() };
        if self.first {
            self.first = false;
            self.place.offset = match self.framing {
                Framing::Lines => end_of_lines(&file, status.len())?,
                Framing::Records(size) => status.len() - status.len() % size as u64,
            };
        } else if was != Place::default() {
            if is_same(&file, &status, &was) {
                self.place = was;
            } else if let Some(before) = self.rotated(&was) {
                // First what is left of the file that was read last; the new one follows as after a rotation.
                let status = before.metadata()?;
                self.place = Place { device: status.dev(), inode: status.ino(), ..was };
                self.file = Some(before);
                return Ok(());
            } else {
                found.lost = true;
            }
        }
        self.note_head(&file)?;
        self.file = Some(file);
        Ok(())
    }

    /// The file that was read last, under the name that rotation gave it.
    fn rotated(&self, was: &Place) -> Option<File> {
        let name = self.path.file_name()?.to_str()?;
        let entries = fs::read_dir(self.path.parent()?).ok()?.flatten();
        let rotated = entries.filter(|entry| {
            let other = entry.file_name();
            let rest = other.to_str().and_then(|other| other.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with(['.', '-']))
        });
        rotated.take(MOST_ROTATED).find_map(|entry| {
            let (file, status) = open_regular(&entry.path()).ok()?;
            // A copy (logrotate's `copytruncate`) has another inode and the same beginning.
            let is_copy = was.head_length == HEAD as u64 && has_read_part(&file, &status, was);
            (is_copy || is_same(&file, &status, was)).then_some(file)
        })
    }

    fn restart(&mut self) {
        self.place = Place { device: self.place.device, inode: self.place.inode, ..Place::default() };
    }

    /// The hash grows with the file until its beginning is complete.
    fn note_head(&mut self, file: &File) -> io::Result<()> {
        let wanted = self.place.offset.min(HEAD as u64);
        if self.place.head_length < wanted {
            let length = usize::try_from(wanted).unwrap_or(HEAD);
            self.place.head_hash = head_hash(file, length)?;
            self.place.head_length = wanted;
        }
        Ok(())
    }

    /// Reads to the end, or as much as one look may; true if there is more.
    fn read_open(&mut self, each: &mut dyn FnMut(&[u8], bool)) -> io::Result<bool> {
        let Some(file) = self.file.take() else { return Ok(false) };
        let result = self.frames(&file, each);
        let noted = self.note_head(&file);
        self.file = Some(file);
        noted?;
        result
    }

    fn frames(&mut self, file: &File, each: &mut dyn FnMut(&[u8], bool)) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        let mut taken = 0;
        while taken < MOST_AT_ONCE {
            let length = read_at(file, &mut chunk, self.place.offset)?;
            let used = match self.framing {
                Framing::Lines => self.lines(&chunk[..length], each),
                Framing::Records(size) => {
                    chunk[..length].chunks_exact(size).for_each(|record| each(record, false));
                    length - length % size
                }
            };
            if used == 0 {
                return Ok(false);
            }
            self.place.offset += used as u64;
            taken += used;
        }
        Ok(true)
    }

    /// Hands out the complete lines and says how many bytes they and their ends have.
    fn lines(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8], bool)) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    if !std::mem::take(&mut self.place.skipping) {
                        each(&rest[..end.min(MAX_LINE)], end > MAX_LINE);
                    }
                    used += end + 1;
                }
                None if self.place.skipping => used = bytes.len(),
                None if rest.len() > MAX_LINE => {
                    each(&rest[..MAX_LINE], true);
                    self.place.skipping = true;
                    used = bytes.len();
                }
                // The rest of the line is still to be written.
                None => break,
            }
        }
        used
    }
}

/// Opens it without waiting for the other end of a FIFO, and only if it is a file.
fn open_regular(path: &Path) -> io::Result<(File, fs::Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, status))
}

fn is_same(file: &File, status: &fs::Metadata, was: &Place) -> bool {
    (status.dev(), status.ino()) == (was.device, was.inode) && has_read_part(file, status, was)
}

/// It begins as the file that was read, and is long enough to be it.
fn has_read_part(file: &File, status: &fs::Metadata, was: &Place) -> bool {
    let length = usize::try_from(was.head_length).unwrap_or(HEAD).min(HEAD);
    status.len() >= was.offset
        && (length == 0 || head_hash(file, length).is_ok_and(|hash| hash == was.head_hash))
}

fn head_hash(file: &File, length: usize) -> io::Result<String> {
    let mut head = vec![0; length];
    let read = read_at(file, &mut head, 0)?;
    Ok(digest(&SHA256, &head[..read]).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Behind the last complete line.
fn end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(CHUNK as u64);
    let mut end = vec![0; CHUNK];
    let read = read_at(file, &mut end, from)?;
    Ok(memchr::memrchr(b'\n', &end[..read]).map_or(length, |last| from + last as u64 + 1))
}

fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
