//! STIX 2.1 bundles.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{Lenient, part, whole};
use super::{Lines, Reading, csv, shown, stix_pattern};
use crate::indicator::{Indicator, IndicatorDefaults};
use crate::value::{IndicatorValue, ValueError};

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow, default)]
    objects: Lenient<&'a RawValue>,
}

/// What tells objects apart.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct StixIndicator {
    #[serde(default)]
    pattern: String,
    /// STIX 2.0 has none, and only its own patterns.
    pattern_type: Option<String>,
    valid_until: Option<String>,
    confidence: Option<Value>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    revoked: bool,
    created_by_ref: Option<String>,
}

pub(super) fn read(text: &str, defaults: &IndicatorDefaults, reading: &mut Reading<'_>) {
    let objects = if text.trim_start().starts_with('[') {
        whole::<Vec<&RawValue>>(text, reading)
    } else {
        whole::<&RawValue>(text, reading).and_then(|outer| {
            let kind: Option<Kind<'_>> = serde_json::from_str(outer.get()).ok();
            match kind.as_ref().map(|kind| kind.kind.as_ref()) {
                Some("bundle") => whole::<Bundle<'_>>(text, reading).map(|bundle| bundle.objects.0),
                Some("indicator") => Some(vec![outer]),
                _ => {
                    reading.bad(1, "this is neither a STIX bundle nor an indicator object".to_owned());
                    None
                }
            }
        })
    };
    let Some(objects) = objects else { return };
    let lines = Lines::new(text);
    let kind_of = |object: &RawValue| {
        serde_json::from_str::<Kind<'_>>(object.get()).map(|kind| kind.kind.into_owned()).unwrap_or_default()
    };
    let kinds: Vec<String> = objects.iter().map(|object| kind_of(object)).collect();
    let of_kind = |wanted: &'static str| {
        objects.iter().zip(&kinds).filter(move |(_, kind)| *kind == wanted).map(|(object, _)| *object)
    };
    let sources: HashMap<String, String> = of_kind("identity")
        .filter_map(|object| serde_json::from_str::<Identity>(object.get()).ok())
        .map(|identity| (identity.id, identity.name))
        .collect();
    for object in of_kind("indicator") {
        if let Some(indicator) = part::<StixIndicator>(object, &lines, reading) {
            take(indicator, lines.of(object.get()), &sources, defaults, reading);
        }
    }
}

fn take(
    found: StixIndicator,
    line: usize,
    sources: &HashMap<String, String>,
    defaults: &IndicatorDefaults,
    reading: &mut Reading<'_>,
) {
    if found.revoked {
        return reading.skip(line, "this indicator was revoked".to_owned());
    }
    if let Some(other) = found.pattern_type.filter(|kind| kind != "stix") {
        return reading.skip(line, format!("the pattern type `{}` is not `stix`", shown(&other)));
    }
    let wanted = match stix_pattern::wanted(&found.pattern) {
        Ok(wanted) => wanted,
        Err(reason) => {
            return reading.skip(
                line,
                format!("the pattern `{}` can't be looked for: {reason}", shown(&found.pattern)),
            );
        }
    };
    let expires = match found.valid_until.as_deref() {
        None => defaults.expires,
        Some(text) => match csv::time(text) {
            Some(expires) => Some(expires),
            None => return reading.bad(line, format!("`valid_until` is no time: `{}`", shown(text))),
        },
    };
    let confidence =
        found.confidence.as_ref().and_then(Value::as_u64).and_then(|number| u8::try_from(number).ok());
    let description = match (found.name.trim(), found.description.trim()) {
        (name, "") => name.to_owned(),
        ("", description) => description.to_owned(),
        (name, description) => format!("{name}: {description}"),
    };
    let source = found.created_by_ref.and_then(|id| sources.get(&id)).filter(|name| !name.is_empty());
    for wanted in wanted {
        let value = match value(&wanted) {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                reading.bad(line, format!("`{}`: {error}", shown(&wanted.value)));
                continue;
            }
            None => {
                reading.skip(line, format!("`{}` can't be looked for", shown(&wanted.path)));
                continue;
            }
        };
        let base = defaults.indicator(value);
        reading.take(Indicator {
            source: source.cloned().unwrap_or(base.source),
            confidence: confidence.filter(|number| *number <= 100).unwrap_or(base.confidence),
            description: description.clone(),
            expires,
            ..base
        });
    }
}

/// The value at a path; `None` for paths that can't be looked for.
fn value(wanted: &stix_pattern::Wanted) -> Option<Result<IndicatorValue, ValueError>> {
    let path = wanted.path.as_str();
    let kind = match path.strip_prefix("file:hashes.") {
        Some(hash) => hash,
        None => match path {
            "ipv4-addr:value"
            | "ipv6-addr:value"
            | "network-traffic:dst_ref.value"
            | "network-traffic:src_ref.value" => "ip",
            "domain-name:value" => "domain",
            "url:value" => "url",
            "file:path" | "directory:path" => "path",
            _ => return None,
        },
    };
    csv::of_kind(kind, &wanted.value)
}
