//! One immutable file of indicators, and looking things up in it.
//!
//! Memory holds binary fuse filters (Graf and Lemire, "Binary Fuse Filters", 2022; nine
//! bits for each indicator, one of 256 absent values passes) and where each bucket of the
//! file begins. What passes the filter is read from its bucket and confirmed by 128
//! bits of SHA-256.

mod build;
mod format;
mod probes;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use event_model::Severity;
use jiff::Timestamp;
use os_files::FileExt as _;
use xorf::{BinaryFuse8, Filter};

pub use build::{BuiltTable, TableBuilder};
pub use probes::Probes;

use crate::value::{Canonical, IndicatorValue, MAX_VALUE_BYTES, Observable, masked};
use format::{Attributes, ENTRY_BYTES, FilterShape, GROUPS, Header, Kind, digest, key};

/// Room for a bucket of usual size, in bytes.
const USUAL_BUCKET: usize = 1_024;

/// Room for attributes of usual size, in bytes.
const USUAL_RECORD: usize = 256;

/// What went wrong with a table's file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system refused.
    #[error("indicator table {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("indicator table {path} is damaged ({what}); build it anew from its lists")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        what: &'static str,
    },
    /// More than a table takes.
    #[error("an indicator table takes {allowed} {what}; split the lists")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it takes.
        allowed: u64,
    },
}

/// An indicator that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndicatorMatch {
    /// The indicator: for an address maybe its network, for a name maybe a domain above it.
    pub value: IndicatorValue,
    /// Who says that it is bad.
    pub source: String,
    /// How sure the source is, 0 to 100.
    pub confidence: u8,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub description: String,
    /// When it stops to count.
    pub expires: Option<Timestamp>,
}

/// An open table. Looking up needs no lock and no memory unless there is a match.
#[derive(Debug)]
pub struct IndicatorTable {
    file: File,
    path: String,
    header: Header,
    /// One for each group of kinds; `None` where the table has nothing of it.
    filters: [Option<BinaryFuse8>; GROUPS],
    /// First entry of each bucket, and the number of entries.
    buckets: Box<[u32]>,
}

impl IndicatorTable {
    /// Opens a table that [`TableBuilder`] wrote. The file must not be writable for
    /// others; damage is found here or when the damaged part is read.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let shown = path.display().to_string();
        let failed = |source| TableError::Io { path: shown.clone(), source };
        let damaged = |what| TableError::Damaged { path: shown.clone(), what };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = [0; Header::BYTES];
        read_at(&file, &mut bytes, 0).map_err(failed)?.ok_or_else(|| damaged("it is too short"))?;
        let header = Header::parse(&bytes, size).map_err(damaged)?;
        // Both lengths are checked against the file's size by now.
        let mut resident = vec![0; header.resident_bytes()];
        read_at(&file, &mut resident, Header::BYTES as u64)
            .map_err(failed)?
            .ok_or_else(|| damaged("it is too short"))?;
        if crc32fast::hash(&resident) != header.resident_crc {
            return Err(damaged("the filter's checksum"));
        }
        let mut rest = resident.as_slice();
        let filters = header.filters.clone().map(|FilterShape { descriptor, fingerprints }| {
            let (mine, after) = rest.split_at_checked(fingerprints as usize)?;
            rest = after;
            (!mine.is_empty()).then(|| BinaryFuse8 { descriptor, fingerprints: mine.into() })
        });
        let buckets: Box<[u32]> =
            rest.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let ascending =
            buckets.is_sorted() && buckets.first() == Some(&0) && buckets.last() == Some(&header.entries);
        if !ascending {
            return Err(damaged("the buckets"));
        }
        Ok(Self { file, path: shown, header, filters, buckets })
    }

    /// Number of indicators.
    pub fn len(&self) -> u64 {
        u64::from(self.header.entries)
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the table holds.
    pub fn memory_bytes(&self) -> usize {
        let fingerprints: usize = self.filters.iter().flatten().map(|filter| filter.fingerprints.len()).sum();
        size_of::<Self>() + fingerprints + size_of_val(&*self.buckets)
    }

    /// The indicator that says something of what was seen, if it has not expired. Of
    /// several networks or domains, the narrowest.
    ///
    /// # Errors
    /// The file can't be read or is damaged. It is then best to open it again.
    pub fn lookup(&self, seen: Observable<'_>, now: Timestamp) -> Result<Option<IndicatorMatch>, TableError> {
        match seen {
            Observable::Md5(hash) => self.find(Kind::Md5, hash, now, || IndicatorValue::Md5(*hash)),
            Observable::Sha1(hash) => self.find(Kind::Sha1, hash, now, || IndicatorValue::Sha1(*hash)),
            Observable::Sha256(hash) => self.find(Kind::Sha256, hash, now, || IndicatorValue::Sha256(*hash)),
            Observable::Ip(address) => self.lookup_ip(address.to_canonical(), now),
            Observable::Domain(name) => self.lookup_domain(name, now),
            // Few are longer, and room costs time to clear.
            Observable::Url(url) if url.len() < 250 => self.lookup_url::<256>(url, now),
            Observable::Url(url) => self.lookup_url::<MAX_VALUE_BYTES>(url, now),
            Observable::Path(path) if path.len() < 250 => self.lookup_path::<256>(path, now),
            Observable::Path(path) => self.lookup_path::<MAX_VALUE_BYTES>(path, now),
        }
    }

    fn lookup_ip(&self, address: IpAddr, now: Timestamp) -> Result<Option<IndicatorMatch>, TableError> {
        match address {
            IpAddr::V4(address) => {
                for (prefix, masked) in self.v4_networks(address.to_bits()) {
                    let value =
                        || IndicatorValue::Network { address: Ipv4Addr::from_bits(masked).into(), prefix };
                    if let Some(found) = self.find(Kind::V4, &v4_bytes(prefix, masked), now, value)? {
                        return Ok(Some(found));
                    }
                }
            }
            IpAddr::V6(_) => {
                for prefix in self.v6_prefixes() {
                    let address = masked(address, prefix);
                    let (bytes, length) = format::network_bytes(address, prefix);
                    let value = || IndicatorValue::Network { address, prefix };
                    if let Some(found) = self.find(Kind::V6, &bytes[..length], now, value)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Prefixes and first addresses of the networks that the table may have of an address: only lengths that it
    /// has, the longest first.
    fn v4_networks(&self, address: u32) -> impl Iterator<Item = (u8, u32)> + use<> {
        let mut lengths = self.header.v4_prefixes;
        std::iter::from_fn(move || {
            let bit = lengths.checked_ilog2()?;
            lengths &= !(1 << bit);
            Some((u8::try_from(bit + 1).unwrap_or(32), address & (u32::MAX << (31 - bit))))
        })
    }

    /// The lengths of prefixes that it has, the longest first.
    fn v6_prefixes(&self) -> impl Iterator<Item = u8> + use<> {
        let mut lengths = self.header.v6_prefixes;
        std::iter::from_fn(move || {
            let bit = lengths.checked_ilog2()?;
            lengths &= !(1 << bit);
            Some(u8::try_from(bit + 1).unwrap_or(128))
        })
    }

    fn lookup_url<const ROOM: usize>(
        &self,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<IndicatorMatch>, TableError> {
        match Canonical::<ROOM>::new().url(url) {
            Some(url) => self.find(Kind::Url, url, now, || IndicatorValue::Url(text(url))),
            None => Ok(None),
        }
    }

    fn lookup_path<const ROOM: usize>(
        &self,
        path: &str,
        now: Timestamp,
    ) -> Result<Option<IndicatorMatch>, TableError> {
        match Canonical::<ROOM>::new().path(path) {
            Some(path) => self.find(Kind::Path, path, now, || IndicatorValue::Path(text(path))),
            None => Ok(None),
        }
    }

    fn lookup_domain(&self, name: &str, now: Timestamp) -> Result<Option<IndicatorMatch>, TableError> {
        let mut buffer = Canonical::<256>::new();
        for name in buffer.domain(name).into_iter().flat_map(with_parents) {
            if let Some(found) = self.find(Kind::Domain, name, now, || IndicatorValue::Domain(text(name)))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    #[inline]
    fn find(
        &self,
        kind: Kind,
        bytes: &[u8],
        now: Timestamp,
        value: impl FnOnce() -> IndicatorValue,
    ) -> Result<Option<IndicatorMatch>, TableError> {
        let Some(filter) = &self.filters[kind.group()] else { return Ok(None) };
        let key = key(kind, bytes, self.header.seed);
        if !filter.contains(&key) {
            return Ok(None);
        }
        let Some(attributes) = self.confirm(key, || digest(kind, bytes), now)? else { return Ok(None) };
        let Attributes { source, confidence, severity, description, expires } = attributes;
        Ok(Some(IndicatorMatch { value: value(), source, confidence, severity, description, expires }))
    }

    /// Looks into the file for the best that has not expired.
    #[cold]
    fn confirm(
        &self,
        key: u64,
        digest: impl FnOnce() -> [u8; 16],
        now: Timestamp,
    ) -> Result<Option<Attributes>, TableError> {
        let failed = |source| TableError::Io { path: self.path.clone(), source };
        let damaged = |what| TableError::Damaged { path: self.path.clone(), what };
        let bucket = self.header.bucket_of(key);
        let (Some(first), Some(end)) = (self.buckets.get(bucket), self.buckets.get(bucket + 1)) else {
            return Err(damaged("the buckets"));
        };
        let count = end - first;
        // Keys are spread evenly, so a bucket has some dozens.
        if count > format::MAX_BUCKET_ENTRIES {
            return Err(damaged("a bucket"));
        }
        let mut room = [0; USUAL_BUCKET];
        let mut more = Vec::new();
        let length = count as usize * ENTRY_BYTES + 4;
        let block = match room.get_mut(..length) {
            Some(block) => block,
            None => {
                more.resize(length, 0);
                more.as_mut_slice()
            }
        };
        let offset = self.header.bucket_offset(bucket, *first);
        read_at(&self.file, block, offset).map_err(failed)?.ok_or_else(|| damaged("it is too short"))?;
        let entries = format::checked(block).ok_or_else(|| damaged("a bucket's checksum"))?;
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let mut same_key =
            entries.iter().map(format::Entry::parse).filter(|entry| entry.key == key).peekable();
        if same_key.peek().is_none() {
            return Ok(None);
        }
        let digest = digest();
        for entry in same_key.filter(|entry| entry.digest == digest) {
            let attributes = self.attributes(entry.attributes)?;
            if attributes.expires.is_none_or(|expires| expires > now) {
                return Ok(Some(attributes));
            }
        }
        Ok(None)
    }

    fn attributes(&self, place: u32) -> Result<Attributes, TableError> {
        let failed = |source| TableError::Io { path: self.path.clone(), source };
        let offset = self.header.attributes_offset(place);
        let mut room = [0; USUAL_RECORD];
        let read = read_some(&self.file, &mut room, offset).map_err(failed)?;
        if let Some(attributes) = Attributes::parse(&room[..read]) {
            return Ok(attributes);
        }
        let mut record = vec![0; Attributes::MAX_BYTES];
        let read = read_some(&self.file, &mut record, offset).map_err(failed)?;
        let damaged = TableError::Damaged { path: self.path.clone(), what: "an indicator's attributes" };
        Attributes::parse(&record[..read]).ok_or(damaged)
    }
}

/// A name and what stands above it; no indicator has one part alone.
fn with_parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let name = rest?;
        let dot = name.iter().position(|byte| *byte == b'.')?;
        rest = name.get(dot + 1..);
        Some(name)
    })
}

/// As `format::network_bytes` has them, and nothing larger than a word: there are many of these.
fn v4_bytes(prefix: u8, masked: u32) -> [u8; 5] {
    let [a, b, c, d] = masked.to_be_bytes();
    [prefix, a, b, c, d]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fills the buffer; `None` where the file ends before.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<()>> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads as much as there is.
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
