//! The data of an event, by the layout that its provider registered. Bytes from outside: whatever they are,
//! they give values or none.

use std::sync::Arc;

/// A property of an event, in the order of the payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// The number of its type (`TDH_INTYPE_…`).
    pub kind: u16,
    /// Its length, where the type leaves it open; 0 where nothing says it.
    pub length: u16,
    /// The property that has its length.
    pub length_from: Option<usize>,
    /// It is not a single value, so that what comes after it can't be found.
    pub is_compound: bool,
}

/// Types, by the numbers of tdh.h.
mod kind {
    pub(super) const TEXT: u16 = 1;
    pub(super) const ANSI_TEXT: u16 = 2;
    pub(super) const I8: u16 = 3;
    pub(super) const U8: u16 = 4;
    pub(super) const I16: u16 = 5;
    pub(super) const U16: u16 = 6;
    pub(super) const I32: u16 = 7;
    pub(super) const U32: u16 = 8;
    pub(super) const I64: u16 = 9;
    pub(super) const U64: u16 = 10;
    pub(super) const F32: u16 = 11;
    pub(super) const F64: u16 = 12;
    pub(super) const BOOL: u16 = 13;
    pub(super) const BINARY: u16 = 14;
    pub(super) const GUID: u16 = 15;
    pub(super) const POINTER: u16 = 16;
    pub(super) const FILE_TIME: u16 = 17;
    pub(super) const SYSTEM_TIME: u16 = 18;
    pub(super) const SID: u16 = 19;
    pub(super) const HEX32: u16 = 20;
    pub(super) const HEX64: u16 = 21;
}

/// Bytes of an IPv6 address.
const ADDRESS: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    /// Sixteen bytes: an address.
    Address([u8; ADDRESS]),
    /// Its bytes are passed over.
    Other,
}

/// The values of an event, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    layout: Arc<Vec<Property>>,
    /// In the order of the layout, as far as they could be read.
    values: Vec<Value>,
    /// Not all of it could be read.
    pub is_incomplete: bool,
}

impl Values {
    /// Reads a payload of a process of 64 bits.
    pub fn read(layout: &Arc<Vec<Property>>, payload: &[u8]) -> Self {
        let mut values: Vec<Value> = Vec::with_capacity(layout.len());
        let mut is_incomplete = false;
        let mut rest = payload;
        for property in layout.iter() {
            let length = match property.length_from {
                None => property.length.into(),
                Some(at) => match values.get(at) {
                    Some(Value::Number(length)) => *length,
                    _ => u64::MAX,
                },
            };
            let read = if property.is_compound { None } else { value(property, length, rest) };
            let Some((value, used)) = read else {
                is_incomplete = true;
                break;
            };
            values.push(value);
            rest = &rest[used..];
        }
        Self { layout: Arc::clone(layout), values, is_incomplete }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        // There are a dozen: looking is nearer than a table.
        self.values.get(self.layout.iter().position(|property| property.name == name)?)
    }

    /// A number; signed ones as their bits are.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number of at most 32 bits.
    pub fn small(&self, name: &str) -> Option<u32> {
        self.number(name)?.try_into().ok()
    }

    /// An address of IPv6, as it is on the wire.
    pub fn address(&self, name: &str) -> Option<[u8; 16]> {
        match self.get(name)? {
            Value::Address(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A value at the beginning of the bytes, and how many it takes.
fn value(property: &Property, length: u64, bytes: &[u8]) -> Option<(Value, usize)> {
    let fixed = |size: usize| {
        let bytes = bytes.get(..size)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Some((Value::Number(number), size))
    };
    let passed = |size: usize| (size <= bytes.len()).then_some((Value::Other, size));
    match property.kind {
        // Without even a zero it is not there.
        kind::TEXT if bytes.len() < 2 && property.length_from.is_none() => None,
        kind::TEXT => Some(text(bytes, length, property.length_from.is_some())),
        kind::ANSI_TEXT => {
            let end = match (length, property.length_from) {
                (0, None) => bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()),
                (length, _) => usize::try_from(length).ok().filter(|length| *length <= bytes.len())?,
            };
            let is_ended = length == 0 && property.length_from.is_none() && end < bytes.len();
            Some((
                Value::Text(String::from_utf8_lossy(&bytes[..end]).into_owned()),
                end + usize::from(is_ended),
            ))
        }
        kind::I8 | kind::U8 => fixed(1),
        kind::I16 | kind::U16 => fixed(2),
        kind::I32 | kind::U32 | kind::HEX32 | kind::BOOL => fixed(4),
        kind::I64 | kind::U64 | kind::HEX64 | kind::POINTER | kind::FILE_TIME => fixed(8),
        kind::F32 => passed(4),
        kind::F64 => passed(8),
        kind::GUID | kind::SYSTEM_TIME => passed(16),
        // Revision, count, six bytes of authority, and four for each of what follows.
        kind::SID => passed(8 + 4 * usize::from(*bytes.get(1)?)),
        kind::BINARY if length != 0 || property.length_from.is_some() => {
            let length = usize::try_from(length).ok()?;
            match bytes.first_chunk::<ADDRESS>().filter(|_| length == ADDRESS) {
                Some(address) => Some((Value::Address(*address), ADDRESS)),
                None => passed(length),
            }
        }
        _ => None,
    }
}

/// UTF-16: up to a zero, or of so many units where a length is given.
fn text(bytes: &[u8], length: u64, is_counted: bool) -> (Value, usize) {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let (end, used) = match (length, is_counted) {
        (0, false) => match units.iter().position(|unit| *unit == 0) {
            Some(end) => (end, end + 1),
            // The last one of a payload may lack its zero.
            None => (units.len(), units.len()),
        },
        (length, _) => {
            let end = usize::try_from(length).unwrap_or(usize::MAX).min(units.len());
            (end, end)
        }
    };
    (Value::Text(String::from_utf16_lossy(&units[..end])), used * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &str, kind: u16) -> Property {
        Property { name: name.to_owned(), kind, ..Property::default() }
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn values_of_every_length_are_found_behind_each_other() {
        let layout = vec![
            property("a", kind::U32),
            property("sid", kind::SID),
            property("text", kind::TEXT),
            property("time", kind::FILE_TIME),
            property("size", kind::U16),
            Property { length_from: Some(4), ..property("bytes", kind::BINARY) },
            Property { length: 16, ..property("address", kind::BINARY) },
            property("last", kind::ANSI_TEXT),
        ];
        let mut payload = 7_u32.to_le_bytes().to_vec();
        payload.extend([1, 2, 0, 0, 0, 0, 0, 5, 1, 1, 1, 1, 2, 2, 2, 2]);
        payload.extend(wide("ü"));
        payload.extend(u64::MAX.to_le_bytes());
        payload.extend(3_u16.to_le_bytes());
        payload.extend([9, 9, 9]);
        payload.extend([6; 16]);
        payload.extend(b"end\0");
        let values = Values::read(&Arc::new(layout), &payload);
        assert!(!values.is_incomplete);
        assert_eq!(
            (values.small("a"), values.number("time"), values.small("time")),
            (Some(7), Some(u64::MAX), None)
        );
        assert_eq!(
            (values.text("text"), values.text("last"), values.text("bytes")),
            (Some("ü"), Some("end"), None)
        );
        assert_eq!((values.address("address"), values.address("bytes")), (Some([6; 16]), None));
    }

    #[test]
    fn whatever_the_bytes_are_there_is_no_panic_and_what_is_missing_is_said() {
        let kinds = 0..24_u16;
        let layout: Arc<Vec<Property>> =
            Arc::new(kinds.clone().map(|kind| property(&kind.to_string(), kind)).collect());
        for length in 0..64 {
            for byte in [0, 1, 0xff] {
                let payload = vec![byte; length];
                for kind in kinds.clone() {
                    for length_from in [None, Some(0), Some(9)] {
                        let one = Property { length_from, length: 3, ..property("x", kind) };
                        let values = Values::read(&Arc::new(vec![property("n", kind::U8), one]), &payload);
                        assert!(values.is_incomplete || values.values.len() == 2);
                    }
                }
                Values::read(&layout, &payload);
            }
        }
        let compound = Property { is_compound: true, ..property("x", kind::U8) };
        let layout = Arc::new(vec![property("a", kind::U8), compound, property("b", kind::U8)]);
        let values = Values::read(&layout, &[1, 2, 3]);
        assert!(values.is_incomplete && values.number("a") == Some(1) && values.number("b").is_none());
    }
}
