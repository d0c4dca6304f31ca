//! Writing a table.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use event_model::Severity;
use jiff::Timestamp;
use os_files::{Folder, OpenOptionsExt as _};
use xorf::BinaryFuse8;
use xxhash_rust::xxh3::xxh3_128;

use super::TableError;
use super::format::{
    Attributes, Entry, FilterShape, GROUPS, Header, Kind, MAX_ENTRIES, RECORD_UNIT, digest, key,
    network_bytes,
};
use crate::indicator::Indicator;
use crate::value::IndicatorValue;

/// Bytes of attributes that a table takes. Like ones are kept once.
const MAX_ATTRIBUTE_BYTES: u64 = 1 << 30;

/// Indicators of one value that are kept: more than one only where the better one ends earlier. A bucket
/// holds them all.
const KEPT_OF_VALUE: u32 = 4;

/// Of several indicators of one value, the one that is worse, then the surer, then
/// the one that counts for longer.
type Rank = (Severity, u8, i64);

/// An indicator before it is written.
#[derive(Debug)]
struct Gathered {
    entry: Entry,
    /// Which filter it goes into.
    group: usize,
    rank: Rank,
}

/// Gathers indicators and writes them as a table. Needs some 60 bytes of memory for each
/// indicator, and their attributes.
#[derive(Debug)]
pub struct TableBuilder {
    seed: u64,
    entries: Vec<Gathered>,
    attributes: Vec<u8>,
    /// Places of attributes by their hash.
    places: HashMap<u128, u32>,
    v4_prefixes: u32,
    v6_prefixes: u128,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltTable {
    /// Indicators in the table; of one value several, where the better one ends earlier.
    pub indicators: u64,
    /// Indicators whose value another list had too.
    pub repeated: u64,
}

impl TableBuilder {
    /// An empty table. The seed spreads the keys; it should be another for each table
    /// and not be known outside, or others could make values that pass the filter.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            entries: Vec::new(),
            attributes: Vec::new(),
            places: HashMap::new(),
            v4_prefixes: 0,
            v6_prefixes: 0,
        }
    }

    /// Takes an indicator.
    ///
    /// # Errors
    /// [`TableError::TooMany`].
    pub fn add(&mut self, indicator: &Indicator) -> Result<(), TableError> {
        if self.entries.len() >= MAX_ENTRIES as usize {
            return Err(TableError::TooMany { what: "indicators", allowed: MAX_ENTRIES.into() });
        }
        let (network, length);
        let (kind, bytes): (Kind, &[u8]) = match &indicator.value {
            IndicatorValue::Md5(hash) => (Kind::Md5, hash),
            IndicatorValue::Sha1(hash) => (Kind::Sha1, hash),
            IndicatorValue::Sha256(hash) => (Kind::Sha256, hash),
            IndicatorValue::Network { address, prefix } => {
                let bit = prefix.saturating_sub(1);
                let kind = match address {
                    IpAddr::V4(_) => {
                        self.v4_prefixes |= 1_u32.checked_shl(bit.into()).unwrap_or(0);
                        Kind::V4
                    }
                    IpAddr::V6(_) => {
                        self.v6_prefixes |= 1_u128.checked_shl(bit.into()).unwrap_or(0);
                        Kind::V6
                    }
                };
                (network, length) = network_bytes(*address, *prefix);
                (kind, &network[..length])
            }
            IndicatorValue::Domain(name) => (Kind::Domain, name.as_bytes()),
            IndicatorValue::Url(url) => (Kind::Url, url.as_bytes()),
            IndicatorValue::Path(path) => (Kind::Path, path.as_bytes()),
        };
        let Indicator { source, confidence, severity, description, expires, .. } = indicator.clone();
        let rank = (severity, confidence, expires.map_or(i64::MAX, Timestamp::as_second));
        let attributes = self.place(&Attributes { source, confidence, severity, description, expires })?;
        let entry = Entry { key: key(kind, bytes, self.seed), digest: digest(kind, bytes), attributes };
        self.entries.push(Gathered { entry, group: kind.group(), rank });
        Ok(())
    }

    fn place(&mut self, attributes: &Attributes) -> Result<u32, TableError> {
        let begin = self.attributes.len();
        attributes.write(&mut self.attributes);
        let hash = xxh3_128(&self.attributes[begin..]);
        if let Some(place) = self.places.get(&hash) {
            self.attributes.truncate(begin);
            return Ok(*place);
        }
        if self.attributes.len() as u64 > MAX_ATTRIBUTE_BYTES {
            return Err(TableError::TooMany { what: "bytes of attributes", allowed: MAX_ATTRIBUTE_BYTES });
        }
        let place = u32::try_from(begin as u64 / RECORD_UNIT).unwrap_or(u32::MAX);
        self.places.insert(hash, place);
        Ok(place)
    }

    /// Writes the table in place of what `path` has. The file is the owner's alone, and
    /// is there whole or not at all; an open table goes on with the old one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(mut self, path: &Path) -> Result<BuiltTable, TableError> {
        let failed = |source| TableError::Io { path: path.display().to_string(), source };
        let added = self.entries.len();
        // The best of a value first, and behind it what still counts when that has ended.
        let value = |one: &Gathered| (one.entry.key, one.entry.digest);
        self.entries.sort_unstable_by(|a, b| {
            value(a)
                .cmp(&value(b))
                .then(b.rank.cmp(&a.rank))
                .then(a.entry.attributes.cmp(&b.entry.attributes))
        });
        let mut values = u64::from(!self.entries.is_empty());
        let mut kept = 1;
        self.entries.dedup_by(|later, before| {
            if value(later) != value(before) {
                (values, kept) = (values + 1, 1);
                return false;
            }
            let ends_later = later.rank.2 > before.rank.2;
            if ends_later && kept < KEPT_OF_VALUE {
                kept += 1;
                return false;
            }
            if ends_later {
                std::mem::swap(later, before);
            }
            true
        });
        let entries = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);

        let mut resident = Vec::new();
        let mut shapes = [const { FilterShape::EMPTY }; GROUPS];
        for (group, shape) in shapes.iter_mut().enumerate() {
            let of_group = self.entries.iter().filter(|one| one.group == group);
            let mut keys: Vec<u64> = of_group.map(|one| one.entry.key).collect();
            keys.dedup();
            if !keys.is_empty() {
                let filter =
                    BinaryFuse8::try_from(&keys).map_err(|reason| failed(io::Error::other(reason)))?;
                let fingerprints = u32::try_from(filter.fingerprints.len()).unwrap_or(0);
                *shape = FilterShape { descriptor: filter.descriptor, fingerprints };
                resident.extend(&filter.fingerprints);
            }
        }
        let mut header = Header::new(self.seed, entries, shapes);
        (header.v4_prefixes, header.v6_prefixes) = (self.v4_prefixes, self.v6_prefixes);

        let mut blocks: Vec<&[Gathered]> = Vec::with_capacity(header.bucket_count());
        let mut rest = self.entries.as_slice();
        let mut first = 0_u32;
        for bucket in 0..header.bucket_count() {
            resident.extend(first.to_le_bytes());
            let count = rest.partition_point(|one| header.bucket_of(one.entry.key) <= bucket);
            let (block, after) = rest.split_at(count);
            blocks.push(block);
            rest = after;
            first += u32::try_from(count).unwrap_or(0);
        }
        resident.extend(first.to_le_bytes());
        header.resident_crc = crc32fast::hash(&resident);

        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unfinished = path.with_extension("unfinished");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
        let mut out = io::BufWriter::new(&file);
        let mut put = |bytes: &[u8]| out.write_all(bytes);
        put(&header.to_bytes()).map_err(failed)?;
        put(&resident).map_err(failed)?;
        let mut bytes = Vec::new();
        for block in blocks {
            bytes.clear();
            block.iter().for_each(|one| one.entry.write(&mut bytes));
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            put(&bytes).map_err(failed)?;
        }
        let padding = header.attributes_padding();
        put(&[0; RECORD_UNIT as usize][..padding]).map_err(failed)?;
        put(&self.attributes).map_err(failed)?;
        out.flush().map_err(failed)?;
        drop(out);
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished, path).map_err(failed)?;
        // So that the name is on disk too.
        Folder::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(BuiltTable { indicators: entries.into(), repeated: added as u64 - values })
    }
}
