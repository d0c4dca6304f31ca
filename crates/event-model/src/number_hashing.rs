//! Hashing for maps whose keys are the few numbers of a process.
//!
//! Such maps are asked a dozen times for each start of a process; the hashing of `std`, which is made for texts
//! from outside, was a tenth of what a start costs. This one multiplies each number into a secret of the map's
//! own, as who starts processes can choose their numbers within bounds.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the hashers of one map.
#[derive(Debug, Clone)]
pub struct NumberHashing {
    secret: u64,
}

impl Default for NumberHashing {
    fn default() -> Self {
        Self { secret: RandomState::new().hash_one(0_u8) }
    }
}

impl BuildHasher for NumberHashing {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher { state: self.secret }
    }
}

/// See [`NumberHashing`].
#[derive(Debug, Clone, Copy)]
pub struct NumberHasher {
    state: u64,
}

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        /// Of the golden ratio: odd, and its bits are spread.
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        // Both halves of the product: each bit of the number reaches each bit of the hash.
        let product = u128::from(self.state ^ number) * u128::from(MULTIPLIER);
        #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
        let halves = (product as u64, (product >> 64) as u64);
        self.state = halves.0 ^ halves.1;
    }
}
