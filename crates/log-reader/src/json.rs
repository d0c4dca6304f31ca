//! One JSON object, visited: no tree of it is ever made.

use std::fmt;
use std::ops::ControlFlow;

use event_model::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::consumer::LogConsumer;
use crate::decoder::LogDecoder;
use crate::json_scan::scan;
use crate::path_tree::Place;
use crate::problem::{Problem, ProblemKind};

/// Where a record stands, for its head and for diagnoses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordPlace {
    pub(crate) record: u64,
    pub(crate) byte: u64,
}

/// Reads one object and hands it on; one that can't be read is reported. False where it
/// could not be read.
pub(crate) fn read_record<C: LogConsumer>(
    bytes: &[u8],
    at: RecordPlace,
    decoder: &mut LogDecoder<C>,
) -> (bool, ControlFlow<()>) {
    let RecordPlace { record, byte } = at;
    let error = match read_object(bytes, decoder) {
        Ok(()) => return (true, decoder.finish(record, false, byte, None)),
        Err(error) => error,
    };
    let record = Some(record);
    if let Err(not_utf8) = std::str::from_utf8(bytes) {
        // Dropping the record would let an attacker hide it behind one bad byte.
        let offset = not_utf8.valid_up_to();
        let reason = "bytes that are not UTF-8; each was read as U+FFFD".to_owned();
        let hint = "write the log as UTF-8";
        let byte = byte + offset as u64;
        if read_object(String::from_utf8_lossy(bytes).as_bytes(), decoder).is_ok() {
            decoder.problem(Problem { kind: ProblemKind::NotUtf8, record, byte, reason, hint });
            return (true, decoder.finish(at.record, false, at.byte, None));
        }
    }
    let offset = if error.is_eof() {
        bytes.len()
    } else {
        // serde_json counts lines and columns from 1.
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
    };
    let byte = byte + offset.min(bytes.len()) as u64;
    let kind = if error.is_eof() { ProblemKind::Cut } else { ProblemKind::BadRecord };
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let reason = format!("no JSON object: {words}");
    let hint = "the record was left out; check what wrote it";
    decoder.problem(Problem { kind, record, byte, reason, hint });
    (false, ControlFlow::Continue(()))
}

/// An EVTX record as JSON, with the time of its header.
pub(crate) fn read_evtx_record<C: LogConsumer>(
    bytes: &[u8],
    at: RecordPlace,
    time: Timestamp,
    decoder: &mut LogDecoder<C>,
) -> Result<ControlFlow<()>, serde_json::Error> {
    read_object(bytes, decoder)?;
    Ok(decoder.finish(at.record, true, at.byte, Some(time)))
}

fn read_object<C: LogConsumer>(bytes: &[u8], decoder: &mut LogDecoder<C>) -> Result<(), serde_json::Error> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        decoder.begin();
        let mut scratch = decoder.take_scratch();
        let taken = scan(text, decoder, &mut scratch);
        decoder.keep_scratch(scratch);
        if taken {
            return Ok(());
        }
    }
    read_slowly(bytes, decoder)
}

/// The long way, which reads everything that is JSON and knows what is wrong with what is not.
pub(crate) fn read_slowly<C: LogConsumer>(
    bytes: &[u8],
    decoder: &mut LogDecoder<C>,
) -> Result<(), serde_json::Error> {
    decoder.begin();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Record { decoder }.deserialize(&mut json)?;
    json.end()
}

/// The whole record must be an object.
struct Record<'a, C: LogConsumer> {
    decoder: &'a mut LogDecoder<C>,
}

impl<'de, C: LogConsumer> DeserializeSeed<'de> for Record<'_, C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, C: LogConsumer> Visitor<'de> for Record<'_, C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        visit_object(self.decoder, Place::ROOT, map)
    }
}

fn visit_object<'de, C: LogConsumer, A: MapAccess<'de>>(
    decoder: &mut LogDecoder<C>,
    parent: Place,
    mut map: A,
) -> Result<(), A::Error> {
    let mut previous = Place::NONE;
    while let Some(place) = map.next_key_seed(Key { decoder, parent, previous })? {
        match place {
            Some(place) => {
                map.next_value_seed(Value { decoder, place })?;
                previous = place;
            }
            None => {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
    }
    Ok(())
}

struct Key<'a, C: LogConsumer> {
    decoder: &'a mut LogDecoder<C>,
    parent: Place,
    previous: Place,
}

impl<'de, C: LogConsumer> DeserializeSeed<'de> for Key<'_, C> {
    type Value = Option<Place>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Place>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<C: LogConsumer> Visitor<'_> for Key<'_, C> {
    type Value = Option<Place>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<Place>, E> {
        Ok(self.decoder.child(self.parent, self.previous, key))
    }
}

pub(crate) struct Value<'a, C: LogConsumer> {
    pub(crate) decoder: &'a mut LogDecoder<C>,
    pub(crate) place: Place,
}

impl<'de, C: LogConsumer> DeserializeSeed<'de> for Value<'_, C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, C: LogConsumer> Visitor<'de> for Value<'_, C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.decoder.text(self.place, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.decoder.integer(self.place, value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.decoder.integer(self.place, value),
            // As text no digit is lost.
            Err(_) => self.decoder.text(self.place, &value.to_string()),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.decoder.float(self.place, value);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.decoder.boolean(self.place, value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.decoder.null(self.place);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        // The elements are values of one field.
        while seq.next_element_seed(Value { decoder: self.decoder, place: self.place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        visit_object(self.decoder, self.place, map)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<(), E> {
        Err(E::custom("bytes where JSON has none"))
    }
}
