//! Bytes from the kernel as text.
//!
//! Paths and arguments are bytes; events are text. What is not UTF-8 stands as
//! `\xNN`, so that nothing is lost and nothing invalid gets through.

/// The bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(valid) => valid.to_owned(),
        Err(_) => escaped(bytes),
    }
}

#[cold]
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Arguments as the kernel keeps them: each ended by a zero byte. The last may lack
/// its end where the list was cut.
pub(crate) fn args(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.strip_suffix(&[0]).unwrap_or(bytes).split(|byte| *byte == 0).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_stay_visible() {
        assert_eq!(text("grüße".as_bytes()), "grüße");
        assert_eq!(text(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(text(b"\xe2\x82"), "\\xe2\\x82", "a character that was cut");
    }

    #[test]
    fn empty_arguments_count() {
        assert_eq!(args(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(args(b"a\0cu"), ["a", "cu"]);
        assert_eq!(args(b"\0"), [""]);
        assert!(args(b"").is_empty());
    }
}
