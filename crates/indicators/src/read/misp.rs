//! MISP events, as exported or as the API gives them.

use std::borrow::Cow;

use event_model::Severity;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{Lenient, part, whole};
use super::{Lines, Reading, csv, shown};
use crate::indicator::IndicatorDefaults;

#[derive(Deserialize, Default)]
struct Outer<'a> {
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, rename = "Attribute")]
    attributes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    info: String,
    threat_level_id: Option<Value>,
    #[serde(borrow, rename = "Orgc")]
    creator: Option<&'a RawValue>,
    #[serde(borrow, rename = "Attribute", default)]
    attributes: Lenient<&'a RawValue>,
    #[serde(borrow, rename = "Object", default)]
    objects: Lenient<&'a RawValue>,
}

#[derive(Deserialize)]
struct Organisation {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, rename = "Attribute", default)]
    attributes: Lenient<&'a RawValue>,
    #[serde(default)]
    deleted: Value,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
    #[serde(default)]
    to_ids: Value,
    #[serde(default)]
    deleted: Value,
    comment: Option<String>,
}

/// What an event says of all its attributes.
struct Context {
    defaults: IndicatorDefaults,
    info: String,
}

pub(super) fn read(text: &str, defaults: &IndicatorDefaults, reading: &mut Reading<'_>) {
    let lines = Lines::new(text);
    let outer: Vec<&RawValue> = if text.trim_start().starts_with('[') {
        let Some(list) = whole(text, reading) else { return };
        list
    } else {
        let Some(one) = whole::<&RawValue>(text, reading) else { return };
        vec![one]
    };
    for one in outer {
        read_outer(one, &lines, defaults, reading, true);
    }
}

/// `{"Event": …}`, `{"response": [{"Event": …}]}` or `{"response": {"Attribute": […]}}`.
fn read_outer(
    raw: &RawValue,
    lines: &Lines<'_>,
    defaults: &IndicatorDefaults,
    reading: &mut Reading<'_>,
    outermost: bool,
) {
    let Some(outer) = part::<Outer<'_>>(raw, lines, reading) else { return };
    match outer {
        Outer { event: Some(event), .. } => read_event(event, lines, defaults, reading),
        Outer { attributes: Some(_), .. } => read_event(raw, lines, defaults, reading),
        Outer { response: Some(response), .. } if outermost => {
            if response.get().starts_with('[') {
                for one in part::<Vec<&RawValue>>(response, lines, reading).unwrap_or_default() {
                    read_outer(one, lines, defaults, reading, false);
                }
            } else {
                read_outer(response, lines, defaults, reading, false);
            }
        }
        Outer { .. } => {
            reading.bad(lines.of(raw.get()), "this is no MISP event: it has no key `Event`".to_owned())
        }
    }
}

fn read_event(raw: &RawValue, lines: &Lines<'_>, defaults: &IndicatorDefaults, reading: &mut Reading<'_>) {
    let Some(event) = part::<Event<'_>>(raw, lines, reading) else { return };
    let mut defaults = defaults.clone();
    // 1 high, 2 medium, 3 low, 4 undefined.
    let level = event.threat_level_id.as_ref().and_then(number);
    defaults.severity = match level {
        Some(1) => Severity::High,
        Some(2) => Severity::Medium,
        Some(3) => Severity::Low,
        _ => defaults.severity,
    };
    let creator = event.creator.and_then(|creator| serde_json::from_str::<Organisation>(creator.get()).ok());
    if let Some(creator) = creator.filter(|creator| !creator.name.is_empty()) {
        defaults.source = creator.name;
    }
    let context = Context { defaults, info: event.info };
    for attribute in event.attributes.0 {
        read_attribute(attribute, lines, &context, reading);
    }
    for object in event.objects.0 {
        let Some(object) = part::<Object<'_>>(object, lines, reading) else { continue };
        if is_true(&object.deleted) {
            continue;
        }
        for attribute in object.attributes.0 {
            read_attribute(attribute, lines, &context, reading);
        }
    }
}

fn read_attribute(raw: &RawValue, lines: &Lines<'_>, context: &Context, reading: &mut Reading<'_>) {
    let Some(attribute) = part::<Attribute<'_>>(raw, lines, reading) else { return };
    // Without `to_ids` it is context for people, and may well be innocent.
    if !is_true(&attribute.to_ids) || is_true(&attribute.deleted) {
        return;
    }
    let line = lines.of(raw.get());
    for (kind, value) in parts(&attribute.kind, &attribute.value) {
        match csv::of_kind(kind, value) {
            Some(Ok(value)) => {
                let mut indicator = context.defaults.indicator(value);
                indicator.description = match attribute.comment.as_deref().map(str::trim) {
                    None | Some("") => context.info.clone(),
                    Some(comment) => format!("{}: {comment}", context.info),
                };
                reading.take(indicator);
            }
            Some(Err(error)) => reading.bad(line, format!("`{}`: {error}", shown(value))),
            None => reading.skip(line, format!("attributes of type `{}` can't be looked for", shown(kind))),
        }
    }
}

/// The values of a composite type. A file's name beside its hash says nothing more.
fn parts<'a>(kind: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    match (kind, value.split_once('|')) {
        ("malware-sample", Some((_, hash))) => vec![("md5", hash)],
        ("domain|ip", Some((domain, address))) => vec![("domain", domain), ("ip", address)],
        ("hostname|port", Some((host, _))) => vec![("domain", host)],
        _ => match (kind.strip_prefix("filename|"), value.rsplit_once('|')) {
            (Some(hash), Some((_, value))) => vec![(hash, value)],
            _ => vec![(kind, value)],
        },
    }
}

/// Both formats of numbers and truth values that MISP's exports have had.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| number(value) == Some(1) || value.as_str() == Some("true"))
}
