//! The condition language, from text to an [`Expression`](crate::expression::Expression).
//!
//! [`lexer`] cuts the text into tokens, [`syntax`] builds the tree of `and`,
//! `or`, `not` and comparisons, [`bind`] resolves fields, checks each operator
//! against the kind of the field and prepares literals and regular expressions.
//! Every step reports places as byte ranges of the condition's own text.

mod bind;
mod lexer;
mod regex_guard;
mod syntax;

use std::ops::Range;

use crate::diagnostic::{DiagnosticCode, DiagnosticSeverity};
use crate::expression::{Expression, FieldRef};

pub(crate) use bind::Vocabulary;

/// Longest condition in bytes.
pub(crate) const CONDITION_LIMIT: usize = 64 * 1024;
/// How deep parentheses and `not` may stand in each other.
pub(crate) const NESTING_LIMIT: usize = 50;

/// Something about a condition, at a range of its text.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) severity: DiagnosticSeverity,
    pub(crate) code: DiagnosticCode,
    pub(crate) range: Range<usize>,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

impl Finding {
    fn error(
        code: DiagnosticCode,
        range: Range<usize>,
        reason: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self { severity: DiagnosticSeverity::Error, code, range, reason: reason.into(), hint }
    }

    fn warning(
        code: DiagnosticCode,
        range: Range<usize>,
        reason: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self { severity: DiagnosticSeverity::Warning, code, range, reason: reason.into(), hint }
    }
}

/// A field as a condition names it.
#[derive(Debug, Clone)]
pub(crate) struct FieldUse {
    pub(crate) field: event_model::Field,
    pub(crate) range: Range<usize>,
}

/// A condition that was read.
#[derive(Debug)]
pub(crate) struct BoundCondition {
    pub(crate) expression: Expression,
    pub(crate) fields: Vec<FieldUse>,
}

/// Reads a condition with these names, whose fields so far are `slots`. `None` where a finding is an error.
pub(crate) fn read(
    text: &str,
    vocabulary: Vocabulary<'_>,
    slots: &mut Vec<FieldRef>,
) -> (Option<BoundCondition>, Vec<Finding>) {
    if text.len() > CONDITION_LIMIT {
        let reason = format!("a condition of {} bytes; the limit is {CONDITION_LIMIT}", text.len());
        let hint = Some("split it into several conditions".to_owned());
        return (None, vec![Finding::error(DiagnosticCode::TooLarge, 0..text.len(), reason, hint)]);
    }
    match syntax::parse(text) {
        Ok(tree) => bind::bind(&tree, vocabulary, slots),
        Err(finding) => (None, vec![finding]),
    }
}
