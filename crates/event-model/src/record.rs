//! What flows from agent to server: numbered records.
//!
//! Events, detections and receipts share one sequence for each boot of a host,
//! so that a hole in the numbers is a loss, whatever was lost.

use crate::{
    BootId, Detection, EventBody, EventId, EventType, Field, HostId, ProcessEntityId, ResponseReceipt,
    Timestamp, Value, ValueRef,
};

/// What every record has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHeader {
    /// The host. The server takes it from the agent's certificate, never from the payload.
    pub host_id: HostId,
    /// The boot.
    pub boot_id: BootId,
    /// Number of the record within the boot, from 1.
    pub sequence: u64,
    /// Wall clock, as the host has it.
    pub observed_at: Timestamp,
    /// Nanoseconds since the boot, suspend included.
    pub monotonic_ns: u64,
}

impl EventHeader {
    /// The record's id.
    pub fn event_id(&self) -> EventId {
        EventId::of_record(self.host_id, self.boot_id, self.sequence, self.observed_at)
    }
}

/// Anything that fields can be read from: a typed event, or one from wire or store.
pub trait FieldSource {
    /// The type of the event.
    fn event_type(&self) -> EventType;
    /// When it was observed.
    fn observed_at(&self) -> Timestamp;
    /// The value of a field, where the event has it.
    fn value(&self, field: Field) -> Option<ValueRef<'_>>;
    /// The process whose id a field has. Whoever has it as such need not write and read its text.
    fn entity(&self, field: Field) -> Option<ProcessEntityId> {
        match self.value(field)? {
            ValueRef::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// An event as fields: the form in which it is sent, stored, searched and shown.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Place and time.
    pub header: EventHeader,
    /// Type.
    pub event_type: EventType,
    /// Fields in the order of the table, each at most once.
    fields: Vec<(Field, Value)>,
}

impl EventRecord {
    /// From a typed event.
    pub fn from_body(header: EventHeader, body: &EventBody) -> Self {
        let mut fields = Vec::new();
        body.each_field(&mut |field, value| fields.push((field, value.to_owned())));
        // Thousands of records may wait to be written: no room that is not used.
        fields.shrink_to_fit();
        fields.sort_unstable_by_key(|(field, _)| *field);
        Self { header, event_type: body.event_type(), fields }
    }

    /// From fields in any order; of a field that stands twice the last one stays.
    pub fn from_fields(header: EventHeader, event_type: EventType, fields: Vec<(Field, Value)>) -> Self {
        let mut fields = fields;
        fields.reverse();
        fields.sort_by_key(|(field, _)| *field);
        fields.dedup_by_key(|(field, _)| *field);
        Self { header, event_type, fields }
    }

    /// The fields that are present, in the order of the table.
    pub fn fields(&self) -> impl Iterator<Item = (Field, &Value)> {
        self.fields.iter().map(|(field, value)| (*field, value))
    }

    /// The text of a field, where it is present and a text.
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.get(field)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a field, where it is present and a number.
    pub fn integer(&self, field: Field) -> Option<i64> {
        match self.get(field)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn get(&self, field: Field) -> Option<&Value> {
        let place = self.fields.binary_search_by_key(&field, |(field, _)| *field).ok()?;
        Some(&self.fields[place].1)
    }
}

impl FieldSource for EventRecord {
    fn event_type(&self) -> EventType {
        self.event_type
    }

    fn observed_at(&self) -> Timestamp {
        self.header.observed_at
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        self.get(field).map(Value::as_ref)
    }
}

/// One numbered record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Place and time.
    pub header: EventHeader,
    /// Content.
    pub body: RecordBody,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordBody {
    /// Something happened. (Its own header equals the record's.)
    Event(EventRecord),
    /// A rule matched.
    Detection(Box<Detection>),
    /// A response ended.
    Receipt(Box<ResponseReceipt>),
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn header() -> EventHeader {
        EventHeader {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            boot_id: BootId::from_uuid(Uuid::from_u128(2)),
            sequence: 3,
            observed_at: Timestamp::from_nanos(4),
            monotonic_ns: 5,
        }
    }

    #[test]
    fn the_last_of_a_repeated_field_stays_and_order_is_the_tables() {
        let fields = vec![
            (Field::UserName, Value::Text("b".into())),
            (Field::ProcessPid, Value::Integer(1)),
            (Field::UserName, Value::Text("a".into())),
        ];
        let record = EventRecord::from_fields(header(), EventType::ProcessStart, fields);
        assert_eq!(record.text(Field::UserName), Some("a"));
        assert_eq!(
            record.fields().map(|(field, _)| field).collect::<Vec<_>>(),
            [Field::ProcessPid, Field::UserName]
        );
        assert_eq!(record.integer(Field::UserName), None, "a text is no number");
    }
}
