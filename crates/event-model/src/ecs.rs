//! Outward form: ECS documents.
//!
//! The body of a document comes from the table of fields; only what every
//! document has (time, host, agent, kind, category) is written here.

use serde_json::{Map, Value as Json, json};

use crate::{Detection, EventHeader, EventRecord, Record, RecordBody, ResponseReceipt};

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

impl Record {
    /// The record as one ECS document.
    pub fn to_ecs(&self, context: EcsContext<'_>) -> Json {
        match &self.body {
            RecordBody::Event(event) => event_to_ecs(event, context),
            RecordBody::Detection(detection) => detection_to_ecs(&self.header, detection, context),
            RecordBody::Receipt(receipt) => receipt_to_ecs(&self.header, receipt, context),
        }
    }
}

/// An event as an ECS document.
pub fn event_to_ecs(event: &EventRecord, context: EcsContext<'_>) -> Json {
    let mut document = base(&event.header, context);
    let spec = event.event_type.spec();
    put(&mut document, "event.kind", json!("event"));
    put(&mut document, "event.category", json!([spec.category]));
    put(&mut document, "event.type", json!([spec.ecs_type]));
    put(&mut document, "event.dataset", json!(format!("rampart.{}", event.event_type)));
    put(&mut document, "rampart.event.type", json!(event.event_type.as_str()));
    put_fields(&mut document, event);
    Json::Object(document)
}

/// A detection as an ECS document: the event that it is about, and the rule.
pub fn detection_to_ecs(header: &EventHeader, detection: &Detection, context: EcsContext<'_>) -> Json {
    let mut document = base(header, context);
    put(&mut document, "event.kind", json!("alert"));
    put(&mut document, "event.dataset", json!("rampart.detection"));
    put(&mut document, "event.severity", json!(severity_number(detection)));
    put(&mut document, "rampart.event.type", json!("detection"));
    put(&mut document, "rampart.detection.id", json!(detection.id.to_string()));
    put(&mut document, "rampart.detection.event_id", json!(detection.event.header.event_id().to_string()));
    put(&mut document, "rampart.detection.matched", json!(detection.matched));
    put(&mut document, "rampart.detection.actions", json!(detection.actions));
    put(&mut document, "rampart.detection.mode", json!(detection.rule.mode));
    put(&mut document, "rampart.detection.ancestry", json!(detection.ancestry));
    put(&mut document, "rule.id", json!(detection.rule.id.as_str()));
    put(&mut document, "rule.name", json!(detection.rule.name));
    put(&mut document, "rule.description", json!(detection.rule.description));
    put(&mut document, "rampart.rule.severity", json!(detection.rule.severity));
    if !detection.rule.attack.is_empty() {
        put(&mut document, "threat.framework", json!("MITRE ATT&CK"));
        put(&mut document, "threat.technique.id", json!(detection.rule.attack));
    }
    put_fields(&mut document, &detection.event);
    Json::Object(document)
}

/// A receipt as an ECS document.
pub fn receipt_to_ecs(header: &EventHeader, receipt: &ResponseReceipt, context: EcsContext<'_>) -> Json {
    let mut document = base(header, context);
    put(&mut document, "event.kind", json!("event"));
    put(&mut document, "event.dataset", json!("rampart.response"));
    put(&mut document, "event.action", json!(receipt.action.as_str()));
    put(&mut document, "rampart.event.type", json!("response"));
    put(&mut document, "rampart.response.id", json!(receipt.id.to_string()));
    put(&mut document, "rampart.response.detection_id", json!(receipt.detection_id.to_string()));
    put(&mut document, "rampart.response.state", json!(receipt.state));
    put(&mut document, "rampart.response.reason", json!(receipt.reason));
    put(&mut document, "rampart.response.steps", json!(receipt.steps));
    put(&mut document, "process.entity_id", json!(receipt.target.entity_id.to_string()));
    put(&mut document, "process.pid", json!(receipt.target.entity_id.pid()));
    put(&mut document, "process.executable", json!(receipt.target.executable));
    Json::Object(document)
}

fn base(header: &EventHeader, context: EcsContext<'_>) -> Map<String, Json> {
    let mut document = Map::new();
    document.insert("@timestamp".into(), json!(header.observed_at));
    put(&mut document, "ecs.version", json!(ECS_VERSION));
    put(&mut document, "event.id", json!(header.event_id().to_string()));
    put(&mut document, "event.sequence", json!(header.sequence));
    put(&mut document, "event.module", json!("rampart"));
    put(&mut document, "host.id", json!(header.host_id.to_string()));
    put(&mut document, "host.name", json!(context.host_name));
    put(&mut document, "host.boot.id", json!(header.boot_id.to_string()));
    put(&mut document, "agent.type", json!("rampart"));
    if let Some(version) = context.agent_version {
        put(&mut document, "agent.version", json!(version));
    }
    put(&mut document, "rampart.monotonic_ns", json!(header.monotonic_ns));
    document
}

fn put_fields(document: &mut Map<String, Json>, event: &EventRecord) {
    for (field, value) in event.fields() {
        put(document, field.spec().ecs, value.as_ref().to_json());
    }
}

/// Sets `a.b.c` in nested objects.
fn put(document: &mut Map<String, Json>, dotted: &str, value: Json) {
    let Some((first, rest)) = dotted.split_once('.') else {
        document.insert(dotted.to_owned(), value);
        return;
    };
    let inner = document.entry(first).or_insert_with(|| Json::Object(Map::new()));
    if let Json::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// `event.severity` is a number in ECS; the steps are those of Elastic's risk scores.
fn severity_number(detection: &Detection) -> u8 {
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
}
