//! The form of a batch on disk: a fixed header of 84 bytes, then note and payload.
//!
//! ```text
//!  0 magic "RSB1"     4 version u16       6 flags u16 (1: has a position)
//!  8 boot_id [16]    24 first_sequence   32 record_count u32   36 payload_len u32
//! 40 stream u64      48 offset u64       56 from_ns i64        64 until_ns i64
//! 72 note_len u32    76 body_crc u32     80 header_crc u32
//! ```
//! Numbers are little-endian. The header has a checksum of its own, so that damage
//! in a payload costs that batch alone and says which records it held.

/// Size of the header on disk.
pub(crate) const HEADER_LEN: usize = 84;

/// The longest payload that is taken: no batch comes near it, so a longer length is damage.
pub const MAX_PAYLOAD: usize = 32 << 20;

/// The longest note that is taken.
pub const MAX_NOTE: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"RSB1";
const VERSION: u16 = 1;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
}

impl BatchHeader {
    /// Number of the last record; one before the first for an empty batch.
    pub fn last_sequence(&self) -> u64 {
        (self.first_sequence + u64::from(self.record_count)).saturating_sub(1)
    }
}

/// A header as read, with what is needed to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredHeader {
    pub(crate) header: BatchHeader,
    pub(crate) note_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) body_crc: u32,
}

impl StoredHeader {
    /// Bytes from the start of this batch to the start of the next.
    pub(crate) fn total_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.note_len) + u64::from(self.payload_len)
    }
}

/// Header, note and payload as one run of bytes, for one write.
pub(crate) fn encode(header: &BatchHeader, note: &[u8], payload: &[u8]) -> Vec<u8> {
    // The caller has checked both lengths against their limits, which fit.
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut body_crc = crc32fast::Hasher::new();
    body_crc.update(note);
    body_crc.update(payload);
    let flags = if header.position.is_some() { HAS_POSITION } else { 0 };
    let position = header.position.unwrap_or(Position { stream: 0, offset: 0 });
    let mut bytes = Vec::with_capacity(HEADER_LEN + note.len() + payload.len());
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
    let header_crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(note);
    bytes.extend_from_slice(payload);
    bytes
}

/// A header, if these bytes are one.
pub(crate) fn decode_header(bytes: &[u8; HEADER_LEN]) -> Option<StoredHeader> {
    let (covered, crc) = bytes.split_at(HEADER_LEN - 4);
    if bytes[..4] != MAGIC || crc32fast::hash(covered).to_le_bytes() != crc {
        return None;
    }
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let mut boot_id = [0; 16];
    boot_id.copy_from_slice(&bytes[8..24]);
    let (payload_len, note_len) = (u32_at(36), u32_at(72));
    let first_sequence = u64_at(24);
    let record_count = u32_at(32);
    if u16_at(4) != VERSION
        || payload_len as usize > MAX_PAYLOAD
        || note_len as usize > MAX_NOTE
        || first_sequence.checked_add(u64::from(record_count)).is_none()
    {
        return None;
    }
    let position = Position { stream: u64_at(40), offset: u64_at(48) };
    let has_position = u16_at(6) & HAS_POSITION != 0;
    let header = BatchHeader {
        boot_id,
        first_sequence,
        record_count,
        span: (u64_at(56).cast_signed(), u64_at(64).cast_signed()),
        position: has_position.then_some(position),
    };
    Some(StoredHeader { header, note_len, payload_len, body_crc: u32_at(76) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_comes_back_and_every_bit_counts() {
        for position in [None, Some(Position { stream: u64::MAX, offset: 7 })] {
            let header =
                BatchHeader { boot_id: [9; 16], first_sequence: 5, record_count: 3, span: (-1, 9), position };
            let bytes = encode(&header, b"note", b"sealed");
            let head: [u8; HEADER_LEN] = bytes[..HEADER_LEN].try_into().unwrap();
            let stored = decode_header(&head).unwrap();
            assert_eq!((stored.header, stored.note_len, stored.payload_len), (header, 4, 6));
            assert_eq!(stored.header.last_sequence(), 7);
            for bit in 0..HEADER_LEN * 8 {
                let mut damaged = head;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode_header(&damaged), None, "bit {bit}");
            }
        }
    }
}
