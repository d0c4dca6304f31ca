//! Records of logs for tests, and what rules say of them.

#![allow(dead_code, reason = "each test binary uses some of these")]

use event_model::Timestamp;
use rule_engine::{
    CompileOptions, EventBuffer, FieldId, LogSource, ParsedRule, RuleSet, SigmaOptions, parse_rules,
    parse_sigma,
};
use serde_json::Value;

/// The rules of a text that must be without error.
pub(crate) fn rules(text: &str) -> Vec<ParsedRule> {
    rules_with(text, &SigmaOptions::default())
}

pub(crate) fn rules_with(text: &str, options: &SigmaOptions) -> Vec<ParsedRule> {
    let outcome = parse_sigma("test.yml", text, options);
    assert!(outcome.is_ok(), "{:#?}\n{text}", outcome.diagnostics);
    outcome.rules
}

/// A set of such rules.
pub(crate) fn set(text: &str) -> RuleSet {
    let compiled = RuleSet::compile_with(rules(text), CompileOptions::default());
    assert!(compiled.diagnostics.iter().all(|it| !it.is_error()), "{:#?}", compiled.diagnostics);
    compiled.rules
}

/// The one diagnostic of a text: code, line, column, end column.
pub(crate) fn fault(text: &str) -> (&'static str, u32, u32, u32) {
    let outcome = parse_rules("test.yml", text);
    assert_eq!(outcome.diagnostics.len(), 1, "{:#?}\n{text}", outcome.diagnostics);
    let it = &outcome.diagnostics[0];
    (it.code.as_str(), it.line, it.column, it.end_column)
}

/// A rule for auditd with this detection (lines indented by two spaces).
pub(crate) fn rule_text(detection: &str) -> String {
    format!("title: t\nid: one\nlogsource: {{product: linux, service: auditd}}\ndetection:\n{detection}\n")
}

/// Puts a flat JSON object into a buffer.
pub(crate) fn fill(event: &mut EventBuffer, rules: &RuleSet, record: &Value) {
    event.clear();
    for (name, value) in record.as_object().expect("an object") {
        if name == "@timestamp" {
            event.set_time(value.as_str().expect("a time").parse::<Timestamp>().expect("a time"));
            continue;
        }
        let field = rules.field(name).unwrap_or(FieldId::UNNAMED);
        match value {
            Value::Array(items) => items.iter().for_each(|item| push(event, field, item)),
            other => push(event, field, other),
        }
    }
}

fn push(event: &mut EventBuffer, field: FieldId, value: &Value) {
    match value {
        Value::Null => event.push_null(field),
        Value::Bool(truth) => event.push_boolean(field, *truth),
        Value::String(text) => event.push_text(field, text),
        Value::Number(number) => match number.as_i64() {
            Some(number) => event.push_integer(field, number),
            None => event.push_float(field, number.as_f64().expect("a number")),
        },
        other => panic!("{other} is no value"),
    }
}

pub(crate) fn auditd() -> LogSource {
    LogSource { product: Some("linux".into()), category: None, service: Some("auditd".into()) }
}

/// Ids of the rules that match a record of auditd.
pub(crate) fn judged(rules: &RuleSet, record: &Value) -> Vec<String> {
    let mut event = EventBuffer::new();
    fill(&mut event, rules, record);
    let source = rules.source(&auditd()).expect("auditd is a log source of ours");
    rules.judge(&event, source, &mut rules.desk()).iter().map(|it| it.rule.id.to_string()).collect()
}

/// Ids of the rules that match a record whose log source its own fields tell.
pub(crate) fn routed(rules: &RuleSet, record: &Value) -> Vec<String> {
    let mut event = EventBuffer::new();
    fill(&mut event, rules, record);
    let Some(source) = rules.route(&event) else { return Vec::new() };
    rules.judge(&event, source, &mut rules.desk()).iter().map(|it| it.rule.id.to_string()).collect()
}

/// Whether a rule with this detection matches a record of auditd.
pub(crate) fn holds(detection: &str, record: &Value) -> bool {
    !judged(&set(&rule_text(detection)), record).is_empty()
}
