//! Encodings in which a value may stand in an event.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let is_padding = place > chunk.len();
            let symbol = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if is_padding { b'=' } else { symbol });
        }
    }
    out
}

/// The three forms that the bytes have inside a longer text in base64, each without the symbols that
/// depend on what is before and behind.
pub(super) fn base64_offsets(bytes: &[u8]) -> [Vec<u8>; 3] {
    [0, 1, 2].map(|shift| {
        let mut shifted = vec![b' '; shift];
        shifted.extend_from_slice(bytes);
        let encoded = base64(&shifted);
        let from = [0, 2, 3][shift];
        let cut = [0, 3, 2][shifted.len() % 3];
        encoded.get(from..encoded.len() - cut).unwrap_or_default().to_vec()
    })
}

/// UTF-16 of a text in UTF-8; `None` where it is none.
pub(super) fn utf16(bytes: &[u8], is_big_endian: bool) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let units = text.encode_utf16();
    Some(units.flat_map(|unit| if is_big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded.as_bytes());
        }
    }

    #[test]
    fn the_text_is_found_at_each_offset() {
        let forms = base64_offsets(b"http://");
        for before in ["", "a", "ab", "abc"] {
            for behind in ["", "x", "xy"] {
                let encoded = base64(format!("{before}http://{behind}").as_bytes());
                let form = &forms[before.len() % 3];
                assert!(encoded.windows(form.len()).any(|window| window == form), "{before} {behind}");
            }
        }
    }
}
