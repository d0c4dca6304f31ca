//! One immutable file of indicators, and looking things up in it.
//!
//! Memory holds a binary fuse filter (Graf and Lemire, "Binary Fuse Filters", 2022; nine
//! bits for each indicator, one of 256 absent values passes) and where each bucket of the
//! file begins. What passes the filter is read from its bucket and confirmed by 128
//! bits of SHA-256.

mod build;
mod format;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use event_model::Severity;
use jiff::Timestamp;
use xorf::{BinaryFuse8, Filter};

pub use build::{BuiltTable, TableBuilder};

use crate::value::{Canonical, IndicatorValue, MAX_VALUE_BYTES, Observable, masked};
use format::{Attributes, ENTRY_BYTES, Header, Kind, digest, key};

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
    filter: BinaryFuse8,
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
        let directory = resident.split_off(header.filter_bytes());
        let buckets: Box<[u32]> =
            directory.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        drop(directory);
        let ascending =
            buckets.is_sorted() && buckets.first() == Some(&0) && buckets.last() == Some(&header.entries);
        if !ascending {
            return Err(damaged("the buckets"));
        }
        let filter =
            BinaryFuse8 { descriptor: header.filter.clone(), fingerprints: resident.into_boxed_slice() };
        Ok(Self { file, path: shown, header, filter, buckets })
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
        size_of::<Self>() + self.filter.fingerprints.len() + size_of_val(&*self.buckets)
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
            Observable::Url(url) => match Canonical::<MAX_VALUE_BYTES>::new().url(url) {
                Some(url) => self.find(Kind::Url, url, now, || IndicatorValue::Url(text(url))),
                None => Ok(None),
            },
            Observable::Path(path) => match Canonical::<MAX_VALUE_BYTES>::new().path(path) {
                Some(path) => self.find(Kind::Path, path, now, || IndicatorValue::Path(text(path))),
                None => Ok(None),
            },
        }
    }

    fn lookup_ip(&self, address: IpAddr, now: Timestamp) -> Result<Option<IndicatorMatch>, TableError> {
        let (kind, mut lengths) = match address {
            IpAddr::V4(_) => (Kind::V4, u128::from(self.header.v4_prefixes)),
            IpAddr::V6(_) => (Kind::V6, self.header.v6_prefixes),
        };
        // Only lengths that the table has, the longest first.
        while let Some(bit) = lengths.checked_ilog2() {
            lengths &= !(1 << bit);
            let prefix = u8::try_from(bit + 1).unwrap_or(128);
            let address = masked(address, prefix);
            let (bytes, length) = format::network_bytes(address, prefix);
            let value = || IndicatorValue::Network { address, prefix };
            if let Some(found) = self.find(kind, &bytes[..length], now, value)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn lookup_domain(&self, name: &str, now: Timestamp) -> Result<Option<IndicatorMatch>, TableError> {
        let mut buffer = Canonical::<256>::new();
        let Some(mut name) = buffer.domain(name) else { return Ok(None) };
        // The name itself and what stands above it; no indicator has one part alone.
        while let Some(dot) = name.iter().position(|byte| *byte == b'.') {
            if let Some(found) = self.find(Kind::Domain, name, now, || IndicatorValue::Domain(text(name)))? {
                return Ok(Some(found));
            }
            name = &name[dot + 1..];
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
        let key = key(kind, bytes, self.header.seed);
        if self.header.entries == 0 || !self.filter.contains(&key) {
            return Ok(None);
        }
        let Some(attributes) = self.confirm(key, digest(kind, bytes))? else { return Ok(None) };
        if attributes.expires.is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        let Attributes { source, confidence, severity, description, expires } = attributes;
        Ok(Some(IndicatorMatch { value: value(), source, confidence, severity, description, expires }))
    }

    /// Looks into the file.
    #[cold]
    fn confirm(&self, key: u64, digest: [u8; 16]) -> Result<Option<Attributes>, TableError> {
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
        let mut block = vec![0; count as usize * ENTRY_BYTES + 4];
        let offset = self.header.bucket_offset(bucket, *first);
        read_at(&self.file, &mut block, offset).map_err(failed)?.ok_or_else(|| damaged("it is too short"))?;
        let entries = format::checked(&block).ok_or_else(|| damaged("a bucket's checksum"))?;
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let found =
            entries.iter().map(format::Entry::parse).find(|entry| entry.key == key && entry.digest == digest);
        let Some(entry) = found else { return Ok(None) };
        let mut record = vec![0; Attributes::MAX_BYTES];
        let offset = self.header.attributes_offset(entry.attributes);
        let read = read_some(&self.file, &mut record, offset).map_err(failed)?;
        let attributes =
            Attributes::parse(&record[..read]).ok_or_else(|| damaged("an indicator's attributes"))?;
        Ok(Some(attributes))
    }
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
