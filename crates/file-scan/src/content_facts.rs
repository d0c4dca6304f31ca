//! Facts of a file's content, all from one pass over its bytes.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use tlsh::{GeneratorType as _, TlshGenerator};

use crate::entropy::ByteCounts;
use crate::file_type::{self, FileType};

/// First bytes of a file that [`ContentFacts::header`] keeps.
pub const HEADER_BYTES: usize = 16;

/// Longer content has no TLSH: its counters have 32 bits, and a digest of that much
/// tells nothing any more.
pub const MAX_TLSH_BYTES: u64 = 512 << 20;

/// What the content of a file is.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentFacts {
    /// Length in bytes.
    pub size: u64,
    /// MD5 (RFC 1321). For look-ups in lists of others; proves nothing.
    pub md5: [u8; 16],
    /// SHA-1 (FIPS 180-4). For look-ups in lists of others; proves nothing.
    pub sha1: [u8; 20],
    /// SHA-256 (FIPS 180-4).
    pub sha256: [u8; 32],
    /// TLSH, version 1, 128 buckets, one byte of checksum (`T1` and 70 hex digits).
    /// `None` where there is too little or too uniform content (below 50 bytes by
    /// definition), or more than [`MAX_TLSH_BYTES`].
    pub tlsh: Option<String>,
    /// Shannon entropy in bits per byte, 0 to 8. Compressed or encrypted content is
    /// near 8, machine code near 6, text between 4 and 5.
    pub entropy: f64,
    /// The first [`HEADER_BYTES`] bytes, fewer where there are no more.
    pub header: Vec<u8>,
    /// Type by what the first bytes are, whatever the name says.
    pub file_type: FileType,
}

impl ContentFacts {
    /// Facts of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut builder = FactsBuilder::default();
        builder.update(bytes);
        builder.finish()
    }

    /// The entropy in thousandths of a bit per byte, 0 to 8,000, as events carry it.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number from 0 to 8,000 by construction"
    )]
    pub fn entropy_milli(&self) -> u32 {
        (self.entropy * 1_000.0).round() as u32
    }

    /// MD5 in lower-case hex.
    pub fn md5_hex(&self) -> String {
        hex(&self.md5)
    }

    /// SHA-1 in lower-case hex.
    pub fn sha1_hex(&self) -> String {
        hex(&self.sha1)
    }

    /// SHA-256 in lower-case hex.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }

    /// The first bytes in lower-case hex.
    pub fn header_hex(&self) -> String {
        hex(&self.header)
    }
}

/// Takes a content piece by piece.
pub struct FactsBuilder {
    size: u64,
    md5: Md5,
    sha1: digest::Context,
    sha256: digest::Context,
    tlsh: TlshGenerator,
    counts: ByteCounts,
    head: Vec<u8>,
}

impl Default for FactsBuilder {
    fn default() -> Self {
        Self {
            size: 0,
            md5: Md5::new(),
            sha1: digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            sha256: digest::Context::new(&digest::SHA256),
            tlsh: TlshGenerator::new(),
            counts: ByteCounts::default(),
            head: Vec::new(),
        }
    }
}

impl FactsBuilder {
    /// Bytes that all algorithms take before the next bytes are fetched, so that
    /// they find them in the nearest cache.
    const PIECE: usize = 16 << 10;

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let missing = file_type::HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        for piece in bytes.chunks(Self::PIECE) {
            self.size += piece.len() as u64;
            self.md5.update(piece);
            self.sha1.update(piece);
            self.sha256.update(piece);
            if self.size <= MAX_TLSH_BYTES {
                self.tlsh.update(piece);
            }
            self.counts.update(piece);
        }
    }

    /// The facts of all that was taken.
    pub fn finish(self) -> ContentFacts {
        let tlsh = (self.size <= MAX_TLSH_BYTES).then(|| self.tlsh.finalize().ok()).flatten();
        ContentFacts {
            size: self.size,
            md5: self.md5.finalize().into(),
            sha1: digest_bytes(self.sha1),
            sha256: digest_bytes(self.sha256),
            tlsh: tlsh.map(|tlsh| tlsh.to_string()),
            entropy: self.counts.entropy(),
            file_type: FileType::of(&self.head),
            header: self.head[..self.head.len().min(HEADER_BYTES)].to_vec(),
        }
    }
}

/// The digest, whose length its algorithm fixes.
fn digest_bytes<const LENGTH: usize>(context: digest::Context) -> [u8; LENGTH] {
    let digest = context.finish();
    let mut bytes = [0; LENGTH];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A String takes every write.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::file_type::FileKind;

    fn hashes(bytes: &[u8]) -> (String, String, String) {
        let facts = ContentFacts::of(bytes);
        (facts.md5_hex(), facts.sha1_hex(), facts.sha256_hex())
    }

    /// RFC 1321 A.5, and the examples NIST gives for FIPS 180.
    #[test]
    fn hashes_of_the_published_vectors() {
        let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            hashes(b""),
            of(
                "d41d8cd98f00b204e9800998ecf8427e",
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            )
        );
        assert_eq!(
            hashes(b"abc"),
            of(
                "900150983cd24fb0d6963f7d28e17f72",
                "a9993e364706816aba3e25717850c26c9cd0d89d",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            )
        );
        assert_eq!(
            hashes(&[b'a'; 1_000_000]),
            of(
                "7707d6ae4e027c70eea2a935c2296f21",
                "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            )
        );
    }

    /// Digests that the reference implementation in C++ gives, as its own and other
    /// projects' tests state them.
    #[test]
    fn tlsh_of_published_vectors() {
        let tlsh = |bytes: &[u8]| ContentFacts::of(bytes).tlsh;
        assert_eq!(
            tlsh(b"Lovak won the squad prize cup for sixty big jumps.").as_deref(),
            Some("T14A90024954691E114404124180D942C1450F8423775ADE1510211420456593621A8173")
        );
        assert_eq!(
            tlsh(b"Lorem ipsum dolor sit amet, consectetur adipiscing elit").as_deref(),
            Some("T12D900249414E0BD59A46503F3ADA802AE50825242B2590561CF690599112214C051556")
        );
        assert_eq!(tlsh(b"Lovak won the squad prize cup for sixty big jumps"), None, "below 50 bytes");
        assert_eq!(tlsh(&[0; 100_000]), None, "all alike");
    }

    #[test]
    fn facts_of_a_small_program() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        let facts = ContentFacts::of(&elf);
        assert_eq!(facts.size, 64);
        assert_eq!(facts.file_type.kind, FileKind::Elf);
        assert_eq!(facts.header_hex(), format!("7f454c46020101{}", "00".repeat(9)));
        assert_eq!(ContentFacts::of(b"ab").header_hex(), "6162");
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 0..70_000),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut builder = FactsBuilder::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                builder.update(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(builder.finish(), ContentFacts::of(&bytes));
        }
    }
}
