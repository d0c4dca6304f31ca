//! Regular expressions from outside, held within bounds.
//!
//! The `regex` crate never backtracks, but a repeat of a large Unicode class can
//! still cost seconds on a long text. Such an expression is refused when the rule
//! is loaded: by the size of its program and the depth of its nesting.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::ErrorKind;

use super::Finding;
use super::syntax::Literal;
use crate::diagnostic::DiagnosticCode;

/// Bytes of a compiled program.
const PROGRAM_LIMIT: usize = 256 * 1024;
/// Depth of groups and repeats in each other.
const NEST_LIMIT: u32 = 50;

pub(super) fn compile(literal: &Literal) -> Result<Regex, Finding> {
    let pattern = literal.text.text.as_str();
    if let Err(error) = regex_syntax::ParserBuilder::new().nest_limit(NEST_LIMIT).build().parse(pattern) {
        return Err(syntax_error(literal, &error));
    }
    RegexBuilder::new(pattern).size_limit(PROGRAM_LIMIT).nest_limit(NEST_LIMIT).build().map_err(|error| {
        let (code, reason, hint) = match error {
            regex::Error::CompiledTooBig(_) => (
                DiagnosticCode::RegexTooLarge,
                format!("the regular expression needs more than {} KiB", PROGRAM_LIMIT / 1024),
                "use smaller repeats, or `(?-u:\\w)` in place of `\\w` where ASCII is enough",
            ),
            other => (DiagnosticCode::BadRegex, other.to_string(), "see docs/reference/rules.md"),
        };
        Finding::error(code, literal.range.clone(), reason, Some(hint.to_owned()))
    })
}

fn syntax_error(literal: &Literal, error: &regex_syntax::Error) -> Finding {
    let (reason, span, hint) = match error {
        regex_syntax::Error::Parse(error) => {
            let hint = match error.kind() {
                ErrorKind::UnsupportedLookAround => {
                    Some("join two conditions with `and` or `and not` instead")
                }
                ErrorKind::UnsupportedBackreference => Some("write the repeated part out"),
                ErrorKind::RepetitionMissing => {
                    Some("to match the character itself, put `\\\\` before it (in JSON)")
                }
                ErrorKind::GroupUnclosed => Some("add `)`; to match `(` itself write `\\\\(` (in JSON)"),
                ErrorKind::EscapeUnrecognized => {
                    Some("to match a backslash itself write `\\\\\\\\` (in JSON)")
                }
                ErrorKind::NestLimitExceeded(_) => Some("nest less"),
                _ => None,
            };
            (error.kind().to_string(), error.span(), hint)
        }
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span(), None),
        other => {
            let reason = format!("bad regular expression: {other}");
            return Finding::error(DiagnosticCode::BadRegex, literal.range.clone(), reason, None);
        }
    };
    let code = match error {
        regex_syntax::Error::Parse(error) if matches!(error.kind(), ErrorKind::NestLimitExceeded(_)) => {
            DiagnosticCode::RegexTooLarge
        }
        _ => DiagnosticCode::BadRegex,
    };
    let mut range = literal.text.range_in_condition(span.start.offset..span.end.offset);
    if range.is_empty() {
        range.end = literal.range.end;
    }
    Finding::error(code, range, format!("bad regular expression: {reason}"), hint.map(str::to_owned))
}
