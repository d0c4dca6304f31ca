//! The documents of a file, and what old files say with `action`.

use std::collections::HashMap;
use std::sync::Arc;

use super::SigmaOptions;
use super::rule::DocumentReader;
use crate::diagnostic::{Diagnostic, DiagnosticCode};
use crate::rule_file::ParseOutcome;
use crate::yaml::{Document, Node, Yaml};

/// Reads each document. `global` documents give all behind them what they don't have themselves, until
/// `reset`; `repeat` is the rule before with something changed.
pub(super) fn read(
    file: &Arc<str>,
    text: &str,
    documents: &[Document],
    options: &SigmaOptions,
) -> ParseOutcome {
    let mut outcome = ParseOutcome::default();
    let mut global: Option<Node> = None;
    let mut before: Option<Node> = None;
    let mut ids = Ids::default();
    // Rules that take something from other documents keep the whole file as their text.
    let lines = LineStarts::of(text);
    for (number, document) in documents.iter().enumerate() {
        let mut reader = DocumentReader { file, options, nth_of_id: 1, diagnostics: Vec::new() };
        for (at, key) in &document.duplicates {
            let reason = format!("key `{key}` stands twice in one map");
            reader.error(*at, DiagnosticCode::DuplicateKey, reason, Some("keep one of the two"));
        }
        let root = &document.root;
        if matches!(root.value, Yaml::Null) && documents.len() > 1 {
            continue;
        }
        if root.map().is_none() {
            let reason = format!("{} where a rule should stand", root.type_name());
            reader.error(
                root.at(),
                DiagnosticCode::NotARule,
                reason,
                Some("a rule is a map of `key: value`"),
            );
            outcome.refused += 1;
            outcome.diagnostics.append(&mut reader.diagnostics);
            continue;
        }
        let action = root.entry("action").and_then(|(_, action)| Some((action.at(), action.text()?)));
        let whole = match action {
            Some((_, "global")) => {
                global = Some(match &global {
                    Some(global) => global.overlaid(&without_action(root)),
                    None => without_action(root),
                });
                outcome.diagnostics.append(&mut reader.diagnostics);
                continue;
            }
            Some((_, "reset")) => {
                global = None;
                outcome.diagnostics.append(&mut reader.diagnostics);
                continue;
            }
            Some((at, "repeat")) => match &before {
                Some(before) => before.overlaid(&without_action(root)),
                None => {
                    let reason = "`action: repeat` with no rule before it";
                    reader.error(at, DiagnosticCode::BadReference, reason, None);
                    outcome.refused += 1;
                    outcome.diagnostics.append(&mut reader.diagnostics);
                    continue;
                }
            },
            Some((at, other)) => {
                let reason = format!("`{other}` is no action of a rule collection");
                let hint = Some("allowed are `global`, `reset` and `repeat`");
                reader.error(at, DiagnosticCode::BadValue, reason, hint);
                root.clone()
            }
            None => match &global {
                Some(global) => global.overlaid(root),
                None => root.clone(),
            },
        };
        let is_alone = global.is_none() && action.is_none();
        let text: Arc<str> = if is_alone {
            let end = documents.get(number + 1).map(|next| next.first_line);
            lines.slice(text, document.first_line, end).into()
        } else {
            text.into()
        };
        reader.nth_of_id = ids.nth(root, &whole);
        let rule = if whole.get("correlation").is_some() {
            reader.correlation(&whole, text)
        } else if whole.get("filter").is_some() {
            reader.filter(&whole, text)
        } else {
            reader.rule(&whole, text)
        };
        let is_refused = reader.diagnostics.iter().any(Diagnostic::is_error);
        outcome.diagnostics.append(&mut reader.diagnostics);
        match rule.filter(|_| !is_refused) {
            Some(rule) => outcome.rules.push(rule),
            None => outcome.refused += 1,
        }
        before = Some(whole);
    }
    outcome
}

/// Ids that documents of a file have, or their titles in the place of them.
#[derive(Default)]
struct Ids(HashMap<String, usize>);

impl Ids {
    /// The how manieth a document is of those that have its id from the same other document; 1 for one that has
    /// its own.
    fn nth(&mut self, root: &Node, whole: &Node) -> usize {
        let key = if whole.get("id").is_some() { "id" } else { "title" };
        let Some(id) = whole.get(key).and_then(Node::scalar_text) else { return 1 };
        let nth = self.0.entry(id).or_default();
        *nth += 1;
        if root.get(key).is_some() { 1 } else { *nth }
    }
}

fn without_action(root: &Node) -> Node {
    let mut own = root.clone();
    if let Yaml::Map(entries) = &mut own.value {
        entries.retain(|(key, _)| key.text() != Some("action"));
    }
    own
}

struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect())
    }

    /// From a line to the one before `end`, both counted from 1.
    fn slice<'t>(&self, text: &'t str, first: u32, end: Option<u32>) -> &'t str {
        let start = |line: u32| self.0.get((line as usize).saturating_sub(1)).copied().unwrap_or(text.len());
        let end = end.map_or(text.len(), start);
        text.get(start(first)..end).unwrap_or(text)
    }
}
