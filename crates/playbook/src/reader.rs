//! Reading maps with known keys, each finding at its place.

use std::sync::Arc;
use std::time::Duration;

use rule_engine::yaml::{At, Node, Yaml};
use rule_engine::{Diagnostic, DiagnosticCode as Code, DiagnosticSeverity, RecordCondition};

use crate::duration;

/// Collects what is wrong with one file.
pub(crate) struct Reader {
    file: Arc<str>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.into(), diagnostics: Vec::new() }
    }

    pub(crate) fn error(&mut self, at: At, code: Code, reason: impl Into<String>, hint: Option<String>) {
        self.add(DiagnosticSeverity::Error, at, code, reason.into(), hint);
    }

    pub(crate) fn warning(&mut self, at: At, code: Code, reason: impl Into<String>, hint: Option<String>) {
        self.add(DiagnosticSeverity::Warning, at, code, reason.into(), hint);
    }

    fn add(
        &mut self,
        severity: DiagnosticSeverity,
        at: At,
        code: Code,
        reason: String,
        hint: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic::new(severity, code, &at.place(&self.file), reason, hint));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The entries of a map; refuses keys that are not `known`.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> &'n [(Node, Node)] {
        let Some(entries) = node.map() else {
            let reason = format!("{what} is a map, not {}", node.type_name());
            self.error(
                node.at(),
                Code::WrongType,
                reason,
                Some(format!("its keys are {}", known.join(", "))),
            );
            return &[];
        };
        for (key, _) in entries {
            let name = key.scalar_text().unwrap_or_default();
            if !known.contains(&name.as_str()) {
                let hint = match rule_engine::nearest(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "it takes none".to_owned(),
                    None => format!("its keys are {}", known.join(", ")),
                };
                self.error(key.at(), Code::UnknownKey, format!("{what} has no key `{name}`"), Some(hint));
            }
        }
        entries
    }

    /// The value of a key that must be there.
    pub(crate) fn required<'n>(&mut self, node: &'n Node, what: &str, key: &str) -> Option<&'n Node> {
        let value = node.get(key);
        if value.is_none() && node.map().is_some() {
            self.error(
                node.at(),
                Code::MissingKey,
                format!("{what} has no `{key}`"),
                Some(format!("write `{key}: …`")),
            );
        }
        value
    }

    pub(crate) fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = node.scalar_text().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            let reason = format!(
                "`{key}` is a text, not {}",
                match &node.value {
                    Yaml::Text(_) => "an empty one",
                    _ => node.type_name(),
                }
            );
            self.error(node.at(), Code::WrongType, reason, None);
        }
        text
    }

    /// A text or a list of texts.
    pub(crate) fn texts(&mut self, node: &Node, key: &str) -> Vec<String> {
        node.items().iter().filter_map(|item| self.text(item, key)).collect()
    }

    /// An id: letters, digits, `-`, `_` and `.`, at most 64.
    pub(crate) fn id(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = self.text(node, key)?;
        let is_good = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if text.len() <= 64 && text.chars().all(is_good) {
            return Some(text);
        }
        let hint = Some("an id has letters, digits, `-`, `_` and `.`, at most 64".to_owned());
        self.error(node.at(), Code::BadValue, format!("`{text}` is no `{key}`"), hint);
        None
    }

    /// One of these words.
    pub(crate) fn word(&mut self, node: &Node, key: &str, known: &[&str]) -> Option<String> {
        let text = self.text(node, key)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        let hint = match rule_engine::nearest(&text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Allowed are {}", known.join(", ")),
            None => format!("allowed are {}", known.join(", ")),
        };
        self.error(node.at(), Code::BadValue, format!("`{text}` is no `{key}`"), Some(hint));
        None
    }

    pub(crate) fn span(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let text = self.text(node, key)?;
        let span = duration::parse(&text);
        if span.is_none() {
            let hint = Some(
                "write a number and `ms`, `s`, `m`, `h` or `d`, at most 30d, for example `10m`".to_owned(),
            );
            self.error(node.at(), Code::BadValue, format!("`{text}` is no span of time"), hint);
        }
        span
    }

    pub(crate) fn condition(
        &mut self,
        node: &Node,
        key: &str,
        kind_of: &dyn Fn(&str) -> Option<event_model::ValueKind>,
    ) -> Option<RecordCondition> {
        let text = self.text(node, key)?;
        let (condition, problems) = match RecordCondition::parse(&text, kind_of) {
            Ok((condition, problems)) => (Some(condition), problems),
            Err(problems) => (None, problems),
        };
        for problem in problems {
            let at = node.part_at(&text, problem.range);
            self.add(problem.severity, at, Code::BadCondition, problem.reason, problem.hint);
        }
        condition
    }
}
