//! Finding many literals in a text at once.
//!
//! Each literal is filed under the rarest of the four-byte pieces in it. A text is walked once; for each
//! of its pieces one bit of a small table says whether any literal is filed under it (almost never), and only
//! then literals are compared. No step waits for the one before it, as the steps of an automaton do.
//! Literals of two or three bytes are filed under a pair, those of one under themselves; where there are
//! such, the text is walked for them too.

use super::hash::{PieceMap, four, mixed};
use super::rates;
use crate::expression::Anchor;

/// Literals to be found, by number in the order of their adding.
#[derive(Debug, Default)]
pub(super) struct PieceFilter {
    bytes: Vec<u8>,
    literals: Vec<Literal>,
    fours: Filed,
    pairs: Filed,
    singles: Filed,
}

#[derive(Debug)]
struct Literal {
    start: u32,
    length: u32,
    anchor: Anchor,
}

/// Literals filed under pieces of one length.
#[derive(Debug, Default)]
struct Filed {
    /// One bit for each hash of a piece; empty where nothing is filed.
    bits: Vec<u64>,
    shift: u32,
    /// For each piece a range of `entries`.
    ranges: PieceMap<(u32, u32)>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    literal: u32,
    /// Where in the literal the piece stands.
    offset: u32,
}

impl PieceFilter {
    /// From literals, none of them empty.
    pub(super) fn new<'a>(wanted: impl IntoIterator<Item = (&'a str, Anchor)>) -> Self {
        let mut filter = Self::default();
        let mut loads: PieceMap<f32> = PieceMap::default();
        let (mut fours, mut pairs, mut singles) = (Vec::new(), Vec::new(), Vec::new());
        for (text, anchor) in wanted {
            let bytes = text.as_bytes();
            let literal = number(filter.literals.len());
            filter.literals.push(Literal {
                start: number(filter.bytes.len()),
                length: number(bytes.len()),
                anchor,
            });
            filter.bytes.extend_from_slice(bytes);
            if bytes.len() >= 4 {
                // The rarest piece; one that has literals already counts as more common.
                let scored = bytes.windows(4).enumerate().map(|(offset, window)| {
                    let piece = four(window);
                    let load = loads.get(&piece).copied().unwrap_or_default();
                    (rates::piece_rate(piece) * (1.0 + load), offset, piece)
                });
                let best = scored.min_by(|left, right| left.0.total_cmp(&right.0));
                if let Some((_, offset, piece)) = best {
                    *loads.entry(piece).or_default() += 1.0;
                    fours.push((piece, Entry { literal, offset: number(offset) }));
                }
            } else if bytes.len() >= 2 {
                pairs.push((pair(bytes), Entry { literal, offset: 0 }));
            } else if let Some(byte) = bytes.first() {
                singles.push((u32::from(*byte), Entry { literal, offset: 0 }));
            }
        }
        filter.fours = Filed::new(fours);
        filter.pairs = Filed::new(pairs);
        filter.singles = Filed::new(singles);
        filter
    }

    pub(super) fn is_empty(&self) -> bool {
        self.literals.is_empty()
    }

    /// Names each literal that stands in the text at its anchor, some perhaps several times.
    pub(super) fn find(&self, text: &str, mut found: impl FnMut(u32)) {
        let text = text.as_bytes();
        if !self.fours.bits.is_empty() {
            for (at, window) in text.windows(4).enumerate() {
                let piece = four(window);
                if self.fours.may_have(piece) {
                    self.compare(&self.fours, piece, text, at, &mut found);
                }
            }
        }
        if !self.pairs.bits.is_empty() {
            for (at, window) in text.windows(2).enumerate() {
                let piece = pair(window);
                if self.pairs.may_have(piece) {
                    self.compare(&self.pairs, piece, text, at, &mut found);
                }
            }
        }
        if !self.singles.bits.is_empty() {
            for (at, byte) in text.iter().enumerate() {
                let piece = u32::from(*byte);
                if self.singles.may_have(piece) {
                    self.compare(&self.singles, piece, text, at, &mut found);
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn compare(&self, filed: &Filed, piece: u32, text: &[u8], at: usize, found: &mut impl FnMut(u32)) {
        let Some((from, to)) = filed.ranges.get(&piece) else { return };
        let entries = filed.entries.get(*from as usize..*to as usize).unwrap_or_default();
        for entry in entries {
            let Some(literal) = self.literals.get(entry.literal as usize) else { continue };
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let end = start + literal.length as usize;
            let own = &self.bytes[literal.start as usize..(literal.start + literal.length) as usize];
            let in_place = match literal.anchor {
                Anchor::Anywhere => true,
                Anchor::Start => start == 0,
                Anchor::End => end == text.len(),
                Anchor::Whole => start == 0 && end == text.len(),
            };
            if in_place && text.get(start..end) == Some(own) {
                found(entry.literal);
            }
        }
    }
}

impl Filed {
    fn new(mut filed: Vec<(u32, Entry)>) -> Self {
        if filed.is_empty() {
            return Self::default();
        }
        filed.sort_by_key(|(piece, entry)| (*piece, entry.literal));
        // Some 32 bits for each piece let 3 % of foreign pieces through; 16 KiB stay in the first-level cache.
        let wanted_bits = (filed.len() * 32).next_power_of_two().clamp(1 << 9, 1 << 17);
        let shift = 32 - wanted_bits.trailing_zeros();
        let mut own = Self { bits: vec![0; wanted_bits / 64], shift, ..Self::default() };
        for (piece, entry) in filed {
            let hash = mixed(piece) >> own.shift;
            own.bits[(hash >> 6) as usize] |= 1 << (hash & 63);
            let place = number(own.entries.len());
            own.ranges.entry(piece).or_insert((place, place)).1 = place + 1;
            own.entries.push(entry);
        }
        own
    }

    #[inline]
    fn may_have(&self, piece: u32) -> bool {
        let hash = mixed(piece) >> self.shift;
        self.bits.get((hash >> 6) as usize).is_some_and(|word| (word >> (hash & 63)) & 1 == 1)
    }
}

#[inline]
fn pair(window: &[u8]) -> u32 {
    match window {
        [a, b, ..] => u32::from(u16::from_le_bytes([*a, *b])),
        _ => 0,
    }
}

/// Rule sets are far from 4 GiB of literals: a file has at most 32 MiB.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[(&str, Anchor)], text: &str) -> Vec<u32> {
        let filter = PieceFilter::new(literals.iter().copied());
        let mut all = Vec::new();
        filter.find(text, |literal| all.push(literal));
        all.sort_unstable();
        all.dedup();
        all
    }

    #[test]
    fn each_literal_is_found_at_its_anchor_only() {
        use Anchor::{Anywhere, End, Start, Whole};
        let literals = [
            ("powershell", Anywhere),
            ("\\cmd.exe", End),
            ("c:\\", Start),
            ("-e", Anywhere),
            ("|", Anywhere),
            ("ell", End),
            ("powershell", Whole),
            ("shell.e", Anywhere),
        ];
        assert_eq!(found(&literals, "powershell"), [0, 5, 6]);
        assert_eq!(found(&literals, "c:\\windows\\cmd.exe"), [1, 2]);
        assert_eq!(found(&literals, "x c:\\ \\cmd.exe | powershell.exe -enc"), [0, 3, 4, 7]);
        assert_eq!(found(&literals, ""), [] as [u32; 0]);
    }
}
