//! Reading the memory of a process that runs on meanwhile.
//!
//! Reading `/proc/PID/mem` needs the right to trace, but neither attaches nor stops.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use boreal::memory::{FragmentedMemory, MemoryParams, Region, RegionDescription};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::yara::YaraIncomplete;

/// Largest list of mappings that is read: ten times what the kernel's default of
/// 65,530 mappings needs.
const MAX_MAPS_BYTES: u64 = 64 << 20;

/// Bytes of page table that are looked at for one process; enough for 16 GiB of
/// address space in pages of 4 KiB.
const MAX_PAGEMAP_BYTES: u64 = 32 << 20;

/// Bytes of one entry of `/proc/PID/pagemap`.
const PAGEMAP_ENTRY: u64 = 8;

/// Bits of an entry: the page is in memory, or in swap.
const PAGE_IN_USE: u64 = 1 << 63 | 1 << 62;

/// A region is scanned in parts of this size, which bounds the memory a scan needs.
const PART: u64 = 16 << 20;

/// Why the memory of a process can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessUnread {
    /// It has ended, or it is a thread of the kernel.
    Gone,
    /// We may not trace it.
    Forbidden,
    /// It is ourselves: our memory has the rules, so all of them would match.
    OwnProcess,
    /// Its files in `/proc` can't be read.
    Unreadable(io::ErrorKind),
}

impl ProcessUnread {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "process_gone",
            Self::Forbidden => "forbidden",
            Self::OwnProcess => "own_process",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for ProcessUnread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Unreadable(kind) => write!(f, " ({kind})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProcessUnread {}

impl From<Errno> for ProcessUnread {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            other => Self::Unreadable(other.kind()),
        }
    }
}

impl From<io::Error> for ProcessUnread {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw_os_error(number).into(),
            None => Self::Unreadable(error.kind()),
        }
    }
}

/// The memory of one process, and the parts of it that are worth reading.
#[derive(Debug)]
pub struct ProcessMemory {
    memory: File,
    start_ticks: u64,
    /// By address, apart from each other.
    ranges: Vec<Range>,
    unread: u64,
}

/// Addresses `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

impl ProcessMemory {
    /// Chooses at most `max_bytes` of a process's readable memory: first code that
    /// belongs to no file, then other code, then memory without a file (of it, only
    /// pages in use), then files. Devices and the kernel's own pages are left out.
    ///
    /// # Errors
    /// The reason why nothing can be read.
    pub fn open(pid: u32, max_bytes: u64) -> Result<Self, ProcessUnread> {
        if pid == std::process::id() {
            return Err(ProcessUnread::OwnProcess);
        }
        // All through one folder, which stays that of this process when its id is used again.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(format!("/proc/{pid}"), flags, Mode::empty())?;
        let start_ticks = start_ticks(&folder)?;
        let mut maps = Vec::new();
        open_in(&folder, "maps")?.take(MAX_MAPS_BYTES).read_to_end(&mut maps)?;
        if maps.is_empty() {
            return Err(ProcessUnread::Gone);
        }
        let memory = open_in(&folder, "mem")?;
        let mut mappings: Vec<Mapping> =
            maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).collect();
        mappings.sort_by_key(|mapping| mapping.worth);
        let mut choice = Choice { left: max_bytes, ranges: Vec::new(), unread: 0 };
        let mut pages = open_in(&folder, "pagemap").ok().map(Pages::new);
        for mapping in mappings {
            match &mut pages {
                Some(pages) if mapping.worth == Worth::Anonymous => pages.in_use(mapping.range, &mut choice),
                _ => choice.take(mapping.range),
            }
        }
        let Choice { mut ranges, unread, .. } = choice;
        ranges.sort_by_key(|range| range.start);
        Ok(Self { memory, start_ticks, ranges, unread })
    }

    /// When the process started, in clock ticks since the boot (field 22 of
    /// `/proc/PID/stat`), to be compared with the process that was meant.
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// Bytes that are going to be read.
    pub fn chosen_bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn into_regions(self, deadline: Instant, progress: &ReadProgress) -> Regions<'_> {
        progress.unread.fetch_add(self.unread, Ordering::Relaxed);
        Regions { source: self, progress, deadline, next: 0, current: None, buffer: Vec::new() }
    }
}

fn open_in(folder: &OwnedFd, name: &str) -> Result<File, Errno> {
    Ok(openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn start_ticks(folder: &OwnedFd) -> Result<u64, ProcessUnread> {
    let mut stat = Vec::new();
    open_in(folder, "stat")?.take(4_096).read_to_end(&mut stat)?;
    // The name before the last `)` may have anything in it. Field 3 follows it.
    let after_name = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 1..));
    let field = after_name
        .and_then(|text| std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(22 - 3)?.parse().ok());
    field.ok_or(ProcessUnread::Unreadable(io::ErrorKind::InvalidData))
}

/// How much a mapping is worth to a scan; the first is read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Code without a file, or of a file without a name.
    FilelessCode,
    Code,
    Anonymous,
    File,
}

struct Mapping {
    range: Range,
    worth: Worth,
}

impl Mapping {
    /// One line of `/proc/PID/maps` (proc_pid_maps(5)); `None` for what is not to be read.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let begin = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
            let end = rest[begin..].iter().position(|byte| *byte == b' ').map_or(rest.len(), |at| begin + at);
            let word = &rest[begin..end];
            rest = &rest[end..];
            word
        };
        let (addresses, rights, _offset, _device, inode) = (word(), word(), word(), word(), word());
        let mut addresses = addresses
            .split(|byte| *byte == b'-')
            .map(|digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let range = Range { start: addresses.next()??, end: addresses.next()?? };
        let path = rest.trim_ascii();
        let device =
            path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/") && !path.starts_with(b"/dev/zero");
        // Rings and graphics memory; `[vvar]` and `[vsyscall]` are the kernel's.
        let kernel = path.starts_with(b"anon_inode:") || path.starts_with(b"[v") && path != b"[vdso]";
        if range.start >= range.end || !rights.starts_with(b"r") || device || kernel {
            return None;
        }
        let has_file = inode != b"0";
        let code = rights.get(2) == Some(&b'x');
        let worth = match (code, has_file) {
            (true, false) => Worth::FilelessCode,
            (true, true) if path.ends_with(b" (deleted)") => Worth::FilelessCode,
            (true, true) => Worth::Code,
            (false, false) => Worth::Anonymous,
            (false, true) => Worth::File,
        };
        Some(Self { range, worth })
    }
}

/// What was chosen so far.
struct Choice {
    left: u64,
    ranges: Vec<Range>,
    unread: u64,
}

impl Choice {
    fn take(&mut self, range: Range) {
        let length = (range.end - range.start).min(self.left);
        self.left -= length;
        self.unread = self.unread.saturating_add(range.end - range.start - length);
        if length > 0 {
            self.ranges.push(Range { start: range.start, end: range.start + length });
        }
    }
}

/// Tells which pages a process has used. To read others would make the kernel
/// provide them, and a process may reserve more than any machine has.
struct Pages {
    file: File,
    page: u64,
    left: u64,
    buffer: Vec<u8>,
}

impl Pages {
    fn new(file: File) -> Self {
        let page = rustix::param::page_size() as u64;
        Self { file, page, left: MAX_PAGEMAP_BYTES, buffer: vec![0; 64 << 10] }
    }

    /// Chooses the runs of pages in use.
    fn in_use(&mut self, range: Range, choice: &mut Choice) {
        let mut run: Option<Range> = None;
        let mut address = range.start;
        while address < range.end && choice.left > 0 {
            let entries =
                (range.end - address).div_ceil(self.page).min(self.buffer.len() as u64 / PAGEMAP_ENTRY);
            let wanted = usize::try_from(entries * PAGEMAP_ENTRY).unwrap_or(self.buffer.len());
            if self.left < wanted as u64 {
                break;
            }
            self.left -= wanted as u64;
            let buffer = &mut self.buffer[..wanted];
            if self.file.read_exact_at(buffer, address / self.page * PAGEMAP_ENTRY).is_err() {
                break;
            }
            for entry in buffer.as_chunks::<8>().0 {
                let end = (address + self.page).min(range.end);
                if u64::from_ne_bytes(*entry) & PAGE_IN_USE != 0 {
                    run.get_or_insert(Range { start: address, end }).end = end;
                } else if let Some(run) = run.take() {
                    choice.take(run);
                }
                address = end;
            }
        }
        if let Some(run) = run {
            choice.take(run);
        }
        choice.unread = choice.unread.saturating_add(range.end - address.min(range.end));
    }
}

/// How far the reading came.
#[derive(Debug, Default)]
pub(crate) struct ReadProgress {
    unread: AtomicU64,
    timed_out: AtomicBool,
}

impl ReadProgress {
    pub(crate) fn incomplete(&self) -> Option<YaraIncomplete> {
        let bytes = self.unread.load(Ordering::Relaxed);
        if self.timed_out.load(Ordering::Relaxed) {
            Some(YaraIncomplete::TimedOut)
        } else {
            (bytes > 0).then_some(YaraIncomplete::MemoryUnread { bytes })
        }
    }
}

/// The chosen parts, one after the other, as the scanner asks for them.
#[derive(Debug)]
pub(crate) struct Regions<'a> {
    source: ProcessMemory,
    progress: &'a ReadProgress,
    deadline: Instant,
    /// Index of the range that comes next.
    next: usize,
    current: Option<Range>,
    buffer: Vec<u8>,
}

impl FragmentedMemory for Regions<'_> {
    fn next(&mut self, _params: &MemoryParams) -> Option<RegionDescription> {
        if Instant::now() >= self.deadline {
            self.progress.timed_out.store(true, Ordering::Relaxed);
            return None;
        }
        let ranges = &self.source.ranges;
        // The next part of the same range, or the next range.
        let after = self.current.map_or(0, |part| part.end);
        while ranges.get(self.next).is_some_and(|range| range.end <= after) {
            self.next += 1;
        }
        let range = *ranges.get(self.next)?;
        let start = range.start.max(after);
        let part = Range { start, end: range.end.min(start.saturating_add(PART)) };
        self.current = Some(part);
        Some(RegionDescription {
            start: usize::try_from(part.start).ok()?,
            length: usize::try_from(part.end - part.start).ok()?,
        })
    }

    fn fetch(&mut self, _params: &MemoryParams) -> Option<Region<'_>> {
        let part = self.current?;
        let length = usize::try_from(part.end - part.start).ok()?;
        self.buffer.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self.source.memory.read_at(&mut self.buffer[filled..], part.start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Unmapped by now, or a page that the kernel won't give.
                Err(_) => break,
            }
        }
        self.progress.unread.fetch_add((length - filled) as u64, Ordering::Relaxed);
        let start = usize::try_from(part.start).ok()?;
        (filled > 0).then_some(Region { start, mem: &self.buffer[..filled] })
    }

    fn reset(&mut self) {
        self.next = 0;
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mapping_is_worth() {
        let worth = |line: &str| Mapping::parse(line.as_bytes()).map(|mapping| mapping.worth);
        assert_eq!(worth("7f00-8000 r-xp 00000000 00:00 0 "), Some(Worth::FilelessCode));
        assert_eq!(
            worth("7f00-8000 r-xs 00000000 00:01 77                 /memfd:x (deleted)"),
            Some(Worth::FilelessCode)
        );
        assert_eq!(worth("7f00-8000 r-xp 00000000 fe:01 5     /usr/bin/a b"), Some(Worth::Code));
        assert_eq!(worth("7f00-8000 rw-p 00000000 00:00 0     [heap]"), Some(Worth::Anonymous));
        assert_eq!(worth("7f00-8000 r--p 00000000 fe:01 5     /usr/lib/x.so"), Some(Worth::File));
        for line in [
            "7f00-8000 ---p 00000000 00:00 0",
            "7f00-8000 r--p 00000000 00:00 0     [vvar]",
            "7f00-8000 r-xp 00000000 00:00 0     [vsyscall]",
            "7f00-8000 rw-s 00000000 00:05 9     /dev/dri/card0",
            "7f00-8000 rw-s 00000000 00:0e 9     anon_inode:[io_uring]",
            "8000-7f00 rw-p 00000000 00:00 0",
            "zz-8000 rw-p",
            "",
        ] {
            assert_eq!(worth(line), None, "{line}");
        }
    }

    #[test]
    fn the_choice_ends_at_its_limit_and_counts_the_rest() {
        let mut choice = Choice { left: 10, ranges: Vec::new(), unread: 0 };
        choice.take(Range { start: 0, end: 8 });
        choice.take(Range { start: 100, end: 105 });
        choice.take(Range { start: 200, end: u64::MAX });
        let ranges = [Range { start: 0, end: 8 }, Range { start: 100, end: 102 }];
        assert_eq!((choice.left, choice.ranges.as_slice()), (0, ranges.as_slice()));
        assert_eq!(choice.unread, 3 + (u64::MAX - 200));
    }
}
