//! Shannon entropy of bytes.

/// How often each byte occurred.
#[derive(Debug, Clone)]
pub struct ByteCounts {
    /// Four tables that are filled in turn: a run of one byte value would otherwise
    /// wait for its own counter each time.
    lanes: [[u64; 256]; 4],
}

impl Default for ByteCounts {
    fn default() -> Self {
        Self { lanes: [[0; 256]; 4] }
    }
}

impl ByteCounts {
    /// Counts more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let [first, second, third, fourth] = &mut self.lanes;
        let (quads, rest) = bytes.as_chunks::<4>();
        for &[a, b, c, d] in quads {
            first[usize::from(a)] += 1;
            second[usize::from(b)] += 1;
            third[usize::from(c)] += 1;
            fourth[usize::from(d)] += 1;
        }
        for &byte in rest {
            first[usize::from(byte)] += 1;
        }
    }

    /// Shannon entropy in bits per byte: 0 where all bytes are alike (or there are
    /// none), 8 where all values are equally frequent.
    #[expect(clippy::cast_precision_loss, reason = "counts of bytes that were really read stay below 2^53")]
    pub fn entropy(&self) -> f64 {
        let counts = (0..256).map(|value| self.lanes.iter().map(|lane| lane[value]).sum::<u64>());
        let total = counts.clone().sum::<u64>() as f64;
        let bits = counts.filter(|count| *count > 0).map(|count| {
            let share = count as f64 / total;
            -share * share.log2()
        });
        // A sum() of nothing, or of one value alone, would be a negative zero.
        bits.fold(0.0, |sum, bits| sum + bits).clamp(0.0, 8.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(bytes: &[u8]) -> f64 {
        let mut counts = ByteCounts::default();
        // In two parts that do not fall on the lanes' border.
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        counts.update(head);
        counts.update(tail);
        counts.entropy()
    }

    #[test]
    fn entropy_of_what_can_be_reckoned_by_hand() {
        let all: Vec<u8> = (0..=255).collect();
        assert!((entropy(&all.repeat(7)) - 8.0).abs() < 1e-9);
        assert!(entropy(b"").abs() < 1e-12 && entropy(b"").is_sign_positive());
        assert!(entropy(&[7; 1_000]).abs() < 1e-12 && entropy(&[7; 1_000]).is_sign_positive());
        assert!((entropy(&b"ab".repeat(99)) - 1.0).abs() < 1e-9);
        assert!((entropy(b"aaab") - 0.811_278_124_459_132_9).abs() < 1e-12);
    }
}
