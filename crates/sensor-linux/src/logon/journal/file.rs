//! One file of the journal.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Entry;
use crate::escape;

const SIGNATURE: &[u8] = b"LPKSHHRH";
/// Up to and with the time of the newest entry.
const HEADER: usize = 200;

const COMPACT: u32 = 16;
/// XZ, LZ4, keyed hash, ZSTD, compact: a file with any other is of a version to come.
const KNOWN_FLAGS: u32 = 31;

const DATA: u8 = 1;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

const ZSTD: u8 = 4;
const COMPRESSED: u8 = 7;

const STATE_ARCHIVED: u8 = 2;

/// Of one field, one entry, and in one look at most so much is read.
const MOST_VALUE: usize = 16 << 10;
const MOST_ITEMS: usize = 256;
const MOST_ENTRIES: u64 = 2_000;

/// Arrays double in size, so a longer chain can't be right.
const MOST_ARRAYS: usize = 4_096;

/// Data objects that are known to be no facility; forgotten all at once.
const MOST_KNOWN: usize = 4_096;

#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    id: String,
    compact: bool,
    read: u64,
    until_us: u64,
    skip_until_us: u64,
    /// An entry array and the number of its first entry.
    array: Option<(u64, u64)>,
    /// Whether the facility that stands at this offset is one of ours.
    facilities: HashMap<u64, bool>,
    others: HashSet<u64>,
}

impl JournalFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(damaged("not a file"));
        }
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let flags = u32_at(&header, 12);
        if &header[..8] != SIGNATURE || flags & !KNOWN_FLAGS != 0 {
            return Err(damaged("header"));
        }
        Ok(Self {
            file,
            id: header[24..40].iter().map(|byte| format!("{byte:02x}")).collect(),
            compact: flags & COMPACT != 0,
            read: 0,
            until_us: 0,
            skip_until_us: 0,
            array: None,
            facilities: HashMap::new(),
            others: HashSet::new(),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Entries in it now; 0 if it can't be read any more.
    pub(super) fn entries(&self) -> u64 {
        self.header_number(152)
    }

    /// Wall-clock microseconds of its newest entry.
    pub(super) fn newest_us(&self) -> u64 {
        self.header_number(192)
    }

    /// Nothing will be written to it any more.
    pub(super) fn is_archived(&self) -> bool {
        let mut state = [0];
        self.file.read_exact_at(&mut state, 16).is_err() || state[0] == STATE_ARCHIVED
    }

    pub(super) fn read_so_far(&self) -> u64 {
        self.read
    }

    /// Wall-clock microseconds of the newest entry that was read.
    pub(super) fn until_us(&self) -> u64 {
        self.until_us
    }

    /// Goes on behind so many entries.
    pub(super) fn go_to(&mut self, entries: u64) {
        self.read = entries;
        self.array = None;
    }

    /// Entries up to that time were read by another way.
    pub(super) fn skip_until(&mut self, microseconds: u64) {
        self.skip_until_us = microseconds;
    }

    /// Hands out the new entries of interest; true if there are more.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(Entry)) -> io::Result<bool> {
        let entries = self.entries();
        let until = entries.min(self.read.saturating_add(MOST_ENTRIES));
        while self.read < until {
            let offset = self.entry_offset(self.read)?;
            if let Some(entry) = self.entry(offset)? {
                each(entry);
            }
            self.read += 1;
        }
        Ok(self.read < entries)
    }

    fn header_number(&self, at: u64) -> u64 {
        let mut number = [0; 8];
        self.file.read_exact_at(&mut number, at).map_or(0, |()| u64::from_le_bytes(number))
    }

    fn item_size(&self) -> u64 {
        if self.compact { 4 } else { 8 }
    }

    /// Where the entry with this number stands.
    fn entry_offset(&mut self, number: u64) -> io::Result<u64> {
        let (mut array, mut first) = match self.array.filter(|(_, first)| *first <= number) {
            Some(known) => known,
            None => (self.header_number(176), 0),
        };
        for _ in 0..MOST_ARRAYS {
            let head = self.object(array, ENTRY_ARRAY, 24)?;
            let count = (u64_at(&head, 8) - 24) / self.item_size();
            if number < first + count {
                self.array = Some((array, first));
                let at = array + 24 + (number - first) * self.item_size();
                return self.offset_at(at);
            }
            let next = u64_at(&head, 16);
            // Arrays are only ever appended to the file.
            if next <= array {
                break;
            }
            (array, first) = (next, first + count);
        }
        Err(damaged("entry array"))
    }

    fn offset_at(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let length = if self.compact { 4 } else { 8 };
        self.file.read_exact_at(&mut bytes[..length], at)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The first bytes of an object, its type and size checked; offsets and sizes
    /// are whatever stands in the file, so all arithmetic with them is checked.
    fn object(&self, offset: u64, kind: u8, length: usize) -> io::Result<Vec<u8>> {
        if offset < HEADER as u64 || offset > i64::MAX as u64 / 2 {
            return Err(damaged("offset"));
        }
        let mut head = vec![0; length];
        self.file.read_exact_at(&mut head, offset)?;
        let size = u64_at(&head, 8);
        if head[0] != kind || size < length as u64 || size > i64::MAX as u64 / 2 {
            return Err(damaged("object"));
        }
        Ok(head)
    }

    fn entry(&mut self, offset: u64) -> io::Result<Option<Entry>> {
        let head = self.object(offset, ENTRY, 64)?;
        let realtime_us = u64_at(&head, 24);
        self.until_us = self.until_us.max(realtime_us);
        if realtime_us <= self.skip_until_us {
            return Ok(None);
        }
        let item = if self.compact { 4 } else { 16 };
        let count = usize::try_from((u64_at(&head, 8) - 64) / item).unwrap_or(usize::MAX).min(MOST_ITEMS);
        let mut items = vec![0; count * usize::try_from(item).unwrap_or(16)];
        self.file.read_exact_at(&mut items, offset + 64)?;
        let offsets: Vec<u64> = if self.compact {
            items.chunks_exact(4).map(|item| u32_at(item, 0).into()).collect()
        } else {
            items.chunks_exact(16).map(|item| u64_at(item, 0)).collect()
        };
        if !self.is_of_interest(&offsets)? {
            return Ok(None);
        }
        self.fields(&offsets, realtime_us).map(Some)
    }

    fn is_of_interest(&mut self, offsets: &[u64]) -> io::Result<bool> {
        // There is one data object for each facility, so it is nearly always known.
        if let Some(ours) = offsets.iter().find_map(|offset| self.facilities.get(offset)) {
            return Ok(*ours);
        }
        for &offset in offsets {
            if self.others.contains(&offset) {
                continue;
            }
            let (value, _) = self.value(offset, 32)?;
            if let Some(facility) = value.strip_prefix(b"SYSLOG_FACILITY=") {
                let ours = matches!(facility, b"4" | b"10");
                self.facilities.insert(offset, ours);
                return Ok(ours);
            }
            if self.others.len() >= MOST_KNOWN {
                self.others.clear();
            }
            self.others.insert(offset);
        }
        Ok(false)
    }

    fn fields(&self, offsets: &[u64], realtime_us: u64) -> io::Result<Entry> {
        let mut entry = Entry::default();
        let (mut said_pid, mut at_us) = (None, realtime_us);
        for &offset in offsets {
            let (bytes, incomplete) = self.value(offset, MOST_VALUE)?;
            let Some(equals) = memchr::memchr(b'=', &bytes) else {
                // Packed so that not even its name can be read: only a message is that long.
                entry.incomplete = entry.incomplete.or(incomplete);
                continue;
            };
            let text = || escape::text(&bytes[equals + 1..]);
            match &bytes[..equals] {
                b"MESSAGE" => {
                    entry.message = text();
                    entry.incomplete = incomplete;
                }
                b"SYSLOG_IDENTIFIER" => entry.program = text(),
                b"_COMM" => entry.command_name = Some(text()),
                b"_PID" => entry.pid = text().parse().ok(),
                b"SYSLOG_PID" => said_pid = text().parse().ok(),
                b"_UID" => entry.uid = text().parse().ok(),
                b"_SOURCE_REALTIME_TIMESTAMP" => at_us = text().parse().unwrap_or(at_us),
                _ => {}
            }
        }
        // The process that the service names is the one that the line is about.
        entry.pid = said_pid.or(entry.pid);
        entry.at_ns = i64::try_from(at_us.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Ok(entry)
    }

    /// `NAME=value` of a data object, at most so many bytes of it, and what is missing.
    fn value(&self, offset: u64, most: usize) -> io::Result<(Vec<u8>, Option<&'static str>)> {
        let payload: usize = if self.compact { 72 } else { 64 };
        let head = self.object(offset, DATA, payload)?;
        let stored = usize::try_from(u64_at(&head, 8)).unwrap_or(usize::MAX) - payload;
        let packed = head[1] & COMPRESSED;
        let take = if packed == 0 { stored.min(most) } else { stored.min(MOST_VALUE) };
        let mut bytes = vec![0; take];
        self.file.read_exact_at(&mut bytes, offset + payload as u64)?;
        let cut = (take < stored).then_some("cut");
        if packed == 0 {
            return Ok((bytes, cut));
        }
        if packed != ZSTD {
            return Ok((Vec::new(), Some("packed with LZ4 or XZ")));
        }
        let mut value = Vec::new();
        let unpacked = zstd::stream::read::Decoder::new(&bytes[..])
            .and_then(|decoder| decoder.take(most as u64).read_to_end(&mut value));
        let cut = cut.or((unpacked.is_err() || value.len() == most).then_some("cut"));
        Ok((value, cut))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("journal file: {what}"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
