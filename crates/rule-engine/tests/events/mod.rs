//! Events for tests, written as the ECS fields that they have.

#![allow(dead_code, reason = "each test binary uses some of these")]

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value, ValueKind};
use rule_engine::{ParsedRule, Phase, RuleSet, parse_rules};
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) const AT: &str = "2026-11-21T20:15:03Z";

/// An event of this type with fields by ECS name.
pub(crate) fn event(event_type: EventType, fields: &Json) -> EventRecord {
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence: 1,
        observed_at: AT.parse().expect("a time"),
        monotonic_ns: 1,
    };
    let fields =
        fields.as_object().expect("an object of fields").iter().map(|(name, value)| field(name, value));
    EventRecord::from_fields(header, event_type, fields.collect())
}

pub(crate) fn process_start(fields: Json) -> EventRecord {
    event(EventType::ProcessStart, &fields)
}

fn field(name: &str, value: &Json) -> (Field, Value) {
    let field = Field::ALL.iter().find(|field| field.spec().ecs == name);
    let field = *field.unwrap_or_else(|| panic!("`{name}` is no ECS name of a field"));
    let text = || value.as_str().unwrap_or_else(|| panic!("`{name}` should be a string")).to_owned();
    let value = match field.spec().kind {
        ValueKind::Text => Value::Text(text()),
        ValueKind::Integer => {
            Value::Integer(value.as_i64().unwrap_or_else(|| panic!("`{name}` should be a number")))
        }
        ValueKind::Boolean => {
            Value::Boolean(value.as_bool().unwrap_or_else(|| panic!("`{name}` should be a boolean")))
        }
        ValueKind::Time => Value::Time(text().parse::<Timestamp>().expect("a time")),
        ValueKind::TextList => {
            let items = value.as_array().unwrap_or_else(|| panic!("`{name}` should be a list"));
            Value::TextList(items.iter().map(|item| item.as_str().expect("a string").to_owned()).collect())
        }
    };
    (field, value)
}

/// The one rule of a text that must be without error.
pub(crate) fn rule(text: &str) -> ParsedRule {
    let mut outcome = parse_rules("test.json", text);
    assert!(outcome.is_ok(), "{:#?}", outcome.diagnostics);
    assert_eq!(outcome.rules.len(), 1, "one rule");
    outcome.rules.remove(0)
}

/// A rule of this type with one condition, and keys added or replaced.
pub(crate) fn rule_text(kind: &str, condition: &str, more: &Json) -> String {
    let mut rule = json!({
        "id": 1, "name": "test", "type": kind, "severity": "low",
        "conditions": [condition], "actions": ["alert"],
    });
    for (key, value) in more.as_object().expect("an object") {
        rule[key] = value.clone();
    }
    rule.to_string()
}

/// Whether a `process` rule with this condition matches.
pub(crate) fn holds(condition: &str, event: &EventRecord) -> bool {
    let set = set(&rule_text("process", condition, &json!({})));
    !set.evaluate(event, Phase::All).is_empty()
}

/// A set of the rules of a text, which must be without error.
pub(crate) fn set(text: &str) -> RuleSet {
    let outcome = parse_rules("test.json", text);
    assert!(outcome.is_ok(), "{:#?}", outcome.diagnostics);
    let compiled = RuleSet::compile(outcome.rules);
    assert!(compiled.diagnostics.is_empty(), "{:#?}", compiled.diagnostics);
    compiled.rules
}
