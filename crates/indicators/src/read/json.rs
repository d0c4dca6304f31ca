//! Objects of a JSON text, one by one, so that a bad one takes no other down.

use std::marker::PhantomData;

use rule_engine::DiagnosticCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Lines, Reading};

/// Reads the whole text as `T`, whose parts are still raw; tells where it is no JSON.
pub(super) fn whole<'a, T: Deserialize<'a>>(text: &'a str, reading: &mut Reading<'_>) -> Option<T> {
    match serde_json::from_str(text) {
        Ok(whole) => Some(whole),
        Err(error) => {
            reading.refuse(error.line().max(1), DiagnosticCode::BadJson, reason(&error), None);
            None
        }
    }
}

/// Reads one part; tells of the line where it begins.
pub(super) fn part<'a, T: Deserialize<'a>>(
    part: &'a RawValue,
    lines: &Lines<'_>,
    reading: &mut Reading<'_>,
) -> Option<T> {
    match serde_json::from_str(part.get()) {
        Ok(part) => Some(part),
        Err(error) => {
            reading.bad(lines.of(part.get()), reason(&error));
            None
        }
    }
}

/// Without the place, which counts from the part's beginning.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

/// A list, or a value of another type, which counts as an empty list: both formats
/// have optional lists that some tools write as null.
#[derive(Debug)]
pub(super) struct Lenient<T>(pub(super) Vec<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Lenient<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Lenient(items))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Lenient(Vec::new()))
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}
