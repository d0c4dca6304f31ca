//! Hashing for tables that only rules fill: whoever makes events can look up, not insert, so
//! nobody can make the tables slow, and a quick hash is enough.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Something for each piece.
pub(super) type PieceMap<V> = HashMap<u32, V, BuildHasherDefault<PieceHasher>>;

/// A piece of four bytes as a number; 0 for a shorter one.
#[inline]
pub(super) fn four(window: &[u8]) -> u32 {
    match window {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// Spreads the bits of a piece over the upper bits.
#[inline]
pub(super) fn mixed(piece: u32) -> u32 {
    piece.wrapping_mul(0x9e37_79b1)
}

/// For one 32-bit key.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PieceHasher(u64);

impl Hasher for PieceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, piece: u32) {
        self.0 = (self.0 ^ u64::from(piece)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// For texts: eight bytes at a time, multiplied and rotated.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TextHasher(u64);

impl TextHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for TextHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.add(u64::from_le_bytes(eight));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(eight));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, _: u8) {
        // The end mark of a text: its length is hashed already.
    }
}
