//! Regular expressions of Sigma rules, within bounds (see [`crate::condition::regex_guard`]).

use std::ops::Range;

use regex::{Regex, RegexBuilder};

use crate::diagnostic::DiagnosticCode;

/// Bytes of a compiled program.
const PROGRAM_LIMIT: usize = 512 * 1024;
/// Depth of groups and repeats in each other.
const NEST_LIMIT: u32 = 50;

/// Why an expression is refused.
#[derive(Debug)]
pub(super) struct RegexError {
    pub(super) code: DiagnosticCode,
    pub(super) reason: String,
    pub(super) hint: Option<&'static str>,
    /// Where in it.
    pub(super) range: Option<Range<usize>>,
}

/// Compiles an expression that finds its match anywhere in a text, or where the flags anchor it.
pub(super) fn compile(text: &str, flags: &str, at_start: bool, at_end: bool) -> Result<Regex, RegexError> {
    if let Err(regex_syntax::Error::Parse(error)) =
        regex_syntax::ParserBuilder::new().nest_limit(NEST_LIMIT).build().parse(text)
    {
        use regex_syntax::ast::ErrorKind;
        let hint = match error.kind() {
            ErrorKind::UnsupportedLookAround => {
                Some("write what must not be there as another search identifier and `and not` it")
            }
            ErrorKind::UnsupportedBackreference => Some("write the repeated part out"),
            _ => None,
        };
        let range = error.span().start.offset..error.span().end.offset.max(error.span().start.offset + 1);
        let reason = format!("bad regular expression: {}", error.kind());
        let code = match error.kind() {
            ErrorKind::NestLimitExceeded(_) => DiagnosticCode::RegexTooLarge,
            _ => DiagnosticCode::BadRegex,
        };
        return Err(RegexError { code, reason, hint, range: Some(range) });
    }
    let (before, behind) = (if at_start { "^" } else { "" }, if at_end { "$" } else { "" });
    let mut whole = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
    if at_start || at_end {
        whole.push_str(&format!("{before}(?:{text}){behind}"));
    } else {
        whole.push_str(text);
    }
    RegexBuilder::new(&whole).size_limit(PROGRAM_LIMIT).nest_limit(NEST_LIMIT).build().map_err(|error| {
        let (code, reason) = match error {
            regex::Error::CompiledTooBig(_) => (
                DiagnosticCode::RegexTooLarge,
                format!("the regular expression needs more than {} KiB", PROGRAM_LIMIT / 1024),
            ),
            other => (DiagnosticCode::BadRegex, other.to_string()),
        };
        RegexError { code, reason, hint: None, range: None }
    })
}
