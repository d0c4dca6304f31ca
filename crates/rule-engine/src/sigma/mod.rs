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
use crate::rule_file::{ParseOutcome, RULE_FILE_LIMIT};
use crate::yaml::{self, At};

/// What Sigma rules are read with.
#[derive(Debug, Clone, Default)]
pub struct SigmaOptions {
    /// Values for `%placeholders%` of values with the modifier `expand`.
    pub placeholders: Placeholders,
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
