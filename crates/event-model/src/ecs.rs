//! Outward form: ECS documents.
//!
//! The body of a document comes from the table of fields; only what every
//! document has (time, host, agent, kind, category) is written here.

use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value as Json, json};

use crate::{Detection, EventHeader, EventRecord, Record, RecordBody, ResponseReceipt, ValueRef};

/// The version of the Elastic Common Schema that the names are from.
pub const ECS_VERSION: &str = "8.17.0";

/// What a document says of its origin besides the record.
#[derive(Debug, Clone, Copy)]
pub struct EcsContext<'a> {
    /// Name of the host.
    pub host_name: &'a str,
    /// Version of the agent, where it is known.
    pub agent_version: Option<&'a str>,
}

/// An ECS document, ready to be written. It is kept flat, by dotted names, and only writing nests it: an agent writes
/// thousands of them in a second, and trees of maps took longer to make and drop than all the rest.
#[derive(Debug, Clone)]
pub struct EcsDocument<'a> {
    /// In the order of the names; of two with the same name the last one stands.
    parts: Vec<(&'static str, Part<'a>)>,
}

/// What stands at a name.
#[derive(Debug, Clone)]
enum Part<'a> {
    Value(ValueRef<'a>),
    /// A list of one word.
    Word(&'static str),
    Number(u64),
    Json(Json),
}

impl<'a> EcsDocument<'a> {
    fn of(mut parts: Vec<(&'static str, Part<'a>)>) -> Self {
        parts.sort_by_key(|(name, _)| *name);
        Self { parts }
    }

    /// The document as a tree.
    pub fn to_json(&self) -> Json {
        // Keys are texts and no number is a fraction, so there is nothing that JSON does not have.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for EcsDocument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for EcsDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object { parts: &self.parts, depth: 0 }.serialize(serializer)
    }
}

/// The parts of one object: the first `depth` bytes of their names are what leads to it. As a dot sorts before all
/// that names are made of, they stand together.
struct Object<'p, 'a> {
    parts: &'p [(&'static str, Part<'a>)],
    depth: usize,
}

impl Serialize for Object<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut rest = self.parts;
        while let Some((name, _)) = rest.first() {
            let own = &name[self.depth..];
            let (key, inner) = own.split_once('.').map_or((own, false), |(key, _)| (key, true));
            let prefix = &name[..self.depth + key.len() + usize::from(inner)];
            let belongs = |other: &str| if inner { other.starts_with(prefix) } else { other == *name };
            let count = rest.iter().take_while(|(other, _)| belongs(other)).count();
            let (parts, others) = rest.split_at(count);
            if inner {
                map.serialize_entry(key, &Object { parts, depth: prefix.len() })?;
            } else if let Some((_, part)) = parts.last() {
                map.serialize_entry(key, part)?;
            }
            rest = others;
        }
        map.end()
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(ValueRef::Text(text)) => serializer.serialize_str(text),
            Self::Value(ValueRef::Integer(number)) => serializer.serialize_i64(*number),
            Self::Value(ValueRef::Boolean(truth)) => serializer.serialize_bool(*truth),
            Self::Value(ValueRef::TextList(list)) => list.serialize(serializer),
            Self::Value(ValueRef::Time(time)) => time.serialize(serializer),
            Self::Word(word) => [word].serialize(serializer),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Json(json) => json.serialize(serializer),
        }
    }
}

fn text<'a>(text: &'a str) -> Part<'a> {
    Part::Value(ValueRef::Text(text.into()))
}

fn made<'a>(text: impl ToString) -> Part<'a> {
    Part::Value(ValueRef::Text(text.to_string().into()))
}

impl Record {
    /// The record as one ECS document.
    pub fn to_ecs<'a>(&'a self, context: EcsContext<'a>) -> EcsDocument<'a> {
        match &self.body {
            RecordBody::Event(event) => event_to_ecs(event, context),
            RecordBody::Detection(detection) => detection_to_ecs(&self.header, detection, context),
            RecordBody::Receipt(receipt) => receipt_to_ecs(&self.header, receipt, context),
        }
    }
}

/// An event as an ECS document.
pub fn event_to_ecs<'a>(event: &'a EventRecord, context: EcsContext<'a>) -> EcsDocument<'a> {
    let mut parts = base(&event.header, context);
    let spec = event.event_type.spec();
    parts.extend([
        ("event.kind", text("event")),
        ("event.category", Part::Word(spec.category)),
        ("event.type", Part::Word(spec.ecs_type)),
        ("event.dataset", made(format_args!("rampart.{}", event.event_type))),
        ("rampart.event.type", text(event.event_type.as_str())),
    ]);
    parts.extend(fields(event));
    EcsDocument::of(parts)
}

/// A detection as an ECS document: the event that it is about, and the rule.
pub fn detection_to_ecs<'a>(
    header: &'a EventHeader,
    detection: &'a Detection,
    context: EcsContext<'a>,
) -> EcsDocument<'a> {
    let mut parts = base(header, context);
    parts.extend([
        ("event.kind", text("alert")),
        ("event.dataset", text("rampart.detection")),
        ("event.severity", Part::Number(severity_number(detection))),
        ("rampart.event.type", text("detection")),
        ("rampart.detection.id", made(detection.id)),
        ("rampart.detection.event_id", made(detection.event.header.event_id())),
        ("rampart.detection.matched", Part::Json(json!(detection.matched))),
        ("rampart.detection.actions", Part::Json(json!(detection.actions))),
        ("rampart.detection.mode", Part::Json(json!(detection.rule.mode))),
        ("rampart.detection.ancestry", Part::Json(json!(detection.ancestry))),
        ("rule.id", text(detection.rule.id.as_str())),
        ("rule.name", text(&detection.rule.name)),
        ("rule.description", text(&detection.rule.description)),
        ("rampart.rule.severity", Part::Json(json!(detection.rule.severity))),
    ]);
    if !detection.rule.attack.is_empty() {
        parts.push(("threat.framework", text("MITRE ATT&CK")));
        parts.push(("threat.technique.id", Part::Json(json!(detection.rule.attack))));
    }
    parts.extend(fields(&detection.event));
    EcsDocument::of(parts)
}

/// A receipt as an ECS document.
pub fn receipt_to_ecs<'a>(
    header: &'a EventHeader,
    receipt: &'a ResponseReceipt,
    context: EcsContext<'a>,
) -> EcsDocument<'a> {
    let mut parts = base(header, context);
    parts.extend([
        ("event.kind", text("event")),
        ("event.dataset", text("rampart.response")),
        ("event.action", text(receipt.action.as_str())),
        ("rampart.event.type", text("response")),
        ("rampart.response.id", made(receipt.id)),
        ("rampart.response.detection_id", made(receipt.detection_id)),
        ("rampart.response.state", Part::Json(json!(receipt.state))),
        ("rampart.response.reason", Part::Json(json!(receipt.reason))),
        ("rampart.response.steps", Part::Json(json!(receipt.steps))),
        ("process.entity_id", made(receipt.target.entity_id)),
        ("process.pid", Part::Number(receipt.target.entity_id.pid().into())),
        ("process.executable", text(&receipt.target.executable)),
    ]);
    EcsDocument::of(parts)
}

fn base<'a>(header: &EventHeader, context: EcsContext<'a>) -> Vec<(&'static str, Part<'a>)> {
    // As many as an event of a process has at most, nearly.
    let mut parts = Vec::with_capacity(80);
    parts.extend([
        ("@timestamp", Part::Value(ValueRef::Time(header.observed_at))),
        ("ecs.version", text(ECS_VERSION)),
        ("event.id", made(header.event_id())),
        ("event.sequence", Part::Number(header.sequence)),
        ("event.module", text("rampart")),
        ("host.id", made(header.host_id)),
        ("host.name", text(context.host_name)),
        ("host.boot.id", made(header.boot_id)),
        ("agent.type", text("rampart")),
        ("rampart.monotonic_ns", Part::Number(header.monotonic_ns)),
    ]);
    parts.extend(context.agent_version.map(|version| ("agent.version", text(version))));
    parts
}

fn fields(event: &EventRecord) -> impl Iterator<Item = (&'static str, Part<'_>)> {
    event.fields().map(|(field, value)| (field.spec().ecs, Part::Value(value.as_ref())))
}

/// `event.severity` is a number in ECS; the steps are those of Elastic's risk scores.
fn severity_number(detection: &Detection) -> u64 {
    match detection.rule.severity {
        crate::Severity::Informational => 1,
        crate::Severity::Low => 21,
        crate::Severity::Medium => 47,
        crate::Severity::High => 73,
        crate::Severity::Critical => 99,
    }
}

#[cfg(test)]
mod tests {
    use crate::Field;

    #[test]
    fn no_ecs_name_is_the_parent_of_another() {
        // `a.b` as a value and `a.b.c` as a value can't live in one document.
        for field in Field::ALL {
            let prefix = format!("{}.", field.spec().ecs);
            let child = Field::ALL.iter().find(|other| other.spec().ecs.starts_with(&prefix));
            assert_eq!(child, None, "{} is a value and an object", field.spec().ecs);
        }
    }

    #[test]
    fn no_name_has_what_sorts_before_a_dot() {
        // What belongs to one object would not stand together.
        for field in Field::ALL {
            let name = field.spec().ecs;
            assert!(name.bytes().all(|byte| byte >= b'.' && byte != b'/'), "{name}");
        }
    }
}
