//! An event read back from the ECS document that is kept with an alert.

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value, ValueKind};
use serde_json::Value as Json;

/// The event; `None` where the document is none of this version's events. Fields of a later version are left out.
pub(super) fn past_event(document: &Json) -> Option<EventRecord> {
    let event_type = EventType::from_word(at(document, "rampart.event.type")?.as_str()?)?;
    let text = |name| at(document, name).and_then(Json::as_str);
    let number = |name| at(document, name).and_then(Json::as_u64).unwrap_or_default();
    let header = EventHeader {
        host_id: text("host.id").and_then(|id| id.parse::<HostId>().ok())?,
        boot_id: text("host.boot.id").and_then(|id| id.parse::<BootId>().ok())?,
        sequence: number("event.sequence"),
        observed_at: text("@timestamp").and_then(|time| time.parse().ok())?,
        monotonic_ns: number("rampart.monotonic_ns"),
    };
    let fields = Field::ALL.iter().filter_map(|field| {
        let spec = field.spec();
        Some((*field, value(spec.kind, at(document, spec.ecs)?)?))
    });
    Some(EventRecord::from_fields(header, event_type, fields.collect()))
}

/// What stands at `a.b.c` in nested objects.
fn at<'d>(document: &'d Json, dotted: &str) -> Option<&'d Json> {
    dotted.split('.').try_fold(document, |inner, key| inner.get(key))
}

fn value(kind: ValueKind, json: &Json) -> Option<Value> {
    Some(match kind {
        ValueKind::Text => Value::Text(json.as_str()?.to_owned()),
        ValueKind::Integer => Value::Integer(json.as_i64()?),
        ValueKind::Boolean => Value::Boolean(json.as_bool()?),
        ValueKind::Time => Value::Time(json.as_str()?.parse::<Timestamp>().ok()?),
        ValueKind::TextList => {
            let items = json.as_array()?.iter().map(|item| item.as_str().map(str::to_owned));
            Value::TextList(items.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use event_model::{EcsContext, event_to_ecs};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was() {
        let header = EventHeader {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            boot_id: BootId::from_uuid(Uuid::from_u128(2)),
            sequence: 7,
            observed_at: Timestamp::from_nanos(1_800_000_000_123_456_789),
            monotonic_ns: 9,
        };
        let fields = Field::ALL.iter().filter(|field| !field.spec().scopes.is_empty()).map(|field| {
            let value = match field.spec().kind {
                ValueKind::Text => Value::Text(format!("a {}", field.spec().ecs)),
                ValueKind::Integer => Value::Integer(-5),
                ValueKind::Boolean => Value::Boolean(true),
                ValueKind::Time => Value::Time(Timestamp::from_nanos(1_800_000_000_000_000_001)),
                ValueKind::TextList => Value::TextList(vec!["x".into(), String::new()]),
            };
            (*field, value)
        });
        let event = EventRecord::from_fields(header, EventType::ProcessStart, fields.collect());
        let document = event_to_ecs(&event, EcsContext { host_name: "h", agent_version: None }).to_json();
        assert_eq!(past_event(&document).map(|event| event.event_type), Some(EventType::ProcessStart));
        let again = past_event(&document).expect("an event");
        // Where a document has two meanings at one place, the outer form wins (`event.type` and the like).
        for (field, value) in event.fields() {
            assert_eq!(
                again.fields().find(|(own, _)| *own == field).map(|(_, value)| value),
                Some(value),
                "{field:?}"
            );
        }
        assert_eq!(again.header, event.header);
        assert!(past_event(&Json::Null).is_none());
    }
}
