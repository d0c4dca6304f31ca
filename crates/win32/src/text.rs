//! Text as Windows has it: UTF-16, not always whole.

/// As the API takes it: with a zero at the end.
pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(std::iter::once(0)).collect()
}

/// As people read it. A half of a pair that stands alone is shown as `\uNNNN`, a zero as `\0`,
/// so that two different names never look alike.
pub fn shown(text: &[u16]) -> String {
    let mut shown = String::with_capacity(text.len());
    for unit in char::decode_utf16(text.iter().copied()) {
        match unit {
            Ok('\0') => shown.push_str("\\0"),
            Ok(one) => shown.push(one),
            Err(half) => shown.push_str(&format!("\\u{:04x}", half.unpaired_surrogate())),
        }
    }
    shown
}

/// Up to the first zero.
pub(crate) fn until_zero(text: &[u16]) -> &[u16] {
    let end = text.iter().position(|unit| *unit == 0).unwrap_or(text.len());
    &text[..end]
}
