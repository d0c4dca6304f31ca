//! Tokens of the condition language.
//!
//! A quoted text keeps every character, because it is most often a regular
//! expression or a Windows path. Only backslashes that stand right before the
//! closing kind of quote mean something else, as in Windows command lines: two of
//! them are one backslash, and an odd one makes the quote part of the text.

use std::ops::Range;

use super::Finding;
use crate::diagnostic::DiagnosticCode;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A field, keyword, number or bare value.
    Word(String),
    /// A quoted text.
    Quoted(QuotedText),
    Operator(Symbol),
    Open(Bracket),
    Close(Bracket),
    Comma,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bracket {
    Round,
    Square,
}

/// A quoted text and where its characters stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuotedText {
    pub(super) text: String,
    /// From each (offset in the text, offset in the condition) on, both run in step.
    steps: Vec<(usize, usize)>,
}

impl QuotedText {
    /// A text whose characters stand one by one from `start` on.
    pub(super) fn plain(text: &str, start: usize) -> Self {
        Self { text: text.to_owned(), steps: vec![(0, start)] }
    }

    /// Where a part of the text stands in the condition.
    pub(super) fn range_in_condition(&self, part: Range<usize>) -> Range<usize> {
        self.place(part.start)..self.place(part.end)
    }

    fn place(&self, offset: usize) -> usize {
        let step = self.steps.partition_point(|(own, _)| *own <= offset).saturating_sub(1);
        self.steps.get(step).map_or(0, |(own, condition)| condition + (offset - own))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) range: Range<usize>,
}

/// All tokens, [`TokenKind::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Finding> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let done = token.kind == TokenKind::End;
        tokens.push(token);
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// Symbols of other languages, and what they are here.
const FOREIGN: &[(&str, &str)] = &[
    ("==", "write `=`"),
    ("=~", "write `matches`"),
    ("!~", "write `not FIELD matches …`"),
    ("=>", "write `>=`"),
    ("=<", "write `<=`"),
    ("<>", "write `!=`"),
    ("&&", "write `and`"),
    ("||", "write `or`"),
];

impl Lexer<'_> {
    fn next(&mut self) -> Result<Token, Finding> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else {
            return Ok(Token { kind: TokenKind::End, range: start..start });
        };
        if let Some((symbol, instead)) = FOREIGN.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            let range = start..start + symbol.len();
            let reason = format!("`{symbol}` is no operator");
            return Err(Finding::error(
                DiagnosticCode::UnknownOperator,
                range,
                reason,
                Some((*instead).to_owned()),
            ));
        }
        let (kind, length) = match first {
            '(' => (TokenKind::Open(Bracket::Round), 1),
            '[' => (TokenKind::Open(Bracket::Square), 1),
            ')' => (TokenKind::Close(Bracket::Round), 1),
            ']' => (TokenKind::Close(Bracket::Square), 1),
            ',' => (TokenKind::Comma, 1),
            '=' => (TokenKind::Operator(Symbol::Equal), 1),
            '!' if rest.starts_with("!=") => (TokenKind::Operator(Symbol::NotEqual), 2),
            '>' if rest.starts_with(">=") => (TokenKind::Operator(Symbol::GreaterOrEqual), 2),
            '<' if rest.starts_with("<=") => (TokenKind::Operator(Symbol::LessOrEqual), 2),
            '>' => (TokenKind::Operator(Symbol::Greater), 1),
            '<' => (TokenKind::Operator(Symbol::Less), 1),
            '!' => {
                let hint = Some("write `not`, or `!=`".to_owned());
                let reason = "`!` is no operator";
                return Err(Finding::error(DiagnosticCode::UnknownOperator, start..start + 1, reason, hint));
            }
            '\'' | '"' => return self.quoted(first),
            '‘' | '’' | '“' | '”' => {
                let hint = Some("write `'` or `\"`; a word processor may have changed it".to_owned());
                let range = start..start + first.len_utf8();
                let reason = format!("`{first}` is a typographic quote");
                return Err(Finding::error(DiagnosticCode::BadCondition, range, reason, hint));
            }
            _ => {
                let end = rest.find(ends_word).unwrap_or(rest.len());
                if end == 0 {
                    // A lone `&`. Without this the lexer would stand still.
                    let range = start..start + first.len_utf8();
                    let hint = Some("write `and`; put a text with such characters in quotes".to_owned());
                    let reason = format!("`{first}` is no operator");
                    return Err(Finding::error(DiagnosticCode::UnknownOperator, range, reason, hint));
                }
                (TokenKind::Word(rest[..end].to_owned()), end)
            }
        };
        self.at += length;
        Ok(Token { kind, range: start..self.at })
    }

    fn quoted(&mut self, quote: char) -> Result<Token, Finding> {
        let start = self.at;
        let mut quoted = QuotedText::plain("", start + 1);
        let mut at = start + 1;
        loop {
            let rest = &self.text[at..];
            let plain = rest.find(['\\', quote]).unwrap_or(rest.len());
            quoted.text.push_str(&rest[..plain]);
            at += plain;
            let rest = &self.text[at..];
            let backslashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
            let before_quote = rest[backslashes..].starts_with(quote);
            if rest.is_empty() {
                let hint = if self.text[start..].ends_with(&format!("\\{quote}")) {
                    format!(
                        "a backslash before the quote makes the quote part of the text; end with `\\\\{quote}`"
                    )
                } else {
                    format!("add the missing `{quote}`")
                };
                let reason = "a quoted text does not end";
                let range = start..self.text.len();
                return Err(Finding::error(DiagnosticCode::BadCondition, range, reason, Some(hint)));
            }
            if !before_quote {
                quoted.text.push_str(&rest[..backslashes]);
                at += backslashes;
                continue;
            }
            quoted.text.push_str(&rest[..backslashes / 2]);
            at += backslashes;
            if backslashes % 2 == 1 {
                quoted.text.push(quote);
                at += 1;
                quoted.steps.push((quoted.text.len(), at));
                continue;
            }
            quoted.steps.push((quoted.text.len(), at));
            self.at = at + 1;
            return Ok(Token { kind: TokenKind::Quoted(quoted), range: start..self.at });
        }
    }
}

fn ends_word(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '(' | ')' | '[' | ']' | ',' | '=' | '!' | '<' | '>' | '\'' | '"' | '&')
        || matches!(character, '‘' | '’' | '“' | '”')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> Result<String, String> {
        match tokens(text) {
            Ok(tokens) => match &tokens[0].kind {
                TokenKind::Quoted(quoted) if tokens.len() == 2 => Ok(quoted.text.clone()),
                other => Err(format!("{other:?}")),
            },
            Err(finding) => Err(finding.reason),
        }
    }

    #[test]
    fn backslashes_stay_but_before_the_quote() {
        for (written, meant) in [
            (r"'\d+\.exe'", r"\d+\.exe"),
            (r"'a\\b'", r"a\\b"),
            (r"'it\'s'", "it's"),
            (r#"'say "x"'"#, r#"say "x""#),
            (r#""it's \"x\"""#, r#"it's "x""#),
            (r"'C:\Temp\\'", r"C:\Temp\"),
            (r"'a\\\'b'", r"a\'b"),
            (r#"'\"'"#, r#"\""#),
            ("''", ""),
        ] {
            assert_eq!(quoted(written).as_deref(), Ok(meant), "{written}");
        }
        assert!(quoted(r"'C:\Temp\'").is_err());
    }

    #[test]
    fn places_inside_quoted_texts_are_kept() {
        let written = r"'it\'s x'";
        let tokens = tokens(written).expect("reads");
        let TokenKind::Quoted(quoted) = &tokens[0].kind else { panic!("{tokens:?}") };
        let at = quoted.text.find('x').expect("there");
        assert_eq!(&written[quoted.range_in_condition(at..at + 1)], "x");
    }
}
