//! Sigma rules: YAML in, the same rules and expressions out as from native JSON.
//!
//! [`parse_sigma`] reads a file with one or several documents. [`detection`] turns search identifiers into
//! expressions, [`modifiers`] and [`pattern`] their values, [`condition`] joins them. `docs/reference/rules-sigma.md`
//! is the author's view of the same.

mod collection;
mod condition;
mod correlation;
mod detection;
mod encode;
mod modifiers;
mod pattern;
mod regex;
mod rule;

use std::sync::Arc;

pub(crate) use condition::{Tree as ConditionTree, is_like};
pub use detection::Placeholders;

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::rule_file::{ParseOutcome, RULE_FILE_LIMIT, not_utf8};
use crate::yaml::{self, At};

/// What Sigma rules are read with.
#[derive(Debug, Clone, Default)]
pub struct SigmaOptions {
    /// Values for `%placeholders%` of values with the modifier `expand`.
    pub placeholders: Placeholders,
}

impl SigmaOptions {
    /// As [`Self::add_placeholders`], from the bytes of a file.
    ///
    /// # Errors
    /// As there, and where the text is not UTF-8.
    pub fn add_placeholder_bytes(&mut self, source_name: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.add_placeholders(source_name, text),
            Err(error) => Err(not_utf8(source_name, bytes, error)),
        }
    }

    /// Adds the values of a file of placeholders: YAML, a map from each name (without `%`) to a value or a list
    /// of values. Values may have wildcards. Those of a name that has some already take their place.
    ///
    /// # Errors
    /// What is wrong with the file; nothing of it is added then.
    pub fn add_placeholders(&mut self, source_name: &str, text: &str) -> Result<(), Diagnostic> {
        let file: Arc<str> = source_name.into();
        let refuse = |at: At, code, reason: String| {
            let hint = Some("write `name: [value, value]`".to_owned());
            Diagnostic::new(DiagnosticSeverity::Error, code, &at.place(&file), reason, hint)
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > RULE_FILE_LIMIT {
            let reason = format!("a file of {} bytes; the limit is {RULE_FILE_LIMIT}", text.len());
            return Err(refuse(At { line: 1, column: 1, end_column: 2 }, DiagnosticCode::TooLarge, reason));
        }
        let (documents, error) = yaml::read(text);
        if let Some(error) = error {
            return Err(refuse(error.at, DiagnosticCode::BadYaml, error.reason));
        }
        let mut values = Placeholders::new();
        for document in &documents {
            let Some(entries) = document.root.map() else {
                let reason = format!("{} where a map should stand", document.root.type_name());
                return Err(refuse(document.root.at(), DiagnosticCode::WrongType, reason));
            };
            for (name, list) in entries {
                let own: Option<Vec<String>> = list.items().iter().map(yaml::Node::scalar_text).collect();
                let (Some(name), Some(own)) = (name.scalar_text(), own) else {
                    let reason = "a placeholder has texts and numbers as values".to_owned();
                    return Err(refuse(list.at(), DiagnosticCode::WrongType, reason));
                };
                // With none, `not` of what asks for it would hold for every event.
                if own.is_empty() {
                    let reason = format!("placeholder `{name}` has no value");
                    return Err(refuse(list.at(), DiagnosticCode::WrongType, reason));
                }
                if values.insert(name.clone(), own).is_some() {
                    let reason = format!("placeholder `{name}` stands twice in the file");
                    return Err(refuse(list.at(), DiagnosticCode::DuplicateKey, reason));
                }
            }
        }
        self.placeholders.extend(values);
        Ok(())
    }
}

/// Whether a file of this name holds values of placeholders: it ends in `.placeholders.yml` or `.placeholders.yaml`.
pub fn is_placeholder_file(source_name: &str) -> bool {
    let name = source_name.to_ascii_lowercase();
    name.ends_with(".placeholders.yml") || name.ends_with(".placeholders.yaml")
}

/// Reads the rules of one text; a rule with an error is left out and the others load.
pub fn parse_sigma(source_name: &str, text: &str, options: &SigmaOptions) -> ParseOutcome {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: Arc<str> = source_name.into();
    let refused = |at: At, code, reason: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        Diagnostic::new(DiagnosticSeverity::Error, code, &at.place(&file), reason, hint)
    };
    let start = At { line: 1, column: 1, end_column: 2 };
    if text.len() > RULE_FILE_LIMIT {
        let reason = format!("a rule file of {} bytes; the limit is {RULE_FILE_LIMIT}", text.len());
        let hint = Some("split it into several files");
        let diagnostics = vec![refused(start, DiagnosticCode::TooLarge, reason, hint)];
        return ParseOutcome { diagnostics, refused: 1, ..ParseOutcome::default() };
    }
    let (documents, error) = yaml::read(text);
    let mut outcome = collection::read(&file, text, &documents, options);
    if let Some(error) = error {
        let code = if error.too_large { DiagnosticCode::TooLarge } else { DiagnosticCode::BadYaml };
        outcome.diagnostics.push(refused(error.at, code, error.reason, None));
        outcome.refused += 1;
    } else if documents.is_empty() {
        let reason = "the file has no rules".to_owned();
        outcome.diagnostics.push(refused(start, DiagnosticCode::NotARule, reason, None));
        outcome.refused += 1;
    }
    outcome.without_duplicates()
}
