//! The bytes of a table's file, all numbers little-endian.
//!
//! ```text
//! header    256 bytes, the last four their CRC-32
//! filters   fingerprints of a filter for each group     } kept in memory,
//! directory u32 first entry of each bucket, and the end } one CRC-32 in the header
//! buckets   entries sorted by key, and their CRC-32
//! records   attributes, each with its length and CRC-32, at multiples of 8
//! ```
//!
//! The bucket of a key is its highest bits.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest as sha256};
use event_model::Severity;
use jiff::Timestamp;
use xorf::Descriptor;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: &[u8; 8] = b"RMPINDIC";
const VERSION: u32 = 1;

/// Bytes of an entry: key, digest, place of the attributes.
pub(super) const ENTRY_BYTES: usize = 28;

/// Entries of a table: the directory counts in 32 bits, and the filter is built in memory.
pub(super) const MAX_ENTRIES: u32 = 100_000_000;

/// Entries that a bucket has on average, at most: 450 bytes to read, for four bits of
/// memory for each entry.
const BUCKET_ENTRIES: u32 = 16;

/// A bucket with more is damaged: keys are spread evenly.
pub(super) const MAX_BUCKET_ENTRIES: u32 = 32 * BUCKET_ENTRIES;

/// Records begin at multiples of this, so that 32 bits reach 32 GiB.
pub(super) const RECORD_UNIT: u64 = 8;

/// What an entry is about. The numbers stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Md5 = 1,
    Sha1 = 2,
    Sha256 = 3,
    V4 = 4,
    V6 = 5,
    Domain = 6,
    Url = 7,
    Path = 8,
}

impl Kind {
    /// Kinds that share a filter. A smaller filter is nearer in the cache, and what no
    /// list has costs nothing.
    pub(super) fn group(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 | Self::Sha256 => 0,
            Self::V4 | Self::V6 => 1,
            Self::Domain => 2,
            Self::Url => 3,
            Self::Path => 4,
        }
    }
}

/// Groups of kinds.
pub(super) const GROUPS: usize = 5;

/// The key of a value: fast, seeded for each table, and not to be trusted alone.
pub(super) fn key(kind: Kind, bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed ^ (kind as u64) << 56)
}

/// What confirms a value.
pub(super) fn digest(kind: Kind, bytes: &[u8]) -> [u8; 16] {
    let whole = sha256(&SHA256, &[&[kind as u8], bytes].concat());
    let mut half = [0; 16];
    half.copy_from_slice(&whole.as_ref()[..16]);
    half
}

/// The bytes of a network, and how many there are.
pub(super) fn network_bytes(address: IpAddr, prefix: u8) -> ([u8; 17], usize) {
    let mut bytes = [0; 17];
    bytes[0] = prefix;
    match address {
        IpAddr::V4(address) => {
            bytes[1..5].copy_from_slice(&address.octets());
            (bytes, 5)
        }
        IpAddr::V6(address) => {
            bytes[1..].copy_from_slice(&address.octets());
            (bytes, 17)
        }
    }
}

/// The bytes before the CRC-32 at their end; `None` where it is another.
pub(super) fn checked(block: &[u8]) -> Option<&[u8]> {
    let (bytes, crc) = block.split_last_chunk::<4>()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*crc)).then_some(bytes)
}

/// How a filter's fingerprints are arranged; without any, nothing passes it.
#[derive(Debug, Clone)]
pub(super) struct FilterShape {
    pub(super) descriptor: Descriptor,
    pub(super) fingerprints: u32,
}

impl FilterShape {
    pub(super) const EMPTY: Self = Self {
        descriptor: Descriptor {
            seed: 0,
            segment_length: 1,
            segment_length_mask: 0,
            segment_count_length: 0,
        },
        fingerprints: 0,
    };

    /// Whether a look-up can't reach beyond the fingerprints.
    fn is_sound(&self) -> bool {
        let Descriptor { segment_length, segment_length_mask, segment_count_length, .. } = self.descriptor;
        // From any place of its segments, a look-up reaches into the two that follow.
        let reach = u64::from(segment_count_length) + 2 * u64::from(segment_length);
        segment_length.is_power_of_two()
            && segment_length_mask == segment_length - 1
            && segment_count_length.is_multiple_of(segment_length)
            && self.fingerprints <= 2 * MAX_ENTRIES
            && (self.fingerprints == 0 || segment_count_length > 0 && reach <= u64::from(self.fingerprints))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) seed: u64,
    pub(super) entries: u32,
    /// Buckets are two to the power of this.
    bucket_bits: u32,
    pub(super) filters: [FilterShape; GROUPS],
    pub(super) resident_crc: u32,
    /// Bit n for prefixes of length n + 1.
    pub(super) v4_prefixes: u32,
    pub(super) v6_prefixes: u128,
}

impl Header {
    pub(super) const BYTES: usize = 256;

    pub(super) fn new(seed: u64, entries: u32, filters: [FilterShape; GROUPS]) -> Self {
        let buckets = entries.div_ceil(BUCKET_ENTRIES).next_power_of_two();
        Self {
            seed,
            entries,
            bucket_bits: buckets.trailing_zeros(),
            filters,
            resident_crc: 0,
            v4_prefixes: 0,
            v6_prefixes: 0,
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend(MAGIC);
        for number in [VERSION, self.entries, self.bucket_bits, self.resident_crc, self.v4_prefixes] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.seed.to_le_bytes());
        bytes.extend(self.v6_prefixes.to_le_bytes());
        for FilterShape { descriptor, fingerprints } in &self.filters {
            let Descriptor { seed, segment_length, segment_length_mask, segment_count_length } = descriptor;
            bytes.extend(seed.to_le_bytes());
            for number in [segment_length, segment_length_mask, segment_count_length, fingerprints] {
                bytes.extend(number.to_le_bytes());
            }
        }
        bytes.resize(Self::BYTES - 4, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let mut whole = [0; Self::BYTES];
        whole.copy_from_slice(&bytes);
        whole
    }

    /// # Errors
    /// What is wrong. Whatever passes can be used without reaching beyond the file
    /// or beyond what was allocated.
    pub(super) fn parse(bytes: &[u8; Self::BYTES], file_size: u64) -> Result<Self, &'static str> {
        let fields = checked(bytes).filter(|bytes| bytes.starts_with(MAGIC)).ok_or("the header")?;
        let mut fields = Fields(&fields[MAGIC.len()..]);
        if fields.u32() != VERSION {
            return Err("another version");
        }
        let header = Self {
            entries: fields.u32(),
            bucket_bits: fields.u32(),
            resident_crc: fields.u32(),
            v4_prefixes: fields.u32(),
            seed: fields.u64(),
            v6_prefixes: u128::from_le_bytes(fields.take()),
            filters: std::array::from_fn(|_| FilterShape {
                descriptor: Descriptor {
                    seed: fields.u64(),
                    segment_length: fields.u32(),
                    segment_length_mask: fields.u32(),
                    segment_count_length: fields.u32(),
                },
                fingerprints: fields.u32(),
            }),
        };
        let sound = header.filters.iter().all(FilterShape::is_sound);
        if !sound || header.bucket_bits > 31 || header.entries > MAX_ENTRIES {
            return Err("the header");
        }
        if header.buckets_end() > file_size {
            return Err("it is too short");
        }
        Ok(header)
    }

    fn filter_bytes(&self) -> usize {
        self.filters.iter().map(|filter| filter.fingerprints as usize).sum()
    }

    fn directory_bytes(&self) -> usize {
        4 * ((1 << self.bucket_bits) + 1)
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.filter_bytes() + self.directory_bytes()
    }

    pub(super) fn bucket_count(&self) -> usize {
        1 << self.bucket_bits
    }

    pub(super) fn bucket_of(&self, key: u64) -> usize {
        usize::try_from(key.checked_shr(64 - self.bucket_bits).unwrap_or(0)).unwrap_or(usize::MAX)
    }

    fn buckets_begin(&self) -> u64 {
        (Self::BYTES + self.resident_bytes()) as u64
    }

    /// Where a bucket begins: each before it has a checksum behind its entries.
    pub(super) fn bucket_offset(&self, bucket: usize, first: u32) -> u64 {
        self.buckets_begin() + u64::from(first) * ENTRY_BYTES as u64 + 4 * bucket as u64
    }

    fn buckets_end(&self) -> u64 {
        self.bucket_offset(self.bucket_count(), self.entries)
    }

    /// Bytes between the buckets and the attributes, less than [`RECORD_UNIT`].
    pub(super) fn attributes_padding(&self) -> usize {
        let end = self.buckets_end();
        usize::try_from(end.next_multiple_of(RECORD_UNIT) - end).unwrap_or(0)
    }

    pub(super) fn attributes_offset(&self, place: u32) -> u64 {
        self.buckets_end().next_multiple_of(RECORD_UNIT) + u64::from(place) * RECORD_UNIT
    }
}

/// Fixed fields, of which there are enough by the length of what they stand in.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; LENGTH],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) digest: [u8; 16],
    /// Place of the attributes in units of [`RECORD_UNIT`].
    pub(super) attributes: u32,
}

impl Entry {
    pub(super) fn parse(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let mut fields = Fields(bytes);
        Self { key: fields.u64(), digest: fields.take(), attributes: fields.u32() }
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.key.to_le_bytes());
        bytes.extend(self.digest);
        bytes.extend(self.attributes.to_le_bytes());
    }
}

/// What is known of an indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) source: String,
    pub(super) confidence: u8,
    pub(super) severity: Severity,
    pub(super) description: String,
    pub(super) expires: Option<Timestamp>,
}

impl Attributes {
    /// Length and CRC-32 before, then fields and texts, of which a character may have four bytes.
    pub(super) const MAX_BYTES: usize =
        8 + 16 + 4 * (crate::MAX_SOURCE_CHARACTERS + crate::MAX_DESCRIPTION_CHARACTERS);

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let mut body = Vec::new();
        body.extend(self.expires.map_or(i64::MAX, Timestamp::as_second).to_le_bytes());
        body.push(self.severity as u8);
        body.push(self.confidence);
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let source = cut(&self.source, crate::MAX_SOURCE_CHARACTERS);
        let description = cut(&self.description, crate::MAX_DESCRIPTION_CHARACTERS);
        // At most 400 bytes.
        body.extend(u16::try_from(source.len()).unwrap_or(0).to_le_bytes());
        body.extend(source.as_bytes());
        body.extend(description.as_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(&body);
        bytes.resize(bytes.len().next_multiple_of(RECORD_UNIT as usize), 0);
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let body = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (expires, rest) = body.split_first_chunk::<8>()?;
        let ([severity, confidence], rest) = rest.split_first_chunk::<2>()?;
        let (source_length, rest) = rest.split_first_chunk::<2>()?;
        let (source, description) = rest.split_at_checked(u16::from_le_bytes(*source_length).into())?;
        let expires = i64::from_le_bytes(*expires);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Self {
            source: text(source)?,
            confidence: *confidence,
            severity: *Severity::ALL.get(usize::from(*severity))?,
            description: text(description)?,
            expires: if expires == i64::MAX { None } else { Some(Timestamp::from_second(expires).ok()?) },
        })
    }
}
