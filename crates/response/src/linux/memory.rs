//! The memory of one process, piece by piece: what it wrote, and what has no file that could be read instead.
//!
//! Reading `/proc/PID/mem` neither attaches to the process nor stops it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use serde_json::{Value, json};

use crate::platform::Failure;

/// Bytes of one process that are copied.
const MOST: u64 = 256 << 20;

const PIECE: u64 = 4 << 20;

/// Lines of the map that are looked at.
const MOST_REGIONS: usize = 8_192;

struct Region {
    start: u64,
    end: u64,
    rights: String,
    of: String,
    copied: u64,
}

/// A piece of it.
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) content: Vec<u8>,
}

/// The memory of a process that is held open: after its end there is nothing more to read.
pub(super) struct Memory {
    file: File,
    regions: Vec<Region>,
    /// Place among the regions, and how far in it.
    at: (usize, u64),
    left: u64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self, Failure> {
        let failure = |error| Failure::system(format!("reading the memory of process {pid}"), error);
        let file = File::open(format!("/proc/{pid}/mem")).map_err(failure)?;
        let maps = fs::read(format!("/proc/{pid}/maps")).map_err(failure)?;
        let maps = String::from_utf8_lossy(&maps);
        let regions: Vec<Region> = maps.lines().take(MOST_REGIONS).filter_map(region).collect();
        Ok(Self { file, regions, at: (0, 0), left: MOST })
    }

    /// The next piece that can be read.
    pub(super) fn next(&mut self) -> Option<Piece> {
        while self.left > 0 {
            let (place, offset) = self.at;
            let region = self.regions.get_mut(place)?;
            let start = region.start + offset;
            let size = PIECE.min(region.end - start).min(self.left);
            let mut content = vec![0; usize::try_from(size).ok()?];
            let count = self.file.read_at(&mut content, start).unwrap_or(0);
            content.truncate(count);
            let is_over = count == 0 || start + count as u64 >= region.end;
            self.at = if is_over { (place + 1, 0) } else { (place, offset + count as u64) };
            if count > 0 {
                region.copied += count as u64;
                self.left -= count as u64;
                return Some(Piece { start, content });
            }
        }
        None
    }

    /// All regions with what was copied of them.
    pub(super) fn regions(&self) -> Value {
        let told = self.regions.iter().map(|region| {
            json!({
                "start": format!("{:016x}", region.start), "size": region.end - region.start,
                "rights": region.rights, "of": region.of, "copied": region.copied,
            })
        });
        Value::Array(told.collect())
    }
}

/// A line of the map, if its region is worth a copy.
fn region(line: &str) -> Option<Region> {
    let mut words = line.splitn(6, ' ');
    let (range, rights, _, _, inode) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let of = words.next().unwrap_or_default().trim();
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let is_its_own = inode == "0" || rights.contains('w') || of.ends_with("(deleted)");
    let is_kernels = of.starts_with("[v");
    if end <= start || !rights.starts_with('r') || !is_its_own || is_kernels {
        return None;
    }
    Some(Region { start, end, rights: rights.to_owned(), of: of.to_owned(), copied: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_file_holds_is_worth_a_copy() {
        for (line, worth) in [
            ("7f00-8000 rw-p 00000000 00:00 0                  [heap]", true),
            ("7f00-8000 r-xp 00000000 00:00 0", true),
            ("7f00-8000 r-xp 00000000 00:01 77                 /memfd:x (deleted)", true),
            ("7f00-8000 rw-p 00000000 08:01 77                 /usr/lib/libc.so.6", true),
            ("7f00-8000 r-xp 00000000 08:01 77                 /usr/lib/libc.so.6", false),
            ("7f00-8000 ---p 00000000 00:00 0", false),
            ("7f00-8000 r--p 00000000 00:00 0                  [vvar]", false),
            ("8000-7f00 rw-p 00000000 00:00 0", false),
            ("nonsense", false),
            ("", false),
        ] {
            assert_eq!(region(line).is_some(), worth, "{line}");
        }
    }

    #[test]
    fn own_memory_is_read_as_it_is() {
        let marked = b"marked for this test only".repeat(1_000);
        let mut memory = Memory::of(std::process::id()).unwrap();
        let mut found = false;
        while let Some(piece) = memory.next() {
            found |= piece.content.windows(100).any(|window| window == &marked[..100]);
        }
        assert!(found && memory.regions().as_array().unwrap().len() > 3);
        drop(marked);
    }
}
