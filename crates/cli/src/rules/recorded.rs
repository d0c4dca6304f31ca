//! The events of a file as JSON objects, whatever the file is: JSON, NDJSON, a rule's test, or a recorded log.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use log_reader::{EventHead, FieldLayout, LogConsumer, LogDecoder, Problem};
use serde_json::{Map, Value};

use super::explain::events_of_test;
use crate::arguments::Usage;

/// Events that are kept of one file.
const EVENTS_LIMIT: usize = 100_000;
/// Largest JSON file that is read as a whole, in bytes.
const JSON_LIMIT: u64 = 64 << 20;

/// The events, each with a name for people.
pub(super) fn events_of(path: &Path, mappings: &[PathBuf]) -> anyhow::Result<Vec<(String, Value)>> {
    let name = path.display();
    let metadata = fs::metadata(path)
        .map_err(|error| Usage::new(format!("`{name}` can't be read: {error}"), "check the path"))?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let events = if is_json && metadata.len() <= JSON_LIMIT {
        let text = fs::read_to_string(path).with_context(|| format!("reading `{name}`"))?;
        match serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) {
            Ok(value) => events_of_json(value),
            // Several documents, one behind the other, are a log.
            Err(_) => events_of_log(path, mappings)?,
        }
    } else {
        events_of_log(path, mappings)?
    };
    if events.is_empty() {
        let hint = "write a JSON object {\"field\": value, …}, one in each line, or name a recorded log";
        return Err(Usage::new(format!("`{name}` has no events"), hint).into());
    }
    Ok(events)
}

fn events_of_json(value: Value) -> Vec<(String, Value)> {
    if let Some(events) = events_of_test(&value) {
        return events;
    }
    match value {
        Value::Array(items) => {
            let tests: Option<Vec<_>> = items.iter().map(events_of_test).collect();
            match tests.filter(|tests| !tests.is_empty()) {
                Some(tests) => tests.into_iter().flatten().collect(),
                None => numbered(items),
            }
        }
        one => numbered(vec![one]),
    }
}

fn numbered(items: Vec<Value>) -> Vec<(String, Value)> {
    (1_usize..).zip(items).map(|(number, item)| (format!("event {number}"), item)).collect()
}

fn events_of_log(path: &Path, mappings: &[PathBuf]) -> anyhow::Result<Vec<(String, Value)>> {
    let mut layout = FieldLayout::built_in()?;
    for mapping in mappings.iter().filter(|path| path.extension().is_some_and(|it| it == "toml")) {
        let name = mapping.display().to_string();
        let text = fs::read_to_string(mapping).with_context(|| format!("reading `{name}`"))?;
        layout.extend(&name, &text)?;
    }
    let mut decoder = LogDecoder::new(Arc::new(layout), Keeper::default());
    let mut file = fs::File::open(path).with_context(|| format!("reading `{}`", path.display()))?;
    decoder.read_log(&mut file).with_context(|| format!("reading `{}`", path.display()))?;
    let kept = decoder.into_consumer();
    for problem in kept.problems.iter().take(20) {
        // A closed stderr leaves nobody to tell.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("{}: {problem}\n", path.display()).as_bytes(),
        );
    }
    Ok(numbered(kept.events))
}

/// Keeps every value of every event.
#[derive(Default)]
struct Keeper {
    names: Vec<String>,
    event: Map<String, Value>,
    events: Vec<Value>,
    problems: Vec<String>,
}

impl Keeper {
    fn add(&mut self, field: usize, value: Value) {
        let Some(name) = self.names.get(field) else { return };
        match self.event.get_mut(name) {
            None => {
                self.event.insert(name.clone(), value);
            }
            Some(Value::Array(items)) => items.push(value),
            Some(one) => {
                let first = one.take();
                *one = Value::Array(vec![first, value]);
            }
        }
    }
}

impl LogConsumer for Keeper {
    type Field = usize;

    fn field(&mut self, name: &str) -> Option<usize> {
        let known = self.names.iter().position(|known| known == name);
        Some(known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }))
    }

    fn unnamed(&mut self) -> Option<usize> {
        None
    }

    fn begin(&mut self) {
        self.event.clear();
    }

    fn text(&mut self, field: usize, value: &str) {
        self.add(field, value.into());
    }

    fn integer(&mut self, field: usize, value: i64) {
        self.add(field, value.into());
    }

    fn float(&mut self, field: usize, value: f64) {
        self.add(field, value.into());
    }

    fn boolean(&mut self, field: usize, value: bool) {
        self.add(field, value.into());
    }

    fn null(&mut self, field: usize) {
        self.add(field, Value::Null);
    }

    fn event(&mut self, _: &EventHead<'_>) -> ControlFlow<()> {
        self.events.push(Value::Object(std::mem::take(&mut self.event)));
        if self.events.len() < EVENTS_LIMIT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem.to_string());
    }
}
