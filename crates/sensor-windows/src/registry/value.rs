//! How a value of the registry is shown. Nothing that can stand there is an error.

/// Data that is read of one value; of longer ones only type and length are compared.
pub const MOST_BYTES: usize = 4 << 20;

/// Longest text that is kept of a value, in bytes.
const MOST_SHOWN: usize = 4_096;

/// A value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The text.
    pub text: String,
    /// The data has more, or is not what its type says.
    pub note: Option<String>,
}

/// Name of a type.
pub fn kind_name(kind: u32) -> String {
    let name = match kind {
        0 => "REG_NONE",
        1 => "REG_SZ",
        2 => "REG_EXPAND_SZ",
        3 => "REG_BINARY",
        4 => "REG_DWORD",
        5 => "REG_DWORD_BIG_ENDIAN",
        6 => "REG_LINK",
        7 => "REG_MULTI_SZ",
        8 => "REG_RESOURCE_LIST",
        9 => "REG_FULL_RESOURCE_DESCRIPTOR",
        10 => "REG_RESOURCE_REQUIREMENTS_LIST",
        11 => "REG_QWORD",
        other => return format!("type {other}"),
    };
    name.to_owned()
}

/// The data of a value as text: texts as they are, numbers as Sysmon shows them (`DWORD (0x00000001)`),
/// everything else as hex.
pub fn shown(kind: u32, data: &[u8], length: usize) -> Shown {
    if data.len() < length {
        let text = format!("({} of {length} bytes)", kind_name(kind));
        return Shown { text, note: Some(format!("longer than {MOST_BYTES} bytes, not read")) };
    }
    let (text, note) = match (kind, data) {
        (1 | 2 | 6, _) => of_text(data),
        (7, _) => of_texts(data),
        (4, &[a, b, c, d]) => (format!("DWORD (0x{:08x})", u32::from_le_bytes([a, b, c, d])), None),
        (5, &[a, b, c, d]) => (format!("DWORD (0x{:08x})", u32::from_be_bytes([a, b, c, d])), None),
        (11, data) if data.len() == 8 => {
            let (low, high) = data.split_at(4);
            let half =
                |bytes: &[u8]| bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>();
            (format!("QWORD (0x{}-0x{})", half(high), half(low)), None)
        }
        (4 | 5 | 11, _) => (hex(data), Some(format!("{} bytes are no {}", data.len(), kind_name(kind)))),
        _ => (hex(data), None),
    };
    cut(text, note)
}

/// A value whose text found no room.
pub(super) fn not_kept(kind: u32, length: usize) -> Shown {
    let text = format!("({} of {length} bytes)", kind_name(kind));
    Shown { text, note: Some("not kept, as there is too much below the watched key".to_owned()) }
}

fn of_text(data: &[u8]) -> (String, Option<String>) {
    let (text, whole) = utf16(data);
    // The system does not see to it that there is a zero at the end, or only one.
    let text = text.strip_suffix('\0').unwrap_or(&text);
    (text.replace('\0', "\\0"), (!whole).then(|| "not UTF-16".to_owned()))
}

fn of_texts(data: &[u8]) -> (String, Option<String>) {
    let (text, whole) = utf16(data);
    let texts: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    (texts.join("; "), (!whole).then(|| "not UTF-16".to_owned()))
}

/// The text, with halves of pairs and an odd byte as `\uNNNN`; false if there were such.
fn utf16(data: &[u8]) -> (String, bool) {
    let pairs = data.chunks_exact(2);
    let odd = pairs.remainder().first().copied();
    let mut whole = odd.is_none();
    let mut text = String::with_capacity(data.len() / 2);
    for unit in char::decode_utf16(pairs.map(|pair| u16::from_le_bytes([pair[0], pair[1]]))) {
        match unit {
            Ok(one) => text.push(one),
            Err(half) => {
                whole = false;
                text.push_str(&format!("\\u{:04x}", half.unpaired_surrogate()));
            }
        }
    }
    text.extend(odd.map(|byte| format!("\\x{byte:02x}")));
    (text, whole)
}

fn hex(data: &[u8]) -> String {
    let kept = &data[..data.len().min(MOST_SHOWN / 2 + 1)];
    kept.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cut(mut text: String, note: Option<String>) -> Shown {
    if text.len() <= MOST_SHOWN {
        return Shown { text, note };
    }
    text.truncate(text.floor_char_boundary(MOST_SHOWN - '…'.len_utf8()));
    text.push('…');
    Shown { text, note: Some(note.unwrap_or_else(|| "cut".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn text(kind: u32, data: &[u8]) -> String {
        shown(kind, data, data.len()).text
    }

    #[test]
    fn each_type_is_shown() {
        assert_eq!(text(1, &wide("C:\\x.exe\0")), "C:\\x.exe");
        assert_eq!(text(2, &wide("%TEMP%")), "%TEMP%");
        assert_eq!(text(7, &wide("a\0b\0\0")), "a; b");
        assert_eq!(text(4, &[1, 0, 0, 0]), "DWORD (0x00000001)");
        assert_eq!(text(5, &[0, 0, 0, 1]), "DWORD (0x00000001)");
        assert_eq!(text(11, &[1, 0, 0, 0, 2, 0, 0, 0]), "QWORD (0x00000002-0x00000001)");
        assert_eq!(text(3, &[0xde, 0xad]), "dead");
        assert_eq!(text(0, &[]), "");
        assert_eq!(text(99, &[7]), "07");
    }

    #[test]
    fn what_is_not_as_its_type_says_is_shown_and_noted() {
        let broken = [0x41, 0, 0x00, 0xd8, 0x42, 0, 0x7f];
        let one = shown(1, &broken, broken.len());
        assert_eq!(one, Shown { text: "A\\ud800B\\x7f".to_owned(), note: Some("not UTF-16".to_owned()) });
        assert_eq!(text(1, &wide("a\0b\0")), "a\\0b");
        let short = shown(4, &[1], 1);
        assert_eq!(short.text, "01");
        assert!(short.note.is_some());
    }

    #[test]
    fn long_data_is_cut_and_longer_is_not_read() {
        let million = vec![0xab; 1 << 20];
        let one = shown(3, &million, million.len());
        assert!(one.text.len() <= MOST_SHOWN && one.text.ends_with('…') && one.note.is_some());
        let unread = shown(3, &[], 5 << 20);
        assert_eq!(unread.text, "(REG_BINARY of 5242880 bytes)");
    }

    #[test]
    fn no_bytes_of_any_type_panic() {
        for kind in 0..13 {
            for length in 0..40_usize {
                let data: Vec<u8> = (0..length).map(|at| (at * 37 + 0xd7) as u8).collect();
                let _ = shown(kind, &data, data.len());
            }
        }
    }
}
