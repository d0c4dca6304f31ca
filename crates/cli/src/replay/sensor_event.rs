//! Rampart's own events, read back from ECS NDJSON, judged as when they were live.

use std::borrow::Cow;

use event_model::{EventType, Field, FieldSource, Timestamp, ValueKind, ValueRef};
use rule_engine::{EventBuffer, FieldId};

/// An event of a sensor whose fields stand in a buffer under their ECS names.
pub(crate) struct SensorEvent<'a> {
    event_type: EventType,
    observed_at: Timestamp,
    buffer: &'a EventBuffer,
    /// Lists can't be lent from the buffer.
    lists: Vec<(Field, Vec<String>)>,
}

impl<'a> SensorEvent<'a> {
    pub(crate) fn new(event_type: EventType, observed_at: Timestamp, buffer: &'a EventBuffer) -> Self {
        let lists = Field::ALL.iter().filter(|field| field.spec().kind == ValueKind::TextList);
        let lists = lists.filter_map(|field| {
            let texts: Vec<String> = buffer.texts(FieldId::of(*field)).map(str::to_owned).collect();
            (!texts.is_empty()).then_some((*field, texts))
        });
        Self { event_type, observed_at, buffer, lists: lists.collect() }
    }
}

impl FieldSource for SensorEvent<'_> {
    fn event_type(&self) -> EventType {
        self.event_type
    }

    fn observed_at(&self) -> Timestamp {
        self.observed_at
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        let kind = field.spec().kind;
        if kind == ValueKind::TextList {
            let (_, texts) = self.lists.iter().find(|(own, _)| *own == field)?;
            return Some(ValueRef::TextList(texts));
        }
        let text = self.buffer.first_text(FieldId::of(field))?;
        match kind {
            ValueKind::Text | ValueKind::TextList => Some(ValueRef::Text(Cow::Borrowed(text))),
            ValueKind::Integer => text.parse().ok().map(ValueRef::Integer),
            ValueKind::Boolean => text.parse().ok().map(ValueRef::Boolean),
            ValueKind::Time => text.parse().ok().map(ValueRef::Time),
        }
    }
}
