//! Events as people write them: a JSON object with the names of fields that the rule's events have.
//!
//! `rampart.event.type` says of which type a live event is. Without it, an event that a log source can be told
//! of (`Channel`, `EventID`) is one of that; any other is one of those that the rule judges.

use event_model::{EventType, Field, Timestamp, ValueKind};
use rule_engine::{
    EventBuffer, Explanation, FieldId, NotJudged, ParsedRule, Phase, RuleSet, SourceId, Telemetry,
};
use serde_json::{Map, Value};

use crate::arguments::nearest;
use crate::replay::SensorEvent;

const TYPE: &str = "rampart.event.type";
const TIME: &str = "@timestamp";
/// What stands in our own output besides fields that rules can ask for.
const ENVELOPE: &[&str] = &["agent.", "ecs.", "event.", "host.", "rampart."];
/// How deep objects may stand in each other.
const DEPTH_LIMIT: usize = 32;

/// An event, and what it is judged as.
pub(super) struct WrittenEvent {
    values: EventBuffer,
    kind: Kind,
}

enum Kind {
    Live(EventType),
    Record(SourceId),
}

impl WrittenEvent {
    /// Reads an event as `rule`, one of `rules`, would meet it.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub(super) fn read(event: &Value, rule: &ParsedRule, rules: &RuleSet) -> Result<Self, String> {
        let Value::Object(members) = event else {
            return Err("an event is an object {\"field\": value, …}".to_owned());
        };
        let mut flat = Vec::new();
        flatten("", members, DEPTH_LIMIT, &mut flat)?;
        let mut values = EventBuffer::new();
        let head =
            |name: &str| flat.iter().find(|(own, _)| own == name).and_then(|(_, value)| value.as_str());
        if let Some(time) = head(TIME) {
            let time: Timestamp =
                time.parse().map_err(|_| format!("`{TIME}` is no time; write it as 2026-01-31T12:00:00Z"))?;
            values.set_time(time);
        }
        if let Some(word) = head(TYPE) {
            let event_type = EventType::from_word(word).ok_or_else(|| {
                let near = nearest(word, EventType::ALL.iter().map(|it| it.as_str()));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                format!("`{TYPE}`: there are no events of type `{word}`{hint}")
            })?;
            return Self::live(event_type, &flat, values);
        }
        fill_record(&flat, rules, &mut values);
        if let Some(source) = rules.route(&values) {
            return Ok(Self { values, kind: Kind::Record(source) });
        }
        match rule.log_source() {
            Some(log_source) => match rules.source_judged_by(log_source) {
                Some(source) => Ok(Self { values, kind: Kind::Record(source) }),
                None => {
                    Err(format!("no log source is known that is {log_source}; `--mapping FILE` adds one"))
                }
            },
            None => {
                let event_type = type_judged_by(rule.telemetry()).ok_or_else(|| {
                    let events = rule.telemetry().describe();
                    format!("say with `{TYPE}` (or, of a Windows log, with `Channel` and `EventID`) which of the {events} it is")
                })?;
                values.clear();
                Self::live(event_type, &flat, values)
            }
        }
    }

    fn live(
        event_type: EventType,
        flat: &[(String, &Value)],
        mut values: EventBuffer,
    ) -> Result<Self, String> {
        for (name, value) in flat.iter().filter(|(name, _)| name != TIME && name != TYPE) {
            let field = Field::ALL.iter().find(|field| field.spec().ecs == name);
            if field.is_none() && ENVELOPE.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            let field = field.ok_or_else(|| {
                let near = nearest(name, Field::ALL.iter().map(|field| field.spec().ecs));
                let hint = near.map_or_else(
                    || "docs/reference/fields.md lists them".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                format!("`{name}` is no field of live events by its ECS name; {hint}")
            })?;
            let id = FieldId::of(*field);
            match (field.spec().kind, value) {
                (ValueKind::Text | ValueKind::TextList | ValueKind::Time, Value::String(text)) => {
                    values.push_text(id, text)
                }
                (ValueKind::Integer, Value::Number(number)) if number.as_i64().is_some() => {
                    values.push_integer(id, number.as_i64().unwrap_or_default());
                }
                (ValueKind::Boolean, Value::Bool(truth)) => values.push_boolean(id, *truth),
                (kind, _) => {
                    let wanted = match kind {
                        ValueKind::Text => "a text",
                        ValueKind::TextList => "a list of texts",
                        ValueKind::Integer => "a whole number",
                        ValueKind::Boolean => "true or false",
                        ValueKind::Time => "a time as text",
                    };
                    return Err(format!("`{name}` should be {wanted}"));
                }
            }
        }
        Ok(Self { values, kind: Kind::Live(event_type) })
    }

    /// The ids of the rules that match it.
    pub(super) fn matches(&self, rules: &RuleSet) -> Vec<String> {
        let found = match self.kind {
            Kind::Live(event_type) => rules.evaluate(&self.as_live(event_type), Phase::All),
            Kind::Record(source) => rules.judge(&self.values, source, &mut rules.desk()),
        };
        found.iter().map(|found| found.rule.id.to_string()).collect()
    }

    /// What the rule makes of it.
    pub(super) fn explain(&self, rules: &RuleSet, rule: &ParsedRule) -> Result<Explanation, NotJudged> {
        match self.kind {
            Kind::Live(event_type) => rules.explain_live(&rule.head().id, &self.as_live(event_type)),
            Kind::Record(source) => rules.explain(&rule.head().id, &self.values, source),
        }
    }

    fn as_live(&self, event_type: EventType) -> SensorEvent<'_> {
        SensorEvent::new(event_type, self.values.time().unwrap_or_default(), &self.values)
    }
}

/// The type that an event is of when it doesn't say; `None` where several are as likely.
fn type_judged_by(telemetry: Telemetry) -> Option<EventType> {
    match telemetry {
        Telemetry::ProcessStart => Some(EventType::ProcessStart),
        Telemetry::ProcessExit => Some(EventType::ProcessExit),
        Telemetry::Network => Some(EventType::NetworkConnect),
        Telemetry::File => Some(EventType::FileCreate),
        Telemetry::Task => Some(EventType::ScheduledTask),
        Telemetry::Registry | Telemetry::Activity | Telemetry::EventLog => None,
    }
}

/// Every value with its name, inner objects' behind a dot, each item of a list for itself.
fn flatten<'v>(
    before: &str,
    members: &'v Map<String, Value>,
    depth_left: usize,
    flat: &mut Vec<(String, &'v Value)>,
) -> Result<(), String> {
    if depth_left == 0 {
        return Err(format!("objects stand in each other deeper than {DEPTH_LIMIT}"));
    }
    for (name, value) in members {
        let name = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        match value {
            Value::Object(inner) => flatten(&name, inner, depth_left - 1, flat)?,
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::Object(inner) => flatten(&name, inner, depth_left - 1, flat)?,
                        Value::Array(_) => return Err(format!("`{name}` is a list of lists")),
                        one => flat.push((name.clone(), one)),
                    }
                }
            }
            one => flat.push((name, one)),
        }
    }
    Ok(())
}

fn fill_record(flat: &[(String, &Value)], rules: &RuleSet, values: &mut EventBuffer) {
    for (name, value) in flat {
        // Keyword searches look into values that no rule names.
        let field = rules.field(name).unwrap_or(FieldId::UNNAMED);
        match value {
            Value::Null => values.push_null(field),
            Value::Bool(truth) => values.push_boolean(field, *truth),
            Value::Number(number) => match number.as_i64() {
                Some(number) => values.push_integer(field, number),
                None => values.push_float(field, number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => values.push_text(field, text),
            Value::Array(_) | Value::Object(_) => {}
        }
    }
}
