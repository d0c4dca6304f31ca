//! The form of a batch on disk: a header, then note and payload.
//!
//! ```text
//!  0 magic "RSB1"     4 version u16 (2)   6 flags u16 (1: has a position)
//!  8 boot_id [16]    24 first_sequence   32 record_count u32   36 payload_len u32
//! 40 stream u64      48 offset u64       56 from_ns i64        64 until_ns i64
//! 72 note_len u32    76 body_crc u32     80 kinds u16          82 zero u16
//! 84 told: segment u64, offset u64, loss u64                  108 kinds_crc u32
//! 112 header_crc u32
//! 116 for each kind: kind u16, then u64 each: records and acts of this batch,
//!     records and acts of the batches of this boot before it
//! ```
//! Numbers are little-endian. The header has checksums of its own, so that damage
//! in a payload costs that batch alone and says what it held; and since each header
//! says what came before it, so does damage in a header.
//!
//! Version 1, which is read and no longer written, ended with a checksum at 80: it
//! had neither kinds nor `told`.

use crate::state::Told;
use crate::tally::{Amount, MAX_KINDS, Tally};

/// Size of the part of a header that says how long the rest is.
pub(crate) const FIXED_LEN: usize = 116;
/// Size of a header of version 1.
const OLD_LEN: usize = 84;
const KIND_LEN: usize = 34;
/// The longest header.
pub(crate) const MAX_HEADER_LEN: usize = FIXED_LEN + MAX_KINDS * KIND_LEN;
/// The shortest header.
pub(crate) const MIN_HEADER_LEN: usize = OLD_LEN;

/// The longest payload that is taken: no batch comes near it, so a longer length is damage.
pub const MAX_PAYLOAD: usize = 32 << 20;

/// The longest note that is taken.
pub const MAX_NOTE: usize = 1 << 20;

pub(crate) const MAGIC: [u8; 4] = *b"RSB1";
const OLD_VERSION: u16 = 1;
pub(crate) const VERSION: u16 = 2;
const HAS_POSITION: u16 = 1;

/// How far a sensor had come when a batch was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The sensor's stream.
    pub stream: u64,
    /// Place in it.
    pub offset: u64,
}

/// What stands in clear beside a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BatchHeader {
    /// The boot whose records these are.
    pub boot_id: [u8; 16],
    /// Number of the first record.
    pub first_sequence: u64,
    /// How many records; their numbers follow each other.
    pub record_count: u32,
    /// Wall-clock time of the earliest and the latest record, in nanoseconds since
    /// the Unix epoch: if the batch is lost, this is when there is a gap.
    pub span: (i64, i64),
    /// How far the sensor had come; `None` where no observation stands behind the batch.
    pub position: Option<Position>,
    /// What the batch holds, by kind.
    #[serde(default)]
    pub counts: Tally,
}

impl BatchHeader {
    /// Number of the last record; one before the first for an empty batch.
    pub fn last_sequence(&self) -> u64 {
        (self.first_sequence + u64::from(self.record_count)).saturating_sub(1)
    }
}

/// A header as read, with what is needed to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredHeader {
    pub(crate) header: BatchHeader,
    /// What the batches of this boot before it held; `None` in a header of version 1.
    pub(crate) before: Option<Tally>,
    pub(crate) told: Told,
    header_len: usize,
    pub(crate) note_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) body_crc: u32,
}

impl StoredHeader {
    /// Bytes from the start of this batch to the start of the next.
    pub(crate) fn total_len(&self) -> u64 {
        self.body_offset() + u64::from(self.note_len) + u64::from(self.payload_len)
    }

    /// Bytes from the start of this batch to its note.
    pub(crate) fn body_offset(&self) -> u64 {
        self.header_len as u64
    }

    /// What the batches of this boot held, this one included.
    pub(crate) fn through(&self) -> Option<Tally> {
        let mut through = self.before.clone()?;
        through.add_all(&self.header.counts);
        Some(through)
    }

    /// What the batch held, where its header says it.
    pub(crate) fn counts(&self) -> Option<Tally> {
        self.before.as_ref().map(|_| self.header.counts.clone())
    }
}

/// Header, note and payload as one run of bytes, for one write.
pub(crate) fn encode(
    header: &BatchHeader,
    before: &Tally,
    told: Told,
    note: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    // The caller has checked both lengths against their limits, which fit.
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut body_crc = crc32fast::Hasher::new();
    body_crc.update(note);
    body_crc.update(payload);
    let flags = if header.position.is_some() { HAS_POSITION } else { 0 };
    let position = header.position.unwrap_or(Position { stream: 0, offset: 0 });
    let kinds = encode_kinds(&header.counts, before);
    let kind_count = u16::try_from(kinds.len() / KIND_LEN).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(FIXED_LEN + kinds.len() + note.len() + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&header.boot_id);
    bytes.extend_from_slice(&header.first_sequence.to_le_bytes());
    bytes.extend_from_slice(&header.record_count.to_le_bytes());
    bytes.extend_from_slice(&len(payload));
    bytes.extend_from_slice(&position.stream.to_le_bytes());
    bytes.extend_from_slice(&position.offset.to_le_bytes());
    bytes.extend_from_slice(&header.span.0.to_le_bytes());
    bytes.extend_from_slice(&header.span.1.to_le_bytes());
    bytes.extend_from_slice(&len(note));
    bytes.extend_from_slice(&body_crc.finalize().to_le_bytes());
    bytes.extend_from_slice(&kind_count.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&told.cursor.0.to_le_bytes());
    bytes.extend_from_slice(&told.cursor.1.to_le_bytes());
    bytes.extend_from_slice(&told.loss.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&kinds).to_le_bytes());
    let header_crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(&kinds);
    bytes.extend_from_slice(note);
    bytes.extend_from_slice(payload);
    bytes
}

fn encode_kinds(own: &Tally, before: &Tally) -> Vec<u8> {
    let mut all = before.clone();
    own.iter().for_each(|(kind, _)| all.add(kind, Amount::default()));
    let amount_of =
        |tally: &Tally, kind| tally.iter().find(|(other, _)| *other == kind).map(|(_, amount)| amount);
    let mut bytes = Vec::new();
    for (kind, _) in all.iter() {
        let (own, before) =
            (amount_of(own, kind).unwrap_or_default(), amount_of(before, kind).unwrap_or_default());
        bytes.extend_from_slice(&kind.to_le_bytes());
        for number in [own.records, own.acts, before.records, before.acts] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

/// The header that these bytes begin with, if they begin with one. Where they end
/// before its kinds do, the header has none, and says how long it is.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<StoredHeader> {
    if !bytes.starts_with(&MAGIC) || bytes.len() < OLD_LEN {
        return None;
    }
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let good = |end: usize| bytes.len() >= end + 4 && crc32fast::hash(&bytes[..end]) == u32_at(end);
    let old = match u16_at(4) {
        OLD_VERSION if good(OLD_LEN - 4) => true,
        VERSION if good(FIXED_LEN - 4) => false,
        _ => return None,
    };
    let mut boot_id = [0; 16];
    boot_id.copy_from_slice(&bytes[8..24]);
    let (payload_len, note_len) = (u32_at(36), u32_at(72));
    let first_sequence = u64_at(24);
    let record_count = u32_at(32);
    if payload_len as usize > MAX_PAYLOAD
        || note_len as usize > MAX_NOTE
        || first_sequence.checked_add(u64::from(record_count)).is_none()
    {
        return None;
    }
    let position = Position { stream: u64_at(40), offset: u64_at(48) };
    let has_position = u16_at(6) & HAS_POSITION != 0;
    let mut header = BatchHeader {
        boot_id,
        first_sequence,
        record_count,
        span: (u64_at(56).cast_signed(), u64_at(64).cast_signed()),
        position: has_position.then_some(position),
        counts: Tally::default(),
    };
    let (mut before, mut told, mut header_len) = (None, Told::default(), OLD_LEN);
    if !old {
        let kinds = usize::from(u16_at(80));
        if kinds > MAX_KINDS {
            return None;
        }
        header_len = FIXED_LEN + kinds * KIND_LEN;
        told = Told { cursor: (u64_at(84), u64_at(92)), loss: u64_at(100) };
        if let Some(kinds) = bytes.get(FIXED_LEN..header_len) {
            if crc32fast::hash(kinds) != u32_at(108) {
                return None;
            }
            let mut earlier = Tally::default();
            for at in (FIXED_LEN..header_len).step_by(KIND_LEN) {
                let amount = |at| Amount { records: u64_at(at), acts: u64_at(at + 8) };
                let nothing = |amount: &Amount| *amount == Amount::default();
                let (own, past) = (amount(at + 2), amount(at + 18));
                (!nothing(&own)).then(|| header.counts.add(u16_at(at), own));
                (!nothing(&past)).then(|| earlier.add(u16_at(at), past));
            }
            before = Some(earlier);
        }
    }
    let body_crc = u32_at(76);
    Some(StoredHeader { header, before, told, header_len, note_len, payload_len, body_crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(kinds: &[(u16, u64, u64)]) -> Tally {
        let mut tally = Tally::default();
        kinds.iter().for_each(|&(kind, records, acts)| tally.add(kind, Amount { records, acts }));
        tally
    }

    #[test]
    fn header_comes_back_and_every_bit_counts() {
        for position in [None, Some(Position { stream: u64::MAX, offset: 7 })] {
            let counts = tally(&[(1, 2, 2), (11, 1, 40)]);
            let before = tally(&[(1, 5, 5), (2, 3, 3)]);
            let told = Told { cursor: (3, 4), loss: 5 };
            let header = BatchHeader {
                boot_id: [9; 16],
                first_sequence: 5,
                record_count: 3,
                span: (-1, 9),
                position,
                counts,
            };
            let bytes = encode(&header, &before, told, b"note", b"sealed");
            let head = &bytes[..FIXED_LEN + 3 * KIND_LEN];
            let stored = decode_header(&bytes).unwrap();
            assert_eq!((&stored.header, stored.note_len, stored.payload_len), (&header, 4, 6));
            assert_eq!((stored.before.as_ref(), stored.told), (Some(&before), told));
            assert_eq!(stored.total_len(), bytes.len() as u64);
            assert_eq!(stored.header.last_sequence(), 7);
            assert_eq!(stored.through(), Some(tally(&[(1, 7, 7), (2, 3, 3), (11, 1, 40)])));
            for bit in 0..head.len() * 8 {
                let mut damaged = head.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode_header(&damaged), None, "bit {bit}");
            }
            for length in 0..head.len() {
                let cut = decode_header(&head[..length]);
                assert_eq!(cut.is_some(), length >= FIXED_LEN, "{length}");
                assert!(cut.is_none_or(|cut| cut.before.is_none() && cut.total_len() > length as u64));
            }
        }
    }

    #[test]
    fn a_header_of_the_version_before_is_read_and_says_nothing_of_kinds() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&[7; 16]);
        bytes.extend_from_slice(&9_u64.to_le_bytes());
        bytes.extend_from_slice(&2_u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 44]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let stored = decode_header(&bytes).unwrap();
        assert_eq!((stored.header.first_sequence, stored.header.last_sequence()), (9, 10));
        assert_eq!((stored.counts(), stored.total_len()), (None, OLD_LEN as u64));
    }
}
