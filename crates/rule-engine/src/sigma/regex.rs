//! Regular expressions of Sigma rules, within bounds.
//!
//! A rule only asks whether an expression finds something, not where. So whatever may be longer or
//! shorter at its ends is left out before it is compiled: `x{1,64}y?` finds something where `x` does.

use std::ops::Range;

use regex::RegexBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::diagnostic::DiagnosticCode;
use crate::expression::{Pattern, TextPart};

/// Bytes of a compiled program.
const PROGRAM_LIMIT: usize = 1024 * 1024;
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

/// Compiles an expression that finds its match anywhere in a text, or where it is asked to stand.
pub(super) fn compile(text: &str, flags: &str, at_start: bool, at_end: bool) -> Result<TextPart, RegexError> {
    let mut parser = regex_syntax::ParserBuilder::new();
    parser.nest_limit(NEST_LIMIT);
    for flag in flags.chars() {
        match flag {
            'i' => parser.case_insensitive(true),
            'm' => parser.multi_line(true),
            _ => parser.dot_matches_new_line(true),
        };
    }
    let mut hir = parser.build().parse(text).map_err(|error| syntax_error(&error))?;
    if at_start {
        hir = Hir::concat(vec![Hir::look(regex_syntax::hir::Look::Start), hir]);
    }
    if at_end {
        hir = Hir::concat(vec![hir, Hir::look(regex_syntax::hir::Look::End)]);
    }
    let hir = shortest_start(shortest_end(hir));
    if let Some(length) = line_length(&hir) {
        return Ok(TextPart::LineOfAtLeast(length));
    }
    let shortest = hir.properties().minimum_len().unwrap_or(0);
    let built =
        RegexBuilder::new(&hir.to_string()).size_limit(PROGRAM_LIMIT).nest_limit(2 * NEST_LIMIT).build();
    let regex = built.map_err(|error| {
        let (code, reason) = match error {
            regex::Error::CompiledTooBig(_) => (
                DiagnosticCode::RegexTooLarge,
                format!("the regular expression needs more than {} KiB", PROGRAM_LIMIT / 1024),
            ),
            other => (DiagnosticCode::BadRegex, other.to_string()),
        };
        RegexError {
            code,
            reason,
            hint: Some("use smaller repeats, or `[0-9A-Za-z_]` for `\\w`"),
            range: None,
        }
    })?;
    Ok(TextPart::Matches(Pattern { regex, shortest }))
}

fn syntax_error(error: &regex_syntax::Error) -> RegexError {
    use regex_syntax::ast::ErrorKind;
    let (code, reason, hint, span) = match error {
        regex_syntax::Error::Parse(error) => {
            let hint = match error.kind() {
                ErrorKind::UnsupportedLookAround => {
                    Some("write what must not be there as another search identifier and `and not` it")
                }
                ErrorKind::UnsupportedBackreference => Some("write the repeated part out"),
                _ => None,
            };
            let code = match error.kind() {
                ErrorKind::NestLimitExceeded(_) => DiagnosticCode::RegexTooLarge,
                _ => DiagnosticCode::BadRegex,
            };
            (code, error.kind().to_string(), hint, *error.span())
        }
        regex_syntax::Error::Translate(error) => {
            (DiagnosticCode::BadRegex, error.kind().to_string(), None, *error.span())
        }
        other => {
            let reason = format!("bad regular expression: {other}");
            return RegexError { code: DiagnosticCode::BadRegex, reason, hint: None, range: None };
        }
    };
    let range = span.start.offset..span.end.offset.max(span.start.offset + 1);
    RegexError { code, reason: format!("bad regular expression: {reason}"), hint, range: Some(range) }
}

/// The expression without what its end need not find.
fn shortest_end(hir: Hir) -> Hir {
    shortest_edge(hir, &|parts| parts.pop(), &|parts, edge| parts.push(edge))
}

/// The expression without what its start need not find.
fn shortest_start(hir: Hir) -> Hir {
    shortest_edge(hir, &|parts| (!parts.is_empty()).then(|| parts.remove(0)), &|parts, edge| {
        parts.insert(0, edge)
    })
}

fn shortest_edge(
    hir: Hir,
    take: &dyn Fn(&mut Vec<Hir>) -> Option<Hir>,
    put: &dyn Fn(&mut Vec<Hir>, Hir),
) -> Hir {
    match hir.into_kind() {
        HirKind::Concat(mut parts) => {
            while let Some(edge) = take(&mut parts) {
                let edge = shortest_edge(edge, take, put);
                if !matches!(edge.kind(), HirKind::Empty) {
                    put(&mut parts, edge);
                    break;
                }
            }
            Hir::concat(parts)
        }
        HirKind::Repetition(repetition) if repetition.min == 0 => Hir::empty(),
        // Of the least number of repeats, the outer one has an edge itself.
        HirKind::Repetition(repetition) if repetition.min == 1 => shortest_edge(*repetition.sub, take, put),
        HirKind::Repetition(repetition) => {
            let max = Some(repetition.min);
            Hir::repetition(Repetition { max, ..repetition })
        }
        HirKind::Capture(capture) => shortest_edge(*capture.sub, take, put),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.into_iter().map(|part| shortest_edge(part, take, put)).collect())
        }
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
    }
}

/// For `.{n}`: the `n`.
fn line_length(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(Repetition { min, max, sub, .. }) = hir.kind() else { return None };
    let sub = match sub.kind() {
        HirKind::Capture(capture) => &capture.sub,
        _ => sub,
    };
    let HirKind::Class(Class::Unicode(class)) = sub.kind() else { return None };
    let ranges: Vec<_> = class.ranges().iter().map(|range| (range.start(), range.end())).collect();
    let is_dot = ranges == [('\0', '\u{9}'), ('\u{b}', char::MAX)];
    (is_dot && *max == Some(*min)).then_some(*min as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::TextTest;

    fn finds(expression: &str, text: &str) -> bool {
        let part =
            compile(expression, "", false, false).unwrap_or_else(|error| panic!("{expression}: {error:?}"));
        TextTest { cased: true, part }.accepts("", text)
    }

    #[test]
    fn what_is_left_out_changes_no_verdict() {
        for expression in [
            "ab{1,5}c?",
            "(x?y{2,3})+",
            "^a{0,3}b",
            "a{2,4}$",
            "(a|bc?)",
            "a*",
            "x*ab*",
            r"\bcat\w{1,64}(?:\s?-p)?",
            "(?:a?b)?c{3,}",
            "(a{2}){2,3}",
            "^$",
            "()",
            "a|",
            "(?:ab?)+$",
        ] {
            let plain = regex::Regex::new(expression).expect("valid");
            for text in [
                "",
                "a",
                "b",
                "ab",
                "abc",
                "abbbc",
                "aab",
                "aaaab",
                "yy",
                "xyyxyyy",
                "cat",
                "a cat_1 -p",
                "ccc",
                "bcb",
                "aaaa",
            ] {
                assert_eq!(finds(expression, text), plain.is_match(text), "{expression} in {text:?}");
            }
        }
    }

    #[test]
    fn long_lines_need_no_program() {
        assert!(matches!(compile(".{1000,}", "", false, false), Ok(TextPart::LineOfAtLeast(1000))));
        assert!(matches!(compile("(.){200,}", "", false, false), Ok(TextPart::LineOfAtLeast(200))));
        assert!(finds(".{3,}", "äöü") && !finds(".{3,}", "ab\ncd"));
        assert!(compile(r"\w{500}x", "", false, false).is_err());
        assert!(compile(r"(?<!a)b", "", false, false).is_err_and(|error| error.hint.is_some()));
    }
}
