//! `edr rules explain`: which parts of a rule's conditions were true for an event, and why.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rule_engine::{ExplainedPart, Explanation, ParsedRule, PrefilterQuality};
use serde_json::{Value, json};

use super::event::WrittenEvent;
use super::files::{RuleFiles, tell_people};
use super::load::load;
use super::options::{RuleOptions, Spec};
use super::recorded::events_of;
use crate::arguments::{Usage, nearest};
use crate::{Outcome, print};

const SPEC: Spec = Spec {
    command: "edr rules explain",
    flags: &["rule", "event", "record", "mapping", "placeholders"],
    switches: &["json"],
};

/// Events that are explained when none is chosen.
const EVENTS_SHOWN: usize = 20;

/// Explains what one rule makes of the events of a file. Ends well where the rule matches one of them.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = RuleOptions::read(arguments, &SPEC)?;
    let event_files = options.paths_of("event");
    let [event_file] = event_files.as_slice() else {
        let hint = "write `--event FILE`: JSON, NDJSON, a rule's test or a recorded log";
        return Err(Usage::new(format!("{} files of events given", event_files.len()), hint).into());
    };
    let record = options.number_of("record")?;
    let files = RuleFiles::at(&options.paths)?;
    let sigma = files.sigma_options(&options.paths_of("placeholders"), tell_people)?;
    let loaded = load(&files.rules, &sigma)?;
    let (rules, _) = loaded.compile(&options.log_sources)?;
    let (file, rule) = chosen(&loaded.rules, options.values_of("rule"))?;
    let head = rule.head();
    let events = events_of(event_file, &options.mappings)?;
    if record.is_some_and(|record| record > events.len()) {
        let reason = format!("`{}` has {} events", event_file.display(), events.len());
        return Err(Usage::new(reason, "`--record` counts them from 1").into());
    }
    let chosen = |place: usize| record.is_none_or(|record| record == place + 1);
    let limit = if record.is_some() { 1 } else { EVENTS_SHOWN };
    if !options.has("json") {
        print(&format!("rule {} {} ({})\n", head.id, head.name, file.display()))?;
    }
    let (mut has_match, mut shown, mut not_judged) = (false, 0, 0);
    for (place, (name, event)) in events.iter().enumerate().filter(|(place, _)| chosen(*place)) {
        let explained = WrittenEvent::read(event, rule, &rules)
            .and_then(|event| event.explain(&rules, rule).map_err(|reason| reason.to_string()));
        let explanation = match explained {
            Ok(explanation) => explanation,
            Err(reason) => {
                not_judged += 1;
                if shown + not_judged <= limit {
                    tell_unjudged(options.has("json"), name, place, &reason)?;
                }
                continue;
            }
        };
        has_match |= explanation.matches;
        shown += 1;
        if shown > limit {
            continue;
        }
        if options.has("json") {
            print(&format!(
                "{}\n",
                json!({ "event": name, "record": place + 1, "explanation": explanation })
            ))?;
        } else {
            print(&in_words(name, &explanation))?;
        }
    }
    if shown > limit && !options.has("json") {
        print(&format!("{} more events are not shown; `--record N` chooses one\n", shown - limit))?;
    }
    Ok(if has_match { Outcome::Success } else { Outcome::Findings })
}

fn tell_unjudged(as_json: bool, name: &str, place: usize, reason: &str) -> anyhow::Result<()> {
    if as_json {
        print(&format!("{}\n", json!({ "event": name, "record": place + 1, "not_judged": reason })))
    } else {
        print(&format!("{name}: not judged: {reason}\n"))
    }
}

/// The rule that is meant.
fn chosen<'r>(
    rules: &'r [(PathBuf, ParsedRule)],
    ids: &[OsString],
) -> anyhow::Result<(&'r Path, &'r ParsedRule)> {
    let known = || rules.iter().map(|(_, rule)| rule.head().id.as_str());
    let found = match (ids, rules) {
        ([], [one]) => Some(one),
        ([], []) => return Err(Usage::new("no rule could be loaded", "`edr rules check` says why").into()),
        ([], _) => {
            let hint = "choose one with `--rule ID`";
            return Err(Usage::new(format!("{} rules are loaded", rules.len()), hint).into());
        }
        ([id], _) => rules.iter().find(|(_, rule)| rule.head().id.as_str() == id.to_string_lossy()),
        _ => return Err(Usage::new("`--rule` is given several times", "choose one rule").into()),
    };
    found.map(|(file, rule)| (file.as_path(), rule)).ok_or_else(|| {
        let id = ids.first().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
        let hint = nearest(&id, known()).map_or_else(
            || "`edr rules check` says which rules load".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        Usage::new(format!("no rule has the id `{id}`"), hint).into()
    })
}

fn in_words(name: &str, explanation: &Explanation) -> String {
    let mut text = String::new();
    let verdict = if explanation.matches { "the rule matches" } else { "the rule does not match" };
    // Writing to a text can't fail.
    let _ = writeln!(text, "{name}: {verdict}");
    let looked = &explanation.looked_for;
    let examples = looked.examples.join("; ");
    let what = match looked.quality {
        PrefilterQuality::None => "the rule needs nothing certain: it is computed on every event".to_owned(),
        _ if explanation.is_candidate => format!("found what it needs, one of: {examples}"),
        _ => format!(
            "not computed when events are judged, because the event lacks all that it needs: {examples}"
        ),
    };
    let _ = writeln!(text, "  candidate: {}: {what}", if explanation.is_candidate { "yes" } else { "no" });
    if explanation.conditions.len() > 1 {
        let how =
            if explanation.any_condition { "one of these is enough" } else { "all of these must be true" };
        let _ = writeln!(text, "  conditions, {how}:");
    }
    for part in &explanation.conditions {
        part_in_words(part, 1, &mut text);
    }
    for (title, parts) in [("filters", &explanation.filters), ("exceptions", &explanation.exceptions)] {
        if !parts.is_empty() {
            let _ = writeln!(text, "  {title}:");
            parts.iter().for_each(|part| part_in_words(part, 1, &mut text));
        }
    }
    text
}

fn part_in_words(part: &ExplainedPart, depth: usize, text: &mut String) {
    let truth = if part.holds { "true " } else { "false" };
    let has = match part.values.as_deref() {
        None => String::new(),
        Some([]) => "   (the event does not have it)".to_owned(),
        Some(values) => format!("   (it is {})", values.join(" | ")),
    };
    let _ = writeln!(text, "{:indent$}{truth} {}{has}", "", part.text, indent = 2 * depth);
    part.parts.iter().for_each(|part| part_in_words(part, depth + 1, text));
}

/// Lists of events as test files have them.
pub(super) fn events_of_test(test: &Value) -> Option<Vec<(String, Value)>> {
    let lists = ["match", "no_match"].map(|list| (list, test.get(list).and_then(Value::as_array)));
    if lists.iter().all(|(_, items)| items.is_none()) {
        return None;
    }
    let rule = test.get("rule").and_then(Value::as_str).map(|id| format!("{id} ")).unwrap_or_default();
    let mut events = Vec::new();
    for (list, items) in lists {
        for (number, item) in items.into_iter().flatten().enumerate() {
            match item {
                Value::Array(sequence) => {
                    let named = sequence.iter().enumerate();
                    events.extend(
                        named.map(|(at, event)| (format!("{rule}{list}[{number}][{at}]"), event.clone())),
                    );
                }
                event => events.push((format!("{rule}{list}[{number}]"), event.clone())),
            }
        }
    }
    Some(events)
}
