//! Events made by hand: the bytes of a payload, and the layout that a provider would have registered for them.

use std::sync::Arc;

use super::meaning::Event;
use super::payload::{Property, Values};

/// A value as it lies in a payload.
pub(crate) enum Made<'a> {
    U16(u16),
    U32(u32),
    Pointer(u64),
    Text(&'a str),
    /// Binary of a fixed length.
    Bytes(&'a [u8]),
}

impl Made<'_> {
    /// The number of its type in tdh.h, its length where the layout gives it, and its bytes.
    fn laid_out(&self) -> (u16, u16, Vec<u8>) {
        match self {
            Self::U16(number) => (6, 0, number.to_le_bytes().to_vec()),
            Self::U32(number) => (8, 0, number.to_le_bytes().to_vec()),
            Self::Pointer(number) => (16, 0, number.to_le_bytes().to_vec()),
            Self::Text(text) => (1, 0, text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()),
            Self::Bytes(bytes) => (14, bytes.len() as u16, bytes.to_vec()),
        }
    }
}

/// Such an event with these values, written in the process `pid`; its payload ends after `most` bytes.
pub(crate) fn cut(provider: u128, id: u16, pid: u32, values: &[(&str, Made<'_>)], most: usize) -> Event {
    let (mut layout, mut payload) = (Vec::new(), Vec::new());
    for (name, value) in values {
        let (kind, length, bytes) = value.laid_out();
        layout.push(Property { name: (*name).to_owned(), kind, length, ..Property::default() });
        payload.extend(bytes);
    }
    payload.truncate(most);
    let values = Values::read(&Arc::new(layout), &payload);
    Event { provider, id, pid, time: 0, values }
}

/// Such an event, whole.
pub(crate) fn made(provider: u128, id: u16, pid: u32, values: &[(&str, Made<'_>)]) -> Event {
    let event = cut(provider, id, pid, values, usize::MAX);
    assert!(!event.values.is_incomplete);
    event
}
